"""Cost beside agreement: what is measured, what is published, and what was not run."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny
from notebook_section import run_section

from iqa.analysis.params import ComplexityParams
from iqa.show import complexity, tables
from iqa.study import paths

RUNS = ["hyperiqa_s1", "swin_base_s1"]


def section(runs=RUNS):
    """What the cells of `04_complexity` make of costs, times and the results of training runs."""
    given = {"params": ComplexityParams(study="koniq10k", runs=runs), "timed": timed()}
    costs = pd.DataFrame({"run": runs}).merge(counted_costs(), on="run", how="left")
    return run_section("04_complexity.ipynb", "Cost and agreement", costs=costs, **given)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Of two runs of the study of KonIQ-10k the first is finished."""
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    folder = paths.run_folder("koniq10k", "train", "hyperiqa_s1")
    folder.mkdir(parents=True)
    values = {"srcc": 0.9, "srcc_low": 0.89, "srcc_high": 0.91, "plcc": 0.92, "plcc_low": 0.91, "plcc_high": 0.93}
    (folder / "metrics.json").write_text(json.dumps(values))
    tiny.finish(folder)


@pytest.fixture
def agreed(study):
    return section()["agreed"]


@pytest.fixture
def overview(study):
    return section()["overview"]


def timed() -> pd.DataFrame:
    """Two precisions of two batch sizes on two devices; the second run did not fit on the second device."""
    rows = [
        (run, device, precision, size, 10.0 * size**0.5 / factor)
        for run in RUNS
        for device in ("cpu", "gpu")
        for precision, factor in (("32-true", 1), ("bf16-mixed", 2))
        for size in (1, 4)
    ]
    frame = pd.DataFrame(rows, columns=["run", "device", "precision", "batch_size", "median_ms"])
    frame = frame.assign(hardware=frame["device"].str.upper(), compiled=False, software="torch")
    frame["median_ms"] = frame["median_ms"].mask((frame["run"] == RUNS[1]) & (frame["device"] == "gpu"))
    return frame.assign(images_per_second=1000 * frame["batch_size"] / frame["median_ms"])


def counted_costs() -> pd.DataFrame:
    costs = {"backbone": ["resnet50", "swin_base"], "fusion": "concat", "parameters": 3, "macs_torch": 4}
    return pd.DataFrame({"run": RUNS, **costs})


def test_a_finished_run_has_its_coefficients_and_one_that_is_not_is_not_run(agreed):
    assert agreed["run"].tolist() == RUNS and agreed["status"].tolist() == ["finished", "not run"]
    assert agreed["srcc"].iloc[0] == 0.9 and agreed["plcc_high"].iloc[0] == 0.93
    assert agreed[["srcc", "plcc"]].iloc[1].isna().all()


def test_published_values_of_the_same_experiment_and_database_stand_beside(agreed):
    assert agreed["published_srcc"].iloc[1] == 0.9336 and agreed["published_plcc"].iloc[1] == 0.9464
    assert "7046/2010" in agreed["published_protocol"].iloc[1]
    assert agreed["published_srcc"].iloc[0].startswith("(1) 0.904 (2) 0.906")


def test_a_run_whose_epoch_is_chosen_on_the_test_images_says_so(agreed):
    assert agreed["chosen_on"].tolist() == ["validation", "validation"]
    (other,) = section(["swin_base_on_test_s1"])["agreed"]["chosen_on"]
    assert other == "TEST"


def test_the_overview_has_a_row_per_run_and_device_in_the_first_precision(overview):
    found = overview
    assert found[["run", "device"]].to_numpy().tolist() == [[run, device] for run in RUNS for device in ("cpu", "gpu")]
    assert found["latency_ms"].tolist()[:3] == [10.0, 10.0, 10.0] and np.isnan(found["latency_ms"].iloc[3])
    assert found["precision"].tolist()[:3] == ["32-true"] * 3
    assert found["images_per_second"].tolist()[:3] == [200.0] * 3 and found["batch_size"].tolist()[:3] == [4.0] * 3


def test_the_table_shows_what_was_not_run_in_words(overview):
    shown = tables.rounded(complexity.overview_table(overview))
    assert shown["SRCC"].tolist() == ["0.900 [0.890, 0.910]"] * 2 + ["not run"] * 2
    assert shown["Published SRCC"].tolist()[2:] == ["0.9336"] * 2 and shown["Device"].tolist() == ["cpu", "gpu"] * 2
