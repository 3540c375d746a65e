"""Rehearsals: the small project of every study, what is found in its results, and the forecast."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from iqa.app import rehearsal, steps
from iqa.report import appendix
from iqa.study import param_files, paths
from iqa.training.params import TrainParams


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")


@pytest.mark.slow
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
