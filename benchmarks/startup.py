"""How long it takes before anything happens: the `iqa` command, `import iqa`, and the imports of the notebooks.

    .venv/bin/python -m benchmarks.startup [--rounds 5] [--cases "iqa --help" "import iqa"]

Each is a fresh process. All files are in memory and compiled, as they are from the second start on, through a first
round that does not count. The floor is Python alone, or Python with the libraries that the code cannot do without.
Goals: `iqa --help` within 1 s; `import iqa` within 0.5 s and without torch, which is checked here.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks.common import compared, environment, in_turn, report, seconds
from iqa.study import paths

PYTHON = "python -c pass"
TORCH = "import torch, timm"
FITTING = "import torch, timm, lightning.pytorch"
PANDAS = "import pandas, matplotlib.figure"
NOTEBOOKS = {"02_train": FITTING, "03_ablation": PANDAS, "05_cross_dataset": TORCH, "08_report": TORCH}
GOALS = {"iqa --help": "measured < 1 s", "import iqa": "measured < 0.5 s"}


def import_cell(notebook: str) -> str:
    """The code of a notebook's first cell of code, without what only Jupyter understands."""
    cells = json.loads((paths.NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    first = next(cell for cell in cells if cell["cell_type"] == "code")
    return "".join(line for line in first["source"] if not line.startswith("%"))


def commands() -> dict[str, list[str]]:
    """Arguments of Python for each case and floor."""
    found = {PYTHON: ["-c", "pass"]}
    found |= {libraries: ["-c", libraries] for libraries in (TORCH, FITTING, PANDAS)}
    found |= {
        "iqa --help": ["-m", "iqa.app.cli", "--help"],
        "iqa predict --help": ["-m", "iqa.app.cli", "predict", "--help"],
    }
    found |= {"import iqa": ["-c", "import iqa"]}
    return found | {f"imports of {name}": ["-c", import_cell(name)] for name in NOTEBOOKS}


def floors() -> dict[str, str]:
    """The floor of each case."""
    plain = dict.fromkeys(["iqa --help", "iqa predict --help", "import iqa"], PYTHON)
    return plain | {f"imports of {name}": libraries for name, libraries in NOTEBOOKS.items()}


def run(arguments: list[str], variables: dict[str, str]) -> str:
    """What a fresh Python prints.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=paths.ROOT, env=variables, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=floors(), default=list(floors()), metavar="CASE")
    options = parser.parse_args()
    known, floor_of = commands(), floors()
    wanted = dict.fromkeys([*options.cases, *(floor_of[case] for case in options.cases)])
    with tempfile.TemporaryDirectory() as bytecode:
        variables = environment(Path(bytecode))
        cases = {name: (lambda name=name: seconds(lambda: run(known[name], variables))) for name in wanted}
        times = in_turn(cases, options.rounds)
        loaded = run(["-c", "import sys, iqa; print('torch' in sys.modules)"], variables).strip() == "True"
    rows = [
        compared(case, times[case], "s", floor_of[case], times[floor_of[case]], GOALS.get(case, ""))
        for case in options.cases
    ]
    print(f"`import iqa` loads torch: {'yes' if loaded else 'no'}")
    report("startup", vars(options) | {"import_iqa_loads_torch": loaded}, pd.DataFrame(rows))


if __name__ == "__main__":
    main()
