"""What is made again, told and accepted: on the real modules and notebooks, in a copy with finished results."""

import ast
import json
import re
import shutil

import finished
import nbformat
import pytest

from iqa.app.stale import State
from iqa.app.steps import STEPS
from iqa.report.reader import ReportError
from iqa.study.param_files import run_names
from iqa.training.identity import fit_identity

pytestmark = pytest.mark.slow

EVERY_RUN = {f"{step}/{run}" for step in STEPS for run in run_names("smoke", step)}
TRAININGS = {run for run in EVERY_RUN if run.startswith("train/")}
PREPARATIONS = {run for run in EVERY_RUN if run.startswith("data_prep/")}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return finished.make_project(tmp_path_factory.mktemp("made") / "project")


@pytest.fixture(scope="module")
def copy(made, tmp_path_factory):
    return shutil.copytree(made, tmp_path_factory.mktemp("copy") / "project")


@pytest.fixture
def project(made, copy):
    """A project in which nothing is due, for one test to change."""
    yield copy
    finished.restore(copy, made)


def told(project, name="smoke", ask=finished.call):
    """Reasons by run, as `iqa why` prints them."""
    found = {}
    for line in ask(project, "why", name).splitlines():
        if re.fullmatch(r"\w+/\w+", line):
            found[line] = []
        elif line.startswith("  "):
            found[list(found)[-1]].append(line.strip())
    return found


def change(file, old, new):
    text = file.read_text()
    assert old in text, f"{file.name} lacks {old!r}"
    file.write_text(text.replace(old, new, 1))


def fit_code(project, run="main_s1"):
    """Identity of the code that fits a run."""
    with finished.inside(project):
        return fit_identity(State("smoke").params["train", run], {})


# --- nothing is made again


def test_nothing_is_due_in_a_finished_study(project):
    assert told(project) == {}
    printed = finished.call(project, "why", "smoke")
    assert printed.endswith("Due in study 'smoke': nothing.\n")
    assert "Nothing to be done" in finished.call(project, "report", "smoke")


class Reworded(ast.NodeTransformer):
    """Other docstrings and, but for the classes whose fields they are, no annotations."""

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.returns = None
        for argument in [*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs]:
            argument.annotation = None
        if ast.get_docstring(node) is not None:
            node.body[0] = ast.Expr(ast.Constant("Said in other words."))
        return node


def test_remarks_docstrings_annotations_formatting_and_prose_make_nothing_due(project):
    for file in (project / "iqa").rglob("*.py"):
        tree = Reworded().visit(ast.parse(file.read_text()))
        file.write_text(ast.unparse(ast.fix_missing_locations(tree)) + "\n\n\n# a remark\n")
    for file in (project / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(file, 4)
        for cell in notebook.cells:
            cell.source += "\nOther prose." if cell.cell_type == "markdown" else "\n# a remark"
        nbformat.write(notebook, file)
    assert told(project) == {}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "iqa/training/losses.py",
            '@LOSSES.add("cubic", title="cube", paper="", formula="e^3")\n'
            "def cubic(prediction, target):\n    return (prediction - target).abs().pow(3).mean()",
        ),
        (
            "iqa/model/fusion.py",
            '@FUSIONS.add("first", title="first", reads="the finest map", words="{levels}")\n'
            "class First(Last):\n    levels = (0,)",
        ),
        ("iqa/data/readers.py", '@READERS.add("mydb")\ndef read_mydb(params, folder):\n    raise NotImplementedError'),
        ("iqa/data/crops.py", '@CROPS.add("corner", title="corner")\ndef corner(height, width, crop):\n    return 0'),
        ("iqa/analysis/evaluation.py", "def another_measure(predictions):\n    return predictions.mean()"),
    ],
    ids=["loss", "fusion", "reader", "crops", "function"],
)
def test_what_no_run_uses_makes_nothing_due(project, file, text):
    (project / file).write_text((project / file).read_text() + f"\n\n{text}\n")
    assert told(project) == {}


def test_a_new_parameter_whose_default_is_the_old_behaviour_makes_nothing_due(project):
    change(
        project / "iqa/training/params.py",
        "    crop: types.Size = 224\n",
        "    crop: types.Size = 224\n    warm: int = 0\n",
    )
    change(project / "notebooks/02_train.ipynb", '"crop = 224', '"warm = 0\\n",\n    "crop = 224')
    assert told(project, ask=in_a_process_of_its_own) == {}
    (project / "params/smoke/train/main.yaml").open("a").write("\nwarm: 3\n")
    assert "parameter warm: 0 -> 3" in told(project, ask=in_a_process_of_its_own)["train/main_s1"]


def in_a_process_of_its_own(project, *command):
    return finished.run(project, "iqa.app.cli", *command)


# --- what uses it is made again


def test_a_colour_makes_figures_due_and_no_fit(project):
    before = fit_code(project)
    change(project / "iqa/show/style.py", "#0072B2", "#0072B3")
    due = told(project)
    drawn = due.keys() - {"report/report"}
    assert due["report/report"] == [f"reads {', '.join(sorted(drawn)[:4])}, ..., which are made again ({len(drawn)})"]
    assert all(due[run] == ["code: iqa/show/style.py: BLUE has changed"] for run in drawn)
    assert "claims/main" not in due
    assert fit_code(project) == before


def test_the_words_of_a_loss_make_due_what_shows_them_and_no_fit(project):
    before = fit_code(project)
    change(project / "iqa/training/losses.py", 'title="mean absolute error"', 'title="mean distance"')
    due = told(project)
    assert due["train/main_s1"] == ["code: iqa/training/losses.py: l1 (words) has changed"]
    assert due.keys() == TRAININGS | {"report/report"}
    assert fit_code(project) == before


def test_a_table_makes_due_what_shows_it_and_no_fit_and_no_preparation(project):
    before = fit_code(project)
    change(project / "iqa/show/ablation.py", '"Decision": "decision"', '"Decided": "decision"')
    assert told(project).keys() <= {"ablation/main", "report/report"}
    assert "ablation/main" in told(project)
    assert fit_code(project) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("complexity", '"Time of one image"', '"Duration of one image"'),
        ("report", '    Table("claims", "Claims and what holds", claims_table, ("claims/claims.csv",)),\n', ""),
    ],
)
def test_the_title_of_a_table_and_the_list_of_tables_make_only_the_report_due(project, file, old, new):
    change(project / f"iqa/show/{file}.py", old, new)
    due = told(project)
    assert due.keys() == {"report/report"}
    assert f"code: iqa/show/{file}.py: TABLES has changed" in due["report/report"]


def test_a_fusion_makes_the_runs_due_that_use_it_and_no_others(project):
    before = fit_code(project, "last_s1")
    change(project / "iqa/model/fusion.py", "for each in maps], dim=1)", "for each in maps], dim=1) * 1.0")
    due = told(project)
    assert due["train/main_s1"] == ["code: iqa/model/fusion.py: Concat has changed"]
    assert "train/last_s1" not in due and not PREPARATIONS & due.keys()
    assert {"ablation/main", "report/report"} <= due.keys()
    assert fit_code(project, "last_s1") == before


def test_a_loss_makes_the_runs_due_that_use_it_and_no_others(project):
    (project / "params/smoke/train/other.yaml").write_text("seeds: [1]\nloss: l2\nrank_weight: 0.0\n")
    before = fit_code(project, "other_s1")
    change(project / "iqa/training/losses.py", "counted.sum().clamp(min=1)", "counted.sum().clamp(min=2)")
    assert "code: iqa/training/losses.py: ranking has changed" in told(project)["train/main_s1"]
    assert fit_code(project, "other_s1") == before


def test_a_crop_that_a_run_uses_makes_it_due(project):
    change(project / "iqa/data/crops.py", "height - crop + 1", "height - crop")
    assert told(project).keys() >= TRAININGS


def test_the_code_of_an_input_makes_due_what_reads_it(project):
    change(project / "iqa/data/pixels.py", "value * 40 + 128", "value * 41 + 128")
    due = told(project)
    for run in TRAININGS:
        assert any(reason.startswith("reads data_prep/") for reason in due[run]) or any("mscn" in r for r in due[run])


def test_a_value_makes_its_run_due_and_what_reads_it(project):
    (project / "params/smoke/train/last.yaml").open("a").write("\nlr: 0.5\n")
    due = told(project)
    assert due["train/last_s1"] == ["parameter lr: 0.002 -> 0.5"]
    assert due["ablation/main"] == ["reads train/last_s1, which is made again"]
    assert "train/main_s1" not in due and "cross_dataset/main" not in due


def test_a_comment_in_a_parameter_file_makes_nothing_due(project):
    for file in (project / "params").rglob("*.yaml"):
        file.write_text("# why\n" + file.read_text())
    assert told(project) == {}


def test_other_data_make_due_what_was_made_from_them(project):
    (project / "params/smoke/data_prep/demo.yaml").open("a").write("\nseed: 5\n")
    due = told(project)
    assert (
        "parameter seed: 0 -> 5" in due["data_prep/demo"]
        and "reads images: its contents differ" in due["data_prep/demo"]
    )
    assert all("reads data_prep/demo: its contents differ" in due[run] for run in TRAININGS)


def test_another_version_of_torch_or_timm_makes_due_what_it_decides(project):
    for run in EVERY_RUN:
        file = project / "results/smoke" / run / "record.json"
        record = json.loads(file.read_text())
        versions = record["identity"]["versions"]
        versions |= {name: "0.1" for name in ("torch", "timm") if name in versions}
        del record["check"]
        file.write_text(json.dumps(record))
    due = told(project)
    assert due.keys() >= TRAININGS and not PREPARATIONS & due.keys()
    assert all(
        line.startswith(("version of torch: 0.1 -> ", "version of timm: 0.1 -> ")) for line in due["train/main_s1"]
    )


def test_weights_make_due_what_starts_from_them(project):
    (project / "w.pth").write_bytes(b"one")
    (project / "params/smoke/train/last.yaml").open("a").write("\ninput: rgb\nweights: w.pth\n")
    finished.call(project, "accept", "smoke", "--because", "a test")
    assert told(project).keys() <= {"report/report"}
    (project / "w.pth").write_bytes(b"two")
    assert told(project)["train/last_s1"] == ["file w.pth: its contents differ"]


# --- outputs


@pytest.mark.parametrize("name", ["train/main_s1/best.pt", "train/main_s1/metrics.json", "ablation/main/ablation.csv"])
@pytest.mark.parametrize("damage", ["missing", "changed", "cut"])
def test_an_output_that_is_not_what_the_run_wrote_makes_it_due(project, name, damage):
    file = project / "results/smoke" / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "cut" else bytes([content[0] ^ 1]) + content[1:])
    run, _, output = name.rpartition("/")
    what = "is missing" if damage == "missing" else "is not the file that the run wrote"
    assert f"output {output} {what}" in told(project)[run]


def test_a_result_that_was_changed_is_not_read_for_a_report(project):
    file = project / "results/smoke/train/main_s1/metrics.json"
    metrics = json.loads(file.read_text())
    file.write_text(json.dumps(metrics | {"srcc": 0.999}))
    with pytest.raises(ReportError, match=r"main_s1/metrics\.json is not the file that the run wrote") as error:
        finished.render_report(project)
    assert "iqa run smoke/train/main_s1" in str(error.value)


def test_tables_of_the_report_that_are_missing_make_it_due(project):
    shutil.rmtree(project / "report/smoke/tables")
    due = told(project)
    assert due.keys() == {"report/report"} and any(
        "tables/main.csv is missing" in line for line in due["report/report"]
    )


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"outputs": 3}', b"\xff\xfe", bytes(50)])
def test_a_damaged_record_is_told_by_name_and_not_read_or_accepted(project, content):
    file = project / "results/smoke/train/main_s1/record.json"
    file.write_bytes(content)
    assert told(project)["train/main_s1"] == ["results/smoke/train/main_s1/record.json is damaged"]
    if content == b"{":
        told_of = "main_s1/record.json is damaged; make the run again with: iqa run smoke/train/main_s1"
        with pytest.raises(ReportError, match=re.escape(told_of)):
            finished.render_report(project)
        printed = finished.call(project, "predict", "report/x.png", "--model", "smoke/main_s1", fails=True)
        assert told_of in printed
        printed = finished.call(project, "accept", "smoke", "--because", "a test", fails=True)
        assert "train/main_s1: results/smoke/train/main_s1/record.json is damaged" in printed
        assert file.read_bytes() == content


def test_a_record_in_which_something_was_changed_is_damaged(project):
    file = project / "results/smoke/train/main_s1/record.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"seconds": record["seconds"] + 1}))
    assert told(project)["train/main_s1"] == ["results/smoke/train/main_s1/record.json is damaged"]


@pytest.mark.parametrize("place", ["results/smoke/train/.main_s1.lock", "results/smoke/.lock"])
def test_a_folder_in_place_of_a_lock_is_named_with_the_remedy(project, place):
    (project / place).mkdir()
    command = ("report", "smoke") if place.endswith("smoke/.lock") else ("run", "smoke/train/main_s1")
    printed = finished.call(project, *command, fails=True)
    assert f"{place} is a folder in place of a file; remove it" in printed and "Traceback" not in printed


# --- telling and accepting


def test_a_dry_run_says_the_same_and_nothing_of_snakemakes(project):
    change(project / "iqa/model/fusion.py", "for each in maps], dim=1)", "for each in maps], dim=1) * 1.0")
    why = finished.call(project, "why", "smoke")
    dry = finished.call(project, "report", "smoke", "--dry-run")
    assert why == dry and "Concat has changed" in why
    assert not re.search("forced|input files|rule|Job", dry)


def test_why_takes_a_study_a_step_or_a_run(project):
    (project / "params/smoke/train/last.yaml").open("a").write("\nlr: 0.5\n")
    assert told(project, "smoke/train").keys() == {"train/last_s1"}
    assert told(project, "smoke/train/last_s1").keys() == {"train/last_s1"}
    printed = finished.call(project, "why", "smoke/train/main_s1")
    assert printed == "Due in study 'smoke': nothing.\n"
    assert "is no step" in finished.call(project, "why", "smoke/tain", fails=True)
    assert "params/smok does not exist" in finished.call(project, "why", "smok", fails=True)


def test_accepted_results_stand_with_their_old_and_new_identity_and_the_reason(project):
    change(project / "iqa/model/fusion.py", "for each in maps], dim=1)", "for each in maps], dim=1) * 1.0")
    before = json.loads((project / "results/smoke/train/main_s1/record.json").read_text())
    finished.call(project, "accept", "smoke", "--because", "times one changes nothing")
    assert told(project).keys() == {"report/report"}  # it shows what was accepted
    record = json.loads((project / "results/smoke/train/main_s1/record.json").read_text())
    entry = record["accepted"][-1]
    assert entry["because"] == "times one changes nothing" and entry["before"] == before["identity"]
    assert entry["differences"] == ["code: iqa/model/fusion.py: Concat has changed"]
    assert record["identity"] != before["identity"]
    state = json.loads((project / "results/smoke/train/main_s1/fit.json").read_text())
    assert state["identity"]["code"] == fit_code(project)["code"]  # so that no fit is repeated either


def test_results_that_are_damaged_or_not_there_cannot_be_accepted(project):
    (project / "results/smoke/train/main_s1/best.pt").write_bytes(b"other")
    record = (project / "results/smoke/train/last_s1/record.json").read_bytes()
    change(project / "iqa/model/fusion.py", "return pool(maps[-1], self.grid)", "return pool(maps[-1], self.grid) * 1")
    printed = finished.call(project, "accept", "smoke", "--because", "a test", fails=True)
    assert "train/main_s1: output best.pt is not the file that the run wrote" in printed
    assert (project / "results/smoke/train/last_s1/record.json").read_bytes() == record
    printed = finished.call(project, "accept", "smoke/train/last_s1", "--because", " ", fails=True)
    assert "--because" in printed


def test_results_of_older_records_are_told_and_can_be_accepted(project):
    file = project / "results/smoke/train/main_s1/record.json"
    record = json.loads(file.read_text())
    del record["identity"], record["check"]
    file.write_text(json.dumps(record))
    assert "it is not known what it was made from" in told(project)["train/main_s1"][0]
    finished.call(project, "accept", "smoke/train/main_s1", "--because", "made by an older version")
    assert "train/main_s1" not in told(project)


# --- nothing finished is lost to a mistake


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ("smoke/train/main_s1", "-p", "input", "rgb", "-p", "weights", "missing.pth"),
            "main.yaml: missing.pth is not there",
        ),
        (
            ("smoke/train/main_s1", "-p", "epochs", "3"),
            "-p epochs: results/smoke/train/main_s1 holds a trained model, which another value would",
        ),
        (("smoke/train/main_s1", "-p", "run", "last_s1"), "-p run: a run writes to its own folder"),
        (("smoke/data_prep/demo", "-p", "reader", "csv"), "reader 'csv' needs folder, low, high"),
        (("smoke/data_prep/demo", "-p", "reader", "livec", "-p", "folder", "nowhere"), "nowhere: no such folder"),
    ],
)
def test_a_mistake_in_a_run_leaves_its_results_and_all_others_as_they_are(project, command, message):
    files = {file: file.read_bytes() for file in (project / "results").rglob("*") if file.is_file()}
    assert message in finished.call(project, "run", *command, fails=True)
    assert {file: file.read_bytes() for file in (project / "results").rglob("*") if file.is_file()} == files
