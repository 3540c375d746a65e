"""What the pipeline costs on top of the work: starting, a training through `iqa run`, a report; and where it spends it.

    .venv/bin/python -m benchmarks.pipeline [--parts start report training profile] [--study smoke] [--rounds 2]

All are processor time, over all processes that are started, and memory of the largest of them. Files are in the page
cache and compiled, as they are from the second start on, through a first round that does not count. `report` and
`training` work on a copy of the project in a temporary folder, with the study `--study`.

- start: the `iqa` command, `import iqa`, and the imports of the notebooks. The floor is Python alone, or Python with
  the libraries that the code cannot do without.
- report: `iqa report` from nothing, with what its runs report of themselves, and the rest: Snakemake, the process with
  the libraries, notebooks' runners. Then `iqa report` where everything is up to date; the floor is Snakemake with one
  rule that has nothing to do.
- training: `iqa run <study>/train/main_s1` executes the notebook: fit, test, figures, diagrams and the record. The
  floor is fit, prediction and evaluation with the same parameters as bare calls in one Python process.
- profile: what each run of the study `--finished`, of which this checkout has results, reported of itself.

`--parts report --study demo` makes the demo study from nothing, and so has the whole profile of `make report`.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.common import Cost, arguments, environment, in_turn, process, report, row
from iqa.app.steps import STEPS
from iqa.study import paths
from iqa.study.results import RECORD, parse_record

RUN = "main_s1"
COPIED = ("iqa", "notebooks", "params", "report")
TORCH = "import torch, timm"
FITTING = "import torch, timm, lightning.pytorch"
PANDAS = "import pandas, matplotlib.figure"
NOTEBOOKS = {"02_train": FITTING, "03_ablation": PANDAS, "05_cross_dataset": TORCH, "08_report": TORCH}
HELP = "from iqa.app.cli import main; raise SystemExit(main(['--help']))"
BARE_CALLS = """
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
params = param_files.load(TrainParams, "{study}", "{run}")
data = open_database(params.study, params.database)
train(params, data, folder)
model = load_model(folder / "best.pt", params.device)
evaluate(predict(model.network, data, data.indices("test"), **model.options))
"""
NOTHING = "rule all:\n"


class Project:
    """A copy of the project, and commands that are measured in it."""

    def __init__(self, folder: Path, study: str = "smoke"):
        self.folder, self.study = folder / "project", study
        ignored = shutil.ignore_patterns("__pycache__", "*.html", "*.pdf")
        for name in COPIED:
            shutil.copytree(paths.ROOT / name, self.folder / name, ignore=ignored)
        shutil.copy(paths.ROOT / "Snakefile", self.folder)
        own = {"PYTHONPATH": str(self.folder), "IQA_CACHE": str(folder / "cache"), "IQA_BATCH": "1"}
        self.variables = environment(folder / "bytecode", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", **own)
        self.nothing = folder / "nothing"
        self.nothing.mkdir()
        (self.nothing / "Snakefile").write_text(NOTHING)

    def python(self, *arguments: str, cwd: Path | None = None) -> Cost:
        return process([sys.executable, *arguments], cwd=cwd or self.folder, env=self.variables)

    def iqa(self, *arguments: str) -> Cost:
        return self.python("-m", "iqa.app.cli", *arguments)

    def train(self) -> Cost:
        shutil.rmtree(self.folder / "results" / self.study / "train" / RUN, ignore_errors=True)
        return self.iqa("run", f"{self.study}/train/{RUN}")

    def train_bare(self) -> Cost:
        shutil.rmtree(self.folder / "bare", ignore_errors=True)
        return self.python("-c", BARE_CALLS.format(study=self.study, run=RUN))

    def render(self) -> Cost:
        return self.iqa("report", self.study)

    def snakemake(self) -> Cost:
        return self.python("-m", "snakemake", "--cores", "1", "--quiet", "all", cwd=self.nothing)


def import_cell(notebook: str) -> str:
    """The code of a notebook's first cell of code, without what only Jupyter understands."""
    cells = json.loads((paths.NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    first = next(cell for cell in cells if cell["cell_type"] == "code")
    return "".join(line for line in first["source"] if not line.startswith("%"))


def starts(project: Project, rounds: int) -> list[dict[str, Any]]:
    """Rows on what happens before anything does."""
    cases = {"iqa --help": (HELP, "pass"), "import iqa": ("import iqa", "pass")}
    cases |= {f"imports of {name}": (import_cell(name), floor) for name, floor in NOTEBOOKS.items()}
    goals = {"iqa --help": "value < 1", "import iqa": "value < 0.5"}
    codes = dict.fromkeys(code for pair in cases.values() for code in pair)
    found = in_turn({code: lambda code=code: project.python("-c", code).cpu for code in codes}, rounds)
    return [
        row(name, found[code], "CPU s", f"python -c '{floor}'", found[floor], goals.get(name, ""))
        for name, (code, floor) in cases.items()
    ]


def rows(what: str, against: str, goal: str, ours: list[Cost], floor: list[Cost]) -> list[dict[str, Any]]:
    """A row for the processor time and one for the memory."""
    memory = row(f"{what}: memory", [each.peak for each in ours], "MiB", against, [each.peak for each in floor])
    return [row(what, [each.cpu for each in ours], "CPU s", against, [each.cpu for each in floor], goal), memory]


def profile(results: Path, total: float | None = None) -> list[dict[str, Any]]:
    """Rows on the runs, the steps and the whole of a study, from its records, and on the rest of a `total`."""
    records = [parse_record(file) for file in results.glob(f"*/*/{RECORD}")]
    runs = pd.DataFrame([each for each in records if each]).set_index(["step", "run"])["cpu_seconds"]
    found: dict[str, float] = {}
    for step in STEPS:
        of_step = runs[runs.index.get_level_values("step") == step].sort_index()
        found |= {"/".join(place): cpu for place, cpu in of_step.items()}
        found |= {f"{step}, {len(of_step)} runs": of_step.sum()} if len(of_step) > 1 else {}
    found["all runs"] = runs.sum()
    found |= {} if total is None else {"the rest": total - found["all runs"], "the whole": total}
    study = results.name if total is None else f"{results.name} from nothing"
    return [row(f"{study}: {name}", [cpu], "CPU s") for name, cpu in found.items()]


def main() -> None:
    """Measure, print and write the table."""
    parts = ("start", "report", "training", "profile")
    options = arguments(__doc__, parts=parts, study="smoke", finished="demo", rounds=2)
    table = []
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder), options.study)
        if "start" in options.parts:
            table += starts(project, options.rounds)
        if "report" in options.parts:  # first: a training that is made anew puts the report out of date
            whole = project.render()
            table += profile(project.folder / "results" / options.study, whole.cpu)
            found = in_turn({"ours": project.render, "floor": project.snakemake}, options.rounds)
            table += rows("report, no change", "Snakemake with nothing to do", "value < 4", **found)
        if "training" in options.parts:
            found = in_turn({"ours": project.train, "floor": project.train_bare}, options.rounds)
            table += rows("iqa run of a training", "the bare calls in one process", "", **found)
    if "profile" in options.parts:
        results = paths.RESULTS / options.finished
        if any(results.glob(f"report/*/{RECORD}")):
            table += profile(results)
        else:
            print(f"no profile: {paths.shown(results)} holds no finished study; iqa report {options.finished} makes it")
    report("pipeline", options, table)


if __name__ == "__main__":
    main()
