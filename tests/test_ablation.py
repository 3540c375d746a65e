"""Comparing runs: groups by parameters, and verdicts that respect both kinds of chance."""

import numpy as np
import pandas as pd
import pytest

from iqa import metrics
from iqa.ablation import Trained, compare, group
from iqa.config import TrainParams


def trained(name, seed, noise, images=300, **changes):
    """A run whose predictions are the MOS with noise of the given strength."""
    mos = np.random.default_rng(0).random(images)
    prediction = mos + np.random.default_rng(seed + 100 * len(name)).normal(0, noise, images)
    frame = pd.DataFrame(
        {"image": np.arange(images), "reference": np.arange(images), "mos": mos, "prediction": prediction}
    )
    found = {"srcc": metrics.srcc(prediction, mos), "plcc": metrics.plcc(prediction, mos)}
    return Trained(name, TrainParams(run=name, seed=seed, **changes).model_dump(), found, frame)


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


def test_a_reference_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="train/other is not among"):
        group([trained("main_s1", 1, 0.1)], "other")


def test_a_seed_that_comes_twice_is_an_error():
    with pytest.raises(ValueError, match="seed twice: main_s1, copy_s1"):
        group([trained("main_s1", 1, 0.1), trained("copy_s1", 1, 0.1)], "main_s1")


def test_equal_models_are_not_distinguishable_and_a_worse_one_is_worse():
    runs = [trained(f"main_s{s}", s, 0.1) for s in (1, 2, 3)]
    runs += [trained(f"last_s{s}", s, 0.1, fusion="last") for s in (1, 2, 3)]
    runs += [trained(f"rankless_s{s}", s, 0.5, rank_weight=0.0) for s in (1, 2, 3)]
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
