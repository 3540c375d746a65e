"""Scoring a database against forward passes alone, and statistics with bootstrap intervals against a plain bootstrap.

    .venv/bin/python -m benchmarks.evaluation [--runs koniq10k/hyperiqa_s1] [--device cuda] [--images 4] [--batch 16]
                                              [--scores 2000 10000] [--resamples 1000] [--rounds 3] [--threads 2]

- `iqa.model.scoring.score` on images of the study's size, as the run tests them, against forward passes of as many full
  batches of pixels that are already on the device: one pass of full batches across images leaves a ratio near 1.
- `iqa.analysis.evaluation.evaluate` (five coefficients, intervals of 1,000 resamples) against the same statistics of
  images repeated as they were drawn, one resample at a time. Goal: under 1 s for 2,000 images. The repetition takes
  longer, so that the ratio is below 1; only a tenth of the resamples are repeated, and their time is multiplied by ten.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.common import CORES, compared, in_turn, report, seconds
from benchmarks.random_database import SIZES, random_database
from iqa.analysis.evaluation import evaluate
from iqa.metrics.coefficients import krcc, plcc, rmse, srcc
from iqa.model.hyperiqa import HyperIQA
from iqa.model.scoring import choose_device, score
from iqa.study import param_files
from iqa.training.params import TrainParams

RUNS = ("koniq10k/hyperiqa_s1", "demo/main_s1")
SHARE = 10  # one in so many resamples is repeated
LARGE = 128  # side of a crop from which on a CPU scores few images in a minute
STATISTICS = (srcc, plcc, plcc, krcc, rmse)  # PLCC raw and of a fixed curve


def scoring(run: str, options: argparse.Namespace) -> dict[str, Any]:
    """A row of the table: patches per second of `score` and of the network alone."""
    study, _, name = run.partition("/")
    params = param_files.load(TrainParams, study, name)
    device = choose_device(options.device)
    on_cpu = device.type == "cpu"
    images = options.images or (4 if on_cpu and params.crop >= LARGE else 200)
    height, width = SIZES[study]
    data = random_database(["test"] * images, height, width, params.input)
    model = HyperIQA(params.architecture()).to(device, memory_format=torch.channels_last).eval()
    precision = "32-true" if on_cpu else params.precision
    how = {"input": params.input, "crops": params.test_crops, "patches": params.test_patches, "crop": params.crop}
    how |= {"batch_size": options.batch, "precision": precision}
    found = patches_of(model, data, how)
    whole = params.test_crops == "whole"
    side = (height, width) if whole else (params.crop, params.crop)
    batches = [min(options.batch, found - start) for start in range(0, found, options.batch)]
    pixels = torch.randint(0, 256, (options.batch, 3, *side), dtype=torch.uint8, device=device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def alone() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            for batch in batches:
                last = model(pixels[:batch])
        last.cpu()  # waits for the device

    cases = {
        "score": lambda: found / seconds(lambda: score(model, data, data.indices("test"), **how)),
        "alone": lambda: found / seconds(alone),
    }
    rates = in_turn(cases, options.rounds)
    what = f"{run}: score {images} images, {found} {'images' if whole else 'patches'} in batches of {options.batch}"
    return compared(what, rates["score"], "patches/s", "forward passes alone", rates["alone"], "near 1")


def patches_of(model: HyperIQA, data: Any, how: dict[str, Any]) -> int:
    """How many patches a database gives, counted where they arrive."""
    seen: list[int] = []

    class Counts(torch.nn.Module):
        mean = model.mean

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            seen.append(len(pixels))
            return torch.zeros(len(pixels))

    score(Counts(), data, data.indices("test"), **how)
    return sum(seen)


def statistics(images: int, options: argparse.Namespace) -> dict[str, Any]:
    """A row of the table: seconds of `evaluate`, and of a bootstrap that repeats the images that are drawn."""
    rng = np.random.default_rng(0)
    mos = rng.uniform(0, 100, images).round(2)
    predictions = pd.DataFrame({"mos": mos, "prediction": mos + rng.normal(0, 10, images)})
    predictions["reference"] = [f"{number}.jpg" for number in range(images)]
    few = -(-options.resamples // SHARE)
    cases: dict[str, Callable[[], float]] = {
        "evaluate": lambda: seconds(lambda: evaluate(predictions, options.resamples)),
        "repeated": lambda: seconds(lambda: repeated(predictions, few)) * options.resamples / few,
    }
    times = in_turn(cases, options.rounds)
    what = f"evaluate {images:,} images, {options.resamples:,} resamples"
    goal = "measured < 1 s" if images == 2000 else ""
    return compared(what, times["evaluate"], "s", "images repeated as drawn", times["repeated"], goal)


def repeated(predictions: pd.DataFrame, resamples: int) -> list[np.ndarray]:
    """The statistics of `evaluate` on resampled vectors, each computed anew."""
    prediction, mos = predictions["prediction"].to_numpy(), predictions["mos"].to_numpy()
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(mos), size=(resamples, len(mos)))
    return [np.array([statistic(prediction[row], mos[row]) for row in drawn]) for statistic in STATISTICS]


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", nargs="+", default=RUNS, help="<study>/<run>")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, help="to score (default: 200; 4 with large crops on a CPU)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--scores", type=int, nargs="+", default=[2000, 10_000], help="images to evaluate")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=CORES)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = [scoring(run, options) for run in options.runs]
    table += [statistics(images, options) for images in options.scores]
    report("evaluation", vars(options), pd.DataFrame(table), decimals=3)


if __name__ == "__main__":
    main()
