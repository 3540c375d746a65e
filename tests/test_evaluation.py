"""Evaluation: coefficients inside their intervals, contents kept together, parts told apart."""

import numpy as np
import pandas as pd
import pytest

from iqa import metrics
from iqa.evaluation import COEFFICIENTS, breakdown, evaluate


@pytest.fixture
def predictions():
    generator = np.random.default_rng(0)
    mos = generator.random(240)
    noise = np.repeat([0.05, 0.4], 120)
    return pd.DataFrame(
        {
            "mos": mos,
            "prediction": mos + generator.normal(0, 1, 240) * noise,
            "reference": np.arange(240) % 40,
            "distortion": np.repeat(["blur", "noise"], 120),
            "level": np.tile([1.0, 2.0, 3.0], 80),
        }
    )


def test_every_coefficient_comes_with_an_interval_that_holds_it(predictions):
    found = evaluate(predictions, resamples=200)
    assert found["n"] == 240 and found["confidence"] == 0.95
    for name in COEFFICIENTS:
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"], name
    assert found["srcc"] == metrics.srcc(predictions["prediction"], predictions["mos"])


def test_contents_are_resampled_together(predictions):
    by_content = evaluate(predictions, resamples=50)
    by_image = evaluate(predictions.assign(reference=np.arange(240)), resamples=50)
    assert by_content["srcc"] == by_image["srcc"]
    assert by_content["srcc_low"] != by_image["srcc_low"]


def test_a_collapsed_model_agrees_with_nothing(predictions):
    found = evaluate(predictions.assign(prediction=0.5), resamples=20)
    assert found["srcc"] == found["plcc"] == found["plcc_fitted"] == found["krcc"] == 0


def test_distortions_and_levels_are_evaluated_apart(predictions):
    found = breakdown(predictions, resamples=100).set_index(["by", "value"])
    assert list(found.index) == [
        *(("distortion", name) for name in ("blur", "noise")),
        *(("level", name) for name in ("1", "2", "3")),
    ]
    assert found["n"].tolist() == [120, 120, 80, 80, 80]
    blur = predictions[predictions["distortion"] == "blur"]
    assert found.loc[("distortion", "blur"), "srcc"] == metrics.srcc(blur["prediction"], blur["mos"])
    assert found.loc[("distortion", "blur"), "srcc"] > found.loc[("distortion", "noise"), "srcc_high"]


def test_too_few_images_have_no_coefficient(predictions):
    predictions.loc[:8, "distortion"] = "rare"
    row = breakdown(predictions, resamples=20).set_index("value").loc["rare"]
    assert row["n"] == 9 and np.isnan(row["srcc"])


def test_a_database_of_one_kind_has_no_breakdown(predictions):
    found = breakdown(predictions.assign(distortion="authentic", level=np.nan))
    assert found.empty and "srcc_low" in found
