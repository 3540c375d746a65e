"""One model's scores of the same images in every order, with every number of workers, threads and patches in a batch.

With one batch size and number of threads they are equal to the bit, else within 1e-5 of the scale.
"""

from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from iqa.model.predictor import Predictor, load_model
from stress import project
from stress.project import STUDY, Outcome, Say

GROUP = "scores"
SIZES = ((72, 96), (64, 64), (65, 300), (200, 130), (40, 90), (333, 257), (128, 128), (480, 640))  # height, width
BATCHES, WORKERS, THREADS = (1, 2, 3, 7, 16, 64), (1, 2, 5, 16), (1, 2, 3)
HOWS = ({}, {"crops": "random", "patches": 9, "seed": 3}, {"crops": "dense", "stride": 40}, {"crops": "whole"})
WITHIN = 1e-5  # of the scale's range


def make_images(folder: Path) -> list[Path]:
    """Images of several sizes and of two formats."""
    folder.mkdir(exist_ok=True)
    files = []
    for number, size in enumerate(SIZES):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        files.append(folder / f"{number}.{'jpg' if number % 3 == 0 else 'png'}")
        Image.fromarray(pixels).save(files[-1])
    return files


def scores(model: Predictor, files: list[Path], batch: int, workers: int, how: dict) -> dict[str, float]:
    """The score of each file by its name."""
    return {Path(file).name: found.score for file, found in model.score_files(files, batch, workers, **how)}


def compare(folder: Path, kept: Path, share: float, seed: int) -> list[Outcome]:
    """Score in many settings, and compare with the first of the same batch size and threads, and of all."""
    rng = np.random.default_rng(seed)
    model = load_model(kept / "results" / STUDY / "train" / "main_s1", "cpu")
    files, span = make_images(folder / "scored"), model.scale.high - model.scale.low
    before, outcomes = torch.get_num_threads(), []
    for how in HOWS:
        named = how.get("crops", "grid")
        first = scores(model, files, 16, 1, how)
        of_setting: dict[tuple[int, int], dict[str, float]] = {}
        for batch, workers, threads in product(BATCHES, WORKERS, THREADS):
            if rng.random() > share:
                continue
            torch.set_num_threads(threads)
            found = scores(model, list(rng.permutation(files)), batch, workers, how)
            same = of_setting.setdefault((batch, threads), found)
            away = max(abs(found[name] - first[name]) for name in first) / span
            case = f"{named}, batch {batch}, {workers} workers, {threads} threads"
            other = [name for name in found if found[name] != same[name]]
            outcomes.append(Outcome(GROUP, "the same setting: to the bit", case, f"other: {other}" if other else ""))
            fault = f"{away:.1e} of the scale away" if away > WITHIN else ""
            outcomes.append(Outcome(GROUP, f"another setting: within {WITHIN:g}", case, fault))
        torch.set_num_threads(before)
    return outcomes


def run(folders: list[Path], kept: Path, share: float, seed: int, say: Say) -> None:
    """All settings in this process."""
    project.share_work(folders[:1], [partial(compare, kept=kept, share=share, seed=seed)], say)
