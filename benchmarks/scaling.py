"""How the cost of each step grows with the number of images, and that of `iqa why` with the number of trainings.

    .venv/bin/python -m benchmarks.scaling [--parts images trainings] [--sizes 1000 10000 100000] [--runs 100 1000]

Images: small JPEGs (64x48, all different), a network of a few thousand weights, and one fresh process per
size, which takes the steps of a study one after the other:

- preparation: labels read and split, files hashed, decoded and cached, the audit;
- epoch: `fit` for one epoch of one patch per image, with what follows it (16 images validated, checkpoint);
- scoring: `iqa.model.scoring.score` of all images;
- statistics: `iqa.analysis.evaluation.evaluate` of all images, with fewer resamples than a study has (time is linear in
  them);
- figures: histogram and scatter of all images, saved as png, svg and pdf.

Trainings: a study of experiments with ten seeds each, of which every second run is finished, with 20 small files.

The floor of a row is the smaller size's cost, times how many more images there are: a ratio above 1 is growth faster
than linear. Memory is the most that the process held during a step (libraries and mapped pages of the cache included),
less what it held before.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.common import Cost, arguments, cost, fresh, in_turn, report, row, spent
from benchmarks.pipeline import Project
from iqa.study import param_files, paths

HEIGHT, WIDTH, CROP = 48, 64, 48
HELD_OUT = 16  # images each to validate and to test
NETWORK = {"stem_width": 4, "channels": [8, 8, 8, 8], "zero_init_last": False}
MANY, SEEDS, FILES = "many", 10, 20  # the study of many trainings, seeds of each experiment, files of each run


def write_images(folder: Path, sizes: list[int]) -> None:
    """A folder of images and a label file for each size; the files are written once and linked."""
    from PIL import Image

    rng = np.random.default_rng(0)
    largest = folder / str(max(sizes))
    largest.mkdir()
    names = [f"{number:06}.jpg" for number in range(max(sizes))]
    for name in names:  # each with colours of its own, as the same ones again would be twins
        colours = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        colours.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR).save(largest / name, quality=90)
    mos = rng.uniform(0, 100, len(names)).round(2)
    for size in sizes:
        split = ["val"] * HELD_OUT + ["test"] * HELD_OUT + ["train"] * (size - 2 * HELD_OUT)
        table = pd.DataFrame({"image": names[:size], "mos": mos[:size], "split": split})
        table.to_csv(folder / f"{size}.csv", index=False)
        (folder / str(size)).mkdir(exist_ok=True)
        for name in names[:size] if size < max(sizes) else []:
            (folder / str(size) / name).hardlink_to(largest / name)


def steps(folder: Path, size: int, resamples: int, threads: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The steps of a study of `size` images by name, in their order."""
    from iqa.analysis.evaluation import evaluate
    from iqa.data.audit import audit
    from iqa.data.params import DataPrepParams
    from iqa.data.prepare import prepare
    from iqa.model.hyperiqa import HyperIQA
    from iqa.model.scoring import score
    from iqa.show import data_prep, train
    from iqa.study.results import RunFolder
    from iqa.training.params import TrainParams
    from iqa.training.train import train as fit

    paths.CACHE, paths.RESULTS = folder / f"cache_{size}", folder / f"results_{size}"
    files = {"folder": str(folder / str(size)), "labels": str(folder / f"{size}.csv")}
    about = {"low": 0.0, "high": 100.0, "higher_is_better": True, "inputs": ["rgb"], "workers": threads}
    prep = DataPrepParams(study="scaling", run="scaling", reader="csv", **files, **about)
    params = param_files.load(TrainParams, "demo", "main_s1").model_copy(
        update={"study": "scaling", "run": "scaling", "database": "scaling", "input": "rgb", "crop": CROP}
        | {"backbone_args": NETWORK, "batch_size": 64, "epochs": 1, "threads": threads, "device": "cpu"}
    )
    out = RunFolder(params)
    model = HyperIQA(params.architecture())
    found: dict[str, Any] = {}

    def preparation() -> None:
        found["data"] = prepare(prep)
        audit(found["data"])

    def scoring() -> None:
        data = found["data"]
        how = {"input": "rgb", "crops": "whole", "patches": 1, "crop": CROP, "batch_size": 64}
        value = score(model, data, np.arange(len(data)), **how)
        found["predictions"] = data.table.assign(prediction=data.denormalise(value))

    def draw() -> None:
        out.save_figure("mos_histogram", data_prep.mos_histogram(found["predictions"], 0, 100))
        out.save_figure("scatter", train.prediction_scatter(found["predictions"], 0, 100))

    yield "preparation", preparation
    yield "epoch", lambda: fit(params, found["data"], out.path)
    yield "scoring", scoring
    yield "statistics", lambda: evaluate(found["predictions"], resamples)
    yield "figures", draw


def take_steps(folder: Path, size: int, resamples: int, threads: int) -> dict[str, Cost]:
    """What each step of a study of `size` images takes."""
    return {name: cost(step) for name, step in steps(folder, size, resamples, threads)}


def images(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows on the steps at each number of images."""
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), options.sizes)
        how = options.resamples, options.threads
        found = {size: fresh(take_steps, Path(folder), size, *how) for size in sorted(options.sizes)}
    rows = []
    for step in found[min(found)]:
        rows += growth(f"{step}, {{:,}} images", {size: [costs[step].cpu] for size, costs in found.items()}, "CPU s")
        added = {size: [costs[step].added] for size, costs in found.items()}
        rows += growth(f"{step}, {{:,}} images: memory", added, "MiB")
    return rows


def growth(what: str, costs: dict[int, list[float]], unit: str, goal: str = "") -> list[dict[str, Any]]:
    """A row for each size, in rising order, with the floor that linear growth from the size before it would give."""
    rows, before = [], None
    for size, values in sorted(costs.items()):
        floor = [value * size / before for value in costs[before]] if before else ()
        against = f"{size / before:g} x that of {before:,}" if before else ""
        rows.append(row(what.format(size), values, unit, against, floor, goal))
        before = size
    return rows


def write_trainings(runs: int) -> None:
    """Make up the study `MANY` with so many trainings, in `paths.PARAMS` and `paths.RESULTS`."""
    from iqa.app.stale import State
    from iqa.study.code import file_hash
    from iqa.study.results import write_record

    shared, own = paths.PARAMS / "demo", paths.PARAMS / MANY
    texts = {f"train/e{number}": f"lr: {1e-5 * number:g}\n" for number in range(1, runs // SEEDS)}
    texts = {name: f"seeds: 1..{SEEDS}\n{text}" for name, text in ({"train/main": ""} | texts).items()}
    texts |= {name: (shared / f"{name}.yaml").read_text() for name in ("data_prep", "data_prep/demo", "train")}
    texts |= {"ablation/main": "reference: main\n", "report/report": "title: Many trainings\n"}
    for name, text in texts.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / f"{name}.yaml").write_text(text)
    made = [place for place in State(MANY).params if place[0] in ("data_prep", "train")][::2]
    for step, run in made:
        folder = paths.run_folder(MANY, step, run)
        folder.mkdir(parents=True)
        for number in range(1, FILES):
            (folder / f"{number}.csv").write_text(f"{step} {run} {number}")
        (folder / "fit.json").write_text("{}")
        outputs = {file.name: file_hash(file) for file in folder.iterdir()}
        write_record(folder / "record.json", {"outputs": outputs, "data": {}})
    state = State(MANY)
    for place in made:
        state.stand(place, "made up")


def cost_of_jobs(project: Path, runs: int, rounds: int) -> list[float]:
    """CPU seconds of `iqa.app.graph.jobs` for so many trainings, made up in a copy of the project."""
    from iqa.app.graph import jobs

    paths.PARAMS, paths.RESULTS = project / "params", project / "results"
    write_trainings(runs)
    return in_turn({"jobs": lambda: spent(lambda: jobs(MANY))}, rounds)["jobs"]


def trainings(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows on what tells which runs are due."""
    of_jobs, of_why = {}, {}
    for runs in sorted(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            project = Project(Path(folder))
            of_jobs[runs] = fresh(cost_of_jobs, project.folder, runs, options.rounds)
            found = in_turn({"why": lambda project=project: project.iqa("why", MANY).cpu}, options.rounds)
            of_why[runs] = found["why"]
    rows = growth("jobs() of {:,} trainings", of_jobs, "CPU s", "value < 3")
    return rows + growth("iqa why with {:,} trainings", of_why, "CPU s", "value < 3")


def main() -> None:
    """Measure, print and write the table."""
    sizes, runs = [1000, 10_000, 100_000], [100, 1000]
    more = {"sizes": sizes, "runs": runs, "resamples": 100, "threads": 1, "rounds": 3}
    options = arguments(__doc__, parts=("images", "trainings"), **more)
    os.environ["IQA_BATCH"] = "1"  # no progress bars
    rows = images(options) if "images" in options.parts else []
    rows += trainings(options) if "trainings" in options.parts else []
    report("scaling", options, rows)


if __name__ == "__main__":
    main()
