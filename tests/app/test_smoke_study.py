"""The real notebooks, end to end on the small study `smoke`, as a user runs them."""

import json

import finished
import pandas as pd
import pytest
from finished import call, run

from iqa.app.steps import STEPS
from iqa.data.prepare import open_database
from iqa.study.param_files import load, run_names
from iqa.study.results import FORMATS, RunFolder
from iqa.training.params import TrainParams
from iqa.training.train import train

KEPT = {"best.pt", "last.ckpt", "train.log", "history.csv"}  # of a training

pytestmark = [pytest.mark.slow, pytest.mark.notebook]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "project"
    finished.copy_sources(folder)
    # on more cores, some runs would load the libraries themselves; the report shows figures in no other formats
    run(folder, "iqa.app.cli", "report", "smoke", "--jobs", "1", **{FORMATS: "png svg"})
    return folder


def test_every_run_leaves_its_record_and_its_executed_notebook(project):
    for step in STEPS:
        for name in run_names("smoke", step):
            folder = project / "results" / "smoke" / step / name
            assert {"record.json", "params.json", "notebook.ipynb", "log.txt"} <= {
                file.name for file in folder.iterdir()
            }


def test_the_kept_results_have_the_columns_and_keys_that_the_steps_write_now(project):
    results = project / "results" / "smoke"
    assert finished.kept_files(results) == finished.kept_files(finished.KEPT), "renew them: python tests/finished.py"
    for file in finished.kept_files(results):
        assert finished.outline(results / file) == finished.outline(finished.KEPT / file), file


def test_the_executed_training_notebook_shows_its_figures(project):
    notebook = json.loads((project / "results" / "smoke" / "train" / "main_s1" / "notebook.ipynb").read_text())
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3  # curves, scatter, architecture


def test_the_report_is_rendered_and_says_that_its_data_are_synthetic(project):
    text = (project / "report" / "smoke" / "report.html").read_text(encoding="utf-8")
    assert "synthetic" in text and 'title="results/smoke/train/main_s1/metrics.json' in text
    assert (project / "report" / "smoke" / "report.pdf").read_bytes().startswith(b"%PDF")


def test_the_summary_repeats_the_runs_own_numbers(project):
    results = project / "results" / "smoke"
    summary = json.loads((results / "summary.json").read_text())
    metrics = json.loads((results / "train" / "main_s1" / "metrics.json").read_text())
    cross = pd.read_csv(results / "cross_dataset" / "main" / "cross.csv")
    assert summary["study"] == "smoke" and summary["synthetic"] is True
    assert {key: summary["main"][key] for key in ("srcc", "plcc", "n")} == {
        k: metrics[k] for k in ("srcc", "plcc", "n")
    }
    assert [entry["srcc"] for entry in summary["cross"]] == pytest.approx(list(cross["srcc"]))


def test_rendering_again_gives_the_same_bytes(project):
    files = [project / "report" / "smoke" / name for name in ("report.html", "report.pdf")]
    before = [file.read_bytes() for file in files]
    finished.render_report(project)
    assert [file.read_bytes() for file in files] == before


def test_bare_papermill_in_another_folder_with_loader_workers_gives_the_pipelines_numbers(project, tmp_path):
    params, notebook = project / "params" / "smoke", project / "notebooks" / "02_train.ipynb"
    files = ("-f", str(params / "train.yaml"), "-f", str(params / "train" / "main.yaml"))
    values = {"study": "smoke", "run": "by_hand", "seed": "1", "workers": "2"}
    given = [word for pair in values.items() for word in ("-p", *pair)]
    arguments = [str(notebook), str(tmp_path / "out.ipynb"), *files, *given, "--cwd", str(tmp_path)]
    run(project, "papermill", *arguments, cwd=tmp_path, **{FORMATS: "png"})
    train = project / "results" / "smoke" / "train"
    pipeline, other = (pd.read_csv(train / name / "predictions.csv") for name in ("main_s1", "by_hand"))
    pd.testing.assert_frame_equal(pipeline, other, check_exact=True)


def test_a_training_is_shared_by_two_processes(project):
    with finished.inside(project):
        params = load(TrainParams, "smoke", "main_s1").model_copy(update={"run": "shared", "devices": 2})
        out = RunFolder(params)
        history = train(params, open_database("smoke", params.database), out.path)
    assert (out.path / "train.log").read_text().count("epoch ") == len(history) == 2
    assert (out.path / "best.pt").is_file()


def test_one_table_is_made_and_printed(project):
    assert "ablation/main" in call(project, "table", "--study", "smoke")
    printed = call(project, "table", "ablation/main", "--study", "smoke")
    assert "| reference |" in printed and "report/smoke/tables/ablation_main.tex" in printed
    assert (project / "report" / "smoke" / "report.html").is_file()  # the table was fresh, and nothing had to go


def test_nothing_is_repeated_when_nothing_changed(project):
    assert "Nothing to be done" in call(project, "report", "smoke")


def test_another_colour_draws_figures_again_and_trains_nothing(project):
    style, folder = project / "iqa/show/style.py", project / "results/smoke/train/main_s1"
    kept = {folder / name: (folder / name).read_bytes() for name in KEPT}
    drawn = (folder / "curves.svg").read_bytes()
    style.write_text(style.read_text().replace("#0072B2", "#123456"))
    assert "code: iqa/show/style.py: BLUE has changed" in call(project, "why", "smoke/train")
    call(project, "run", "smoke/train/main_s1")
    assert (folder / "curves.svg").read_bytes() != drawn
    assert all(file.read_bytes() == content for file, content in kept.items())
    assert "these parameters were already trained here" in (folder / "log.txt").read_text()
    assert call(project, "why", "smoke/train/main_s1") == "Due in study 'smoke': nothing.\n"
