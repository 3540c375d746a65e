"""One training on several databases: each on its own scale, compared with itself alone, and measured by itself."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from iqa.model.predictor import load_model
from iqa.study.params import ParameterError
from iqa.training import losses
from iqa.training.batches import EpochOrder, join, parts, train_loader
from iqa.training.fit import Fit
from iqa.training.params import TrainParams
from iqa.training.train import train

BOTH = tiny.PARAMS.model_copy(update={"with_databases": ["small"], "epochs": 2, "rank_weight": 0.5})


@pytest.fixture(scope="module")
def large():
    return tiny.database(40)


@pytest.fixture(scope="module")
def small():
    return tiny.other()


@pytest.fixture(scope="module")
def fitted(large, small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("both")
    return folder, train(BOTH, large, folder, others=[small])


def test_joined_databases_keep_pixels_and_splits_and_have_scores_on_the_scale_of_each(large, small):
    both = join([large, small])
    assert join([large]) is large and len(parts(large)) == 1
    assert [len(part) for part in parts(both)] == [40, 24] and len(both) == 64
    for database, rows in zip((large, small), parts(both), strict=True):
        table = both.table.iloc[rows].reset_index(drop=True)
        np.testing.assert_array_equal(table["mos"], database.normalise(database.table["mos"]))
        assert table["split"].tolist() == database.table["split"].tolist()
        assert table["image"].tolist() == [f"{database.name}/{name}" for name in database.table["image"]]
        for place in (0, len(rows) - 1):
            assert np.array_equal(both.pixels(rows[place], "mscn"), database.pixels(place, "mscn"))


def test_patches_of_each_database_are_in_the_batches_as_often_as_it_has_images_or_equally_often(large, small):
    both = join([large, small])
    counts = {}
    for mix in ("proportional", "equal"):
        images = [i for _, _, of in train_loader(both, BOTH.model_copy(update={"mix": mix})) for i in of.tolist()]
        counts[mix] = [np.isin(images, part).sum() for part in parts(both)]
        assert set(images) == set(both.indices("train"))
    assert counts == {"proportional": [20, 12], "equal": [20, 20]}
    items = list(EpochOrder([np.arange(5), np.array([7, 8])], patches=2, seed=1))
    assert len(set(items)) == len(items) == 20  # of images that come more often, other patches
    assert sum(image > 4 for _, image, _ in items) == 10


def test_no_term_of_the_loss_compares_images_of_two_databases(large, small, tmp_path):
    module = Fit(torch.nn.Linear(1, 1), [large, small], BOTH.model_copy(update={"loss": "l1 + plcc"}), tmp_path, {})
    prediction, target = torch.rand(2, 10, generator=torch.Generator().manual_seed(0))
    part = torch.tensor([0, 1, 0, 0, 1, 0, 0, 1, 0, 0])
    terms = module._losses(prediction, target, part)
    alone = [
        losses.total(prediction[part == n], target[part == n], module.params.terms(), vars(module.params))
        for n in (0, 1)
    ]
    for name in ("l1", "plcc", "ranking", "total"):
        assert terms[name].item() == pytest.approx(0.7 * alone[0][name].item() + 0.3 * alone[1][name].item())
    assert terms["l1"].item() == pytest.approx((prediction - target).abs().mean().item())
    assert [terms["tiny"], terms["small"]] == [of_one["total"] for of_one in alone]
    assert module._losses(prediction, target, part * 0).keys() == terms.keys()


def test_the_history_holds_losses_and_agreement_of_each_database_and_their_means(fitted):
    folder, history = fitted
    for key in ("val_loss", "val_srcc", "val_plcc"):
        np.testing.assert_allclose(history[key], (history[f"{key}_tiny"] + history[f"{key}_small"]) / 2)
    expected = (20 * history["train_loss_tiny"] + 12 * history["train_loss_small"]) / 32
    np.testing.assert_allclose(history["train_loss"], expected, rtol=1e-5)
    log = (folder / "train.log").read_text()
    assert "on 'tiny' (20 in train, 10 in val) and 'small' (12 in train, 6 in val)" in log
    assert "val_srcc_small" in pd.read_csv(folder / "history.csv")


def test_the_model_has_the_scale_of_the_first_database(fitted):
    model = load_model(fitted[0])
    scale = model.scale
    assert model.trained_on == "Tiny and Small"
    assert (scale.of, scale.low, scale.high, scale.higher_is_better) == ("Tiny", 0.0, 100.0, True)


def test_a_stopped_training_on_several_databases_goes_on_to_the_same_end(large, small, fitted, tmp_path):
    def stop(history):
        if len(history) == 2:
            raise KeyError("enough")

    params, folders = BOTH.model_copy(update={"epochs": 3, "mix": "equal"}), (tmp_path / "stopped", tmp_path / "whole")
    for folder in folders:
        folder.mkdir()
    with pytest.raises(KeyError, match="enough"):
        train(params, large, folders[0], after_epoch=stop, others=[small])
    one, other = (train(params, large, folder, others=[small]) for folder in folders)
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), other.drop(columns="seconds"), check_exact=True)


def test_a_loss_without_scale_is_calibrated_on_the_first_database(large, small, tmp_path):
    params = BOTH.model_copy(update={"loss": "plcc", "rank_weight": 0.0, "epochs": 1, "select_on": "test_srcc"})
    history = train(params, large, tmp_path, others=[small])
    assert load_model(tmp_path).scale.of == "Tiny" and "test_srcc" in history


def test_another_further_database_is_another_training(large, small, tmp_path):
    params = BOTH.model_copy(update={"epochs": 1})
    train(params, large, tmp_path, others=[small])
    changed = replace(small, fingerprint="other images")
    train(params, large, tmp_path, others=[changed])
    assert "training anew: reads data_prep/small: its contents differ" in (tmp_path / "train.log").read_text()


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"with_databases": ["demo"]}, r"lists others than 'database' \(demo\), each once"),
        ({"with_databases": ["a", "a"]}, "each once"),
        ({"with_databases": ["l1"]}, "'l1' names a column of the history; rename the database"),
    ],
)
def test_databases_that_cannot_be_told_apart_are_refused(values, match):
    with pytest.raises(ParameterError, match=match):
        TrainParams.build(tiny.NEEDED["train"] | values, "file")


def test_a_further_database_without_validation_images_is_refused(large, small, tmp_path):
    table = small.table.assign(split=small.table["split"].replace("val", "test"))
    with pytest.raises(ValueError, match="'small' has no images in split 'val'"):
        train(BOTH, large, tmp_path, others=[replace(small, table=table)])
