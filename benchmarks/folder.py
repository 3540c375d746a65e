"""Scoring a folder of photographs: decoded once, patches in batches, against each crop decoded anew and scored alone.

    .venv/bin/python -m benchmarks.folder [--folder ../shared/datasets/biq2021/Images] [--images 4] [--rounds 2]
                                          [--runs koniq10k/hyperiqa_s1 demo/main_s1] [--precision bf16-mixed]

The first implementation of HyperIQA tests in the second way: every patch of an image is a separate item, which is
opened, decoded, resized, cropped and sent through the network alone, in its memory order. Both ways use the
same threads, of one process, and score 25 random crops of each image; weights are random, as they do not change the
time. Without a folder, the images are JPEGs of 1024x768 made of bundled photographs.
"""

import argparse
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from benchmarks.common import arguments, in_turn, report, row, spent, unit
from benchmarks.images import write_photographs
from iqa.data.pixels import PIXELS, Size
from iqa.model.hyperiqa import HyperIQA
from iqa.model.image_files import find_images
from iqa.model.memory import keep_freed
from iqa.model.predictor import Predictor, Scale
from iqa.model.scoring import choose_device
from iqa.study import param_files
from iqa.training.params import TrainParams

CROPS = 25
SIZE = Size(384, 512, keep_aspect=False)  # as the first implementation resizes
RUNS = ["koniq10k/hyperiqa_s1", "koniq10k/mobilenetv2_s1", "demo/main_s1"]


def predictor(run: str, device: torch.device, size: Size) -> Predictor:
    """A model with random weights that scores as `iqa predict` does."""
    study, _, name = run.partition("/")
    params = param_files.load(TrainParams, study, name)
    network = HyperIQA(params.architecture()).to(device, memory_format=torch.channels_last).eval()
    rule = {"crops": "random", "patches": CROPS, "seed": 0}
    return Predictor(network, run, params.input, params.crop, size, Scale(0, 1, True, "random weights"), rule)


def one_by_one(model: Predictor, network: HyperIQA, files: list[Path]) -> None:
    """One patch at a time, each from the file."""
    kind = PIXELS[model.input]
    steps = [transforms.Resize((SIZE.height, SIZE.width)), transforms.Lambda(lambda image: kind(np.array(image)))]
    steps = transforms.Compose([*steps, transforms.ToTensor(), transforms.RandomCrop(model.crop)])
    for file in files:
        for _ in range(CROPS):
            with Image.open(file) as image, torch.no_grad():
                network(steps(image.convert("RGB"))[None].to(network.mean.device)).item()


def measure(run: str, files: list[Path], options: argparse.Namespace) -> dict[str, Any]:
    """A row of the table for one model."""
    device = choose_device(options.device)
    model = predictor(run, device, SIZE)
    network = deepcopy(model.network).to(memory_format=torch.contiguous_format)

    cases: dict[str, Callable] = {
        "ours": lambda: sum(found.score for _, found in model.score_files(files, precision=options.precision)),
        "theirs": lambda: one_by_one(model, network, files),
    }
    costs = {name: lambda case=case: spent(case, device.type) / len(files) for name, case in cases.items()}
    found = in_turn(costs, options.rounds)
    against = "each crop decoded anew and scored alone"
    return row(f"{run}: an image", found["ours"], unit(device.type), against, found["theirs"], "ratio < 0.67")


def main() -> None:
    """Measure, print and write the table."""
    how = {"images": 4, "rounds": 2, "threads": 1, "runs": RUNS, "precision": "32-true"}
    options = arguments(__doc__, device="auto", folder="", **how)
    torch.set_num_threads(options.threads)
    keep_freed()
    with tempfile.TemporaryDirectory() as folder:
        files = find_images([options.folder])[0] if options.folder else write_photographs(Path(folder), options.images)
        rows = [measure(run, files[: options.images], options) for run in options.runs]
    report("folder", options, rows, crops=CROPS)


if __name__ == "__main__":
    main()
