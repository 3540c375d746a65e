"""Scoring a database against forward passes alone, and statistics with bootstrap intervals against a plain bootstrap.

    .venv/bin/python -m benchmarks.evaluation [--runs koniq10k/hyperiqa_s1] [--device cuda] [--images 4] [--batch 16]
                                              [--scores 2000 10000] [--resamples 1000] [--rounds 2] [--threads 1]

- `iqa.model.scoring.score` on images of the study's size, as the run tests them, against forward passes of as many full
  batches of pixels that are already on the device: one pass of full batches across images leaves a ratio near 1.
- `iqa.analysis.evaluation.evaluate` (five coefficients, intervals of 1,000 resamples) against the same statistics of
  images repeated as they were drawn, one resample at a time. The repetition takes longer, so that the ratio is below 1;
  only a tenth of the resamples are repeated, and their time is multiplied by ten.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.common import arguments, in_turn, report, row, spent, unit
from benchmarks.images import SIZES, random_database
from iqa.analysis.evaluation import evaluate
from iqa.metrics.coefficients import krcc, plcc, rmse, srcc
from iqa.model.hyperiqa import HyperIQA
from iqa.model.scoring import choose_device, score
from iqa.study import param_files
from iqa.training.params import TrainParams

RUNS = ["koniq10k/hyperiqa_s1", "demo/main_s1"]
SHARE = 10  # one in so many resamples is repeated
LARGE = 128  # side of a crop from which on a CPU scores few images in a minute
STATISTICS = (srcc, plcc, plcc, krcc, rmse)  # PLCC raw and of a fixed curve


def scoring(run: str, options: argparse.Namespace) -> dict[str, Any]:
    """A row of the table: what a patch costs in `score`, and in the network alone."""
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
    side = (height, width) if params.test_crops == "whole" else (params.crop, params.crop)
    batches = [min(options.batch, found - start) for start in range(0, found, options.batch)]
    pixels = torch.randint(0, 256, (options.batch, 3, *side), dtype=torch.uint8, device=device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def alone() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            for batch in batches:
                model(pixels[:batch])

    cases: dict[str, Callable] = {"score": lambda: score(model, data, data.indices("test"), **how), "alone": alone}
    costs = in_turn({name: lambda case=case: spent(case, device.type) for name, case in cases.items()}, options.rounds)
    what = f"{run}: score {images} images, {found} patches in batches of {options.batch}"
    return row(what, costs["score"], unit(device.type), "forward passes alone", costs["alone"], "ratio < 1.1")


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
    """A row of the table: what `evaluate` costs, and a bootstrap that repeats the images that are drawn."""
    rng = np.random.default_rng(0)
    mos = rng.uniform(0, 100, images).round(2)
    predictions = pd.DataFrame({"mos": mos, "prediction": mos + rng.normal(0, 10, images)})
    predictions["reference"] = [f"{number}.jpg" for number in range(images)]
    few = -(-options.resamples // SHARE)
    cases: dict[str, Callable[[], float]] = {
        "evaluate": lambda: spent(lambda: evaluate(predictions, options.resamples)),
        "repeated": lambda: spent(lambda: repeated(predictions, few)) * options.resamples / few,
    }
    costs = in_turn(cases, options.rounds)
    what = f"evaluate {images:,} images, {options.resamples:,} resamples"
    goal = "value < 1" if images == 2000 else ""
    return row(what, costs["evaluate"], "CPU s", "a plain bootstrap", costs["repeated"], goal)


def repeated(predictions: pd.DataFrame, resamples: int) -> list[np.ndarray]:
    """The statistics of `evaluate` on resampled vectors, each computed anew."""
    prediction, mos = predictions["prediction"].to_numpy(), predictions["mos"].to_numpy()
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(mos), size=(resamples, len(mos)))
    return [np.array([statistic(prediction[row], mos[row]) for row in drawn]) for statistic in STATISTICS]


def main() -> None:
    """Measure, print and write the table."""
    how = {"batch": 16, "scores": [2000, 10_000], "resamples": 1000, "rounds": 2, "threads": 1}
    options = arguments(__doc__, runs=RUNS, device="auto", images=0, **how)
    torch.set_num_threads(options.threads)
    table = [scoring(run, options) for run in options.runs]
    table += [statistics(images, options) for images in options.scores]
    report("evaluation", options, table)


if __name__ == "__main__":
    main()
