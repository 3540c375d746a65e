"""Scoring: the same image gets the same score in any company."""

import numpy as np
import pytest
import tiny
import torch

from iqa.data.crops import CROPS
from iqa.model.hyperiqa import HyperIQA
from iqa.model.scoring import predict, score

OPTIONS = {"input": "mscn", "crops": "whole", "patches": 3, "crop": 64, "batch_size": 8}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return HyperIQA(tiny.PARAMS.architecture()).eval()


@pytest.fixture(scope="module")
def data():
    return tiny.database(12, sizes=((72, 96), (80, 64), (72, 96)))


@pytest.mark.parametrize("crops", CROPS)
def test_scores_do_not_depend_on_batch_order_or_neighbours(model, data, crops):
    options = OPTIONS | {"crops": crops}
    indices = np.arange(12)
    scores = score(model, data, indices, **options)
    assert np.allclose(scores, score(model, data, indices, **options | {"batch_size": 1}), atol=1e-5)
    assert np.allclose(scores[::-1], score(model, data, indices[::-1], **options), atol=1e-5)
    assert np.allclose(scores[3:5], score(model, data, indices[3:5], **options), atol=1e-5)


def test_a_score_is_the_mean_over_the_patches(model, data):
    image = torch.from_numpy(np.array(data.pixels(0, "mscn"))).permute(2, 0, 1)[None]
    corners = [image[..., top : top + 64, left : left + 64] for top in (0, 8) for left in (0, 32)]
    with torch.no_grad():
        expected = np.mean([model(corner).item() for corner in corners])
    assert score(model, data, np.array([0]), **OPTIONS | {"crops": "grid", "patches": 4})[0] == pytest.approx(
        expected, abs=1e-6
    )


def test_random_crops_follow_the_seed(model, data):
    options = OPTIONS | {"crops": "random"}
    indices = np.arange(12)
    first = score(model, data, indices, **options, seed=1)
    assert np.array_equal(first, score(model, data, indices, **options, seed=1))
    assert not np.allclose(first, score(model, data, indices, **options, seed=2))


def test_a_lower_precision_is_followed_and_changes_scores_a_little(model, data):
    exact, lower = (score(model, data, np.arange(4), **OPTIONS, precision=kind) for kind in ("32-true", "bf16-mixed"))
    assert not np.array_equal(exact, lower) and np.allclose(exact, lower, rtol=0.05, atol=0.05)


def test_scoring_leaves_the_mode_of_the_model_as_it_was(model, data):
    model.train()
    score(model, data, np.arange(2), **OPTIONS)
    assert model.training
    model.eval()


def test_predictions_keep_the_databases_rows(model, data):
    predictions = predict(model, data, data.indices("test"), **OPTIONS)
    assert list(predictions["image"]) == list(data.table["image"].iloc[data.indices("test")])
    assert {"mos", "reference", "distortion", "level", "prediction"} <= set(predictions)
