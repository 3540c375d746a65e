"""A loss that does not see the scale: a line, fitted to the validation images, brings its scores to the scale."""

import numpy as np
import pytest
import tiny
import torch

from iqa.analysis.evaluation import breakdown, evaluate, score
from iqa.metrics import coefficients
from iqa.model import scoring
from iqa.model.export import export, metadata
from iqa.model.predictor import load_model
from iqa.training import losses
from iqa.training.fit import UNCALIBRATED, Fit
from iqa.training.train import train

BLIND = {"loss": "plcc", "rank_weight": 0.0}


@pytest.fixture(scope="module", params=[True, False], ids=["higher_is_better", "lower_is_better"])
def trained(request, tmp_path_factory):
    """A model that was trained with PLCC alone, its folder and database; its scores are moved far off the scale."""
    folder = tmp_path_factory.mktemp("blind")
    data = tiny.database(60, low=1.0, high=5.0, up=request.param)
    validate = Fit._validate

    def move(self):
        with torch.no_grad():
            self.model.hyper.last_weight.weight.mul_(30)
            self.model.hyper.last_weight.bias.mul_(30)
            self.model.hyper.last_bias.bias.add_(-90.0)
        return validate(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fit, "_validate", move)
        train(tiny.PARAMS.model_copy(update=BLIND | {"epochs": 1}), data, folder)
    return load_model(folder, "cpu"), folder, data


@pytest.mark.parametrize(
    ("weights", "sees"),
    [
        ({"l1": 1.0}, True),
        ({"plcc": 1.0}, False),
        ({"fidelity": 1.0, "ranking": 0.3}, False),
        ({"plcc": 1.0, "l2": 0.01}, True),
    ],
)
def test_a_sum_sees_the_scale_if_a_term_does(weights, sees):
    assert losses.sees_scale(weights) is sees


OPTIONS = {"rank_margin": 0.1, "rank_gap": 0.0}


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_loss_sees_the_scale_unless_it_is_the_same_for_shifted_predictions(name):
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(2, 12, generator=generator, dtype=torch.float64)
    values = [losses.total(p, target, {name: 1.0}, OPTIONS)["total"] for p in (prediction, prediction + 5)]
    assert losses.LOSSES[name].sees_scale == (not torch.isclose(*values, rtol=1e-6))


def test_scores_come_to_the_scale_and_their_order_stays_to_the_bit(trained):
    model, _, data = trained
    raw = {key: value for key, value in model.options.items() if key != "calibration"}
    for split in ("val", "test"):
        indices = data.indices(split)
        before = scoring.score(model.network, data, indices, **raw)
        after = scoring.score(model.network, data, indices, **model.options)
        truth = data.normalise(data.table["mos"].to_numpy()[indices])
        assert np.abs(before).min() > 10 and np.abs(after - truth).mean() < 0.4
        assert coefficients.srcc(before, truth) == coefficients.srcc(after, truth)
        assert (np.argsort(before, kind="stable") == np.argsort(after, kind="stable")).all()


def test_the_history_has_the_loss_of_the_scores_on_the_scale(trained):
    model, folder, data = trained
    row = torch.load(folder / "best.pt", weights_only=True)["history_row"]
    indices = data.indices("val")
    value = scoring.score(model.network, data, indices, **model.options | {"patches": tiny.PARAMS.val_patches})
    truth = data.normalise(data.table["mos"].to_numpy()[indices])
    assert row["val_loss"] == pytest.approx(np.abs(value - truth).mean()) and row["val_loss"] < 0.4
    assert row["val_srcc"] == coefficients.srcc(value, truth)
    assert value.mean() == pytest.approx(truth.mean())


def test_files_databases_and_calls_have_the_same_scores(trained):
    model, _, data = trained
    table = score(model, data)
    pixels = [data.pixels(index, "mscn") for index in data.indices("test")]
    alone = [model._score("an image", image, None).score for image in pixels]
    assert alone == pytest.approx(list(table["prediction"]), abs=1e-4)
    crop = torch.from_numpy(np.array(pixels[0][:64, :64])).permute(2, 0, 1)[None]
    called = model(crop).item()
    assert called == pytest.approx(model._score("a crop", pixels[0][:64, :64], None, crops="whole").score, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("trained", [False], ids=["lower_is_better"], indirect=True)
def test_the_exported_graph_has_the_scores_of_the_model(trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, _, data = trained
    crop = torch.from_numpy(np.array(data.pixels(0, "mscn")[:64, :64])).permute(2, 0, 1)[None]
    export(model, tmp_path / "model.onnx", 64, 64)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (scores,) = session.run(["score"], {"pixels": crop.numpy()})
    assert scores.item() == pytest.approx(model(crop).item(), abs=1e-3)
    assert "fitted to its validation images" in metadata(model)["score"]


def test_the_scale_says_that_it_was_fitted(trained):
    model, _, data = trained
    ends = "1 (worst) to 5 (best)" if data.higher_is_better else "5 (worst) to 1 (best)"
    assert str(model.scale) == f"{ends}, the scale of Tiny, fitted to its validation images"


def test_a_loss_that_sees_the_scale_is_left_as_it_is(tmp_path):
    train(tiny.PARAMS.model_copy(update={"epochs": 1}), tiny.database(), tmp_path)
    model = load_model(tmp_path, "cpu")
    assert model.scale.calibration == (0.0, 1.0) and "calibration" not in model.options
    assert "fitted" not in str(model.scale)


@pytest.mark.parametrize("sign", [0.0, -1.0], ids=["constant", "falling"])
def test_scores_that_do_not_rise_are_uncalibrated_and_have_neither_rmse_nor_bias(tmp_path, monkeypatch, sign):
    data = tiny.database(60)
    original = Fit._score

    def turn(self, database, split, options):
        _, truth = original(self, database, split, options)
        return 0.5 + sign * truth, truth

    monkeypatch.setattr(Fit, "_score", turn)
    train(tiny.PARAMS.model_copy(update=BLIND | {"epochs": 1}), data, tmp_path)
    model = load_model(tmp_path, "cpu")
    assert str(model.scale) == f"no scale: higher is better, but the values are uncalibrated ({UNCALIBRATED})"
    predictions = score(model, data)
    found = evaluate(predictions, resamples=20, uncalibrated=model.scale.uncalibrated)
    assert [found[key] for key in ("rmse", "rmse_low", "bias", "bias_high")] == [None] * 4
    assert isinstance(found["srcc"], float) and isinstance(found["krcc_low"], float)
    parts = breakdown(predictions.assign(distortion=["a", "b"] * 7 + ["a"]), 20, uncalibrated=model.scale.uncalibrated)
    assert parts["bias"].isna().all()


def test_a_file_of_an_older_version_has_its_scores_as_they_are(trained, tmp_path):
    saved = torch.load(trained[1] / "best.pt", weights_only=True)
    del saved["calibration"]
    torch.save(saved, tmp_path / "best.pt")
    assert load_model(tmp_path, "cpu").scale.calibration == (0.0, 1.0)
