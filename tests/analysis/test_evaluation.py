"""Evaluation: coefficients inside their intervals, contents kept together, parts told apart."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from icc import P3, profile
from notebook_section import run_section
from PIL import Image
from reference_models import blank

from iqa.analysis import gathering
from iqa.analysis.evaluation import (
    COEFFICIENTS,
    average_seeds,
    breakdown,
    cross_table,
    evaluate,
    fitted5,
    pool_seeds,
    resample,
    results_json,
    score,
    stack,
)
from iqa.analysis.params import CrossDatasetParams
from iqa.data.params import DataPrepParams
from iqa.data.pixels import Size
from iqa.data.prepare import prepare
from iqa.metrics import coefficients
from iqa.metrics.logistic5 import plcc_fitted5
from iqa.model.hyperiqa import HyperIQA
from iqa.model.params import RuleError
from iqa.model.predictor import Predictor, Scale, load_model
from iqa.model.scoring import predict
from iqa.study import paths
from iqa.training import fit


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
    assert found["srcc"] == coefficients.srcc(predictions["prediction"], predictions["mos"])


def test_a_logistic_with_5_parameters_is_fitted_where_there_are_enough_images(predictions):
    fitted = fitted5(predictions)
    assert fitted == plcc_fitted5(predictions["prediction"], predictions["mos"])
    assert evaluate(predictions, resamples=5)["plcc_fitted"] - 1e-6 <= fitted < 1
    assert fitted5(predictions[:5]) is None


def test_the_bias_is_the_mean_error_in_units_of_the_mos(predictions):
    found = evaluate(predictions.assign(prediction=predictions["mos"] - 0.25), resamples=50)
    assert found["bias"] == pytest.approx(-0.25) and found["bias_low"] == pytest.approx(-0.25)
    parts = breakdown(predictions, resamples=50)
    errors = (predictions["prediction"] - predictions["mos"]).groupby(predictions["distortion"]).mean()
    assert parts["bias"].iloc[:2].tolist() == pytest.approx(errors.tolist())


def test_contents_are_resampled_together(predictions):
    by_content = evaluate(predictions, resamples=50)
    by_image = evaluate(predictions.assign(reference=np.arange(240)), resamples=50)
    assert by_content["srcc"] == by_image["srcc"]
    assert by_content["srcc_low"] != by_image["srcc_low"]


def test_a_collapsed_model_agrees_with_nothing(predictions):
    found = evaluate(predictions.assign(prediction=0.5), resamples=20)
    assert found["srcc"] == found["plcc"] == found["plcc_fitted"] == found["krcc"] == 0


@pytest.fixture
def trainings(predictions):
    """What was measured of three seeds of one experiment, and its resampled values."""
    generator = np.random.default_rng(3)
    tables = [predictions.assign(prediction=predictions["mos"] + generator.normal(0, s, 240)) for s in (0.2, 0.3, 0.5)]
    samples = [resample(table, 400) for table in tables]
    return [evaluate(*pair[:1], samples=pair[1]) for pair in zip(tables, samples, strict=True)], samples


def test_one_training_is_averaged_to_itself_and_its_interval_covers_contents_only(trainings, predictions):
    found, samples = ([values[0]] for values in trainings)
    alone = average_seeds(found, samples, {}, {})
    assert alone | found[0] == alone and (alone["seeds"], alone["covers"]) == (1, "contents only")
    assert alone["srcc_std"] is None and evaluate(predictions, 50) == evaluate(
        predictions, samples=resample(predictions, 50)
    )


def test_the_mean_of_several_trainings_has_an_interval_that_covers_both_kinds_of_chance(trainings):
    found, samples = trainings
    noise, freedom = dict.fromkeys(COEFFICIENTS, 0.1), dict.fromkeys(COEFFICIENTS, 2)
    blind, wide = average_seeds(found, samples, {}, {}), average_seeds(found, samples, noise, freedom)
    for name in COEFFICIENTS:
        assert blind[name] == wide[name] == pytest.approx(np.mean([each[name] for each in found]))
        assert wide[f"{name}_low"] < blind[f"{name}_low"] < blind[name] < blind[f"{name}_high"] < wide[f"{name}_high"]
    assert (blind["covers"], wide["covers"], wide["seeds"]) == ("contents only", "contents and trainings", 3)
    assert wide["srcc_std"] == np.std([each["srcc"] for each in found], ddof=1) and wide["srcc_high"] <= 1


def test_an_interval_over_trainings_is_students_where_images_are_no_noise(trainings):
    found = [each | {"srcc": value} for each, value in zip(trainings[0], (0.5, 0.55, 0.6), strict=True)]
    samples = [{name: np.full(20_000, each[name]) for name in COEFFICIENTS} for each in found]
    wide = average_seeds(found, samples, dict.fromkeys(COEFFICIENTS, 0.05), dict.fromkeys(COEFFICIENTS, 2))
    half = 4.3027 * 0.05 / np.sqrt(3)
    assert (wide["srcc_low"], wide["srcc_high"]) == pytest.approx((0.55 - half, 0.55 + half), abs=0.01)


def rows_of(database, title, values, model="main", length=1.0):
    about = {"model": model, "database": database, "title": title, "trained_on": "Own", "range": length}
    return [about | dict.fromkeys(COEFFICIENTS, 0.5) | {"srcc": value, "rmse": length * value} for value in values]


def test_the_noise_of_seeds_is_pooled_over_databases_only_where_few_tell_it():
    rows = (
        rows_of("a", "A", [0.4, 0.6]) + rows_of("b", "B", [0.5, 0.5], length=100.0) + rows_of("own", "Own", [0.9, 0.9])
    )
    noise, freedom = pool_seeds(pd.DataFrame(rows))
    assert freedom["srcc"].to_dict() == {"a": 2, "b": 2, "own": 1}
    assert noise["srcc"].to_dict() == pytest.approx({"a": 0.1, "b": 0.1, "own": 0.0})
    assert noise["rmse"].to_dict() == pytest.approx({"a": 0.1, "b": 10.0, "own": 0.0})  # in units of each scale
    rows = [
        row for name in "xyz" for row in rows_of("a", "A", [0.4, 0.6, 0.5], name) + rows_of("b", "B", [0.5] * 3, name)
    ]
    noise, freedom = pool_seeds(pd.DataFrame(rows))
    assert freedom["srcc"].to_dict() == {"a": 6, "b": 6}
    assert noise["srcc"].to_dict() == pytest.approx({"a": 0.1, "b": 0.0})


def test_without_a_second_seed_the_noise_of_seeds_is_unknown():
    for rows in (rows_of("a", "A", [0.4]), []):
        noise, freedom = pool_seeds(pd.DataFrame(rows, columns=list(rows_of("a", "A", [0.4])[0])))
        assert noise["srcc"].isna().all() and not freedom["srcc"].any()


def test_models_of_all_kinds_are_brought_over_their_seeds(trainings):
    """An experiment, one of its runs alone, and a checkpoint, as the cells of `05_cross_dataset` treat them."""
    found, samples = trainings
    runs = {"main": ["main_s1", "main_s2", "main_s3"], "main_s1": ["main_s1"], "a.pt": ["a.pt"]}
    number = {"main_s1": 0, "main_s2": 1, "main_s3": 2, "a.pt": 0}
    data = tiny.database(48)
    rows = [
        {"model": model, "run": run, "database": "up", "title": "Up", "trained_on": "T", "range": 10.0}
        | found[number[run]]
        for model, members in runs.items()
        for run in members
    ]
    names = {"rows": rows, "files": ["a.pt"], "runs_of": runs, "opened": {"up": data}, "copies": {}}
    names |= {"trained_on": dict.fromkeys(number, "T"), "commands": {"main": "iqa run toy/train/main_s4"}}
    names |= {"measured": {(run, "up"): found[place] for run, place in number.items()}}
    names |= {"samples": {(run, "up"): samples[place] for run, place in number.items()}}
    names |= {"missing": {}, "untrained": {}, "params": CrossDatasetParams(models=list(runs), databases=["up"])}
    cross = run_section("05_cross_dataset.ipynb", "Over the seeds", **names)["cross"].set_index("model")
    assert cross["covers"].tolist() == ["contents and trainings", "contents only", "contents only"]
    assert cross["seeds"].tolist() == [3, 1, 1] and cross["runs"].iloc[0] == "main_s1 main_s2 main_s3"
    assert cross["command"].iloc[0] == "iqa run toy/train/main_s4"
    assert cross.loc["main_s1", "srcc_low"] == found[0]["srcc_low"] == cross.loc["a.pt", "srcc_low"]


def test_distortions_and_levels_are_evaluated_apart(predictions):
    found = breakdown(predictions, resamples=100).set_index(["by", "value"])
    assert list(found.index) == [
        *(("distortion", name) for name in ("blur", "noise")),
        *(("level", name) for name in ("1", "2", "3")),
    ]
    assert found["n"].tolist() == [120, 120, 80, 80, 80]
    blur = predictions[predictions["distortion"] == "blur"]
    assert found.loc[("distortion", "blur"), "srcc"] == coefficients.srcc(blur["prediction"], blur["mos"])
    assert found.loc[("distortion", "blur"), "srcc"] > found.loc[("distortion", "noise"), "srcc_high"]


def test_too_few_images_have_no_coefficient(predictions):
    predictions.loc[:8, "distortion"] = "rare"
    row = breakdown(predictions, resamples=20).set_index("value").loc["rare"]
    assert row["n"] == 9 and np.isnan(row["srcc"])


def test_strengths_that_differ_from_image_to_image_are_no_levels(predictions):
    found = breakdown(predictions.assign(level=np.linspace(0, 1, 240)), resamples=20)
    assert set(found["by"]) == {"distortion"}


def test_a_database_of_one_kind_has_no_breakdown(predictions):
    found = breakdown(predictions.assign(distortion="authentic", level=np.nan))
    assert found.empty and "srcc_low" in found


@pytest.fixture(scope="module")
def scored():
    """Two models, of random weights, on two small databases."""
    models = {}
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        network = HyperIQA(tiny.PARAMS.architecture()).eval()
        options = {"input": "mscn", "crops": "whole", "patches": 1, "crop": 64, "batch_size": 8, "seed": 0}
        scale = Scale(0, 100, True, "Tiny")
        models[name] = Predictor(network, name, "mscn", 64, Size(), scale, options | {"precision": "32-true"})
    databases = {"up": tiny.database(48), "down": tiny.database(48, low=1, high=5, up=False)}
    cut = {"crops": "grid", "patches": 4, "seed": None}
    pairs = [(model, name) for model in models for name in databases]
    return models, databases, {pair: score(models[pair[0]], databases[pair[1]], **cut) for pair in pairs}


def cross_of(scored, missing, untrained=None):
    """The table of all pairs, as the notebook makes it."""
    models, databases, predictions = scored
    rows = [
        {"model": model, "database": name, "title": databases[name].title, "available": True}
        | evaluate(predictions[model, name], resamples=20)
        for model, name in predictions
    ]
    return cross_table(rows, {model: predictor.scale.of for model, predictor in models.items()}, missing, untrained)


def test_every_model_meets_every_database_and_absent_ones_stay_in_the_table(scored):
    _, _, predictions = scored
    cross = cross_of(scored, {"far": {"title": "Far away", "reason": "no such folder"}})
    assert len(cross) == 2 * 3 and cross["available"].tolist() == [True, True, False] * 2
    absent = cross[~cross["available"]]
    assert absent["srcc"].isna().all() and set(absent["reason"]) == {"no such folder"}
    row = cross.set_index(["model", "database"]).loc[("second", "down")]
    own = predictions["second", "down"]
    assert row["srcc"] == coefficients.srcc(own["prediction"], own["mos"])
    assert own["prediction"].between(-10, 20).all()  # on the database's scale of 1 to 5


def test_a_model_that_is_not_trained_has_a_row_per_database_with_its_command(scored):
    cross = cross_of(scored, {"far": {"title": "Far away", "reason": "no such folder"}}, {"third": "iqa run toy"})
    rows = cross[cross["model"] == "third"]
    assert rows["database"].tolist() == ["up", "down", "far"] and rows["title"].iloc[-1] == "Far away"
    assert set(rows["reason"]) == {"not run: iqa run toy"} and not rows["available"].any()


def test_options_that_are_asked_for_replace_the_models_own(scored):
    models, databases, predictions = scored
    data = databases["up"]
    options = models["first"].options | {"crops": "grid", "patches": 4}
    expected = predict(models["first"].network, data, data.indices("test"), **options)
    assert predictions["first", "up"]["prediction"].equals(expected["prediction"])


def test_a_model_scores_any_database_by_its_own_rule_unless_asked_otherwise(scored):
    models, databases, _ = scored
    model = dataclasses.replace(models["first"], options=models["first"].options | {"crops": "random", "patches": 3})
    data = databases["up"]
    own = predict(model.network, data, data.indices("test"), **model.options)["prediction"]
    params = CrossDatasetParams(databases=["up"])
    asked = score(model, data, crops=params.test_crops, patches=params.test_patches)["prediction"]
    assert asked.equals(own) and not score(model, data, crops="center")["prediction"].equals(own)
    with pytest.raises(RuleError, match=r"'patches' .* 'center'"):
        score(model, data, crops="center", patches=4)


def test_what_a_model_without_a_scale_lacks_is_left_out_of_the_record(scored):
    _, _, predictions = scored
    about = {"model": "first", "database": "up", "title": "Tiny", "available": True}
    pair = {("first", "up"): predictions["first", "up"]}
    rows = [about | evaluate(*pair.values(), resamples=20, uncalibrated="a reason")]
    cross = cross_table(rows, {"first": "Tiny"}, {})
    assert cross[["rmse", "bias", "bias_low"]].isna().all(axis=None) and cross["srcc"].notna().all()
    metrics = json.loads(json.dumps(results_json(pair, cross), allow_nan=False))["datasets"]["up"]["metrics"]
    assert "rmse" not in metrics and "bias" not in metrics and "krcc_low" in metrics


def test_the_record_holds_what_evaluation_tools_read(scored):
    _, _, predictions = scored
    cross = cross_of(scored, {"far": {"title": "Far", "reason": "no folder"}})
    found = json.loads(json.dumps(results_json(predictions, cross), allow_nan=False))
    assert found["model_type"] == "first" and found["eval_time"]
    up = found["datasets"]["up"]
    assert up["metrics"]["num_samples"] == len(up["predictions"]) == 12
    assert up["metrics"]["srcc_low"] <= up["metrics"]["srcc"] <= up["metrics"]["srcc_high"]
    assert set(up["predictions"][0]) == {"image", "score", "prediction"}
    assert found["datasets"]["far"] == {"available": False, "reason": "no folder"}
    assert [other["model_type"] for other in found["compared"]] == ["second"]


def test_the_record_of_an_experiment_holds_the_predictions_of_its_first_run(scored):
    _, _, predictions = scored
    about = {"model": "both", "database": "up", "title": "Tiny", "available": True, "runs": "second first"}
    cross = cross_table([about | evaluate(predictions["first", "up"], resamples=20)], {"both": "Tiny"}, {})
    found = results_json(predictions, cross)["datasets"]["up"]
    assert found["metrics"]["runs"] == "second first"
    assert [image["prediction"] for image in found["predictions"]] == list(predictions["second", "up"]["prediction"])


def test_tables_are_stacked_with_some_columns_in_front():
    tables = [pd.DataFrame({"n": [1, 2]}).assign(model=name) for name in ("first", "second")]
    found = stack(tables, ["model"])
    assert list(found) == ["model", "n"] and found.index.tolist() == [0, 1, 2, 3]
    assert list(stack([], ["model"])) == ["model"] and stack([], ["model"]).empty


# --- a model prepares the images of a database as it prepares files


class Brightness(torch.nn.Module):
    """In place of a network: the score of a patch is its mean intensity on 0..1, which every pixel changes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, pixels):
        return pixels.double().mean(dim=(1, 2, 3)) / 255


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A database of JPEG files of several sizes, one smaller than a crop and one in Display P3, stored at 48 x 64."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    rows = ["image,mos"]
    for number, (height, width) in enumerate([(90, 130), (150, 100), (64, 64), (40, 50), (300, 420)]):
        coarse = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8))
        options = {"icc_profile": profile(P3)} if number == 1 else {}
        coarse.resize((width, height)).save(folder / f"{number}.jpg", quality=90, **options)
        rows.append(f"{number}.jpg,{10 * number}")
    (folder / "labels.csv").write_text("\n".join(rows))
    own = {"reader": "csv", "folder": str(folder), "labels": str(folder / "labels.csv"), "low": 0.0, "high": 100.0}
    own |= {"higher_is_better": True, "split": "all_test", "inputs": ["rgb"], "height": 48, "width": 64}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "CACHE", folder / "cache")
        yield prepare(DataPrepParams(run="photographs", **own))


def own_model(size, folder):
    params = tiny.PARAMS.model_copy(update={"input": "rgb", "test_crops": "grid", "test_patches": 4})
    facts = {"title": "T", "low": 0.0, "high": 100.0, "higher_is_better": True, "synthetic": False, "size": size}
    about = fit.describe(params) | {"database": facts}
    state = HyperIQA(params.architecture()).state_dict()
    torch.save(about | {"state_dict": state}, folder / "best.pt")
    return load_model(folder, "cpu")


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
@pytest.mark.parametrize(
    "size",
    [
        {},
        {"height": 80, "width": 96, "keep_aspect": False},
        {"height": 80, "width": 96, "filter": "bilinear", "colours": "srgb"},
        {"height": 48, "width": 64, "colours": "srgb"},
        "hyperiqa",
        "iqa_pytorch",
        "swin-tiny-last",
    ],
)
def test_an_image_gets_the_same_score_from_its_file_and_in_its_database(size, photographs, tmp_path):
    if isinstance(size, str):
        torch.save(blank(size), tmp_path / "model.pkl")
        with torch.device("meta"):
            model = load_model(tmp_path / "model.pkl", "meta")
    else:
        model = own_model(size, tmp_path)
    model = dataclasses.replace(model, network=Brightness())
    how = {key: model.options[key] for key in ("crops", "patches", "seed")}
    files = [photographs.image_path(index) for index in range(len(photographs))]
    of_files = [model.score(file, **how) for file in files]
    of_database = score(model, photographs)
    rescaled = of_database["prediction"] / 100 * (model.scale.high - model.scale.low)
    assert of_database["image"].tolist() == photographs.table["image"].tolist()
    assert rescaled.tolist() == pytest.approx(of_files, abs=1e-9)
    gathered = gathering.in_size(photographs, "test", model.size, model.input)
    assert [gathered.pixels(index).shape for index in range(5)] == [model.pixels(file).shape for file in files]


def test_a_study_may_score_a_database_as_it_is_stored(photographs, tmp_path):
    model = dataclasses.replace(own_model({"height": 80, "width": 96}, tmp_path), network=Brightness())
    stored = score(model, photographs, "database", crops="whole")["prediction"]
    expected = [photographs.pixels(index).mean() / 255 * 100 for index in range(len(photographs))]
    assert stored.tolist() == pytest.approx(expected)
    assert not np.allclose(stored, score(model, photographs, crops="whole")["prediction"], atol=1e-3)
