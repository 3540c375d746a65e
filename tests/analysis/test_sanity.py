"""Checks of predictions: what was put into made-up predictions is found, and clean ones raise no alarm."""

import numpy as np
import pandas as pd
import pytest

from iqa.analysis import sanity
from iqa.analysis.sanity import examine

DISTORTIONS = np.array(["banding", "blur", "jpeg", "noise", "rescaling", "speckle"])
CLEAN = {  # predictions of MOS with errors of standard deviation 1
    "even noise": lambda mos, error: mos + 7 * error,
    "noise that grows with the MOS": lambda mos, error: mos + (2 + 0.1 * mos) * error,
    "a weak model": lambda mos, error: 50 + 0.5 * (mos - 50) + 12 * error,
    "a curve": lambda mos, error: 100 / (1 + np.exp((50 - mos) / 18)) + 6 * error,
    "a compressed scale": lambda mos, error: 50 + 0.1 * (mos - 50) + error,
}


def images(seed=0, count=360, steps=False) -> tuple[pd.DataFrame, np.ndarray]:
    """Images of 60 contents and 6 distortions, with MOS from 10 to 90, and an error for each."""
    generator = np.random.default_rng(seed)
    mos = generator.uniform(10, 90, count)
    if steps:  # levels that people tell apart, and rate with noise
        mos = np.array([88, 70, 50, 30, 12])[np.arange(count) % 5] + generator.normal(0, 4, count)
    table = pd.DataFrame({"mos": mos, "reference": generator.permutation(np.arange(count) % 60)})
    return table.assign(distortion=DISTORTIONS[np.arange(count) % 6]), generator.normal(0, 1, count)


def found(table: pd.DataFrame, low=0, high=100, **how) -> pd.DataFrame:
    """The findings alone, by check."""
    checks = examine(table, low, high, **{"resamples": 200} | how)
    return checks[checks["found"]].set_index("check")


@pytest.mark.parametrize("steps", [False, True], ids=["even MOS", "levels"])
@pytest.mark.parametrize("kind", CLEAN)
def test_clean_predictions_with_noise_raise_no_alarm(kind, steps):
    alarms = []
    for seed in range(12):
        table, error = images(seed, steps=steps)
        alarms += found(table.assign(prediction=CLEAN[kind](table["mos"], error)), seed=seed).index.tolist()
    assert alarms.count("plateau") <= 1 and not {"ties", "order"} & set(alarms)
    assert kind in ("a weak model", "a curve") or alarms.count("compression") == 12 * (kind == "a compressed scale")


@pytest.mark.parametrize("seed", range(5))
def test_a_plateau_within_one_distortion_is_found_with_its_images_and_their_mos(seed):
    table, error = images(seed)
    flat = (table["distortion"] == "blur") & (table["mos"] < 60)
    rows = found(table.assign(prediction=np.where(flat, 26.5 + 0.1 * error, table["mos"] + 8 * error)))
    (row,) = rows.loc[["plateau"]].to_dict("records")
    inside = table[flat]
    assert (row["group"], row["of"]) == ("blur", 60)
    assert len(inside) <= row["n"] <= len(inside) + 2 and row["p_value"] < 0.05
    assert 26 <= row["low"] <= 26.5 <= row["high"] <= 27
    assert row["mos_low"] <= inside["mos"].min() and row["mos_high"] >= inside["mos"].max()
    assert row["words"].startswith("predicted as 26") and "order" not in rows.index


def test_a_plateau_of_a_database_without_distortions_is_one_of_all_images():
    table, error = images(count=300)
    table["distortion"] = np.nan
    flat = np.arange(300) < 40
    row = found(table.assign(prediction=np.where(flat, 60 + 0.1 * error, table["mos"] + 8 * error))).loc["plateau"]
    assert (row["group"], row["of"]) == ("all", 300) and 40 <= row["n"] <= 44


@pytest.mark.parametrize("width", [4, 20])
def test_images_of_nearly_one_mos_may_be_predicted_alike(width):
    table, error = images()
    narrow = table["distortion"] == "blur"
    table.loc[narrow, "mos"] = 80 + width / 2 * np.sin(np.arange(narrow.sum()))
    assert (
        "plateau"
        not in found(table.assign(prediction=np.where(narrow, 80 + 0.1 * error, table["mos"] + 7 * error))).index
    )


@pytest.mark.parametrize(
    ("change", "check", "group", "n"),
    [
        (lambda table, error: table["mos"].round(-1) + 0 * error, "ties", "all", 360),
        (lambda table, error: table["mos"].mask(table["distortion"] == "jpeg", 50 + 20 * error), "order", "jpeg", 60),
        (lambda table, error: 50 + 0.4 * (table["mos"] - 50) + 2 * error, "compression", "all", 360),
        (lambda table, error: 50 + 1.2 * (table["mos"] - 50) + 2 * error, "compression", "all", 360),
        (lambda table, error: table["mos"].where(np.arange(360) > 2, 104.0 + error.clip(0, 1)), "outside", "all", 3),
    ],
    ids=["ties", "order", "compression", "stretch", "outside"],
)
def test_each_fault_is_found_and_named(change, check, group, n):
    table, error = images()
    row = found(table.assign(prediction=change(table, error))).loc[check]
    assert (row["group"], row["n"]) == (group, n)


def test_a_model_with_one_score_for_all_images_ties_and_has_no_order():
    table, _ = images()
    rows = found(table.assign(prediction=50.0))
    assert rows.loc["ties", "n"] == 360 and (rows.loc["order", "n"] == 60).all()


def test_what_needs_a_scale_is_left_out_where_there_is_none():
    table, error = images()
    flat = table["distortion"] == "blur"
    scores = np.where(flat, 0.265 + 0.0001 * error, table["mos"] / 100 + 0.08 * error) * 3 + 7
    checks = examine(table.assign(prediction=scores), 0, 100, resamples=200, uncalibrated="trained on PLCC alone")
    assert set(checks["check"]) == {"plateau", "ties", "order"}
    assert checks.set_index("check").loc["plateau", "group"] == "blur"


def test_a_check_that_finds_nothing_has_a_row_and_the_same_seed_gives_the_same_rows():
    table, error = images()
    table["prediction"] = table["mos"] + 7 * error
    checks = examine(table, -100, 200, resamples=50)
    assert list(checks["check"]) == ["plateau", "ties", "order", "compression", "outside"] and not checks["found"].any()
    pd.testing.assert_frame_equal(checks, examine(table, -100, 200, resamples=50))


def test_the_slope_is_that_of_numpy():
    table, error = images()
    prediction = (table["mos"] / 2 + error).to_numpy()
    assert sanity.slope(prediction, table["mos"].to_numpy()) == pytest.approx(
        np.polyfit(prediction, table["mos"], 1)[0]
    )
