"""Rehearsals: the small project of every study, what is found in its results, and the forecast."""

import json

import numpy as np
import pandas as pd
import papermill
import pytest
from nbformat import v4
from papermill.exceptions import PapermillExecutionError
from PIL import Image

from iqa.app import rehearsal, steps
from iqa.app.run import RunFailed
from iqa.report import appendix
from iqa.study import param_files, paths
from iqa.study.results import RECORD
from iqa.training.params import TrainParams


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")


@pytest.mark.parametrize("study", ["demo", "biq2021", "koniq10k", "literature"])
def test_a_study_has_a_small_project_with_the_same_runs(study, tmp_path, monkeypatch):
    runs = list(steps.all_params(study))
    rehearsal.make_project(tmp_path / "home", runs)
    file_of = param_files.experiment_of(study, "data_prep")
    databases = {file_of[params.run] for params in runs if params.step == "data_prep" and params.reader != "synthetic"}
    data = tmp_path / "home" / "data"
    assert {folder.name for folder in data.iterdir()} == databases if databases else not data.exists()
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "home" / "params")
    small = list(steps.all_params(study))
    assert [(params.step, params.run) for params in small] == [(params.step, params.run) for params in runs]
    for params, real in zip(small, runs, strict=True):
        if isinstance(params, TrainParams):
            assert (params.pretrained, params.seed) == (False, real.seed) and params.epochs <= 4
            assert params.database == real.database
            assert params.fusion == real.fusion and params.crop <= rehearsal.CROP
    several = [[repr(params.deciding()) for params in group if params.step == "train"] for group in (small, runs)]
    assert len(set(several[0])) == len(set(several[1])), "two experiments are one in the rehearsal"
    assert next(params for params in small if params.step == "report").notice == rehearsal.NOTICE


def test_runs_are_made_in_their_order_without_those_that_need_a_failed_one(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    monkeypatch.setattr(rehearsal.papermill_engines, "_engines", {})

    def run(study, step, name):
        if name == "main_s1":
            raise RunFailed("no")
        (folder := paths.run_folder(study, step, name)).mkdir(parents=True)
        (folder / RECORD).write_text("{}")

    monkeypatch.setattr(rehearsal, "run", run)
    rehearsal.make_quickly("demo", 2)
    made = {f"{file.parent.parent.name}/{file.parent.name}" for file in tmp_path.rglob(RECORD)}
    places = [(params, f"{params.step}/{params.run}") for params in steps.all_params("demo")]
    assert made == {
        place
        for params, place in places
        if params.step != "report" and place != "train/main_s1" and ("train", "main_s1") not in params.needs()
        if all(f"{step}/{name}" in made for step, name in params.needs())
    }
    assert "train/main_s2" in made and "claims/main" not in made


@pytest.mark.parametrize("last, ending", [("assert number == 3", None), ("number / 0", "ZeroDivisionError")])
def test_a_notebook_runs_in_this_process_with_its_parameters_until_a_cell_fails(last, ending, tmp_path, monkeypatch):
    monkeypatch.setitem(rehearsal.papermill_engines._engines, "here", rehearsal.Here)
    first = v4.new_code_cell("%matplotlib inline\nnumber = 2", metadata={"tags": ["parameters"]})
    cells = [v4.new_markdown_cell("# Title"), first, *map(v4.new_code_cell, ("print(number)\ndisplay(number)", last))]
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python"}}
    notebook = v4.new_notebook(cells=cells, metadata=kernel)
    (tmp_path / "in.ipynb").write_text(json.dumps(notebook))
    with (tmp_path / "log.txt").open("w") as log:
        options = {"parameters": {"number": 3}, "engine_name": "here", "stdout_file": log, "progress_bar": False}
        if ending:
            with pytest.raises(PapermillExecutionError) as raised:
                papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", **options)
            assert raised.value.ename == ending
        else:
            papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", **options)
    assert (tmp_path / "log.txt").read_text().startswith("3\n")


def test_what_failed_or_shows_nothing_is_found(tmp_path):
    runs = [params for params in steps.all_params("demo") if params.step == "ablation"]
    folder = tmp_path / "results/demo/ablation/main"
    (work := folder.with_name("main.unfinished")).mkdir(parents=True)
    (work / "log.txt").write_text("begun\nfailed: ValueError: no images\n")
    assert list(rehearsal.examine(tmp_path, runs)) == [("ablation/main", "failed: ValueError: no images")]
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps({}))
    Image.fromarray(np.full((900, 20, 3), 255, np.uint8)).save(folder / "blank.png")
    (tables := tmp_path / "report/demo/tables").mkdir(parents=True)
    for table in appendix.LISTED:
        if table.name != "ceiling":
            pd.DataFrame({"a": ["w" * 40 if table.name == "main" else "w" * 20 + "_" + "w" * 20]}).to_csv(
                tables / f"{table.name}.csv", index=False
            )
    assert list(rehearsal.examine(tmp_path, runs)) == [
        ("ablation/main/blank.png", "figure: nothing is seen on it"),
        ("ablation/main/blank.png", "figure: taller than a page"),
        ("tables/ceiling", "table: no rows"),
        ("tables/main", "table: a word of 40 characters"),
    ]


def test_the_forecast_counts_every_experiment_and_grows_with_its_work():
    found = rehearsal.forecast("demo", "cpu").set_index("experiment")
    assert set(found.index) == set(param_files.experiments("demo"))
    assert (found[["hours", "memory_gb", "disk_gb", "gmacs"]] > 0).all(axis=None)
    assert found["runs"]["main"] == 3 and found["total_hours"]["main"] == pytest.approx(3 * found["hours"]["main"])
    assert found["gmacs"]["last"] < found["gmacs"]["main"]
