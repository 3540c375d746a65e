"""What the interactive notebook computes, and that its widgets show it, without a browser."""

import json
import re
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from icc import P3, profile
from PIL import Image

from iqa.analysis import evaluation
from iqa.app import playground, widgets
from iqa.app.widgets import Gallery, Playground, Trainer
from iqa.data import synthetic
from iqa.data.pixels import Size
from iqa.metrics.verdicts import OPEN
from iqa.model.hyperiqa import HyperIQA
from iqa.model.predictor import Predictor, Scale, Unreadable
from iqa.study import paths
from iqa.study.results import RunFolder
from iqa.training.train import train

BLUR = [("gaussian_blur", 3.0)]


def predictor(fusion="concat", low=0.0, high=100.0, higher_is_better=True) -> Predictor:
    torch.manual_seed(0)
    params = tiny.PARAMS.architecture().model_copy(update={"fusion": fusion, "attention_width": 8})
    scale = Scale(low, high, higher_is_better, "Tiny")
    rule = {"crops": "grid", "patches": 6, "seed": 0}
    return Predictor(HyperIQA(params).eval(), "toy/tiny", "mscn", 64, Size(), scale, rule)


@pytest.fixture(scope="module")
def photo():
    return playground.photograph("chelsea").image


def test_level_0_is_no_distortion_and_the_noise_does_not_change_from_call_to_call(photo):
    assert playground.distort(photo, [(name, 0.0) for name in playground.DISTORTIONS]) is photo
    noisy = [np.asarray(playground.distort(photo, [("gaussian_noise", 2.5)])) for _ in range(2)]
    assert (noisy[0] == noisy[1]).all() and (noisy[0] != np.asarray(photo)).any()


@pytest.mark.parametrize("name", playground.DISTORTIONS)
def test_a_higher_level_is_further_from_the_undistorted_image(photo, name):
    reference = synthetic.haar_features(np.asarray(photo))
    images = [playground.distort(photo, [(name, level)]) for level in (1.0, 2.5, 5.0)]
    similar = [synthetic.haarpsi(reference, synthetic.haar_features(np.asarray(image))) for image in images]
    assert similar[0] > similar[1] > similar[2]


def test_each_score_of_a_synthetic_model_is_labelled(photo):
    models = {"real": predictor(), "made up": replace(predictor(), synthetic=True)}
    scores = {name: playground.assess(model, photo, with_map=False) for name, model in models.items()}
    _, real, made_up = playground.numbers({name: (score, score) for name, score in scores.items()}).split("<tr>")[-3:]
    assert "synthetic</span>" not in real and "<b>made up</b>" in made_up and "synthetic</span>" in made_up


def test_distortions_are_applied_one_after_the_other(photo):
    both = [("gaussian_blur", 4.0), ("gaussian_noise", 3.0)]
    one, other = (np.asarray(playground.distort(photo, steps), float) for steps in (both, both[::-1]))
    assert one.std() > other.std()  # a blur after the noise removes it


def test_a_distorted_image_keeps_its_colour_profile(photo):
    in_p3 = photo.copy()
    in_p3.info["icc_profile"] = profile(P3)
    assert playground.distort(in_p3, BLUR).info["icc_profile"] == profile(P3)


@pytest.mark.parametrize("crops", ["grid", "random", "center", "whole"])
def test_the_score_is_that_of_the_predictor_to_the_bit(photo, crops):
    model = predictor()
    how = {"crops": crops} | ({"patches": 6} if crops in ("grid", "random") else {})
    found = playground.assess(model, photo, **how)
    assert found.score == model.score(photo, **how)
    assert found.patches.spread == found.patches.scores.std()
    assert (found.patches.spread == 0) == (crops in ("center", "whole"))
    assert found.local.per_pixel().shape == (photo.height, photo.width)


def test_attention_weights_are_those_of_a_fusion_that_has_them(photo):
    weights = playground.assess(predictor("attention"), photo).scale_weights
    assert weights.shape == (4,) and weights.sum() == pytest.approx(1) and (weights > 0).all()
    assert playground.assess(predictor("concat"), photo).scale_weights is None
    assert playground.weight_bars(weights).count("title=") == 4


@pytest.mark.parametrize(("height", "width"), [(96, 96), (192, 256), (512, 384), (2000, 3000)])
def test_the_crops_of_a_map_cover_the_image_and_are_few_where_that_can_be(height, width):
    crop = 96
    stride = playground.map_stride(crop, height, width)
    count = np.prod([-(-(length - crop) // stride) + 1 for length in (height, width)])
    assert 1 <= stride <= crop and (count <= playground.MAP_CROPS or stride == crop)


def test_a_map_is_bright_where_quality_is_good_whatever_the_direction_of_the_scale(photo):
    mean = {}
    for up in (True, False):
        found = playground.assess(predictor(higher_is_better=up), photo)
        picture = playground.map_picture(found.local, found.scale, stretch=True)
        assert picture.shape == (photo.height, photo.width, 3) and picture.dtype == np.uint8
        mean[up] = picture.astype(float)
        low, high = playground.map_limits(found.local, found.scale, stretch=True)
        assert 0 <= low < high <= 100 or high - low >= 9
    assert np.abs(mean[True] - mean[False]).mean() < 2  # the same qualities in the same colours
    assert playground.map_limits(found.local, found.scale, stretch=False) == (0, 100)


def test_what_is_no_image_is_told_with_the_remedy(tmp_path):
    with pytest.raises(Unreadable, match=r"nothing\.png: there is no such file; give the path"):
        playground.of_file(tmp_path / "nothing.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(Unreadable, match=r"text\.png: this is no image that can be decoded; save it as PNG"):
        playground.of_file(tmp_path / "text.png")
    with pytest.raises(Unreadable, match=r"^dropped\.jpg: this is no image"):
        playground.of_upload("dropped.jpg", b"hello")


def test_a_large_image_of_ones_own_is_shrunk_and_says_so(tmp_path):
    Image.new("RGB", (1000, 500)).save(tmp_path / "large.png")
    found = playground.of_file(tmp_path / "large.png", longest=200)
    assert found.image.size == (200, 100) and found.about == "1000x500 pixels, shrunk to 200x100"
    assert playground.of_file(tmp_path / "large.png").image.size == (1000, 500)


def test_predictions_are_sorted_by_their_error():
    table = pd.DataFrame({"image": list("abc"), "prediction": [10.0, 50.0, 90.0], "mos": [12.0, 20.0, 95.0]})
    assert list(playground.by_error(table, "largest error first")["image"]) == ["b", "c", "a"]
    assert list(playground.by_error(table, "smallest error first")["image"]) == ["a", "c", "b"]
    assert list(playground.by_error(table, "rated too high first")["image"]) == ["b", "a", "c"]
    assert list(playground.by_error(table, "rated too high first", higher_is_better=False)["image"]) == ["c", "a", "b"]
    assert list(playground.by_error(table, "largest error first")["error"]) == [30, -5, -2]


def test_trainings_are_compared_on_the_same_images_with_an_interval():
    rng, data = np.random.default_rng(0), tiny.database()
    mos = rng.uniform(0, 100, 120)
    table = pd.DataFrame({"image": [f"{n}.png" for n in range(120)], "mos": mos, "reference": np.arange(120) // 4})
    good, bad = (table.assign(prediction=mos + rng.normal(0, noise, 120)) for noise in (5, 80))
    compared = playground.compare({"bad": bad, "again": good, "good": good}, data)
    assert (compared["srcc_low"] <= compared["srcc"]).all() and (compared["srcc"] <= compared["srcc_high"]).all()
    assert list(compared["verdict"]) == ["worse", OPEN, "reference"]
    shown = playground.comparison_table(compared)
    assert "<td>bad</td>" in shown and "not distinguishable" in shown and data.title in shown
    assert list(playground.compare({"good": good}, data)["verdict"]) == ["reference"]


# --- widgets ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Results with one finished tiny run of the study `demo`."""
    root = tmp_path_factory.mktemp("results")
    before, paths.RESULTS = paths.RESULTS, root
    data = tiny.database()
    params = tiny.PARAMS.model_copy(update={"run": "main_s1", "epochs": 2})
    out = RunFolder(params)
    train(params, data, out.path)
    table = evaluation.score(widgets.cached_model(out.path / "best.pt"), data)
    out.save_table("predictions", table)
    out.save_json("metrics", {"database": "demo"})
    out.finish()
    paths.RESULTS = before
    return SimpleNamespace(root=root, data=data)


@pytest.fixture
def lab(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", trained.root)
    for index in range(len(trained.data)):
        Image.fromarray(trained.data.pixels(index, "mscn")).save(tmp_path / trained.data.table["image"].iloc[index])
    trained.data.folder = tmp_path
    monkeypatch.setattr(widgets, "cached_database", lambda study, name: trained.data)
    return Playground("demo", "demo/main_s1")


def score(lab) -> str:
    return re.search(r"font-size: 18px\">([-.0-9]+)<", lab.numbers.value)[1]


def test_a_moved_slider_changes_score_and_pictures(lab):
    assert lab.message.value == ""
    lab.stretch.value = True  # the tiny model leaves the scale
    before = score(lab), lab.now.image.value, lab.maps[0].image.value
    lab.distortions[0][1].value = 5.0
    after = score(lab), lab.now.image.value, lab.maps[0].image.value
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert "gaussian_blur 5.0" in lab.now.caption.value
    lab.distortions[0][1].value = 0.0
    assert "no distortion" in lab.now.caption.value and "+0<" in lab.numbers.value


def test_two_models_are_shown_beside_each_other(lab):
    assert lab.maps[1].layout.display == "none"
    lab.other.label = "demo/main_s1"
    lab.with_map.value = False
    assert lab.maps[0].layout.display == "none" and lab.before.layout.display == ""
    lab.with_map.value = True
    assert "demo/main_s1" in lab.numbers.value


def test_mistakes_are_told_in_the_page_and_the_widgets_go_on_working(lab, tmp_path):
    lab.source.value = "file"
    lab.path.value = str(tmp_path / "nothing.png")
    assert "there is no such file" in lab.message.value
    lab.path.value = str(tmp_path / "0.png")
    assert lab.message.value == "" and "0.png" in lab.before.caption.value
    (tmp_path / "bad.pt").write_text("no model")
    lab.checkpoint.value = str(tmp_path / "bad.pt")
    assert "bad.pt" in lab.message.value and "fetch it again" in lab.message.value
    before = score(lab)
    lab.distortions[0][1].value = 4.0
    assert lab.message.value == "" and score(lab) != before


def test_an_image_of_a_database_is_chosen_with_what_is_known_of_it(lab):
    lab.source.value = "database"
    assert "nothing is chosen yet" in lab.message.value
    lab.database.value = "demo"
    assert lab.message.value == ""
    assert len(lab.image.options) == 10  # the test split, worst first
    assert re.search(r"MOS .*, noise", lab.before.caption.value)


def test_without_a_trained_model_the_page_names_the_command(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    empty = Playground("demo", "demo/main_s1")
    assert "iqa run demo/train/main_s1" in empty.message.value
    assert "no model is trained yet" in Gallery(empty, "demo").message.value


def test_the_gallery_shows_the_largest_errors_first_and_hands_an_image_over(lab):
    gallery = Gallery(lab, "demo")
    assert gallery.message.value == "" and "images 1 to 10 of 10" in gallery.title.value
    errors = [float(re.search(r"<b>([-+.0-9]+)</b>", slot.caption.value)[1]) for slot in gallery.slots[:10]]
    assert [abs(error) for error in errors] == sorted(map(abs, errors), reverse=True)
    assert gallery.slots[10].layout.display == "none"
    gallery._look(0)
    assert lab.source.value == "database" and gallery.sorted["image"].iloc[0] in lab.before.caption.value
    assert "no distortion" in lab.now.caption.value
    assert not lab.crops.value  # as the run scores its test images


def test_a_database_without_saved_predictions_can_be_scored_now(lab):
    gallery = Gallery(lab, "demo_photos")
    assert "no saved predictions of demo/main_s1 on &#x27;demo_photos&#x27;" in gallery.message.value
    assert gallery.score.layout.display == ""
    gallery.score.click()
    assert "images 1 to 10 of 10" in gallery.title.value and gallery.score.layout.display == "none"


@pytest.fixture
def trainer(lab, monkeypatch):
    monkeypatch.setattr(widgets.param_files, "load", lambda *_: tiny.PARAMS.model_copy(update={"run": "main_s1"}))
    return Trainer(lab, "main_s1", "playground", epochs=2)


def test_a_wrong_training_value_is_told_and_nothing_is_trained(trainer):
    trainer.entries["loss"].value = "l7"
    trainer.entries["batch_size"].value = 0
    trainer.train.click()
    assert "key &#x27;loss&#x27;" in trainer.message.value and "key &#x27;batch_size&#x27;" in trainer.message.value
    assert trainer.thread is None and not trainer.train.disabled


def test_a_training_shows_its_curves_and_is_compared_with_the_saved_run(trainer, trained):
    before = (trained.root / "demo/train/main_s1/record.json").read_bytes()
    trainer.train.click()
    trainer.thread.join(timeout=120)
    assert trainer.message.value == "" and trainer.status.value.startswith("done")
    assert bytes(trainer.curves.value).startswith(b"\x89PNG") and trainer.progress.value == 2
    assert "this training, 2 epochs" in trainer.result.value and "main_s1, saved" in trainer.result.value
    assert "not distinguishable" in trainer.result.value  # the same parameters and seed
    folder = trained.root / "demo/train/playground"
    assert json.loads((folder / "metrics.json").read_text())["n"] == 10 and (folder / "record.json").is_file()
    assert "demo/playground" in [name for name, _ in trainer.lab.model.options]
    assert (trained.root / "demo/train/main_s1/record.json").read_bytes() == before


def test_a_saved_run_that_was_tested_on_other_images_is_not_compared(trainer, trained, monkeypatch):
    table = pd.read_csv(trained.root / "demo/train/main_s1/predictions.csv")
    monkeypatch.setattr(widgets, "cached_model", lambda _: None)
    monkeypatch.setattr(widgets.evaluation, "score", lambda *_: table[::-1])
    out = RunFolder(trainer.start.model_copy(update={"run": "other"}))
    trainer._compare(out, trained.data, pd.DataFrame({"epoch": [1]}))
    assert "main_s1 was tested on other images" in trainer.result.value and "main_s1, saved" not in trainer.result.value


def test_a_training_is_stopped_and_goes_on(trainer, trained):
    trainer.entries["epochs"].value = 40
    trainer.entries["seed"].value = 5
    trainer.train.click()
    deadline = time.monotonic() + 60
    while trainer.progress.value == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    trainer.stop.click()
    trainer.thread.join(timeout=120)
    assert trainer.status.value.startswith("stopped") and not trainer.train.disabled
    state = json.loads((trained.root / "demo/train/playground.unfinished/fit.json").read_text())
    assert "history" not in state
    earlier = trained.root / "demo/train/playground/record.json"
    assert not earlier.exists() or json.loads(earlier.read_text())["seed"] != 5
