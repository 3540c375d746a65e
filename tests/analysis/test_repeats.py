"""Comparisons over several splits of a database: medians, and differences split by split."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import tiny
from notebook_section import run_section

from iqa.analysis import comparison, published, repeats
from iqa.analysis.params import AblationParams
from iqa.metrics.coefficients import plcc, srcc
from iqa.report.evidence import format_contrast
from iqa.show import ablation
from iqa.study import param_files, paths
from iqa.training.params import TrainParams

SPLITS = range(1, 11)
FILES = {
    "data_prep/live": "reader: live\nrepeats: 1..10\n",
    "data_prep/csiq": "reader: csiq\nrepeats: 1..2\n",
    "train": "backbone: resnet10t\nlr: 2.0e-3\n",
    "train/main": "database: live\n",
    "train/better": "database: live\nfusion: attention\n",
    "train/same": "database: live\nfusion: last\n",
    "train/lacking": "database: live\nepochs: 3\n",
    "train/other": "database: csiq\n",
}
NOISE = {"main": 0.3, "better": 0.15, "same": 0.3, "lacking": 0.3, "other": 0.3}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study on ten splits, of which one experiment has but two, and one none."""
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    for name, text in FILES.items():
        file = tmp_path / "params" / "toy" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for number, run in enumerate(param_files.run_names("toy", "train")):
        experiment, _, split = run.rpartition("_r")
        if experiment != "lacking" or int(split) <= 2:
            finish(run, experiment, int(split), number)
    return tmp_path / "results/toy"


def finish(run, experiment, split, number):
    """A finished run, tested on the images of its split; some splits are harder than others."""
    mos = np.random.default_rng(split).random(80)
    error = np.random.default_rng(100 + number).normal(0, NOISE[experiment] * (1 + split % 3), 80)
    names = [f"{experiment == 'other'} {split} {place}" for place in range(80)]
    predictions = pd.DataFrame({"image": names, "reference": names, "mos": mos, "prediction": mos + error})
    history = pd.DataFrame({"epoch": [1], "train_loss": 0.1, "val_loss": 0.1, "val_srcc": 0.5, "val_plcc": 0.5})
    params = param_files.load(TrainParams, "toy", run).model_dump()
    metrics = {"srcc": srcc(mos + error, mos), "plcc": plcc(mos + error, mos), "val_srcc": 0.5, "best_epoch": 1}
    folder = paths.run_folder("toy", "train", run)
    folder.mkdir(parents=True)
    for name, table in {"predictions": predictions, "history": history}.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    for name, values in {"params": params, "metrics": metrics | {"database": params["database"]}}.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    tiny.finish(folder, data={})


def compare(*experiments):
    """The table of experiments as the cells of `03_ablation` make it."""
    known = param_files.experiments("toy")
    trained, waiting = comparison.collect("toy", [run for name in experiments for run in known[name]])
    groups = comparison.group([*trained, *waiting], experiments[0])
    names = {"groups": groups, "trained": trained, "params": AblationParams(resamples=20)}
    return run_section("03_ablation.ipynb", "Comparison", **names)["table"].set_index("group"), groups


def measured(name, column="srcc"):
    return np.array([json.loads(file.read_text())[column] for file in sorted_metrics(name)])


def sorted_metrics(name):
    return [paths.run_folder("toy", "train", f"{name}_r{split}") / "metrics.json" for split in SPLITS]


def test_runs_on_the_splits_of_a_database_are_one_group_with_median_and_quartiles(study):
    table, groups = compare("main", "better", "same")
    assert {name: len(members) for name, members in groups.items()} == {
        "reference": 10,
        "fusion: attention": 10,
        "fusion: last": 10,
    }
    assert groups["reference"][2].split == "live_r3" and groups["reference"][2].params["database"] == "live_r1"
    for name in ("main", "better", "same"):
        values = measured(name)
        quartiles = np.percentile(values, [25, 75])
        assert table.loc[name, ["srcc_low", "srcc_high"]].tolist() == pytest.approx(quartiles.tolist())
        assert table["srcc_median"][name] == np.median(values) and table["splits"][name] == 10
        assert table["plcc_median"][name] == np.median(measured(name, "plcc"))
        assert table["srcc_mean"][name] == pytest.approx(values.mean())


def test_differences_are_taken_split_by_split_and_tested_exactly(study):
    table, _ = compare("main", "better", "same")
    differences = {name: measured(name) - measured("main") for name in ("better", "same")}
    ranks = np.arange(1, 11)
    signs = np.array(list(itertools.product([0, 1], repeat=10)))
    for name, values in differences.items():
        assert table["delta"][name] == pytest.approx(np.median(values))
        assert table.loc[name, ["delta_low", "delta_high"]].tolist() == np.sort(values)[[1, 8]].tolist()
        positive = ranks[np.argsort(np.argsort(np.abs(values)))][values > 0].sum()
        extreme = np.abs(signs @ ranks - 27.5) >= abs(positive - 27.5)
        assert table["p_value"][name] == pytest.approx(extreme.mean())
    assert table["verdict"].to_dict() == {"main": "reference", "better": "better", "same": "not distinguishable"}
    assert table["p_holm"]["better"] == pytest.approx(2 * table["p_value"]["better"])
    assert np.isnan(table["p_value"]["main"]) and table["decision"]["better"] == "adopted"
    assert format_contrast(table.to_dict("records")[1]).endswith("(median of 10 splits), better")


def test_a_half_done_experiment_is_compared_on_the_splits_that_it_has(study):
    table, _ = compare("main", "lacking")
    row = table.loc["lacking"]
    both = (measured_of("lacking") - measured("main")[:2]).tolist()
    assert (row["splits"], row["seeds"], row["verdict"]) == (2, 2, "not distinguishable")
    assert row["delta"] == pytest.approx(np.mean(both)) and np.isnan(row["delta_low"])
    assert row["command"].startswith("iqa run toy/train/lacking_r3 ")


def measured_of(name):
    return np.array([json.loads(file.read_text())["srcc"] for file in sorted_metrics(name) if file.is_file()])


def test_equal_results_on_every_split_are_no_difference(study):
    values = pd.DataFrame({"srcc": [0.5, 0.6], "plcc": [0.5, 0.6]}, ["a", "b"])
    assert repeats.difference(values, values, 0.95) == [0, 0, 0, 0, 1]
    assert np.isnan(repeats.difference(values, values.rename({"a": "c", "b": "d"}), 0.95)).all()


def test_runs_on_one_split_are_compared_as_ever(study):
    trained, waiting = comparison.collect("toy", ["main_r1", "better_r1"])
    groups = comparison.group([*trained, *waiting], "main_r1")
    names = {"groups": groups, "trained": trained, "params": AblationParams(resamples=20)}
    table = run_section("03_ablation.ipynb", "Comparison", **names)["table"]
    assert list(table.columns) == comparison.COLUMNS and table["verdict"].tolist() == ["reference", "one seed only"]
    assert table["delta_low"].notna().all()


def test_other_images_are_refused_unless_they_are_those_of_another_split(study):
    for runs in (["main_r1", "other_r1"], ["main_r1", "main_r2", "other_r2"]):
        with pytest.raises(ValueError, match=r"train/main_r1 and train/other_r\d were tested on different images"):
            comparison.collect("toy", runs)
    file = study / "train/better_r2/predictions.csv"
    pd.read_csv(file).assign(mos=0.5).to_csv(file, index=False)
    tiny.finish(file.parent)
    with pytest.raises(ValueError, match="train/main_r2 and train/better_r2 were tested on different images"):
        comparison.collect("toy", ["main_r1", "main_r2", "better_r1", "better_r2"])


def test_tables_and_figures_say_median_over_splits(study):
    table = compare("main", "better")[0].reset_index()
    shown = ablation.ablation_table(table)
    assert {"Splits", "SRCC, median", "PLCC, median", "SD of splits"} <= set(shown.columns)
    assert "Seeds" not in shown and "SRCC" not in shown
    (ax,) = ablation.ablation_forest(table).axes
    assert ax.get_xlabel() == "SRCC, median over splits"
    assert table["srcc_median"].tolist() == [line.get_xdata()[0] for line in ax.lines if line.get_marker() in "D^"]


def test_measured_values_beside_published_ones_name_the_median_of_splits(study):
    rows = published.comparison("toy").query("measured").set_index("method")
    assert rows["protocol"]["main"].startswith("seeded split; ") and rows["srcc"]["main"] == np.median(measured("main"))
    assert rows["protocol"]["main"].endswith("; median of 10 splits")
    assert rows["protocol"]["lacking"].endswith("; median of 2 splits")
