"""Scoring a folder of JPEGs: decoded once, patches in batches, against each crop decoded anew and scored alone.

    .venv/bin/python -m benchmarks.folder [--images 4] [--runs koniq10k/hyperiqa_s1 demo/main_s1] [--rounds 3]

The first implementation of HyperIQA tests in the second way: every patch of an image is a separate item, which is
opened, decoded, resized, cropped and sent through the network alone. Both ways use the same threads and score 25
crops of each image of 1024x768 pixels; weights are random, as they do not change the time.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from benchmarks.common import alternate, report
from iqa.data.pixels import PIXELS, Size
from iqa.model.hyperiqa import HyperIQA
from iqa.model.predictor import Predictor, Scale
from iqa.model.scoring import choose_device, to_pixels
from iqa.study import param_files
from iqa.training.params import TrainParams

CROPS = 25
SIZE = Size(512, 384, keep_aspect=False)  # as the first implementation resizes


def make_images(folder: Path, count: int) -> list[Path]:
    """JPEGs of 1024x768 with detail at several scales."""
    generator = np.random.default_rng(0)
    files = []
    for number in range(count):
        layers = [
            np.asarray(
                Image.fromarray(generator.integers(0, 256, (768 // k, 1024 // k, 3), np.uint8)).resize((1024, 768))
            )
            for k in (2, 8, 64)
        ]
        files.append(folder / f"{number}.jpg")
        Image.fromarray(np.mean(layers, axis=0).astype(np.uint8)).save(files[-1], quality=90)
    return files


def naive(network: HyperIQA, files: list[Path], crop: int, kind: str) -> int:
    """One patch at a time, each from the file."""
    device = network.mean.device
    generator = np.random.default_rng(0)
    for file in files:
        scores = []
        for _ in range(CROPS):
            image = Image.open(file).convert("RGB").resize((SIZE.width, SIZE.height), Image.BILINEAR)
            top, left = generator.integers(SIZE.height - crop + 1), generator.integers(SIZE.width - crop + 1)
            window = PIXELS[kind](np.asarray(image))[top : top + crop, left : left + crop]
            with torch.no_grad():
                scores.append(network(to_pixels([window]).to(device)).item())
        np.mean(scores)
    return len(files)


def ours(model: Predictor, files: list[Path], precision: str) -> int:
    """`Predictor.score_files`, as `iqa predict` uses it."""
    how = {"crops": "random", "patches": CROPS, "precision": precision}
    return len([found.score for _, found in model.score_files(files, **how)])


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--runs", nargs="+", default=["koniq10k/hyperiqa_s1", "koniq10k/mobilenetv2_s1", "demo/main_s1"]
    )
    options = parser.parse_args()
    device = choose_device(options.device)
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        files = make_images(Path(folder), options.images)
        for run in options.runs:
            study, _, name = run.partition("/")
            params = param_files.load(TrainParams, study, name)
            network = HyperIQA(params.architecture()).to(device).eval()
            scale = Scale(0, 1, True, "random weights")
            channels_last = HyperIQA(params.architecture()).to(device, memory_format=torch.channels_last).eval()
            rule = {"crops": "random", "patches": CROPS, "seed": 0}
            model = Predictor(channels_last, run, params.input, params.crop, SIZE, scale, rule)
            cases = {
                "one patch at a time": lambda n=network, p=params: naive(n, files, p.crop, p.input),
                "score_files": lambda m=model: ours(m, files, "32-true"),
                "score_files, bf16": lambda m=model: ours(m, files, "bf16-mixed"),
            }
            found = alternate(cases, options.rounds).rename(columns={"per_second": "images_per_second"})
            found["ratio"] = found["images_per_second"] / found["images_per_second"].iloc[0]
            tables.append(found.assign(run=run))
    settings = {"images": options.images, "crops": CROPS, "device": str(device), "threads": torch.get_num_threads()}
    report("folder", settings, pd.concat(tables), decimals=3)


if __name__ == "__main__":
    main()
