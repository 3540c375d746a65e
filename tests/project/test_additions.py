"""CONTRIBUTING's table tried literally: each addition touches the files that it names, and then works."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import finished
import numpy as np
import pytest
from PIL import Image

from iqa.app import warm
from iqa.report.claims import COMPUTED, HOLDS, ClaimError, Finding
from iqa.study import paths
from iqa.study.code import file_hash

COPIED = (*finished.SOURCES, "tests")
NO_SOURCES = ("__pycache__", "smoke_results")


def copy_project(folder: Path) -> Path:
    """A copy of the project with the results of its study `smoke`, to add something to."""
    finished.copy_sources(folder)
    finished.put_results(folder)
    shutil.copytree(paths.ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns(*NO_SOURCES))
    shutil.copytree(paths.ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns(*NO_SOURCES, "pictures"))
    shutil.copy(paths.ROOT / "pyproject.toml", folder)
    return folder


def sources(project: Path) -> dict[str, str]:
    """Hashes of the source files of a copy, by path."""
    files = [file for name in COPIED for file in sorted((project / name).rglob("*"))]
    return {
        file.relative_to(project).as_posix(): file_hash(file)
        for file in files
        if file.is_file() and not any(fnmatch(part, mark) for part in file.parts for mark in NO_SOURCES)
    }


def named(addition: str) -> list[str]:
    """Files that CONTRIBUTING.md names for an addition, in the order of `touched`; `<...>` stands for any name."""
    text = (paths.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"(?m)^\| {re.escape(addition)} \|([^|]*)\|", text)
    return sorted(re.sub(r"<\w+>", "*", file) for file in re.findall("`([^`]+)`", row))


def append(project: Path, name: str, text: str) -> None:
    file = project / name
    file.write_text(f"{file.read_text(encoding='utf-8')}\n\n{text}", encoding="utf-8")


def insert_before(notebook: Path, heading: str, prose: str, code: str) -> None:
    """Add two cells to a notebook, before a section."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    place = next(n for n, cell in enumerate(content["cells"]) if "".join(cell["source"]).startswith(heading))
    content["cells"][place:place] = [
        {"cell_type": "markdown", "id": "new-0", "metadata": {}, "source": prose},
        {"cell_type": "code", "id": "new-1", "metadata": {}, "source": code, "outputs": [], "execution_count": None},
    ]
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def add_loss(project: Path) -> None:
    append(
        project,
        "iqa/training/losses.py",
        '@LOSSES.add("cubic", title="mean cubed error", formula=r"\\frac{1}{B} \\sum_i |\\hat q_i - q_i|^3")\n'
        "def cubic(prediction: Tensor, target: Tensor) -> Tensor:\n"
        '    """Mean cubed error `mean_i |p_i - t_i|^3`, in cubed units of the scores."""\n'
        "    prediction, target = _batch(prediction, target)\n"
        "    return (prediction - target).abs().pow(3).mean()\n",
    )
    append(
        project,
        "tests/training/test_losses.py",
        "def test_cubic_is_the_mean_cubed_error():\n"
        "    assert losses.cubic(torch.tensor([0.0, 3.0]), torch.tensor([1.0, 1.0])) == 4.5\n",
    )


def add_fusion(project: Path) -> None:
    append(
        project,
        "iqa/model/fusion.py",
        '@FUSIONS.add("ends", reads="the finest and the coarsest map", words="{levels}, pooled to {grid}")\n'
        "class Ends(nn.Module):\n"
        '    """The finest and the coarsest map, pooled to the grid."""\n\n'
        "    levels = (0, 3)\n\n"
        "    def __init__(self, channels: list[int], params: ModelParams):\n"
        "        super().__init__()\n"
        "        self.grid, self.channels = params.semantic_grid, channels[0] + channels[-1]\n\n"
        "    def forward(self, maps: list[Tensor]) -> Tensor:\n"
        '        """(B, C_1 + C_4, grid, grid) of the maps (B, C_l, H_l, W_l)."""\n'
        "        return torch.cat([pool(maps[level], self.grid) for level in self.levels], dim=1)\n",
    )
    append(
        project,
        "tests/model/test_model.py",
        "def test_ends_reads_the_finest_and_the_coarsest_map():\n"
        "    maps = [torch.full((1, width, 8, 8), float(width)) for width in (1, 2, 3, 4)]\n"
        '    fused = FUSIONS["ends"]([1, 2, 3, 4], ModelParams())(maps)\n'
        "    assert fused[0].mean(dim=(1, 2)).tolist() == [1, 4, 4, 4, 4]\n",
    )


def add_database(project: Path) -> None:
    append(
        project,
        "iqa/data/readers.py",
        '@READERS.add("mydb")\n'
        "def read_mydb(params: DataPrepParams, folder: Path) -> Table:\n"
        '    """MyDB: one CSV file."""\n'
        "    labels, images = locate(params, folder)\n"
        '    return read_csv(labels, {"file": "image", "score": "mos"}), images\n',
    )
    facts = {"reader": "mydb", "title": "MyDB", "images": 12, "low": 0, "high": 10, "higher_is_better": "yes"}
    facts |= {"folder": "data/MyDB", "image_folders": "images", "label_files": "labels.csv"}
    facts |= {"citation": "Doe 2026, MyDB", "licence": "MIT", "source": "the authors' site"}
    releases = project / "iqa/data/releases.csv"
    columns = releases.read_text(encoding="utf-8").splitlines()[0].split(",")
    with releases.open("a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, columns, lineterminator="\n").writerow(facts)
    append(
        project,
        "tests/data/test_data_readers.py",
        "def test_mydb_is_read(tmp_path):\n"
        '    images(tmp_path / "images", [f"{n}.png" for n in range(12)])\n'
        '    lines = ["file,score", *(f"{n}.png,{n % 10}" for n in range(12))]\n'
        '    (tmp_path / "labels.csv").write_text("\\n".join(lines))\n'
        '    assert list(read(params("mydb", tmp_path)).table["mos"]) == [*range(10), 0, 1]\n',
    )


def add_table(project: Path) -> None:
    append(
        project,
        "iqa/show/report.py",
        "def steps_table(steps: pd.DataFrame) -> pd.DataFrame:\n"
        '    """How many runs each step has, from `steps.csv`."""\n'
        '    return table_of({"Step": row["step"], "Runs:,.0f": row["runs"]} for row in records(steps))\n\n\n'
        'TABLES += (Table("steps", "Runs of each step", steps_table, ("report/steps.csv",)),)\n',
    )
    append(
        project,
        "tests/show/test_tables.py",
        "def test_steps_have_a_row_each():\n"
        "    from iqa.show import report\n\n"
        '    table = report.steps_table(pd.DataFrame({"step": ["a", "b"], "runs": [3, 4]}))\n'
        '    assert table["Runs"].tolist() == [3, 4]\n',
    )
    code = (
        'steps = pd.Series([step for step, _ in params.needs()], name="step").value_counts(sort=False)\n'
        'out.save_table("steps", steps.rename("runs").reset_index())'
    )
    insert_before(project / "notebooks/08_report.ipynb", "## Render", "How many there are.", code)
    template = project / "report/report.md.j2"
    text, chapter = template.read_text(encoding="utf-8"), "# References {.unnumbered}"
    assert text.count(chapter) == 1
    shown = '{{ table(tables["steps"], "tab:steps", "How many runs each step has.") }}'
    template.write_text(text.replace(chapter, f"{shown}\n\n{chapter}"), encoding="utf-8")


def add_backbone(project: Path) -> None:
    (project / "params/smoke/train/wider.yaml").write_text("# A wider backbone.\nbackbone: resnet18\nseeds: [1]\n")


ADDITIONS = {
    "a loss": (add_loss, 2),
    "a fusion": (add_fusion, 2),
    "a database": (add_database, 3),
    "a table": (add_table, 4),
    "a backbone": (add_backbone, 1),
}


@pytest.fixture(scope="module")
def added(tmp_path_factory) -> tuple[Path, dict[str, list[str]]]:
    """A copy of the project to which one thing after the other is added, and the source files that each touched."""
    project, touched = copy_project(tmp_path_factory.mktemp("added") / "project"), {}
    before = sources(project)
    for addition, (add, _) in ADDITIONS.items():
        add(project)
        now = sources(project)
        touched[addition] = sorted(name for name, value in now.items() if before.get(name) != value)
        before = now
    return project, touched


def assert_are_what_is_named(touched: list[str], addition: str, count: int) -> None:
    patterns = named(addition)
    assert len(touched) == count, touched
    assert len(patterns) == count and all(map(fnmatch, touched, patterns)), (touched, patterns)


@pytest.mark.parametrize("addition", ADDITIONS)
def test_an_addition_touches_the_files_that_are_named_for_it(added, addition):
    assert_are_what_is_named(added[1][addition], addition, ADDITIONS[addition][1])


RUNS = ("smoke/report/report", "smoke/train/new_s1", "smoke/data_prep/mydb")


@pytest.fixture(scope="module")
def used(added, tmp_path_factory) -> tuple[Path, str]:
    """The project with what was added in use, and what was printed. One process loads the changed code for all."""
    project, folder = added[0], tmp_path_factory.mktemp("data") / "MyDB"
    (folder / "images").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(12):
        picture = generator.integers(0, 256, (80, 96, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / "images" / f"{number}.png")
    (folder / "labels.csv").write_text("\n".join(["file,score", *(f"{n}.png,{n / 2}" for n in range(12))]))
    params = project / "params/smoke"
    (params / "data_prep/mydb.yaml").write_text(f"reader: mydb\nfolder: {folder}\nscale: 1.0\n")
    changed = "loss: cubic\nfusion: ends"
    (params / "train/new.yaml").write_text(f"epochs: 1\nseeds: [1]\nrank_weight: 0.0\n{changed}\n")
    tests = ("training/test_losses", "model/test_model", "data/test_data_readers", "show/test_tables")
    files = [f"tests/{name}.py" for name in tests]
    printed = tmp_path_factory.mktemp("printed") / "printed.txt"
    with finished.inside(project), printing_to(printed), warm.started() as (variables, _):

        def python(*arguments: str) -> None:
            command = [sys.executable, "-I", "-S", "iqa/app/warm.py", "-m", *arguments]
            environment = os.environ | variables | {"OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""}
            assert subprocess.run(command, env=environment, check=False).returncode == 0, printed.read_text()

        python("pytest", "-v", "-p", "no:cacheprovider", *files, "-k", "cubic or ends or mydb or facts or steps")
        python("docs.generate", "databases")
        python("iqa.app.cli", "run", *RUNS)
        for model in ("smoke/new_s1", "params/smoke/train/wider.yaml"):
            python("iqa.app.cli", "describe", model)
    return project, printed.read_text()


@contextmanager
def printing_to(file: Path) -> Iterator[None]:
    """Lets the processes that are started print to a file: copies print where the process does that they are of."""
    kept = [os.dup(number) for number in (1, 2)]
    with file.open("wb") as opened:
        for number in (1, 2):
            os.dup2(opened.fileno(), number)
        try:
            yield
        finally:
            for number, other in zip((1, 2), kept, strict=True):
                os.dup2(other, number)
                os.close(other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cubic_is", "ends_reads", "mydb_is", "steps_have"])
def test_the_test_of_an_addition_passes(used, name):
    assert re.search(rf"::test_{name}\S* PASSED", used[1])


@pytest.mark.slow
def test_a_loss_and_a_fusion_are_trained_with(used):
    project, said = used
    (term,) = json.loads((project / "results/smoke/train/new_s1/loss.json").read_text())["terms"]
    assert (term["name"], term["title"], term["weight"]) == ("cubic", "mean cubed error", 1.0)
    assert "epoch   1/1" in said
    assert "smoke/new_s1: HyperIQA with ends fusion" in said and "levels 1, 4, pooled to 4" in said


@pytest.mark.slow
def test_a_database_is_read_and_documented(used):
    project, _ = used
    assert "| `mydb` | `data/MyDB` | 12 |" in (project / "docs/reference/databases.md").read_text(encoding="utf-8")
    audit = json.loads((project / "results/smoke/data_prep/mydb/audit.json").read_text())
    assert (audit["title"], audit["n"], audit["mos"]["max"]) == ("MyDB", 12, 5.5)


@pytest.mark.slow
def test_a_table_is_in_the_report(used):
    project, _ = used
    assert "How many runs each step has." in (project / "report/smoke/report.html").read_text()
    table = (project / "report/smoke/tables/steps.csv").read_text().splitlines()
    assert table[0] == "Step,Runs" and any(line.startswith("train,4") for line in table)


@pytest.mark.slow
def test_a_backbone_is_described_before_it_is_trained(used):
    (line,) = [line for line in used[1].splitlines() if line.startswith("smoke/wider")]
    assert line.startswith("smoke/wider, not trained: HyperIQA with concat fusion")
    assert "resnet18" in used[1].partition(line)[2]


def test_a_claim_touches_the_files_that_are_named_for_it_and_is_settled(tmp_path, monkeypatch):
    project = copy_project(tmp_path / "project")
    before = sources(project)
    claim = {"id": "X01", "source": "S000", "claim": "Ten and two are twelve", "stated": "12", "kind": "arithmetic"}
    claim["figures"] = "10 2 12"
    file = project / "report/claims.csv"
    columns = file.read_text(encoding="utf-8").splitlines()[0].split(",")
    with file.open("a", newline="", encoding="utf-8") as rows:
        csv.DictWriter(rows, columns, lineterminator="\n").writerow(claim)
    with pytest.raises(ClaimError, match="without a section: X01"):
        settle_claims(project, monkeypatch)

    prose = "### X01 Ten and two are twelve\n\n> S000: 12\n\nThe sum is computed."
    code = (
        'claim = claims["X01"]\n*parts, total = claim.numbers\n'
        'settle(claim, found=f"The sum is {sum(parts):g}.", basis=COMPUTED, verdict=verdict(sum(parts) == total))'
    )
    insert_before(project / "notebooks/07_claims.ipynb", "## Record", prose, code)
    touched = sorted(name for name, value in sources(project).items() if before.get(name) != value)
    assert_are_what_is_named(touched, "a claim", 2)
    row = settle_claims(project, monkeypatch, "X01").iloc[-1]
    assert (row["id"], row["found"], row["verdict"]) == ("X01", "The sum is 12.", HOLDS)
    assert row["cell"] == "X01-Ten-and-two-are-twelve"


def settle_claims(project: Path, monkeypatch, *sections: str):
    """The table of claims after the notebook's setup and some sections; all other claims of before count as settled."""
    monkeypatch.setattr(paths, "REPORT", project / "report")
    monkeypatch.setattr(paths, "RESULTS", project / "results")
    notebook = json.loads((project / "notebooks/07_claims.ipynb").read_text(encoding="utf-8"))
    variables: dict = {}
    section = "setup"
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and (heading := re.match(r"### (\w+)|## Record", source)):
            section = heading[1] or "record"
        elif cell["cell_type"] == "code" and section in ("setup", *sections):
            exec(source, variables)
    claims = variables["claims"]
    others = [name for name in claims.rows if name not in sections and name != "X01"]
    claims.settled += [(name, Finding("Settled before.", COMPUTED, HOLDS)) for name in others]
    return claims.table()
