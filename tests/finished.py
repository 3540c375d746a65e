"""A project with finished results for tests: those of a real run of the study `smoke`, without its large files.

`tests/smoke_results/` holds what the steps wrote as JSON and CSV. `python tests/finished.py` runs the study once more
in a scratch folder and renews them; a slow test compares their columns and keys with what the steps write now.
"""

import filecmp
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path

import pytest

from iqa.app import cli
from iqa.app.stale import State
from iqa.study import code, param_files, paths

STUDY = "smoke"
KEPT = paths.ROOT / "tests" / "smoke_results"
SOURCES = ("iqa", "notebooks", "params", "report", "profiles")
LEFT_OUT = {"fit.json", "out_of_date.json"}
PLACEHOLDERS = {
    ".svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="4" height="3"/>',
    ".ipynb": b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
    ".png": bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b"
        "550000000a49444154789c636000000002000148afa4710000000049454e44ae"
        "426082"
    ),
}


def copy_sources(folder: Path) -> None:
    """Copy the package, notebooks, parameter files and report sources into a folder."""
    ignored = shutil.ignore_patterns("__pycache__", "*.html", "*.pdf", STUDY, "demo")
    for name in SOURCES:
        shutil.copytree(paths.ROOT / name, folder / name, ignore=ignored if name == "report" else ignored_caches)
    shutil.copy(paths.ROOT / "Snakefile", folder)


def ignored_caches(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__"}


parse = cache(code._parse)  # most files of a copy are those of others
PACKAGES: dict[str, code.Package] = {}  # what is known of code, by its folder and its files


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Let this process, and those that it starts, work in a copy of the project: on its files and its code.

    What this process has loaded stays: a copy in which parameters are others needs a process of its own (`run`).
    """
    files = {str(file): file.read_text(encoding="utf-8") for file in sorted((folder / "iqa").rglob("*.py"))}
    package = PACKAGES.setdefault(code.digest(files), code.Package(folder / "iqa"))
    with pytest.MonkeyPatch.context() as patch, chdir(folder):
        patch.setattr(paths, "ROOT", folder)
        for name in ("PARAMS", "NOTEBOOKS", "RESULTS", "REPORT", "CACHE"):
            patch.setattr(paths, name, folder / name.lower())
        patch.setattr(code, "open_package", lambda _: package)
        patch.setattr(code, "_parse", parse)
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("IQA_CACHE", str(folder / "cache"))
        yield


def restore(copy: Path, original: Path) -> None:
    """Bring a copy of a folder back to what it was: files of another size or time, new ones and missing ones."""
    before, now = ({file.relative_to(folder): file for file in folder.rglob("*")} for folder in (original, copy))
    for name in sorted(now.keys() - before.keys(), reverse=True):
        now[name].rmdir() if now[name].is_dir() else now[name].unlink()
    for name, file in sorted(before.items()):
        if file.is_dir():
            (copy / name).mkdir(exist_ok=True)
        elif name not in now or not filecmp.cmp(file, now[name]):
            shutil.copy2(file, copy / name)


def call(folder: Path, *arguments: str, fails: bool = False) -> str:
    """Call the `iqa` command inside a copy of the project, and return what it printed."""
    printed = io.StringIO(), io.StringIO()
    with inside(folder), redirect_stdout(printed[0]), redirect_stderr(printed[1]):
        status = cli.main([*arguments])
    told = "".join(text.getvalue() for text in printed)
    assert bool(status) == fails, told
    return told


def run(folder: Path, *command: str, fails: bool = False, cwd: Path | None = None, **variables: str) -> str:
    """Run `python -m ...` in a copy of the project, or elsewhere with its code, and return what it printed."""
    environment = os.environ | {"PYTHONPATH": str(folder), "IQA_CACHE": str(folder / "cache")} | variables
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd or folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def put_results(folder: Path) -> None:
    """Lay the kept results into a copy of the project; files that are not kept become small placeholders."""
    study = folder / "results" / STUDY
    shutil.copytree(KEPT, study)
    for file in study.glob("*/*/record.json"):
        record = json.loads(file.read_text())
        for name in record["outputs"]:
            output = (file.parent / name).resolve()
            if not output.is_file():
                output.parent.mkdir(parents=True, exist_ok=True)
                output.write_bytes(PLACEHOLDERS.get(output.suffix, b"placeholder of " + name.encode()))
            if name == "fit.json":
                model = code.file_hash(file.parent / "best.pt")
                output.write_text(json.dumps({"model": model, "history": [{"epoch": 1}]}))
            record["outputs"][name] = code.file_hash(output)
        (file.parent / "notebook.ipynb").write_bytes(PLACEHOLDERS[".ipynb"])
        file.write_text(json.dumps(record))


def make_project(folder: Path) -> Path:
    """A copy of the project whose study `smoke` is finished and up to date."""
    copy_sources(folder)
    put_results(folder)
    with inside(folder):
        state = State(STUDY)
        assert all([state.stand(place, "made by the code under test") for place in state.params])
    return folder


def render_report(folder: Path) -> Path:
    """Render the report of a copy of the project, without its notebook; the HTML file."""
    from iqa.report.params import ReportParams
    from iqa.report.render import render

    with inside(folder):
        return render(param_files.load(ReportParams, STUDY, "report"))["html"]


def kept_files(study: Path) -> list[Path]:
    """Which files of a study's results are kept, relative to its folder."""
    files = [file.relative_to(study) for kind in ("json", "csv") for file in sorted(study.rglob(f"*.{kind}"))]
    return [file for file in files if file.name not in LEFT_OUT and ".snakemake" not in file.parts]


def outline(file: Path) -> object:
    """The columns of a CSV file, or the keys of a JSON file.

    In a record, the code and the machine do not count, nor in how many formats figures were written.
    """
    if file.suffix == ".csv":
        return file.read_text(encoding="utf-8").splitlines()[0].split(",")
    values = json.loads(file.read_text(encoding="utf-8"))
    return _keys({key: value for key, value in values.items() if key not in ("identity", "check")})


def _keys(value: object) -> object:
    if isinstance(value, dict):
        return {key: _keys(item) for key, item in value.items() if not key.endswith(".pdf")}
    return [_keys(item) for item in value] if isinstance(value, list) else None


def refresh() -> None:
    """Run the study in a scratch copy of the project, and keep its JSON and CSV files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_sources(folder)
        print(run(folder, "iqa.app.cli", "report", STUDY)[-300:])
        shutil.rmtree(KEPT, ignore_errors=True)
        for file in kept_files(folder / "results" / STUDY):
            (KEPT / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / "results" / STUDY / file, KEPT / file)
        for file in KEPT.glob("*/*/record.json"):
            record = json.loads(file.read_text())
            del record["identity"], record["check"]  # of the code of that day
            record |= {"machine": "somewhere", "commit": "0" * 40, "dirty": False}
            file.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    refresh()
