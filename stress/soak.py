"""Thousands of predictions, and repeated epochs and evaluations, in one process: memory, files and threads stay.

Memory is the slope of a line through the process's resident memory after a warm-up, times the length of the soak.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from stress import project
from stress.project import STUDY, Outcome, Say
from stress.scores import make_images

GROUP = "soak"
WARM_UP = 0.3  # share of the measurements that do not count
GROWTH = 24.0  # MiB that memory may grow over a soak
SOAKS = {"predictions": 4000, "trainings and evaluations": 40}


def grown(values: list[float]) -> float:
    """By how much values grow from the end of the warm-up to the end, by a line through them."""
    kept = np.array(values[int(WARM_UP * len(values)) :])
    return float(np.polyfit(np.arange(len(kept)), kept, 1)[0] * (len(kept) - 1))


def measure(work: Callable[[int], object], times: int) -> list[tuple[float, int, int]]:
    """Memory in MiB, open files and threads after each hundredth of the work."""
    process, found = psutil.Process(), []
    for number in range(times):
        work(number)
        if number % max(1, times // 100) == 0:
            found.append((process.memory_info().rss / 2**20, process.num_fds(), process.num_threads()))
    return found


def predictions(folder: Path, times: int) -> list[tuple[float, int, int]]:
    """Score small images one after the other, as files and as pixels."""
    from iqa.model.predictor import load_model

    model = load_model(f"{STUDY}/main_s1", "cpu")
    files = make_images(folder / "soaked")[:5]

    def work(number: int) -> object:
        if number % 10:
            return model.score(files[number % len(files)], patches=4)
        return [found.score for _, found in model.score_files(files, workers=3, patches=2)]

    return measure(work, times)


def trainings(folder: Path, times: int) -> list[tuple[float, int, int]]:
    """Train for an epoch, predict the test images and evaluate them, again and again."""
    from iqa.analysis.evaluation import evaluate
    from iqa.data.prepare import open_database
    from iqa.model.predictor import load_model
    from iqa.model.scoring import predict
    from iqa.study import param_files
    from iqa.training.params import TrainParams
    from iqa.training.train import train

    params = param_files.load(TrainParams, STUDY, "main_s1", {"epochs": 1, "save_all_epochs": False})
    data = open_database(STUDY, params.database)
    place = folder / "soaked" / "training"
    place.mkdir(parents=True, exist_ok=True)

    def work(number: int) -> object:
        train(params.model_copy(update={"seed": number}), data, place)
        model = load_model(place / "best.pt", "cpu")
        return evaluate(predict(model.network, data, data.indices("test"), **model.options), 50)

    return measure(work, times)


def soak(folder: Path, kept: Path, share: float) -> list[Outcome]:
    """Each soak in a process of its own, in a copy of the project."""
    project.put_back(folder, kept)
    outcomes = []
    for name, times in SOAKS.items():
        times = max(12, round(share * times))
        command = [sys.executable, "-m", "stress.soak", name, str(times)]
        env = project.environment(folder, IQA_BATCH="1")
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            outcomes.append(Outcome(GROUP, name, f"{times} times", done.stderr[-300:]))
            continue
        memory, files, threads = zip(*json.loads(done.stdout.splitlines()[-1]), strict=True)
        start = int(WARM_UP * len(files))
        growth = grown(list(memory))
        case = f"{times} times: memory {growth:+.1f} MiB of {memory[-1]:.0f} (at most {GROWTH:g})"
        outcomes.append(Outcome(GROUP, f"{name}: memory", case, "memory grows" if growth > GROWTH else ""))
        for what, values in (("open files", files), ("threads", threads)):
            fault = f"{what} grow" if values[-1] > max(values[: start + 1]) else ""
            outcomes.append(Outcome(GROUP, f"{name}: {what}", f"{times} times: {values[start]} to {values[-1]}", fault))
    return outcomes


def run(folders: list[Path], kept: Path, share: float, seed: int, say: Say) -> None:
    """Both soaks; `seed` decides nothing here."""
    project.share_work(folders[:1], [partial(soak, kept=kept, share=share)], say)


if __name__ == "__main__":
    works = {"predictions": predictions, "trainings and evaluations": trainings}
    print(json.dumps(works[sys.argv[1]](Path.cwd(), int(sys.argv[2]))))
