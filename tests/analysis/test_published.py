"""Published results: the rows of `report/published.csv`, and a study's own beside them with their protocols."""

import made_study
import numpy as np
import pandas as pd
import pytest

from iqa.analysis import published
from iqa.data.releases import RELEASES
from iqa.study import param_files, paths


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A made-up study, to be filled."""
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    return made_study.Study("made")


@pytest.fixture
def table():
    """Groups of a comparison."""
    names = ["main", "last", "rankless", "attention", "tested"]
    return pd.DataFrame({"group": names, "srcc_mean": [0.9, 0.8, 0.7, 0.6, 0.5]}).set_index("group")


PUBLISHED = pd.DataFrame(
    [
        ("Ours", "b", "KonIQ-10k", "KonIQ-10k", "0.9236", "0.9361", "epoch of the test set", "paper A", "last", ""),
        ("Ours", "b", "KonIQ-10k", "KonIQ-10k", "0.904", "", "official split", "paper B", "last", ""),
        ("Other", "b", "KonIQ-10k", "KonIQ-10k", "0.910", "0.917", "official split", "paper B", "main", "tested"),
        ("Twice", "b", "KonIQ-10k", "KonIQ-10k", "0.93", "0.95", "one protocol", "paper A", "attention", ""),
        ("Twice", "b", "KonIQ-10k", "KonIQ-10k", "0.94", "0.95", "one protocol", "paper B", "attention", ""),
        ("Other", "b", "KonIQ-10k", "SPAQ", "0.5", "0.5", "whole", "paper B", "rankless", ""),
        ("Nobody", "b", "KonIQ-10k", "KonIQ-10k", "0.1", "0.1", "official split", "paper C", "", ""),
    ],
    columns=published.PUBLISHED,
)


def test_published_values_stand_beside_the_experiment_that_they_name(table):
    joined = published.with_published(table.reset_index(), PUBLISHED, "KonIQ-10k", "KonIQ-10k").set_index("group")
    assert joined.loc["main", "published_srcc"] == 0.91 and joined.loc["main", "published_protocol"] == "official split"
    assert joined.loc["last", "published_srcc"] == "(1) 0.9236 (2) 0.904"
    assert joined.loc["last", "published_plcc"] == "(1) 0.9361 (2) -"
    assert joined.loc["last", "published_protocol"] == "(1) epoch of the test set (2) official split"
    assert joined.loc["last", "published_source"] == "(1) paper A (2) paper B"
    assert joined.loc["attention", ["published_srcc", "published_protocol"]].tolist() == [
        *("(1) 0.93 (2) 0.94", "one protocol"),
    ]
    assert joined.loc["tested", "published_srcc"] == 0.91  # as the replica of that row
    others = joined.drop(["main", "last", "attention", "tested"])
    assert others["published_srcc"].isna().all() and (others["published_source"] == "").all()
    pd.testing.assert_frame_equal(joined[table.columns], table)


def test_on_other_databases_the_published_columns_are_there_and_empty(table):
    joined = published.with_published(table.reset_index(), PUBLISHED, "Demo", "Demo")
    assert joined[["published_srcc", "published_plcc"]].isna().all(axis=None)
    assert (joined[["published_protocol", "published_source"]] == "").all(axis=None)


def test_published_values_are_read_with_their_digits_and_a_missing_column_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "REPORT", tmp_path)
    PUBLISHED.to_csv(tmp_path / "published.csv", index=False)
    pd.testing.assert_frame_equal(published.read_published(), PUBLISHED.astype(str), check_dtype=False)
    PUBLISHED.drop(columns="protocol").to_csv(tmp_path / "published.csv", index=False)
    with pytest.raises(ValueError, match=r"published\.csv: lacks the columns protocol"):
        published.read_published()


def test_published_rows_have_a_protocol_a_source_and_a_known_database():
    table = published.published_numbers()
    assert set(table["tested_on"]) <= {release.title for release in RELEASES.values()}
    assert (table["protocol"] != "").all() and (table["source"] != "").all() and table["srcc"].between(0, 1).all()
    assert not table.duplicated(["method", "tested_on", "source"]).any()


def test_all_values_that_were_given_to_the_project_are_among_the_published_rows(shared):
    given = pd.read_csv(shared / "reference/published.csv")
    own = published.published_numbers()
    for row in given.to_dict("records"):
        same = own[(own["method"] == row["method"]) & (own["srcc"] == row["srcc"])]
        assert len(same) and (np.isnan(row["plcc"]) or row["plcc"] in set(same["plcc"])), row


def test_a_published_row_that_is_not_there_is_an_error_with_its_name():
    with pytest.raises(ValueError, match="0 rows of S002 for 'resnet50' on KonIQ-10k"):
        published.find_row("S002", "resnet50", "", "KonIQ-10k")


def test_every_experiment_that_a_row_names_has_a_parameter_file():
    table = published.published_numbers()
    known = {name for study in ("koniq10k", "literature") for name in param_files.experiments(study)}
    assert set(table["experiment"]) | set(table["replica"]) <= known | {""}
    assert {name for name in table["replica"] if name} == {name for name in known if name.endswith("_published")}


def test_a_replica_repeats_one_published_model():
    rows = published.published_numbers().query("replica != ''").drop_duplicates(["method", "replica"])
    assert not rows["replica"].duplicated().any()


def test_a_source_of_the_documents_has_srcc_and_plcc_of_ms_hyperiqa_beside_those_of_hyperiqa():
    rows = published.published_numbers().query("source == 'ukeSJTU repository'")
    values = rows.pivot_table(index="tested_on", columns="method", values=["srcc", "plcc"])
    both = values.loc[:, (slice(None), ["MS-HyperIQA", "HyperIQA (their training)"])]
    assert both.notna().all(axis=None) and len(both) == 4 and rows["plcc"].notna().all()
    gains = values["srcc"]["MS-HyperIQA"] - values["srcc"]["HyperIQA (their training)"]
    assert gains.round(4).to_dict() == {"AGIQA-3K": -0.0025, "KADID-10k": 0.0056, "KonIQ-10k": -0.0024, "SPAQ": 0.0133}


def test_a_synthetic_study_has_nothing_to_compare_with():
    table = published.comparison("demo")
    assert table.empty and list(table)[:2] == ["method", "backbone"] and list(table)[-1] == "measured"


def test_measured_and_published_methods_stand_side_by_side_with_their_protocols(made):
    made.database("k", "koniq10k")
    made.database("toy", "synthetic")
    made.train("main", "k", seeds=(1, 2, 3))
    made.train("other", "toy")
    table = published.comparison("made")
    own = table[table["measured"]]
    assert own[["method", "trained_on", "tested_on", "srcc", "source"]].to_numpy().tolist() == [
        ["main", "KonIQ-10k", "KonIQ-10k", 0.9, "results/made/train"]
    ]
    protocol = "official split; best epoch on the validation set; grid of 6 crops; mean of 3 seeds"
    assert own["protocol"].item() == protocol
    assert set(table["tested_on"]) == {"KonIQ-10k"} and not table["protocol"].str.contains("expected").any()
    assert list(table["protocol"]) == sorted(table["protocol"]) and (~table["measured"]).sum() > 30


@pytest.mark.parametrize("models", [{"main_s1": (0.8, 1), "main_s2": (0.9, 1)}, {"main": (0.85, 2)}])
def test_results_on_other_databases_are_means_over_the_seeds_of_a_model(made, models):
    made.database("k", "koniq10k")
    made.database("wild", "livec\nsplit: all_test")
    made.train("main", "k")
    made.params("cross_dataset", "main", "databases: [wild, k]\ntest_crops: grid\ntest_patches: 9\n")
    row = {"trained_on": "KonIQ-10k", "available": True, "plcc": 0.8, "n": 1162.0}
    wild, own = {"database": "wild", "title": "LIVE In the Wild"}, {"database": "k", "title": "KonIQ-10k"}
    rows = [row | wild | {"model": name, "srcc": value, "seeds": seeds} for name, (value, seeds) in models.items()]
    absent = {"model": "main_s1", "available": False, "trained_on": "KonIQ-10k"} | wild
    cross = pd.DataFrame([*rows, row | own | {"model": "main_s1", "srcc": 0.5}, absent])
    made.finish("cross_dataset", "main", cross=cross)
    table = published.comparison("made")
    found = table[table["measured"] & (table["tested_on"] == "LIVE In the Wild")]
    assert found[["method", "backbone"]].to_numpy().tolist() == [["main", "resnet10t"]]
    assert found["srcc"].item() == pytest.approx(0.85)
    assert found["protocol"].item() == "whole database, 1162 images; grid of 9 crops; mean of 2 seeds"
    assert not table["srcc"].eq(0.5).any()


def test_a_part_of_a_release_is_named_as_a_part(made):
    made.database("k", "koniq10k")
    made.finish("data_prep", "k", audit={"n": 500, "splits": {"train": {"n": 300}, "test": {"n": 200}}})
    made.train("swin_base", "k")
    own = published.comparison("made").query("measured")["protocol"].item()
    assert own.startswith("official split 300/200 (500 of 10,073 images); best epoch on the validation set")
