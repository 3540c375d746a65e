"""Comparing runs: groups by parameters, and verdicts that respect both kinds of chance."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
from notebook_section import run_section

from iqa.analysis import comparison
from iqa.analysis.comparison import Run, Trained, group
from iqa.analysis.params import AblationParams, CrossDatasetParams
from iqa.metrics.bootstrap import holm, p_value
from iqa.metrics.coefficients import plcc, srcc
from iqa.metrics.verdicts import qualify
from iqa.show import ablation
from iqa.study import paths
from iqa.study.results import ResultsError, how_to_make


def planned(name, seed, **changes):
    """A run that is not finished."""
    params = tiny.demo(study="toy", run=name, seed=seed, **changes).model_dump()
    return Run(name, name.rsplit("_s", 1)[0], params)


def trained(name, seed, noise, images=300, val_srcc=0.8, **changes):
    """A run whose predictions are the MOS with noise of the given strength."""
    mos = np.random.default_rng(0).random(images)
    prediction = mos + np.random.default_rng(seed + 100 * len(name)).normal(0, noise, images)
    frame = pd.DataFrame(
        {"image": np.arange(images), "reference": np.arange(images), "mos": mos, "prediction": prediction}
    )
    found = {"srcc": srcc(prediction, mos), "plcc": plcc(prediction, mos), "val_srcc": val_srcc}
    history = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [0.3, 0.2, 0.1], "val_loss": [0.3, 0.2, 0.25]})
    history["val_srcc"] = history["val_plcc"] = np.array([0.1, 0.2, 0.3]) * seed
    run = planned(name, seed, **changes)
    return Trained(name, run.experiment, run.params, found, frame, history)


def compare(groups, resamples=2000, seed=0, **values):
    """The table of groups as the cells of `03_ablation` make it."""
    return compared(groups, resamples, seed, **values)["table"]


def compared(groups, resamples=20, seed=0, **values):
    """All that these cells leave."""
    trained = [run for members in groups.values() for run in comparison.select_finished(members)]
    params = AblationParams(resamples=resamples, seed=seed, **values)
    return run_section("03_ablation.ipynb", "Comparison", groups=groups, trained=trained, params=params)


def followed(groups):
    """What the cells that follow training epoch by epoch and image by image leave."""
    names = run_section("03_ablation.ipynb", "Epoch by epoch", **compared(groups))
    return run_section("03_ablation.ipynb", "Image by image", **names)


def seeds(name, noise, seeds=(1, 2, 3), **changes):
    return [trained(f"{name}_s{seed}", seed, noise, **changes) for seed in seeds]


@pytest.fixture
def many():
    """A reference; equal, much worse, much better, slightly better, test-selected and unfinished groups."""
    return [
        *seeds("main", 0.2),
        *seeds("last", 0.2, fusion="last"),
        *seeds("rankless", 0.5, rank_weight=0.0),
        *seeds("attention", 0.1, val_srcc=0.9, fusion="attention"),
        *seeds("tested", 0.05, select_on="test_srcc"),
        *(planned(f"jitter_s{seed}", seed, input="rgb", color_jitter=0.1) for seed in (1, 2)),
    ]


@pytest.fixture
def table(many):
    return compare(group(many, "main"), resamples=400).set_index("group")


def test_runs_that_differ_in_the_seed_form_a_group():
    runs = [
        trained("last_s1", 1, 0.1, fusion="last"),
        trained("main_s1", 1, 0.1),
        trained("main_s2", 2, 0.1, threads=2),
    ]
    groups = group(runs, "main_s1")
    assert {name: [run.name for run in members] for name, members in groups.items()} == {
        "reference": ["main_s1", "main_s2"],
        "fusion: last": ["last_s1"],
    }


def test_an_experiment_and_each_of_its_runs_name_the_same_reference(many):
    assert group(many, "main") == group(many, "main_s1") == group(many, "main_s3")
    assert [run.name for run in group(many, "last")["reference"]] == ["last_s1", "last_s2", "last_s3"]


def test_what_belongs_to_the_machine_and_to_files_makes_no_other_experiment():
    other = {"dpi": 300, "device": "cpu", "devices": 2, "threads": 2, "workers": 1, "deterministic": False}
    other |= {"save_all_epochs": True, "monitor_databases": ["demo_photos"]}
    assert list(group([trained("main_s1", 1, 0.1), trained("main_s2", 2, 0.1, **other)], "main")) == ["reference"]


def test_a_reference_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="train/other is not among the compared runs; there are: main"):
        group([trained("main_s1", 1, 0.1)], "other")


def test_a_reference_that_is_not_finished_leaves_values_without_differences():
    runs = [*seeds("last", 0.1, fusion="last"), planned("main_s1", 1), planned("main_s2", 2)]
    groups = group(runs, "main")
    table = compare(groups, resamples=50)
    assert table["verdict"].tolist() == ["not run", "no reference"]
    assert table["command"].tolist() == ["iqa run toy/train/main", ""]
    assert table["srcc_mean"].notna().tolist() == [False, True]
    assert table[["delta", "delta_low", "delta_high", "p_value", "p_holm"]].isna().all(axis=None)
    assert table["decision"].tolist() == ["", ""] and table["best_on_validation"].tolist() == [False, True]
    assert followed(groups)["foremost"] == ["reference", "fusion: last"]
    assert ablation.ablation_forest(table).axes


def test_a_table_of_which_nothing_is_finished_holds_the_commands():
    groups = group([planned("main_s1", 1), planned("last_s1", 1, fusion="last")], "main")
    table = compare(groups, resamples=50)
    assert table["verdict"].tolist() == ["not run", "not run"]
    assert table["command"].tolist() == ["iqa run toy/train/main", "iqa run toy/train/last"]
    assert not table["best_on_validation"].any() and table["srcc_mean"].isna().all()
    left = followed(groups)
    assert left["dynamics"].empty and left["panels"] == {}
    assert ablation.ablation_forest(table).axes


def test_a_seed_that_comes_twice_is_an_error():
    with pytest.raises(ValueError, match="seed twice: main_s1, copy_s1"):
        group([trained("main_s1", 1, 0.1), trained("copy_s1", 1, 0.1)], "main_s1")


def test_long_differences_are_named_by_their_experiment_unless_two_would_have_one_name():
    wide = {"backbone": "resnet50", "semantic_widths": [1024, 512], "target_widths": [224, 112, 56, 28, 14]}
    groups = group([trained("main_s1", 1, 0.1), trained("wide_s1", 1, 0.1, **wide)], "main")
    assert comparison.labels(groups) == ["reference", "wide"]
    groups = {"reference": groups["reference"], "x" * 70: [planned("wide_s1", 1)], "y" * 70: [planned("wide_s2", 2)]}
    assert comparison.labels(groups) == ["reference", "x" * 70, "y" * 70]


def test_equal_models_are_not_distinguishable_and_a_worse_one_is_worse():
    runs = seeds("main", 0.1) + seeds("last", 0.1, fusion="last") + seeds("rankless", 0.5, rank_weight=0.0)
    table = compare(group(runs, "main_s1"), resamples=300).set_index("group")
    assert table["verdict"].to_dict() == {"main": "reference", "last": "not distinguishable", "rankless": "worse"}
    assert table.loc["main", ["delta", "delta_low", "delta_high"]].tolist() == [0, 0, 0]
    assert (table["srcc_low"] <= table["srcc_mean"]).all() and (table["srcc_mean"] <= table["srcc_high"]).all()
    assert table.loc["last", "srcc_std"] == pytest.approx(np.std([r.metrics["srcc"] for r in runs[3:6]], ddof=1))


def test_a_difference_inside_the_noise_of_seeds_is_not_distinguishable():
    # the same images, a small true difference, and seeds that scatter more than it
    runs = [trained(f"main_s{s}", s, n) for s, n in ((1, 0.10), (2, 0.30), (3, 0.55))]
    runs += [trained(f"last_s{s}", s, n, fusion="last") for s, n in ((1, 0.16), (2, 0.36), (3, 0.61))]
    assert compare(group(runs, "main_s1"), resamples=300)["verdict"].tolist() == ["reference", "not distinguishable"]


def test_one_seed_each_gives_no_verdict():
    table = compare(
        group([trained("main_s1", 1, 0.1), trained("last_s1", 1, 0.9, fusion="last")], "main_s1"), resamples=100
    )
    assert table["verdict"].tolist() == ["reference", "one seed only"]
    assert table["srcc_std"].isna().all()
    unknown = ["p_value", "p_holm", "detectable", "seeds_needed", "contents_needed", "p_equivalence"]
    assert table[unknown].isna().all(axis=None)
    assert table["decision"].tolist() == ["", ""]


def test_verdicts_and_decisions_follow_from_the_corrected_p_values(table):
    verdicts = {"main": "reference", "last": "not distinguishable", "rankless": "worse", "attention": "better"}
    decisions = {"main": "", "last": "not adopted", "rankless": "rejected", "attention": "adopted"}
    assert table["verdict"][:4].to_dict() == verdicts
    assert table["decision"][:4].to_dict() == decisions
    measured = table["p_value"].notna()
    assert measured.to_dict() == dict.fromkeys(table.index, True) | {"main": False, "jitter": False}
    assert np.allclose(table["p_holm"][measured], holm(table["p_value"][measured]))
    assert table.loc["attention", "delta_plcc"] == table.loc["attention", "plcc_mean"] - table.loc["main", "plcc_mean"]


def test_a_comparison_tells_what_it_could_have_found(table, many):
    measured = table["p_value"].notna()
    assert table["detectable"].notna().equals(measured) and table["seeds_needed"].notna().equals(measured)
    clear = table.loc[["rankless", "attention"]]
    assert (clear["detectable"] < clear["delta"].abs()).all()
    assert table.loc["last", "detectable"] > abs(table.loc["last", "delta"])
    assert table.loc["rankless", "seeds_needed"] <= 3 < table.loc["last", "seeds_needed"]
    assert table.loc["rankless", "contents_needed"] <= 300 < table.loc["last", "contents_needed"]
    alone = compare(group(many[:6], "main"), resamples=400).set_index("group")
    assert alone.loc["last", "p_holm"] == alone.loc["last", "p_value"]  # at a level that no correction divides


def test_the_curves_of_power_fall_with_the_seeds_and_meet_the_table(many):
    left = run_section("03_ablation.ipynb", "Power", **compared(group(many[:9], "main")))
    curves, table = left["curves"], left["table"].set_index("label")
    found = curves[np.isclose(curves["power"], 0.8)].groupby("label")["detectable"]
    assert found.apply(lambda values: (np.diff(values) < 0).all()).all()
    at_three = curves[np.isclose(curves["power"], 0.8) & (curves["seeds"] == 3)].set_index("label")["detectable"]
    assert at_three.to_dict() == pytest.approx(table.loc[at_three.index, "detectable"].to_dict())
    nothing = run_section("03_ablation.ipynb", "Power", **compared(group(many[:1], "main")))
    assert nothing["curves"].empty and list(nothing["curves"]) == comparison.POWER


def test_groups_that_lie_within_the_margin_are_equivalent_and_not_adopted(many):
    found = {margin: compare(group(many, "main"), margin=margin).set_index("group") for margin in (None, 0.001, 0.2)}
    assert [table.loc["last", "verdict"] for table in found.values()] == [*["not distinguishable"] * 2, "equivalent"]
    table = found[0.2]
    assert table.loc["last", "decision"] == "not adopted" and table.loc["last", "p_equivalence"] < 0.05
    assert table.loc["attention", "verdict"] == "better"  # a difference that is clear is no equivalence, however small
    assert found[None]["p_equivalence"].isna().all() and found[None]["margin"].isna().all()


def test_verdicts_tell_how_large_a_difference_they_exclude():
    row = {"verdict": "not distinguishable", "detectable": 0.0304, "margin": 0.01}
    assert qualify(row) == "not distinguishable (differences above 0.030 would have been seen)"
    assert qualify(row | {"verdict": "equivalent"}) == "equivalent (within ±0.01)"
    assert qualify(row | {"verdict": "better"}) == "better"
    assert qualify({"verdict": "not distinguishable"}) == qualify(row | {"detectable": np.nan}) == "not distinguishable"


def test_a_difference_that_is_clear_alone_can_be_luck_in_a_large_table():
    runs = seeds("main", 0.2) + seeds("better", 0.18, fusion="attention")
    alone = compare(group(runs, "main"), resamples=2000)
    assert alone["verdict"].iloc[1] == "better" and 0.005 < alone["p_value"].iloc[1] < 0.05
    others = [run for place in range(1, 9) for run in seeds("same" * place, 0.2, epochs=20 + place)]
    among = compare(group(runs + others, "main"), resamples=2000)
    assert among["p_value"].iloc[1] < 0.05 < among["p_holm"].iloc[1] and among["delta_low"].iloc[1] > 0
    assert among["verdict"].iloc[1] == "not distinguishable"


def test_a_group_that_was_not_run_has_its_command_and_no_numbers(table):
    row = table.loc["jitter"]
    assert (row["verdict"], row["decision"], row["seeds"]) == ("not run", "", 0)
    assert row["command"] == "iqa run toy/train/jitter" and row["runs"] == "jitter_s1 jitter_s2"
    assert row["differs"] == "input: rgb, color_jitter: 0.1"
    assert row[["srcc_mean", "srcc_low", "delta", "p_value", "p_holm", "val_srcc_mean"]].isna().all()
    assert (table["command"].drop("jitter") == "").all()


def test_a_group_that_is_half_done_is_compared_and_names_the_runs_that_lack():
    runs = [*seeds("main", 0.2), *seeds("last", 0.2, (1, 2), fusion="last"), planned("last_s3", 3, fusion="last")]
    row = compare(group(runs, "main"), resamples=100).iloc[1]
    assert (row["seeds"], row["runs"], row["command"]) == (2, "last_s1 last_s2", "iqa run toy/train/last_s3")
    assert row["verdict"] == "not distinguishable"


def test_a_choice_on_the_test_images_is_flagged_and_not_adopted_against_an_honest_reference(table, many):
    assert table["chosen_on"].to_dict() == dict.fromkeys(table.index, "validation") | {"tested": "TEST"}
    assert (table.loc["tested", "verdict"], table.loc["tested", "decision"]) == ("better", "")
    assert any("chosen on TEST" in title for title in followed(group(many, "main"))["panels"])
    runs = seeds("main", 0.5, select_on="test_srcc") + seeds("last", 0.05, fusion="last", select_on="test_srcc")
    assert compare(group(runs, "main"), resamples=100)["decision"].iloc[1] == "adopted"


def test_the_value_is_chosen_on_the_validation_images(table):
    assert table.index[table["best_on_validation"]].tolist() == ["attention"]
    assert table.loc["tested", "srcc_mean"] > table.loc["attention", "srcc_mean"]


def test_the_same_seed_gives_the_same_table(many):
    first, second = (compare(group(many, "main"), resamples=50, seed=4) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize(
    ("given", "corrected"),
    [
        ([], []),
        ([0.2], [0.2]),
        # sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04 -> no smaller than those before
        ([0.04, 0.01, 0.03, 0.02], [0.06, 0.04, 0.06, 0.06]),
        ([0.6, 0.001, 0.7], [1.0, 0.003, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([float("nan"), 0.03, float("nan"), 0.01], [float("nan"), 0.03, float("nan"), 0.02]),
    ],
)
def test_holm_agrees_with_values_from_hand(given, corrected):
    assert np.allclose(holm(given), corrected, equal_nan=True)


def test_holm_keeps_the_order_and_is_between_the_p_value_and_bonferroni():
    values = np.random.default_rng(0).random(20) ** 3
    corrected = holm(values)
    assert (np.diff(corrected[np.argsort(values)]) >= 0).all()
    assert (corrected >= values).all() and (corrected <= np.minimum(1, 20 * values)).all()
    shuffled = np.random.default_rng(1).permutation(20)
    assert np.array_equal(holm(values[shuffled]), corrected[shuffled])


def test_holm_refuses_what_is_no_p_value():
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, 1.2])


def test_p_values_are_two_sided_and_never_zero():
    assert p_value(np.full(99, 0.3)) == p_value(np.full(99, -0.3)) == 2 / 100
    assert p_value(np.zeros(99)) == 1
    samples = np.array([-1.0] * 4 + [1.0] * 95)
    assert p_value(samples) == p_value(-samples) == pytest.approx(2 * 5 / 100)


def test_p_values_of_the_same_model_trained_again_are_rarely_small():
    found = []
    for trial in range(30):
        numbers = range(trial * 10, trial * 10 + 3)
        runs = seeds("main", 0.3, numbers, images=60) + seeds("again", 0.3, numbers, images=60, epochs=1)
        found.append(compare(group(runs, f"main_s{trial * 10}"), resamples=200)["p_value"].iloc[1])
    assert np.mean(np.array(found) < 0.05) <= 0.15
    assert 0.25 < np.mean(found) < 0.85


def test_dynamics_are_mean_and_range_over_the_seeds_that_came_so_far(many):
    many[0] = replace(many[0], history=many[0].history.iloc[:2])
    found = followed(group(many, "main"))["dynamics"]
    assert set(found["quantity"]) == {"train_loss", "val_loss", "val_srcc", "val_plcc"}
    assert "jitter" not in set(found["group"])
    rows = found[(found["group"] == "main") & (found["quantity"] == "val_srcc")].set_index("epoch")
    assert rows["seeds"].tolist() == [3, 3, 2]
    assert np.allclose(rows.loc[2, ["mean", "min", "max"]].astype(float), [0.4, 0.2, 0.6])
    assert np.allclose(rows.loc[3, ["mean", "min", "max"]].astype(float), [0.75, 0.6, 0.9])


def test_foremost_groups_are_the_reference_and_the_largest_differences(many):
    left = followed(group(many, "main"))
    sizes = left["table"].set_index("differs")["delta"].abs().drop("").dropna()
    largest = sizes.sort_values(ascending=False).index.tolist()
    assert left["foremost"] == ["reference", *largest]
    assert [panel.split(" (")[0] for panel in left["panels"]] == ["reference", *largest[:3]]


def test_a_sweep_holds_the_groups_that_vary_one_parameter_alone():
    runs = seeds("main", 0.2) + seeds("none", 0.3, rank_weight=0.0) + seeds("last", 0.3, fusion="last")
    runs += [*seeds("both", 0.3, rank_weight=0.5, fusion="last"), planned("one_s1", 1, rank_weight=1.0)]
    groups = group(runs, "main")
    table = compare(groups, resamples=20)
    sweep = comparison.sweep(groups, table, "rank_weight")
    assert sweep["rank_weight"].tolist() == [0.0, 0.3, 1.0]
    assert sweep["group"].tolist() == ["none", "main", "one"]
    with pytest.raises(ValueError, match="'fusion' is 'concat' in a run; a curve needs numbers"):
        comparison.sweep(groups, table, "fusion")


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study with two experiments, of which `main` is finished and `last` is not."""
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    folder = tmp_path / "params" / "toy" / "train"
    folder.mkdir(parents=True)
    (folder.parent / "train.yaml").write_text("database: demo\nbackbone: resnet10t\nlr: 2.0e-3\n")
    (folder / "main.yaml").write_text("seeds: [1, 2]\n")
    (folder / "last.yaml").write_text("seeds: [1, 2]\nfusion: last\n")
    for run in seeds("main", 0.2, (1, 2)):
        home = tmp_path / "results" / "toy" / "train" / run.name
        home.mkdir(parents=True)
        for name in ("predictions", "history"):
            getattr(run, name).to_csv(home / f"{name}.csv", index=False)
        older = {key: value for key, value in run.params.items() if key != "hypernet_epochs"}
        for name, values in {"params": older, "metrics": run.metrics}.items():
            (home / f"{name}.json").write_text(json.dumps(values))
        tiny.finish(home, data={"demo": "f"})
    return tmp_path / "results" / "toy" / "train"


def test_a_learning_curve_knows_how_many_images_each_share_has():
    runs = seeds("main", 0.1) + seeds("half", 0.2, train_share=0.5) + [planned("few_s1", 1, train_share=0.125)]
    for run in runs[:3]:
        run.metrics["train_images"] = 1000 + run.params["seed"]
    groups = group(runs, "main")
    sweep = comparison.sweep(groups, compare(groups, resamples=20), "train_share")
    assert sweep["train_share"].tolist() == [0.125, 0.5, 1.0]
    assert sweep["images"].fillna(0).tolist() == [0, 0, 1002]  # not run, of an older version, the mean over seeds


def test_monitored_test_images_are_followed_epoch_by_epoch_and_are_not_among_what_all_runs_have():
    tested, plain = seeds("tested", 0.1, select_on="test_srcc"), seeds("main", 0.1)
    for run in tested:
        run.history["test_srcc"] = [0.2, 0.4, 0.3]
        run.history["test_plcc"] = [0.2, 0.3, 0.4]
        run.history["other_srcc"] = [0.1, 0.1, 0.2]
    assert comparison.monitored(tested) == ["test_srcc", "test_plcc", "other_srcc"]
    assert comparison.monitored(plain) == comparison.monitored([*tested, *plain]) == []
    dynamics = followed(group([*plain, *tested], "main"))["dynamics"]
    rows = dynamics[dynamics["quantity"] == "test_srcc"]
    assert rows["group"].unique().tolist() == ["tested"]
    assert rows["mean"].tolist() == pytest.approx([0.2, 0.4, 0.3])
    shown = ablation.monitored_table(dynamics)
    assert list(shown) == ["Epoch", "select_on: test_srcc", "select_on: test_srcc on other"]
    assert shown["select_on: test_srcc"].tolist() == rows["mean"].tolist()
    assert ablation.monitored_table(dynamics[dynamics["group"] == "main"]).empty


RUNS = ["main_s1", "main_s2", "last_s1", "last_s2"]


def test_finished_and_unfinished_runs_are_collected_apart(study):
    finished, waiting = comparison.collect("toy", RUNS)
    assert [run.name for run in finished] == RUNS[:2] and [run.name for run in waiting] == RUNS[2:]
    assert {run.experiment for run in finished} == {"main"} and waiting[0].params["fusion"] == "last"
    assert list(finished[0].history["epoch"]) == [1, 2, 3]
    assert finished[0].params["hypernet_epochs"] is None  # a parameter that is newer than the run
    table = compare(group([*finished, *waiting], "main"), resamples=20)
    assert table["verdict"].tolist() == ["reference", "not run"]
    assert table["command"].tolist() == ["", "iqa run toy/train/last"]
    assert comparison.databases("toy", [run.name for run in finished]) == {"demo": "f"}


def test_the_own_test_images_are_called_so_when_a_run_monitored_them(study):
    file = study / "main_s1" / "history.csv"
    history = pd.read_csv(file)
    history.assign(demo_srcc=0.5, demo_plcc=0.6, demo_photos_srcc=0.4).to_csv(file, index=False)
    tiny.finish(file.parent)
    finished, _ = comparison.collect("toy", RUNS)
    assert comparison.monitored(finished[:1]) == ["test_srcc", "test_plcc", "demo_photos_srcc"]


def test_an_experiment_stands_for_its_runs_in_an_evaluation_and_the_unfinished_ones_have_a_command(study):
    params = CrossDatasetParams(study="toy", models=["main", "a.pt", "last_s1", "main_s1"], databases=["wild"])
    assert params.train_runs() == {"main": RUNS[:2], "last_s1": ["last_s1"], "main_s1": ["main_s1"]}
    assert params.needs() == [*(("train", run) for run in RUNS[:3]), ("data_prep", "wild"), ("data_prep", "demo")]
    assert how_to_make("toy", *RUNS) == "iqa run toy/train/last_s1 toy/train/last_s2"
    assert how_to_make("toy", *RUNS[:2]) is None


def test_runs_that_were_tested_on_other_images_or_scores_cannot_be_compared(study):
    file = study / "main_s2" / "predictions.csv"
    frame = pd.read_csv(file)
    for changed in (frame.iloc[1:], frame.assign(mos=frame["mos"] * 2)):
        changed.to_csv(file, index=False)
        tiny.finish(file.parent)
        with pytest.raises(ValueError, match="train/main_s1 and train/main_s2 were tested on different images"):
            comparison.collect("toy", RUNS)


def test_a_run_of_an_older_version_says_how_to_make_it_again(study):
    file = study / "main_s2" / "metrics.json"
    file.write_text(json.dumps({"srcc": 0.5, "plcc": 0.5}))
    tiny.finish(file.parent)
    with pytest.raises(ResultsError, match=r"metrics\.json has no key 'val_srcc'.*iqa run toy/train/main_s2"):
        comparison.collect("toy", RUNS)


def test_a_comparison_seen_from_the_other_side_has_the_other_sign():
    row = {"place": "Toy", "group": "a", "reference": "b", "verdict": "better", "seeds": 3}
    row |= {"delta": 0.02, "delta_low": 0.01, "delta_high": 0.04, "delta_plcc": 0.03}
    found = comparison.find_contrast(pd.DataFrame([row]), "b", "a", "Toy")
    assert found["verdict"] == "worse" and (found["delta"], found["delta_plcc"]) == (-0.02, -0.03)
    assert (found["delta_low"], found["delta_high"]) == (-0.04, -0.01)
    assert comparison.find_contrast(pd.DataFrame([row]), "a", "b", "Toy") == row
    assert comparison.find_contrast(pd.DataFrame([row]), "a", "b", "Other") is None


def test_what_a_head_does_not_read_names_no_group():
    runs = [planned("main", 1, fusion="attention"), planned("static", 1, head="static", hypernet_epochs=2)]
    runs.append(planned("linear", 1, head="linear", dropout=0.3, target_input="pooled"))
    assert list(comparison.group(runs, "main")) == ["reference", "head: static", "head: linear"]
    assert list(comparison.group(runs, "static")) == [
        "reference",
        "head: hyper, fusion: attention, hypernet_epochs: None",
        "head: linear",
    ]
