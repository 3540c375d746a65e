"""Simple baselines: estimators that find what was drawn, features that tell distortions, fits that see no test."""

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from scipy.ndimage import gaussian_filter
from skimage.data import astronaut

from iqa.analysis import baselines
from iqa.analysis.baselines import BASELINES, BaselineError, compare, fit, fit_all, not_run, scene_statistics
from iqa.analysis.evaluation import evaluate
from iqa.analysis.params import CrossDatasetParams
from iqa.data.sizes import Size
from iqa.metrics import coefficients
from iqa.model.hyperiqa import HyperIQA
from iqa.model.predictor import Predictor, Scale
from iqa.study.params import ParameterError

SAMPLES = 400_000


def draw(shape: float, left: float, right: float) -> np.ndarray:
    """Values of an asymmetric generalised Gaussian with these scales on either side of zero."""
    generator = np.random.default_rng(0)
    below = generator.random(SAMPLES) < left / (left + right)
    return np.where(below, -left, right) * generator.gamma(1 / shape, size=SAMPLES) ** (1 / shape)


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize(("left", "right"), [(1.0, 1.0), (0.5, 2.0), (3.0, 0.7)])
def test_the_estimator_finds_the_distribution_that_values_were_drawn_from(shape, left, right):
    values = draw(shape, left, right)
    found = baselines.fit_asymmetric(values)
    below, above = values[values < 0], values[values > 0]
    expected = [shape, values.mean(), np.mean(below**2), np.mean(above**2)]
    assert found == pytest.approx(expected, rel=0.05, abs=0.01 * values.std())
    if left == right:
        assert baselines.fit_gaussian(values) == pytest.approx([shape, values.var()], rel=0.05)


def photograph(change: str) -> np.ndarray:
    image = astronaut()[::2, ::2].astype(float)
    if change == "blur":
        image = gaussian_filter(image, (2, 2, 0))
    if change == "noise":
        image += np.random.default_rng(0).normal(0, 40, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def test_natural_scene_statistics_tell_distortions_apart():
    pristine, blurred, noisy = (scene_statistics(photograph(change)) for change in ("", "blur", "noise"))
    assert pristine.shape == (36,) and np.isfinite([pristine, blurred, noisy]).all()
    variance, neighbours = 1, 5  # of MSCN, and of positive products of neighbours to the right
    assert noisy[0] > pristine[0] and noisy[variance] > pristine[variance] > blurred[variance]
    ratio = [found[neighbours] / found[variance] ** 2 for found in (noisy, pristine, blurred)]
    assert ratio == sorted(ratio)  # neighbours are the more alike the smoother an image is


def test_mscn_is_zero_where_an_image_is_flat_and_does_not_see_its_brightness():
    grey = photograph("")[..., 0].astype(float)
    assert np.abs(baselines.mscn(np.full((16, 16), 200.0))).max() < 1e-9
    assert np.allclose(baselines.mscn(grey), baselines.mscn(grey + 100), atol=1e-6)


@pytest.fixture
def database():
    database = tiny.database(80)
    database.stores["rgb"] = database.stores["mscn"]
    return database


@pytest.fixture
def model():
    torch.manual_seed(9)
    network = HyperIQA(tiny.PARAMS.architecture()).eval()
    options = {"input": "mscn", "crops": "grid", "patches": 2, "crop": 64, "batch_size": 8, "seed": 0}
    return Predictor(network, "x", "mscn", 64, Size(), Scale(0, 100, True, "T"), options | {"precision": "32-true"})


def test_every_baseline_orders_noise_by_its_strength_on_the_scale_of_any_database(database, model):
    other = tiny.database(48, low=1, high=5, up=False)
    other.stores["rgb"] = other.stores["mscn"]
    fitted, lacking = fit_all(BASELINES, model, tiny.PARAMS, database)
    assert list(fitted) == list(BASELINES) and not lacking
    predictions, seconds = baselines.predict_all(fitted, {"own": database, "other": other})
    assert predictions.keys() == seconds.keys()
    for (name, place), found in predictions.items():
        assert coefficients.srcc(found["prediction"], found["mos"]) > 0.8, (name, place)
        low, high = (0, 100) if place == "own" else (1, 5)
        assert found["prediction"].between(low - (high - low) / 2, high + (high - low) / 2).all()


@pytest.mark.parametrize("name", BASELINES)
def test_a_fit_sees_training_images_alone(name, database, model):
    expected = fit(name, model, tiny.PARAMS, database)
    changed = tiny.database(80)
    seen = changed.table["split"].eq("train")
    changed.table["mos"] = changed.table["mos"].where(seen, 50.0)
    changed.stores["mscn"] = changed.stores["rgb"] = [
        pixels if keep else pixels[::-1] // 2 for pixels, keep in zip(database.stores["rgb"], seen, strict=True)
    ]
    found = fit(name, model, tiny.PARAMS, changed)
    assert found.chosen == expected.chosen
    assert all(expected.chosen[key.split("__")[1]] in values for key, values in BASELINES[name].grid.items())
    pairs = [each.predict(database)["prediction"].tolist() for each in (found, expected)]
    assert pairs[0] == pairs[1]


def test_pooled_maps_are_those_of_the_weights_that_the_training_starts_from(database, model):
    before = torch.random.get_rng_state()
    baseline = BASELINES["ridge"](model, tiny.PARAMS, model.options)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(tiny.PARAMS.seed)
    network = HyperIQA(tiny.PARAMS.architecture()).eval()
    image = database.pixels(0)
    crops = [torch.from_numpy(image[top : top + 64, left : left + 64].copy()) for top, left in ((0, 0), (0, 32))]
    crops += [torch.from_numpy(image[8:72, left : left + 64].copy()) for left in (0, 32)]
    with torch.no_grad():
        maps = network.backbone(network.normalise(torch.stack(crops).permute(0, 3, 1, 2)))
    parts = [level.flatten(2).mean(2) for level in maps] + [level.flatten(2).std(2, correction=0) for level in maps]
    model.options["patches"] = 4
    (found,) = BASELINES["ridge"](model, tiny.PARAMS, model.options).features([image])
    assert found == pytest.approx(torch.cat(parts, 1).mean(0).numpy(), rel=1e-4, abs=1e-5)
    assert baseline.note == baselines.RANDOM


def test_pooled_maps_are_computed_where_the_model_is(model):
    model.network.to("meta")  # any device but the CPU, which every machine has
    assert BASELINES["ridge"](model, tiny.PARAMS, model.options).pooled.mean.device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_baselines_work_on_a_gpu(database, model):
    model.network.cuda()
    assert fit("ridge", model, tiny.PARAMS, database).predict(database)["prediction"].notna().all()


def test_an_image_of_one_colour_is_named_with_its_database(database, model):
    database.stores["rgb"][3] = np.full_like(database.stores["rgb"][3], (13, 201, 77))
    with pytest.raises(BaselineError, match=r"baseline 'nss_svr': image '3\.png' of database 'tiny' has no finite"):
        fit("nss_svr", model, tiny.PARAMS, database)


def test_a_baseline_whose_weights_are_not_here_is_not_run(database, model):
    training = tiny.PARAMS.model_copy(update={"weights": "nowhere.pth"})
    fitted, lacking = fit_all(["ridge"], model, training, database)
    assert not fitted and "nowhere.pth: `weights` is no file" in lacking["ridge"]
    rows = not_run(lacking, {"a": "A", "b": "B"})
    assert rows["database"].tolist() == ["a", "b"] and list(rows) == baselines.COLUMNS
    assert rows["verdict"].eq("not run").all() and rows["reason"].str.startswith("not run: nowhere.pth").all()


def scored(database, noise: float, seed: int) -> pd.DataFrame:
    test = database.table.iloc[database.indices("test")].reset_index(drop=True)
    return test.assign(prediction=test["mos"] + np.random.default_rng(seed).normal(0, noise, len(test)))


def test_rivals_are_compared_with_the_first_model_on_the_same_images():
    database, noise = tiny.database(400), {"first": 20, "good": 1, "bad": 200, "alike": 20}
    predictions = {(name, "tiny"): scored(database, each, seed) for seed, (name, each) in enumerate(noise.items())}
    about = {name: {"label": name, "kind": "model", "trained_on": "T", "uncalibrated": ""} for name in noise}
    known = [{"model": "first", "database": "tiny", "copies": 2} | evaluate(predictions["first", "tiny"], 50)]
    found = compare(predictions, "first", about, {"tiny": database}, known, resamples=200).set_index("model")
    assert list(found.reset_index()) == baselines.COLUMNS and found["copies"].eq(2).all()
    assert found["verdict"].to_dict() == {
        "first": "reference",
        "good": "better",
        "bad": "worse",
        "alike": "not distinguishable",
    }
    assert found["delta"].isna().tolist() == [True, False, False, False]
    delta = found["srcc"] - found["srcc"]["first"]
    assert found["delta"].iloc[1:].tolist() == pytest.approx(delta.iloc[1:].tolist())
    assert (found["p_holm"] >= found["p_value"])[1:].all() and found["p_value"]["good"] == pytest.approx(2 / 201)
    shuffled = predictions | {("bad", "tiny"): predictions["bad", "tiny"].iloc[::-1]}
    with pytest.raises(ValueError, match="have scored different images"):
        compare(shuffled, "first", about, {"tiny": database}, known, resamples=20)


def test_without_rivals_nothing_is_compared():
    assert compare({}, "first", {}, {}).empty
    assert baselines.describe({}, {}, "first", None) == {"model": "first", "database": None, "baselines": []}


def test_a_baseline_is_known_by_its_name():
    assert CrossDatasetParams(databases=["demo"]).baselines == list(BASELINES)
    assert CrossDatasetParams.build({"databases": ["demo"], "baselines": []}, "here").baselines == []
    with pytest.raises(ParameterError, match="'svm' is none of nss_svr, ridge"):
        CrossDatasetParams.build({"databases": ["demo"], "baselines": ["svm"]}, "here")
