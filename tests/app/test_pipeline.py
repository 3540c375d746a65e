"""The graph of a study: what is made, what is made again, and what a failure leaves behind.

The notebooks of these tests are toys that write what each step promises, so that the graph itself is tested,
with real kernels, papermill and Snakemake. `test_smoke_study.py` runs the real notebooks.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import finished
import nbformat
import psutil
import pytest

from iqa.app import graph, steps
from iqa.app.steps import STEPS
from iqa.study import paths
from iqa.study.params import ParameterError
from iqa.study.paths import ROOT

TOY = """
from iqa import {module}
from iqa.app.steps import STEPS
from iqa.study import paths
from iqa.study.results import RunFolder
params = STEPS["{step}"].collect(globals())
out = RunFolder(params)
if params.step == "report":
    place = paths.REPORT / params.study / "report.html"
    page = out.staged(place)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("toy")
{more}
out.save_json("made", params.model_dump() | dict(value={module}.value))
out.save_text("picture.svg", "drawn")
record = out.finish(elsewhere=[place] if params.step == "report" else [])
"""


LIBRARIES = ("iqa.app.cli", "iqa.app.engine", "iqa.app.run", "papermill", "ipykernel.kernelapp")
ONE_CORE = ("--jobs", "1")  # where more are granted, some runs have several threads, and load all libraries themselves
EVERY_RUN = {"data_prep/demo", "train/a_s1", "train/b_s1", "ablation/main", "complexity/main", "report/report"}
C = "train/c_s1"  # a run that some tests add


def contents(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def everything(project):
    """Results and report of the project, without what a run that is not finished leaves."""
    found = {name: contents(project.folder / name) for name in ("results", "report")}
    return {
        f"{name}/{file}": content
        for name, files in found.items()
        for file, content in files.items()
        if not (".unfinished/" in file or ".lock" in file or ".snakemake/" in file)
    }


def begun(printed):
    """Runs whose beginning was printed."""
    lines = [line for line in printed.splitlines() if ".ipynb with params/" in line]
    return {line.split("]")[0].removeprefix("[") for line in lines}


class Project:
    """A copy of the project with toy notebooks and a small study `toy`."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("iqa", "report", "profiles"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.html", "*.pdf"))
        shutil.copy(ROOT / "Snakefile", folder)
        (folder / "notebooks").mkdir()
        warm = folder / "iqa" / "app" / "warm.py"  # of all libraries, toys need these alone
        text, found = re.subn(r"for name in \[\*modules.*", f"for name in {LIBRARIES}:", warm.read_text())
        assert found == 1
        warm.write_text(text)
        for step in STEPS:
            (folder / "iqa" / f"toy_{step}.py").write_text("value = 1\n")
            self.write_notebook(step)
        self.write("data_prep/demo", "reader: synthetic")
        self.write("train", "database: demo\nbackbone: resnet10t\nlr: 0.002")
        self.write("train/a_s1", "seed: 1")
        self.write("train/b_s1", "fusion: last")
        self.write("ablation/main", "reference: a_s1")
        self.write("complexity/main", "runs: [a_s1]")
        self.write("report/report", "{}")

    def write(self, run: str, text: str) -> None:
        file = self.folder / "params" / "toy" / f"{run}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    def write_notebook(self, step: str, more: str = "", prose: str = "Prose.", output: str = "") -> None:
        original = steps.notebook(step)
        parameters = next(c for c in nbformat.read(original, 4).cells if "parameters" in c.metadata.get("tags", []))
        code = nbformat.v4.new_code_cell(TOY.format(step=step, module=f"toy_{step}", more=more), id="toy")
        if output:
            code.outputs = [nbformat.v4.new_output("stream", text=output)]
        cells = [nbformat.v4.new_markdown_cell(prose, id="prose"), parameters, code]
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
        nbformat.write(notebook, self.folder / "notebooks" / original.name)

    def start(self, *arguments: str) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "IQA_CACHE": str(self.folder / "cache")}
        command = [sys.executable, "-m", "iqa.app.cli", *(arguments or ("report", "toy", *ONE_CORE))]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )

    def report(self, *arguments: str, fails: bool = False) -> tuple[set[str], str]:
        """Runs that a pipeline executed, and what was printed."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        assert (process.returncode != 0) == fails, out + err
        return begun(err), out + err

    def call(self, *arguments: str, fails: bool = False) -> tuple[set[str], str]:
        """The same of a command that starts no pipeline, which so needs no process of its own."""
        printed = finished.call(self.folder, *arguments, fails=fails)
        return begun(printed), printed

    def would_run(self) -> set[str]:
        """Runs that `--dry-run` says would be executed."""
        return {line for line in self.call("report", "toy", "--dry-run")[1].splitlines() if line in EVERY_RUN | {C}}

    def results(self, name: str) -> Path:
        return self.folder / "results" / "toy" / name


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("toy"))
    executed, _ = project.report()
    assert executed == EVERY_RUN
    return project


@pytest.fixture
def project(made, tmp_path):
    """A project whose report is made, for one test to spoil."""
    shutil.copytree(made.folder, tmp_path / "project", symlinks=True)
    copy = object.__new__(Project)
    copy.folder = tmp_path / "project"
    return copy


pytestmark = [pytest.mark.slow, pytest.mark.notebook]


def test_nothing_is_done_when_nothing_changed(project):
    assert project.would_run() == set()


def test_a_run_folder_holds_parameters_log_notebook_and_provenance(project):
    folder = project.results("train/a_s1")
    record = json.loads((folder / "record.json").read_text())
    assert {"commit", "dirty", "versions", "hardware", "seed", "data", "started", "seconds", "outputs"} <= set(record)
    assert record["params"]["run"] == "a_s1" and record["seed"] == 1
    assert json.loads((folder / "params.json").read_text()) == record["params"]
    assert "finished in" in (folder / "log.txt").read_text()
    assert any(cell.get("execution_count") for cell in nbformat.read(folder / "notebook.ipynb", 4).cells)


def test_a_changed_parameter_reruns_its_run_and_what_needs_it(project):
    project.write("train/b_s1", "fusion: last\nseed: 2")
    assert project.would_run() == {"train/b_s1", "ablation/main", "report/report"}


def test_a_comment_in_a_parameter_file_reruns_nothing(project):
    project.write("train/b_s1", "# why\nfusion: last")
    assert project.would_run() == set()


def test_prose_and_outputs_of_a_notebook_rerun_nothing(project):
    project.write_notebook("train", prose="Other prose.", output="saved in JupyterLab")
    assert project.would_run() == set()


def test_values_tried_in_a_parameters_cell_do_not_reach_the_studys_runs(project):
    file = project.folder / "notebooks" / "02_train.ipynb"
    text = file.read_text()
    assert "epochs = 16" in text
    file.write_text(text.replace("epochs = 16", "epochs = 3"))
    assert project.would_run() == set()
    project.call("run", "params/toy/train/a_s1.yaml")
    assert json.loads(project.results("train/a_s1/record.json").read_text())["params"]["epochs"] == 16


def test_a_changed_code_cell_reruns_the_runs_of_its_notebook(project):
    project.write_notebook("complexity", more="changed = True")
    assert project.would_run() == {"complexity/main", "report/report"}


def test_a_changed_module_reruns_the_runs_that_reach_it(project):
    (project.folder / "iqa" / "toy_ablation.py").write_text("value = 2\n")
    assert project.would_run() == {"ablation/main", "report/report"}


def test_a_changed_database_reruns_everything_made_from_it(project):
    project.write("data_prep/demo", "reader: synthetic\nseed: 1")
    assert project.would_run() == EVERY_RUN


def test_a_new_parameter_file_is_one_more_run(project):
    project.write("train/c_s1", "rank_weight: 0.0")
    assert project.would_run() == {"train/c_s1", "ablation/main", "report/report"}


def test_a_table_that_is_missing_is_made_again(project):
    project.results("ablation/main/made.json").unlink()
    assert project.would_run() == {"ablation/main", "report/report"}  # the report shows the record of each run
    assert project.report()[0] == {"ablation/main", "report/report"}


def job(step, run, *inputs):
    return graph.Job(step, run, list(inputs), f"{step}/{run}", True, 1, 0, 0, 0, 1, "")


def test_a_run_that_was_killed_is_told_with_its_log_and_without_any_the_log_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    due = [job("train", "a"), job("train", "b"), job("ablation", "main", "train/a", "train/b")]
    (tmp_path / "demo" / "train" / "a.unfinished").mkdir(parents=True)
    (tmp_path / "demo" / "train" / "a.unfinished" / "log.txt").touch()
    text = graph._failures("demo", due)
    assert text.startswith("2 of 3 runs of study 'demo' failed; not made without them: ablation/main\n")
    assert re.findall(r"train/(\w) .* left no message .* read more in .*demo/(.*)", text) == [
        ("a", "train/a.unfinished/log.txt"),
        ("b", graph.LOG),
    ]
    for each in due:
        (tmp_path / "demo" / each.mark).parent.mkdir(exist_ok=True)
        (tmp_path / "demo" / each.mark).touch()
    assert graph._failures("demo", due).endswith(graph.LOG)


def test_a_run_made_by_hand_with_other_values_does_not_pass_for_the_studys(project):
    project.call("run", "params/toy/train/b_s1.yaml", "-p", "epochs", "1")
    assert project.would_run() == {"train/b_s1", "ablation/main", "report/report"}


def test_a_failed_run_is_told_and_due_with_all_that_was_made_from_it(project):
    project.write_notebook("train", more='assert params.fusion != "last", "this cell fails"')
    before = contents(project.results("train/b_s1"))
    executed, text = project.report(fails=True)
    assert {"train/a_s1", "train/b_s1", "complexity/main"} <= executed and "report/report" not in executed
    assert "this cell fails" in text and "results/toy/train/b_s1.unfinished/notebook.ipynb" in text
    (last,) = text.split("iqa: ")[1:]  # all is told once, at the end, in no other program's words
    assert re.match(r"1 of \d runs of study 'toy' failed; not made without them: .*report/report\n", last), last
    assert "train/b_s1 (params/toy/train/b_s1.yaml): AssertionError: this cell fails\n  read more in" in last
    assert not re.search("Exception|WorkflowError|[Ss]nakemake|jobid", text)
    assert "this cell fails" in project.results("train/b_s1.unfinished/log.txt").read_text()
    assert project.results("train/b_s1.unfinished/notebook.ipynb").is_file()
    assert contents(project.results("train/b_s1")) == before  # which are out of date, and say so
    assert {"train/b_s1", "ablation/main", "report/report"} <= project.would_run()

    project.write_notebook("train", more="repaired = True")
    assert {"train/b_s1", "report/report"} <= project.report()[0]
    assert project.would_run() == set()
    assert not project.results("train/b_s1.unfinished").exists()


@pytest.mark.parametrize(
    ("step", "more", "message"),
    [
        ("report", "page.write_text('half'); assert False, 'broken'", "broken"),
        ("train", "import os; os.kill(os.getpid(), 9)", "the kernel died"),
        ("train", "raise MemoryError('no memory left')", "no memory left"),
        ("train", "raise OSError(28, 'No space left on device')", "toy/train/a_s1.unfinished: the disk is full"),
        ("train", "out.finish = lambda **_: {}", "wrote no record.json"),
    ],
)
def test_a_run_that_fails_leaves_its_results_and_all_others_as_they_were(project, step, more, message):
    before = everything(project)
    run = "report/report" if step == "report" else "train/a_s1"
    project.write_notebook(step, more=more)
    executed, text = project.call("run", f"toy/{run}", fails=True)
    assert executed == {run} and message in text
    assert everything(project) == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda notebook: notebook["cells"][1]["metadata"].clear(), "0 cells have the tag `parameters`"),
        (lambda notebook: notebook["cells"].append(notebook["cells"][1]), "2 cells have the tag `parameters`"),
        (lambda notebook: notebook["cells"][1].update(cell_type="markdown"), "1 cells have the tag `parameters`"),
        (lambda notebook: notebook["cells"][1].update(source="study = 1"), "the parameters cell lacks accumulate, "),
        (lambda notebook: notebook["cells"][1].update(source="study ="), "line 1 of the parameters cell: invalid"),
        (lambda notebook: notebook.pop("cells"), "is no notebook"),
        (None, "is no notebook"),
    ],
)
def test_a_notebook_that_would_not_take_the_parameters_is_refused_before_it_starts(project, damage, message):
    before = everything(project)
    file = project.folder / "notebooks" / "02_train.ipynb"
    notebook = json.loads(file.read_text())
    if damage:
        damage(notebook)
    file.write_text(json.dumps(notebook) if damage else "<<<<<<< HEAD")
    executed, text = project.call("run", "toy/train/a_s1", fails=True)
    assert not executed and "notebooks/02_train.ipynb" in text and message in text
    assert "git checkout notebooks/02_train.ipynb" in text and "Traceback" not in text
    assert everything(project) == before


def test_without_training_the_report_is_made_of_what_is_finished(project):
    project.write("train/c_s1", "epochs: 3")
    project.write("complexity/main", "runs: [a_s1, c_s1]")
    project.write("data_prep/demo", "reader: synthetic\nscale: 0.5")  # to make it anew would remove the trainings
    executed, text = project.report("report", "toy", "--no-train", *ONE_CORE)
    assert executed == {"ablation/main", "complexity/main", "report/report"}
    assert "1 training runs are not finished, and are reported so: c_s1" in text
    assert text.count("report.ipynb with params/") == 1  # a training that is left out makes nothing due again
    assert "Due in study 'toy': nothing." in project.call("report", "toy", "--no-train", "--dry-run")[1]
    assert project.would_run() == EVERY_RUN | {C}


def test_folders_of_several_machines_are_taken_as_they_are_whatever_their_ages(project, tmp_path):
    other = object.__new__(Project)
    other.folder = tmp_path / "other"
    shutil.copytree(project.folder, other.folder, symlinks=True)
    other.call("run", "toy/data_prep/demo", "toy/train/b_s1")  # a database and a training of its own
    shutil.rmtree(project.results("train/b_s1"))
    shutil.copytree(other.results("train/b_s1"), project.results("train/b_s1"))
    shutil.rmtree(project.results(".snakemake"))  # nor does another machine know when its files were made
    files = sorted(file for file in project.results("").rglob("*") if file.is_file())
    for file, age in zip(files, random.Random(0).sample(range(10**6), len(files)), strict=True):
        os.utime(file, (1.7e9 + age, 1.7e9 + age))
    brought = project.results("train/b_s1/record.json").read_bytes()
    assert project.would_run() == {"report/report"}  # which shows where each run was made
    assert project.report()[0] == {"report/report"}
    assert project.results("train/b_s1/record.json").read_bytes() == brought
    assert project.would_run() == set()


def test_a_killed_pipeline_is_taken_up_again(project):
    before = everything(project)
    with hanging(project) as process:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert everything(project) == before
    assert {"ablation/main", "report/report"} <= project.would_run()
    assert project.report()[0] == {"ablation/main", "report/report"}
    assert not project.results("ablation/main.unfinished").exists()


def test_a_second_pipeline_or_run_is_refused_by_name_while_children_of_a_killed_one_work(project):
    with hanging(project) as process:
        _, text = project.call("run", "toy/ablation/main", fails=True)
        assert "results/toy/ablation/main: another process makes this run" in text
        assert project.call("run", "toy/train/a_s1")[0] == {"train/a_s1"}  # another run is free
        process.kill()
        process.wait()  # its children hold the pipes
        executed, text = project.call("report", "toy", fails=True)
        assert not executed and "another pipeline is at work in results/toy" in text
        snakemake = next(other for other in psutil.process_iter() if "--snakefile" in cmdline(other, project))
        snakemake.kill()
        snakemake.wait(30)
        executed, text = project.call("report", "toy", fails=True)
        assert not executed and "results/toy/ablation/main: another process makes this run" in text
    give_up = time.monotonic() + 60
    while project.results("ablation/main.unfinished").exists():  # the orphan comes to its end
        assert time.monotonic() < give_up
        time.sleep(0.2)
    assert "ablation/main" not in project.would_run()


@contextmanager
def hanging(project):
    """A pipeline whose run `ablation/main` has begun, and waits until the block ends."""
    flag = project.folder / "hang"
    flag.touch()
    wait = f"import time, pathlib\nwhile pathlib.Path({str(flag)!r}).exists():\n    time.sleep(0.1)"
    project.write_notebook("ablation", more=wait)
    process = project.start()
    deadline = time.monotonic() + 120
    while not project.results("ablation/main.unfinished/params.json").is_file():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    try:
        yield process
    finally:
        flag.unlink()


def cmdline(process, project):
    """The command of a process of a project."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return []
    return words if any(str(project.folder) in word for word in words) else []


# each training waits until the other has begun too; one after the other, the first would wait in vain
TOGETHER = """
import time
from pathlib import Path
Path(f"begun_{run}").touch()
give_up = time.monotonic() + 120
while len(list(Path().glob("begun_*"))) < 2:
    assert time.monotonic() < give_up, "the other run has not begun"
    time.sleep(0.1)
"""


def test_independent_runs_share_the_cores(project):
    project.write_notebook("train", more=TOGETHER)
    executed, _ = project.report("report", "toy", "--jobs", "2")
    assert {"train/a_s1", "train/b_s1"} <= executed


def test_the_first_report_of_a_study_waits_for_the_main_training_alone(project):
    shutil.rmtree(project.folder / "results")
    project.write("report/report", "main: b_s1")
    module = project.folder / "iqa/app/graph.py"
    module.write_text(module.read_text().replace("EARLY = 5", "EARLY = 1"))
    runs, said = project.report("report", "toy", "--jobs", "1")
    order = re.findall(r"\[(\S+)\] \S+\.ipynb with", said)
    assert order[:3] == ["data_prep/demo", "train/b_s1", "report/report"] and order[-1] == "report/report"
    assert len(order) == len(runs) + 1
    assert project.would_run() == set()


@pytest.mark.parametrize("made", [[], ["train/main_s1"], ["report/report"]])
def test_a_study_with_a_report_or_a_main_training_has_no_early_one(made, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    jobs = graph.jobs("demo")
    waits, job = graph.early_report("demo", [job for job in jobs if f"{job.step}/{job.run}" not in made])
    if made:
        assert (waits, job) == ([], None)
    else:
        assert {mark.split("made/")[1] for mark in waits} == {"data_prep/demo", "train/main_s1"}
        assert (job.step, job.run) == ("report", "report")


def test_a_mistake_in_a_parameter_file_is_told_before_anything_runs(project, monkeypatch):
    monkeypatch.setattr(graph, "_snakemake", None)  # it is not reached
    project.write("train/b_s1", "epochs: many\nlearning_rate: 1e-4")
    _, text = project.call("report", "toy", fails=True)
    assert "params/toy/train/b_s1.yaml" in text
    assert "'epochs'" in text and "'many'" in text and "unknown key 'learning_rate'" in text


def test_a_run_that_is_needed_and_not_there_is_named(project, monkeypatch):
    monkeypatch.setattr(graph, "_snakemake", None)
    project.write("complexity/main", "runs: [absent]")
    _, text = project.call("report", "toy", fails=True)
    assert "params/toy/complexity/main.yaml needs the train run 'absent'" in text


def test_an_unknown_study_is_told_with_those_that_exist():
    with pytest.raises(ParameterError, match=r"params/nothing does not exist.*demo"):
        graph.jobs("nothing")
