"""Whether generated weights matter: what changes when an image is scored with the weights of others."""

import doctest
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from notebook_section import run_section

from iqa.analysis import content, gathering
from iqa.analysis.params import AnalysisParams
from iqa.data.sizes import Size
from iqa.metrics.coefficients import srcc
from iqa.model.heads import target_network
from iqa.model.hyperiqa import HyperIQA, look_inside
from iqa.model.predictor import Predictor, Scale
from iqa.model.scoring import to_pixels
from iqa.show import analysis, tables

OPTIONS = {"resamples": 400, "confidence": 0.95, "seed": 0}


def predictor(crops="grid", patches=3, **changes):
    torch.manual_seed(0)
    params = tiny.PARAMS.model_copy(update={"test_crops": crops, "test_patches": patches} | changes)
    data = tiny.database(sizes=((72, 96), (64, 64)))
    scale = Scale(0, 100, True, "Tiny")
    network = HyperIQA(params.architecture()).eval()
    return Predictor(network, "tiny", params.input, params.crop, Size(), scale, params.scoring()), data


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(content).failed == 0


@pytest.mark.parametrize("count", [2, 3, 50])
def test_each_image_takes_another_one_and_each_is_taken_once(count):
    for partners in content.derange(count, draws=20, seed=1):
        assert sorted(partners) == list(range(count)) and (partners != np.arange(count)).all()


def test_a_single_image_has_no_other():
    with pytest.raises(ValueError, match="1 image has no other one"):
        content.derange(1, draws=1, seed=0)


def test_layers_are_read_as_they_were_generated():
    model, _ = predictor()
    inside = look_inside(model.network, to_pixels([np.full((64, 64, 3), value, np.uint8) for value in (40, 200)]))
    layers = content.read_layers(inside.generated, [*model.network.params.target_widths, 1])
    for found, made in zip(layers, inside.layers, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(found, made, strict=True))


@pytest.mark.parametrize("changes", [{}, {"calibration": (0.2, 0.5)}])
@pytest.mark.parametrize("crops", ["grid", "whole"])
def test_an_images_own_weights_give_its_own_score_and_others_another(crops, changes):
    model, data = predictor(crops)
    model.options.update(changes)
    gathered = gathering.gather(model, data)
    scores = content.swap_weights(model, data, gathered.weights.mean(axis=0), draws=2, seed=0)
    assert list(scores) == ["own", "mean", "shuffled 1", "shuffled 2"]
    np.testing.assert_allclose(scores["own"], gathered.table["prediction"], atol=1e-3)
    assert (scores.drop(columns="own").sub(scores["own"], axis=0).abs() > 1e-4).all().all()


def test_a_patch_takes_the_weights_of_the_patch_with_the_same_number():
    model, data = predictor(patches=2)
    indices = data.indices("test")
    other = content.derange(len(indices), 1, seed=0)[0]
    scores = content.swap_weights(model, data, np.zeros(_weights(model), np.float32), draws=1, seed=0)
    pair = [data.pixels(indices[number], "mscn") for number in (0, other[0])]
    corners = [content.patch_positions(image, 64, "grid", patches=2, seed=1)[0] for image in pair]
    found = []
    for patch in range(len(corners[0])):
        places = [part[patch % len(part)] for part in corners]
        cut = [image[top : top + 64, left : left + 64] for image, (top, left) in zip(pair, places, strict=True)]
        own, lent = (look_inside(model.network, to_pixels([window])) for window in cut)
        found.append(float(target_network(own.local, lent.layers)))
    assert len(corners[0]) > len(corners[1])  # so that numbers begin anew
    assert scores["shuffled 1"][0] == pytest.approx(100 * np.mean(found), abs=1e-3)


def _weights(model):
    widths = [*model.network.params.target_widths, 1]
    return sum(a * b + b for a, b in pairwise(widths))


@pytest.mark.parametrize(
    ("noise", "verdict"), [(0.0, "not distinguishable"), (0.02, "not distinguishable"), (1.0, "worse")]
)
def test_other_weights_matter_if_the_srcc_falls_beyond_the_noise_of_the_images(noise, verdict):
    rng = np.random.default_rng(0)
    mos, spread = rng.random((2, 150))
    own = mos + 0.3 * spread
    scores = {"own": own, "mean": own + noise * rng.random(150) ** 4}
    scores |= {f"shuffled {draw}": own + noise * rng.random(150) for draw in (1, 2, 3)}
    frame = pd.DataFrame(scores)
    first, shuffled, mean = content.compare(frame, mos, np.arange(150) // 2, **OPTIONS)
    assert first["srcc"] == srcc(own, mos) and "d_srcc" not in first
    assert (first["weights"], shuffled["weights"], mean["weights"]) == ("own", "shuffled", "mean")
    assert shuffled["draws"] == 3 and shuffled["verdict"] == verdict
    expected = np.mean([srcc(scores[f"shuffled {draw}"], mos) for draw in (1, 2, 3)])
    assert shuffled["d_srcc"] == pytest.approx(expected - first["srcc"])
    assert shuffled["d_srcc_low"] <= shuffled["d_srcc"] <= shuffled["d_srcc_high"]


def test_scores_that_the_weights_decide_agree_with_the_mos_of_those_who_lent_them():
    mos, contents = np.random.default_rng(0).random(150), np.arange(150) // 2
    lent = {f"shuffled {draw}": mos[other] for draw, other in enumerate(content.derange(150, 2, seed=0), 1)}
    decided = content.compare(pd.DataFrame({"own": mos, "mean": 0 * mos} | lent), mos, contents, **OPTIONS)[1]
    assert decided["lender_srcc"] == pytest.approx(1) and decided["srcc_high"] < 0.5 < decided["lender_srcc_low"]
    ignored = content.compare(pd.DataFrame(dict.fromkeys(["own", "mean", *lent], mos)), mos, contents, **OPTIONS)[1]
    assert ignored["srcc"] == pytest.approx(1) and ignored["lender_srcc_high"] < 0.5


@pytest.fixture(scope="module")
def table():
    """What the cells of `06_analysis` find of a model with a hyper network and of one without."""
    models, data = {name: predictor(head=name)[0] for name in ("hyper", "static")}, predictor()[1]
    gathered = {name: gathering.gather(model, data) for name, model in models.items()}
    names = {"models": models, "gathered": gathered, "data": data, "options": OPTIONS}
    names |= {"made": {"hyper": 1, "static": 0}, "params": AnalysisParams(database="demo", draws=2)}
    return run_section("06_analysis.ipynb", "Weights of other images", **names)["swapped"]


def test_a_head_without_a_hyper_network_has_a_reason_in_place_of_numbers(table):
    without, *others = table.to_dict("records")
    assert without["model"] == "static" and without["reason"] == "all images are given the same weights"
    assert [row["weights"] for row in others] == ["own", "shuffled", "mean"] and list(table) == content.COLUMNS
    shown = tables.rounded(analysis.content_table(table))
    assert list(shown["Verdict"])[:2] == ["not available: all images are given the same weights", tables.DASH]
    assert list(shown["Weights"]) == [tables.DASH, "its own", "of another image", "mean of all images"]


def test_the_figure_has_a_mark_for_each_kind_of_weights(table):
    figure = analysis.content(table)
    assert len(figure.axes[0].containers) == 3 and len(figure.legends[0].get_texts()) == 3
    empty = analysis.content(table[table["srcc"].isna()])
    assert "generates weights" in empty.texts[0].get_text()
