"""What the pipeline costs on top of the work: a training through `iqa run`, and a report where nothing has changed.

    .venv/bin/python -m benchmarks.pipeline [--parts training report] [--rounds 2]

Both on a copy of the project in a temporary folder, with the study `smoke`.

- `iqa run smoke/train/main_s1` executes the notebook: fit, test, figures, diagrams and the record. The floor is fit,
  prediction and evaluation with the same parameters as bare calls in one Python process.
- `iqa report smoke` where everything is up to date. The floor is Snakemake with one rule that has nothing to do.
  Goal: within 10 s.

Memory is the largest resident set of any process that was involved.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.common import compared, environment, in_turn, process, report
from iqa.study import paths

PYTHON = Path(sys.executable)
STUDY, RUN = "smoke", "main_s1"
COPIED = ("iqa", "notebooks", "params", "report")
BARE_CALLS = f"""
from pathlib import Path
from iqa.analysis.evaluation import evaluate
from iqa.data.prepare import open_database
from iqa.model.predictor import load_model
from iqa.model.scoring import predict
from iqa.study import param_files
from iqa.training.train import train
from iqa.training.params import TrainParams

folder = Path("bare")
folder.mkdir()
params = param_files.load(TrainParams, "{STUDY}", "{RUN}")
data = open_database(params.study, params.database)
train(params, data, folder)
model = load_model(folder / "best.pt", params.device)
evaluate(predict(model.network, data, data.indices("test"), **model.options))
"""
NOTHING = "rule all:\n"


class Project:
    """A copy of the project, and commands that are measured in it: seconds, and MiB of memory."""

    def __init__(self, folder: Path):
        self.folder = folder / "project"
        ignored = shutil.ignore_patterns("__pycache__", "*.html", "*.pdf")
        for name in COPIED:
            shutil.copytree(paths.ROOT / name, self.folder / name, ignore=ignored)
        shutil.copy(paths.ROOT / "Snakefile", self.folder)
        own = {"PYTHONPATH": str(self.folder), "IQA_CACHE": str(folder / "cache"), "IQA_BATCH": "1"}
        self.variables = environment(folder / "bytecode", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", **own)
        self.nothing = folder / "nothing"
        self.nothing.mkdir()
        (self.nothing / "Snakefile").write_text(NOTHING)

    def python(self, *arguments: str, cwd: Path | None = None) -> tuple[float, float]:
        return process([PYTHON, *arguments], cwd=cwd or self.folder, env=self.variables)

    def train(self) -> tuple[float, float]:
        shutil.rmtree(self.folder / "results" / STUDY / "train" / RUN, ignore_errors=True)
        return self.python("-m", "iqa.app.cli", "run", f"{STUDY}/train/{RUN}")

    def train_bare(self) -> tuple[float, float]:
        shutil.rmtree(self.folder / "bare", ignore_errors=True)
        return self.python("-c", BARE_CALLS)

    def render(self) -> tuple[float, float]:
        return self.python("-m", "iqa.app.cli", "report", STUDY)

    def snakemake(self) -> tuple[float, float]:
        return self.python("-m", "snakemake", "--cores", "1", "--quiet", "all", cwd=self.nothing)


def rows(what: str, against: str, goal: str, ours: list[tuple], floor: list[tuple]) -> list[dict[str, Any]]:
    """A row for the time and one for the memory."""
    (times, held), (least, least_held) = zip(*ours, strict=True), zip(*floor, strict=True)
    return [
        compared(what, times, "s", against, least, goal),
        compared(f"{what}: peak memory", held, "MiB", against, least_held),
    ]


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=("report", "training"), default=["report", "training"])
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    table = []
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        if "report" in options.parts:  # first: a training that is made anew puts the report out of date
            whole, _ = project.render()
            print(f"the study from nothing: {whole:.0f} s")
            found = in_turn({"ours": project.render, "floor": project.snakemake}, options.rounds)
            table += rows("report, no change", "Snakemake with nothing to do", "measured < 10 s", **found)
        if "training" in options.parts:
            found = in_turn({"ours": project.train, "floor": project.train_bare}, options.rounds)
            table += rows("iqa run of a training", "the bare calls in one process", "", **found)
    report("pipeline", vars(options), pd.DataFrame(table))


if __name__ == "__main__":
    main()
