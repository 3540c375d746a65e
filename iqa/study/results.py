"""The results folder of a run: the only code that knows what it looks like, and where its contents came from.

A run writes plain files (JSON, CSV, figures as png, svg and pdf). `record.json`, written last, holds the
provenance and the hash of every file: a folder without it is not a finished run.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from iqa.study import param_files, paths
from iqa.study.code import file_hash
from iqa.study.params import Params

RECORD = "record.json"
RUNNER_FILES = {"notebook.ipynb", "log.txt", "out_of_date.json"}  # written by the runner beside the notebook's files
TRAINING_STATE = {"last.ckpt", "fit.json", "train.log"}  # kept with the model; `fit` checks whether it is still valid
KEPT = TRAINING_STATE | {"best.pt"}
PACKAGES = ("iqa", "torch", "torchvision", "timm", "lightning", "numpy", "scipy", "pandas", "papermill", "snakemake")
FIGURE_FORMATS = ("png", "svg", "pdf")


class ResultsError(RuntimeError):
    """Results that are asked for are not there; the message says which command makes them."""


def clear(folder: Path) -> None:
    """Remove what an earlier execution left, so that nothing old can pass for new. A training's state is kept."""
    for file in folder.glob("*"):
        if file.is_file() and file.name not in KEPT:
            file.unlink()


class RunFolder:
    """Writes the results of one run. Use `finish` last.

    Args:
        params: the run's resolved parameters.
    """

    def __init__(self, params: Params):
        self.params = params
        self.path = paths.run_folder(params.study, params.step, params.run)
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / RECORD).unlink(missing_ok=True)
        self.started = datetime.now(UTC)
        self.save_json("params", params.model_dump())

    def __str__(self) -> str:
        return paths.shown(self.path)

    def save_json(self, name: str, values: dict[str, Any]) -> None:
        """Write `<name>.json`."""
        write_json(self.path / f"{name}.json", values)

    def save_table(self, name: str, frame: pd.DataFrame) -> None:
        """Write `<name>.csv`, every digit of its numbers, without the index."""
        write_text(self.path / f"{name}.csv", frame.to_csv(index=False))

    def save_text(self, name: str, text: str) -> None:
        """Write a text as the file `name`."""
        write_text(self.path / name, text)

    def save_figure(self, name: str, figure: Any) -> None:
        """Write a matplotlib figure as `<name>.png`, `.svg` and `.pdf`; the same figure gives the same bytes.

        The png has the run's `dpi`, as have pictures inside the other two.
        """
        from matplotlib import rc_context

        dpi = self.params.model_dump()["dpi"]
        undated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
        with rc_context({"svg.hashsalt": name, "svg.fonttype": "path", "pdf.fonttype": 42}):
            for kind in FIGURE_FORMATS:
                figure.savefig(self.path / f"{name}.{kind}", dpi=dpi, bbox_inches="tight", metadata=undated[kind])

    def finish(self, data: dict[str, str] | None = None, elsewhere: Iterable[Path] = ()) -> dict[str, Any]:
        """Write `record.json` and return it.

        Args:
            data: fingerprint of each database that was read, by name.
            elsewhere: files outside of the run's folder that belong to its results.
        """
        values = self.params.model_dump()
        files = [file for file in self.path.rglob("[!.]*") if file.is_file() and file.name not in RUNNER_FILES]
        written = {os.path.relpath(file, self.path): file_hash(file) for file in (*files, *elsewhere)}
        record = {
            "study": self.params.study,
            "step": self.params.step,
            "run": self.params.run,
            **commit(),
            "versions": {name: metadata.version(name) for name in PACKAGES} | {"python": platform.python_version()},
            "machine": platform.node(),
            "hardware": hardware(),
            "seed": values.get("seed"),
            "data": data or {},
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - self.started).total_seconds(), 1),
            "params": values,
            "outputs": dict(sorted(written.items())),
        }
        self.save_json("record", record)
        return record


def write_json(file: Path, values: dict[str, Any]) -> None:
    """Write a whole JSON file or nothing; NaN is an error."""
    write_text(file, json.dumps(values, indent=2, allow_nan=False) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a whole file or nothing."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)


def finished(study: str, step: str, run: str) -> bool:
    """Whether there are results of a run that came to its end."""
    return (paths.run_folder(study, step, run) / RECORD).is_file()


def finished_runs(study: str, step: str) -> list[str]:
    """Runs of a step of a study that are finished."""
    return [run for run in param_files.run_names(study, step) if finished(study, step, run)]


def command_for(study: str, step: str, run: str) -> str:
    """The command that makes a run."""
    return f"iqa run {study}/{step}/{run}"


def how_to_make(study: str, run: str) -> str | None:
    """The command for a training run that is not finished, None for one that is."""
    return None if finished(study, "train", run) else command_for(study, "train", run)


def result_file(study: str, step: str, run: str, name: str) -> Path:
    """A file of a finished run, as the run wrote it.

    Raises:
        ResultsError: the run is not finished, wrote no such file, or the file was changed since; says which command
            makes it.
    """
    folder = paths.run_folder(study, step, run)
    command = command_for(study, step, run)
    if not finished(study, step, run):
        raise ResultsError(f"{paths.shown(folder)} holds no finished run; make it with: {command}")
    file = folder / name
    if not file.is_file():
        raise ResultsError(f"{paths.shown(file)} is missing; make it again with: {command}")
    try:
        recorded = json.loads((folder / RECORD).read_text(encoding="utf-8"))["outputs"].get(name)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ResultsError(f"{paths.shown(folder / RECORD)} is damaged; make the run again with: {command}") from None
    if name != RECORD and name not in RUNNER_FILES and file_hash(file) != recorded:
        raise ResultsError(f"{paths.shown(file)} is not the file that the run wrote; make it again with: {command}")
    return file


def read_json(study: str, step: str, run: str, name: str) -> dict[str, Any]:
    """`<name>.json` of a finished run."""
    return json.loads(result_file(study, step, run, f"{name}.json").read_text(encoding="utf-8"))


def read_table(study: str, step: str, run: str, name: str) -> pd.DataFrame:
    """`<name>.csv` of a finished run."""
    return pd.read_csv(result_file(study, step, run, f"{name}.csv"), keep_default_na=False, na_values=[""])


def commit() -> dict[str, Any]:
    """`commit` (None outside a git checkout) and `dirty`: whether tracked files differ from it."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(paths.ROOT), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def hardware() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in GiB, and GPU if torch is loaded and has one."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    torch = sys.modules.get("torch")
    gpu = torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": cpu, "cores": cores, "memory_gb": round(psutil.virtual_memory().total / 2**30, 1), "gpu": gpu}
