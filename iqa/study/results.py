"""The results folder of a run: the only code that knows what it looks like, and where its contents came from.

A run writes plain files (JSON, CSV, figures as png, svg and pdf). `record.json`, written last, holds the
provenance and the hash of every file: a folder without it is not a finished run.

A run writes to `<run>.unfinished`. That folder takes the place of the run's earlier results once all is written, so
that a run which fails leaves them as they are; it stays after a failure, and a training goes on from what is in it.
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
from typing import IO, Any

import pandas as pd
import psutil

from iqa.study import disk, folders, param_files, paths
from iqa.study.code import file_hash
from iqa.study.hashes import is_intact, seal
from iqa.study.params import Params
from iqa.study.progress import in_batch

RECORD = "record.json"
RUNNER_FILES = {"notebook.ipynb", "log.txt", "out_of_date.json"}  # written by the runner beside the notebook's files
TRAINING_STATE = {"last.ckpt", "fit.json", "train.log"}  # kept with the model; `fit` checks whether it is still valid
EPOCHS = "epochs"  # folder of the models of all epochs
ELSEWHERE = "elsewhere"  # folder of the files that belong outside of the run's folder, until the run is finished
COMPLETE = ".complete"  # in a folder that is being put in place; names the earlier files elsewhere that go with it
PACKAGES = ("iqa", "torch", "torchvision", "timm", "lightning", "numpy", "scipy", "pandas", "papermill", "snakemake")
FIGURE_FORMATS = ("png", "svg", "pdf")
FORMATS = "IQA_FIGURES"  # environment variable: the formats that runs write, where not all of these


class ResultsError(RuntimeError):
    """Results that are asked for are not there, or cannot be written; the message says what to do."""


def open_work(place: Path, kept: Iterable[str] = ()) -> Path:
    """The working folder of a run, without what an earlier execution left, so that nothing old can pass for new.

    Args:
        place: the run's results folder.
        kept: files that stay, besides a training's state.
    """
    recover(place)
    work = paths.work_folder(place)
    if not work.is_dir():
        folders.remove(work)
    work.mkdir(parents=True, exist_ok=True)
    kept = {*TRAINING_STATE, "best.pt", *kept}
    for path in work.iterdir():
        stays = path.name == EPOCHS if path.is_dir() else path.name in kept
        if not stays:
            folders.remove(path)
    return work


def put_in_place(place: Path) -> None:
    """Replace the results of a run, and its files elsewhere, by those in its working folder, which are complete."""
    before, now = _elsewhere(place), _elsewhere(work := paths.work_folder(place))
    gone = [name for name in before.keys() - now.keys() if before[name].is_relative_to(paths.REPORT)]
    folders.sync_all(work)  # what takes long comes first: then names change, all in a moment
    disk.write_whole(work / COMPLETE, json.dumps(gone), durable=True)
    recover(place)


def recover(place: Path) -> None:
    """Finish a replacement of results in whose middle the process was killed, or take it back."""
    folders.recover(place)
    work = paths.work_folder(place)
    if (work / COMPLETE).is_file():
        for name, file in _elsewhere(work).items():
            if (staged := work / _staged(name)).is_file():
                file.parent.mkdir(parents=True, exist_ok=True)
                staged.replace(file)
        folders.remove(work / ELSEWHERE)
        folders.replace(work, place)
    if (place / COMPLETE).is_file():
        for name in json.loads((place / COMPLETE).read_text()):
            (place / name).unlink(missing_ok=True)
        (place / COMPLETE).unlink()


def _elsewhere(folder: Path) -> dict[str, Path]:
    """The files outside of a run's folder that its record names."""
    record = parse_record(folder / RECORD) or {"outputs": {}}
    return {name: Path(os.path.normpath(folder / name)) for name in record["outputs"] if name.startswith("../")}


def _staged(name: str) -> str:
    """Where a file, named from the run's folder, is in the working folder until the run is finished."""
    return f"{ELSEWHERE}/{name.replace('../', '')}" if name.startswith("../") else name


def lock(place: Path, alone: bool = True, wait: float = 0.0) -> IO[str] | None:
    """Lock a run, so that one process and those that it starts make it; see `iqa.study.folders.lock`."""
    return folders.lock(place.with_name(f".{place.name}.lock"), alone, wait)


def busy(place: Path) -> str:
    """What a run that another process makes is refused with."""
    return f"{paths.shown(place)}: another process makes this run; wait for it, or stop it (a notebook: its kernel)"


_held: dict[Path, tuple[IO[str], bool]] = {}  # locks of the runs that this process makes, and whether by `iqa run`


class RunFolder:
    """Writes the results of one run. Use `finish` last.

    Args:
        params: the run's resolved parameters.

    Attributes:
        place: folder of the run's results.
        path: folder to write to; that of the results once the run is finished.

    Raises:
        ResultsError: another process makes this run.
    """

    def __init__(self, params: Params):
        self.params = params
        self.place = paths.run_folder(params.study, params.step, params.run)
        if self.place not in _held:
            held, by_runner = lock(self.place), False
            if held is None and in_batch():
                held, by_runner = lock(self.place, alone=False), True
            if held is None:
                raise ResultsError(busy(self.place))
            _held[self.place] = held, by_runner
        self.path = open_work(self.place, RUNNER_FILES if _held[self.place][1] else ())
        self.started = datetime.now(UTC)
        self.save_json("params", params.model_dump())

    def __str__(self) -> str:
        return paths.shown(self.place)

    def staged(self, file: Path) -> Path:
        """Where to write a file whose place is elsewhere, until the run is finished."""
        return self.path / _staged(os.path.relpath(file, self.place))

    def save_json(self, name: str, values: dict[str, Any]) -> None:
        """Write `<name>.json`."""
        write_json(self.path / f"{name}.json", values)

    def save_table(self, name: str, frame: pd.DataFrame) -> None:
        """Write `<name>.csv`, every digit of its numbers, without the index."""
        disk.write_whole(self.path / f"{name}.csv", frame.to_csv(index=False))

    def save_text(self, name: str, text: str) -> None:
        """Write a text as the file `name`."""
        disk.write_whole(self.path / name, text)

    def save_figure(self, name: str, figure: Any) -> None:
        """Write a matplotlib figure as `<name>.png`, `.svg` and `.pdf`; the same figure gives the same bytes.

        The png has the run's `dpi`, as have pictures inside the other two.
        """
        from matplotlib import rc_context

        dpi = self.params.model_dump()["dpi"]
        undated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
        settings = {"svg.hashsalt": name, "svg.fonttype": "path", "pdf.fonttype": 42}
        with rc_context(settings), disk.full_disk_explained(self.path):
            for kind in os.environ.get(FORMATS, " ".join(FIGURE_FORMATS)).split():
                figure.savefig(self.path / f"{name}.{kind}", dpi=dpi, bbox_inches="tight", metadata=undated[kind])

    def finish(self, data: dict[str, str] | None = None, elsewhere: Iterable[Path] = ()) -> dict[str, Any]:
        """Write `record.json`, put all into its place (which `iqa run` does itself), and return the record.

        Args:
            data: fingerprint of each database that was read, by name.
            elsewhere: files outside of the run's folder that belong to its results, written where `staged` says.
        """
        values = self.params.model_dump()
        files = [file for file in self.path.rglob("[!.]*") if file.is_file() and file.name not in RUNNER_FILES]
        names = [os.path.relpath(file, self.path) for file in files]
        written = {name: file_hash(self.path / name) for name in names if not name.startswith(f"{ELSEWHERE}/")}
        for file in elsewhere:
            staged = self.staged(file)
            written[os.path.relpath(file, self.place)] = file_hash(staged if staged.is_file() else file)
        record = {
            **{"study": self.params.study, "step": self.params.step, "run": self.params.run},
            **commit(self.params.study),
            "versions": {name: metadata.version(name) for name in PACKAGES} | {"python": platform.python_version()},
            "machine": platform.node(),
            "hardware": hardware(),
            "seed": values.get("seed"),
            "data": data or {},
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - self.started).total_seconds(), 1),
            "cpu_seconds": round(sum(os.times()[:4]), 1),  # of this process and those that it has waited for
            "params": values,
            "outputs": dict(sorted(written.items())),
        }
        write_record(self.path / RECORD, record)
        if self.path != self.place and not _held[self.place][1]:
            put_in_place(self.place)
            self.path = self.place
            folders.unlock(_held.pop(self.place)[0])
        return record


def write_json(file: Path, values: dict[str, Any], durable: bool = False) -> None:
    """Write a whole JSON file or nothing; NaN is an error."""
    disk.write_whole(file, json.dumps(values, indent=2, allow_nan=False) + "\n", durable)


def write_record(file: Path, record: dict[str, Any]) -> None:
    """Write a `record.json` that shows whether it was changed since, and outlives a power failure."""
    write_json(file, seal(record), durable=True)


def parse_record(file: Path) -> dict[str, Any] | None:
    """A `record.json`; None where there is none, or it is damaged."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        identity = record.get("identity", {})
        parts = (record["outputs"], identity, *identity.values())
        if all(isinstance(part, dict) for part in parts) and is_intact(record):
            return record
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return None


def finished(study: str, step: str, run: str) -> bool:
    """Whether there are results of a run that came to its end."""
    return (paths.run_folder(study, step, run) / RECORD).is_file()


def finished_runs(study: str, step: str) -> list[str]:
    """Runs of a step of a study that are finished."""
    return [run for run in param_files.run_names(study, step) if finished(study, step, run)]


def command_for(study: str, step: str, run: str) -> str:
    """The command that makes a run."""
    return f"iqa run {study}/{step}/{run}"


def how_to_make(study: str, *runs: str) -> str | None:
    """The command for those of some training runs that are not finished, None if all are."""
    places = [f"{study}/train/{run}" for run in runs if not finished(study, "train", run)]
    return " ".join(["iqa run", *places]) if places else None


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
    record = parse_record(folder / RECORD)
    if record is None:
        raise ResultsError(f"{paths.shown(folder / RECORD)} is damaged; make the run again with: {command}")
    if name != RECORD and name not in RUNNER_FILES and file_hash(file) != record["outputs"].get(name):
        raise ResultsError(f"{paths.shown(file)} is not the file that the run wrote; make it again with: {command}")
    return file


def read_json(study: str, step: str, run: str, name: str) -> dict[str, Any]:
    """`<name>.json` of a finished run."""
    return json.loads(result_file(study, step, run, f"{name}.json").read_text(encoding="utf-8"))


def read_table(study: str, step: str, run: str, name: str) -> pd.DataFrame:
    """`<name>.csv` of a finished run."""
    return pd.read_csv(result_file(study, step, run, f"{name}.csv"), keep_default_na=False, na_values=[""])


def commit(study: str = "") -> dict[str, Any]:
    """`commit` (None outside a git checkout) and `dirty`: whether files differ from it that can decide a result.

    These are all tracked files, and untracked ones in `iqa`, `notebooks`, `report` and a study's parameter files.
    """

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(paths.ROOT), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--untracked-files=no")
    untracked = git("ls-files", "--others", "--exclude-standard", "--", "iqa", "notebooks", "report", f"params/{study}")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes or untracked)}


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
