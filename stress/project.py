"""A copy of the project with a tiny study, commands that run in it, and the comparison of its results.

The study `stress` has every step: a database of 40 small images that are made here, a small synthetic database, two
trainings of six epochs, and what reads them. It takes a second per step beside the imports.
"""

import json
import os
import queue
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil
import torch
from PIL import Image

from iqa.study import paths

STUDY = "stress"
COPIED = ("iqa", "notebooks", "params", "report", "profiles", "stress")
STATE = ("results", "report", "cache")  # what commands change
PARAMS = {
    "data_prep.yaml": "inputs: [rgb, mscn]\ndpi: 40\n",
    "data_prep/demo.yaml": "reader: csv\nfolder: data/tiny\nlabels: data/tiny/labels.csv\n"
    "low: 0\nhigh: 100\nhigher_is_better: true\n",
    "data_prep/photos.yaml": "reader: synthetic\npart: photos\nscale: 0.2\n",
    "train.yaml": "database: demo\nbackbone: resnet10t\nlr: 2e-3\ninput: mscn\nmean: [0.5, 0.5, 0.5]\n"
    "std: [0.16, 0.16, 0.16]\nlda_channels: [8, 16, 16]\nlda_grids: [4, 3, 2, 1]\nsemantic_grid: 4\n"
    "epochs: 6\ncrop: 64\nbatch_size: 4\ndropout: 0.3\nschedule: cosine\npatience: 9\n"
    "backbone_args: {stem_width: 4, channels: [8, 8, 8, 8], zero_init_last: false}\n"
    "semantic_widths: [16]\nsemantic_channels: 8\ntarget_widths: [64, 16, 8]\ndpi: 40\nsave_all_epochs: true\n",
    "train/main.yaml": "seeds: [1]\n",
    "train/last.yaml": "fusion: last\nseeds: [1]\n",
    "ablation/main.yaml": "resamples: 200\ndpi: 40\n",
    "complexity/main.yaml": "height: 64\nwidth: 64\ndevices: [cpu]\nbatch_sizes: [1, 2]\nwarmup: 1\nrepeats: 2\n"
    "precisions: [32-true]\nseconds: 0.1\nmemory_batch: 2\ndpi: 40\n",
    "cross_dataset/main.yaml": "databases: [photos]\nresamples: 1000\ndpi: 40\n",
    "analysis/main.yaml": "database: demo\nreference: last_s1\nresamples: 100\ncases: 2\ncomponents: 4\ndpi: 40\n",
    "claims/main.yaml": "{}\n",
    "report/report.yaml": "title: Stress\n",
}
# what differs between two unbroken runs: times, and hashes of files that hold times
TIMES = {"check", "seconds", "cpu_seconds", "started", "eval_time", "model", "others", "outputs", "identity"}
TIMES |= {"callbacks"}
TIMED_FILES = {"log.txt", "train.log", "notebook.ipynb", "out_of_date.json", "report.html", "report.pdf"}
TIMED_FILES |= {"provenance.csv", "provenance.md", "provenance.tex"}
TIMED_FOLDERS = {"complexity", ".snakemake", "notebooks"}


class Outcome(NamedTuple):
    """One thing that was tried: in which group, of which kind, the case, and what went wrong ("" if it survived)."""

    group: str
    kind: str
    case: str
    fault: str


Say = Callable[[list[Outcome]], None]


def make(folder: Path) -> Path:
    """Copy the project into a folder and give it the study; return the folder."""
    ignored = shutil.ignore_patterns("__pycache__", "*.html", "*.pdf", "out", "demo", "tables")
    for name in COPIED:
        ignore = shutil.ignore_patterns("__pycache__") if name == "params" else ignored
        shutil.copytree(paths.ROOT / name, folder / name, ignore=ignore)
    shutil.copy(paths.ROOT / "Snakefile", folder)
    for name, text in PARAMS.items():
        file = folder / "params" / STUDY / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "report" / STUDY).mkdir()
    make_images(folder / "data" / "tiny")
    return folder


def runs() -> dict[str, list[str]]:
    """The runs of each step of the study, in the order of the steps."""
    found: dict[str, list[str]] = {}
    for name, text in PARAMS.items():
        step, _, run = name.removesuffix(".yaml").partition("/")
        if run:
            found.setdefault(step, []).append(f"{run}_s1" if text.endswith("seeds: [1]\n") else run)
    return found


def make_images(folder: Path, images: int = 40) -> None:
    """Noise whose strength the MOS tells: 20 to train, 10 to validate, 10 to test; and the label file."""
    rng = np.random.default_rng(0)
    quality = rng.permutation(images) / (images - 1)
    folder.mkdir(parents=True)
    for number, value in enumerate(quality):
        noise = rng.normal(0, 8 + 60 * (1 - value), (72, 96, 3))
        Image.fromarray(np.clip(128 + noise, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    split = np.repeat(["train", "val", "test"], [images // 2, images // 4, images // 4])
    table = {"image": [f"{number}.png" for number in range(images)], "mos": 100 * quality, "split": split}
    pd.DataFrame(table).to_csv(folder / "labels.csv", index=False)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The environment of commands in a copy of the project: its own package and cache, one thread."""
    own = {"PYTHONPATH": str(folder), "IQA_CACHE": str(folder / "cache"), "MPLBACKEND": "agg"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("IQA_", "PYTEST"))}
    return kept | own | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | more


def start(folder: Path, *arguments: str, **more: str) -> subprocess.Popen:
    """Start `iqa` in a copy of the project, in a process group of its own; what it prints goes to `printed.txt`."""
    with (folder / "printed.txt").open("w") as file:
        command = [sys.executable, "-m", "iqa.app.cli", *arguments]
        env = environment(folder, **more)
        return subprocess.Popen(command, cwd=folder, env=env, stdout=file, stderr=file, start_new_session=True)


def save_state(folder: Path, kept: Path) -> None:
    """Copy all that commands change in a copy of the project, to put it back later."""
    for name in STATE:
        shutil.copytree(folder / name, kept / name, symlinks=True)


def put_back(folder: Path, kept: Path) -> None:
    """Set a copy of the project to a saved state. Times of files are kept, so nothing is hashed again."""
    for name in STATE:
        remove(folder / name)
        shutil.copytree(kept / name, folder / name, symlinks=True)


def remove(place: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def results(folder: Path, study: str = STUDY) -> dict[str, Path]:
    """The files of a study's results and report that two unbroken runs have alike, by their path."""
    found = {}
    for place in (folder / "results" / study, folder / "report" / study):
        for file in sorted(place.rglob("*")):
            parts = set(file.relative_to(place).parts)
            timed = file.name in TIMED_FILES or file.name.endswith(".lock") or parts & TIMED_FOLDERS
            if file.is_file() and not timed:
                found[str(file.relative_to(folder))] = file
    return found


def differing(folder: Path, other: Path, study: str = STUDY) -> list[str]:
    """Files in which results differ, or that one of the two lacks, but for times."""
    one, two = results(folder, study), results(other, study)
    lacking = sorted(one.keys() ^ two.keys())
    return lacking + [name for name in one.keys() & two.keys() if not same(one[name], two[name])]


def same(one: Path, two: Path) -> bool:
    """Whether two result files are equal to the bit, but for times."""
    if one.read_bytes() == two.read_bytes():
        return True
    return one.suffix in (".json", ".csv", ".pt", ".ckpt") and _equal(_content(one), _content(two))


def _content(file: Path) -> Any:
    if file.suffix in (".pt", ".ckpt"):
        return torch.load(file, map_location="cpu", weights_only=False)
    if file.suffix == ".csv":
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        return {name: table[name].tolist() for name in table if "seconds" not in name}
    return json.loads(file.read_text())


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and torch.equal(one, two)
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_equal(one[key], two[key]) for key in one if key not in TIMES)
    if isinstance(one, list | tuple) and type(one) is type(two):
        return len(one) == len(two) and all(map(_equal, one, two))
    return bool(one == two) or (one != one and two != two)


def broken_records(folder: Path) -> list[str]:
    """Outputs of finished runs that are missing or are not what their record says."""
    from iqa.app.graph import recover
    from iqa.study.code import file_hash

    recover(folder / "results" / STUDY)  # as the next report does
    faults = []
    for file in (folder / "results" / STUDY).glob("*/*/record.json"):
        if ".unfinished" in str(file) or file.parent.name.startswith("."):
            continue
        try:
            outputs = json.loads(file.read_text())["outputs"]
        except (ValueError, KeyError, FileNotFoundError) as error:
            faults.append(f"{file.relative_to(folder)}: {error!r}")
            continue
        for name, sha in outputs.items():
            output = file.parent / name
            if not output.is_file() or file_hash(output) != sha:
                faults.append(f"{output.relative_to(folder)} is not what its record says")
    return faults


def alive(token: str) -> list[psutil.Process]:
    """The processes whose environment holds a token (STRESS_TOKEN): what was started with it, and its children."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("STRESS_TOKEN") == token and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def end(token: str, patience: float = 0) -> list[psutil.Process]:
    """Wait for the processes of a token to end, then kill those that are left and return them."""
    deadline = time.monotonic() + patience
    while (left := alive(token)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(left, timeout=10)
    return left


def share_work(folders: list[Path], works: list[Callable[[Path], list[Outcome]]], say: Say) -> None:
    """Do works in copies of the project, as many at once as there are copies; `say` gets the outcomes of each."""
    free: queue.Queue[Path] = queue.Queue()
    for folder in folders:
        free.put(folder)

    def do(work: Callable[[Path], list[Outcome]]) -> None:
        folder = free.get()
        try:
            say(work(folder))
        except Exception:
            say([Outcome("stress", "the suite itself", str(work)[:200], traceback.format_exc()[-500:])])
        finally:
            free.put(folder)

    with ThreadPoolExecutor(len(folders)) as pool:
        list(pool.map(do, works))
