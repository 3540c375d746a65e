"""Fitting: what decides it, what it leaves behind, and how it goes on."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from iqa import training
from iqa.inference import predict
from iqa.prediction import load_model
from iqa.training import EpochOrder, Patches, best_epoch, fit, fit_key, train_loader


@pytest.fixture(scope="module")
def data():
    return tiny.database()


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    return folder, fit(tiny.PARAMS, data, folder)


def epochs_trained(monkeypatch) -> list[int]:
    seen = []
    original = training.Fit.on_train_epoch_end

    def note(self):
        seen.append(self.current_epoch + 1)
        original(self)

    monkeypatch.setattr(training.Fit, "on_train_epoch_end", note)
    return seen


def weights(folder):
    return torch.load(folder / "best.pt", weights_only=True)["state_dict"]


def test_a_fit_leaves_history_best_model_and_last_state(fitted):
    folder, history = fitted
    assert list(history["epoch"]) == [1, 2, 3]
    assert np.isfinite(history.to_numpy(dtype=float)).all()
    pd.testing.assert_frame_equal(pd.read_csv(folder / "history.csv"), history, check_exact=False)
    assert {"best.pt", "last.ckpt", "fit.json", "history.csv"} <= {file.name for file in folder.iterdir()}


def test_the_best_epoch_is_the_one_that_was_kept(fitted):
    folder, history = fitted
    saved = torch.load(folder / "best.pt", weights_only=True)
    assert saved["history_row"]["epoch"] == best_epoch(history, "val_srcc")


@pytest.mark.parametrize(("column", "expected"), [("val_srcc", 2), ("val_loss", 3)])
def test_the_first_of_equally_good_epochs_is_the_best(column, expected):
    history = pd.DataFrame({"epoch": [1, 2, 3, 4], "val_srcc": [0.1, 0.5, 0.5, 0.2], "val_loss": [3.0, 2.0, 1.0, 1.0]})
    assert best_epoch(history, column) == expected


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(data, fitted, tmp_path):
    folder, history = fitted
    (tmp_path / "again").mkdir()
    (tmp_path / "other").mkdir()
    again = fit(tiny.PARAMS, data, tmp_path / "again")
    fit(tiny.PARAMS.model_copy(update={"seed": 2}), data, tmp_path / "other")
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), history.drop(columns="seconds"), check_exact=True)
    assert all(
        torch.equal(a, b) for a, b in zip(weights(folder).values(), weights(tmp_path / "again").values(), strict=True)
    )
    assert not all(
        torch.equal(a, b) for a, b in zip(weights(folder).values(), weights(tmp_path / "other").values(), strict=True)
    )


@pytest.mark.slow
def test_loader_workers_change_nothing(data, fitted, tmp_path):
    history = fit(tiny.PARAMS.model_copy(update={"workers": 2}), data, tmp_path)
    pd.testing.assert_frame_equal(history.drop(columns="seconds"), fitted[1].drop(columns="seconds"), check_exact=True)


def test_a_fit_that_was_stopped_goes_on_to_the_same_end(data, fitted, tmp_path, monkeypatch):
    params = tiny.PARAMS.model_copy(update={"dropout": 0.3})
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole = fit(params, data, tmp_path / "whole")

    original = training.Fit.on_train_epoch_start

    def stop(self):
        if self.current_epoch == 2:
            raise RuntimeError("power failure")
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(training.Fit, "on_train_epoch_start", stop)
        with pytest.raises(RuntimeError, match="power failure"):
            fit(params, data, tmp_path / "broken")
    seen = epochs_trained(monkeypatch)
    resumed = fit(params, data, tmp_path / "broken")
    assert seen == [3]
    pd.testing.assert_frame_equal(resumed.drop(columns="seconds"), whole.drop(columns="seconds"), check_exact=True)
    pairs = zip(weights(tmp_path / "whole").values(), weights(tmp_path / "broken").values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_finished_fit_is_not_repeated_unless_something_changed(data, tmp_path, monkeypatch):
    params = tiny.PARAMS.model_copy(update={"epochs": 1})
    fit(params, data, tmp_path)
    seen = epochs_trained(monkeypatch)
    first = fit(params, data, tmp_path)
    assert seen == [] and len(first) == 1
    fit(params.model_copy(update={"rank_weight": 0.0}), data, tmp_path)
    assert seen == [1]


def test_other_weights_in_the_same_file_are_another_fit(data, tmp_path):
    file = tmp_path / "weights.pth"
    params = tiny.PARAMS.model_copy(update={"weights": str(file)})
    keys = set()
    for content in (b"one", b"two"):
        file.write_bytes(content)
        keys.add(fit_key(params, data))
    assert len(keys) == 2


def test_a_database_without_validation_images_cannot_be_trained_on(tmp_path):
    data = tiny.database()
    data.table.loc[data.table["split"] == "val", "split"] = "test"
    with pytest.raises(ValueError, match="'tiny' has no images in split 'val'"):
        fit(tiny.PARAMS, data, tmp_path)


def test_a_broken_loss_stops_with_its_epoch(data, tmp_path):
    params = tiny.PARAMS.model_copy(update={"lr": 1e30, "clip": 0.0, "schedule": "constant"})
    with pytest.raises(FloatingPointError, match="epoch"):
        fit(params, data, tmp_path)
    assert "history" not in json.loads((tmp_path / "fit.json").read_text())


def test_frozen_normalisations_keep_their_statistics(data, tmp_path):
    fit(tiny.PARAMS.model_copy(update={"epochs": 1, "freeze_batch_norm": True}), data, tmp_path)
    means = [value for name, value in weights(tmp_path).items() if name.endswith("running_mean")]
    assert means and all(torch.equal(value, torch.zeros_like(value)) for value in means)


def test_patience_ends_a_fit_early(data, tmp_path):
    params = tiny.PARAMS.model_copy(update={"epochs": 12, "patience": 1, "lr": 0.0, "schedule": "constant"})
    assert len(fit(params, data, tmp_path)) < 12


def test_every_patch_comes_once_per_epoch_in_an_order_of_its_own():
    order = EpochOrder(np.array([3, 5, 9]), patches=2, seed=1)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    assert sorted(first) == [(0, i, p) for i in (3, 5, 9) for p in (0, 1)]
    assert sorted(item[1:] for item in second) == sorted(item[1:] for item in first)
    assert [item[1:] for item in second] != [item[1:] for item in first]


def test_a_patch_does_not_depend_on_its_batch(data):
    patches = Patches(data, tiny.PARAMS)
    items = [(0, 1, 0), (0, 2, 0), (1, 1, 0)]
    together, targets = patches.__getitems__(items)
    alone = [patches.__getitems__([item]) for item in items]
    assert together.shape == (3, 3, 64, 64) and together.dtype == torch.uint8
    assert torch.equal(together, torch.cat([pixels for pixels, _ in alone]))
    assert torch.equal(targets, torch.cat([target for _, target in alone]))
    assert not torch.equal(together[0], together[2])


def test_batches_hold_the_training_split_alone(data):
    targets = torch.cat([target for _, target in train_loader(data, tiny.PARAMS)])
    expected = data.normalise(data.table["mos"].to_numpy()[data.indices("train")])
    assert np.allclose(np.sort(targets.numpy()), np.sort(expected))


def test_it_learns_and_predicts_on_the_databases_own_scale(tmp_path):
    low_is_good = tiny.database(80, low=1.0, high=5.0, up=False)
    params = tiny.PARAMS.model_copy(update={"epochs": 15, "lr": 5e-3})
    fit(params, low_is_good, tmp_path)
    model = load_model(tmp_path / "best.pt")
    predictions = predict(model.network, low_is_good, low_is_good.indices("test"), **model.options)
    assert predictions["prediction"].corr(predictions["mos"], method="spearman") > 0.8
    assert abs(predictions["prediction"].mean() - predictions["mos"].mean()) < 1.5
