"""Files in, scores out: one rule per kind of file, and the same score in any company."""

import dataclasses
import os
import socket
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch import nn

import iqa
from iqa.data import DataError, pixels
from iqa.data.pixels import Size, mscn
from iqa.model import checkpoints, memory, predictor
from iqa.model.checkpoints import LAYOUTS, CheckpointError
from iqa.model.hyperiqa import HyperIQA
from iqa.model.image_files import counted, find_images
from iqa.model.memory import OverLimit
from iqa.model.params import RuleError
from iqa.model.predictor import ModelError, PatchScores, Predictor, Scale, Unreadable, load_model
from iqa.model.scoring import patch_positions, predict
from iqa.show import analysis
from iqa.study.params import ParameterError
from iqa.study.results import ResultsError
from iqa.training import fit

DATABASE = {"name": "tiny", "title": "Tiny", "low": 0.0, "high": 100.0, "higher_is_better": True, "synthetic": True}
SIZE = {"height": None, "width": None, "keep_aspect": True}
SEEN = {"size": SIZE, **DATABASE}


def save(folder, database=SEEN, older=False, **changes) -> Path:
    """A `best.pt` as a training run leaves it, or as an older version left it, with random weights."""
    params = tiny.PARAMS.model_copy(update=changes)
    torch.manual_seed(0)
    network = HyperIQA(params.architecture())
    saved = {"params": params.model_dump(), "database": database, "history_row": {"epoch": 1}}
    saved |= {} if older else fit.describe(params)
    torch.save(saved | {"state_dict": network.state_dict()}, folder / "best.pt")
    return folder / "best.pt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("run")).parent


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder, "cpu")


def photo(height=100, width=140, seed=0):
    """Blocks of different noise, so that patches and images differ."""
    generator = np.random.default_rng(seed)
    strength = np.kron(generator.random((5, 7)), np.ones((height // 5, width // 7)))[..., None]
    return (generator.random((height, width, 3)) * strength * 255).astype(np.uint8)


def written(path, pixels=None, **options):
    Image.fromarray(photo() if pixels is None else pixels).save(path, **options)
    return path


class Brightness(nn.Module):
    """In place of a network: the score of a patch is its mean intensity."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, pixels):
        return pixels.double().mean(dim=(1, 2, 3)) / 255


def brightness(crop=32, size=SIZE, up=True, input="rgb"):
    rule = {"crops": "grid", "patches": 4, "seed": 0}
    scale = Scale(0.0, 100.0, up, "Toy")
    return Predictor(Brightness(), "brightness", input, crop, Size(**size, least=crop), scale, rule)


# --- what a model knows


def test_a_model_is_loaded_from_its_file_and_from_its_folder(folder, model):
    from_file = load_model(folder / "best.pt", "cpu")
    assert from_file.score(photo()) == model.score(photo())
    assert not model.network.training


def test_iqa_load_model_is_the_same_function():
    assert iqa.load_model is load_model
    with pytest.raises(AttributeError, match="no attribute 'load_models'"):
        iqa.load_models()


def test_a_model_knows_its_preparation_its_scale_and_how_its_own_test_split_is_scored(tmp_path):
    size = {"height": 80, "width": 120, "keep_aspect": False}
    database = SEEN | {"size": size, "low": 1.0, "high": 5.0, "higher_is_better": False}
    model = load_model(save(tmp_path, database, study="demo", run="some", test_crops="grid", test_patches=4, seed=9))
    assert (model.name, model.input, model.crop, model.size) == ("demo/some", "mscn", 64, Size(**size, least=64))
    assert model.scale == Scale(1.0, 5.0, False, "Tiny")
    assert str(model.scale) == "5 (worst) to 1 (best), the scale of Tiny"
    own = {"input": "mscn", "crops": "grid", "patches": 4, "crop": 64, "batch_size": 8, "seed": 9}
    assert model.options == own | {"precision": "32-true"}


def test_called_with_pixels_it_gives_scores_on_its_scale(model):
    pixels = torch.from_numpy(mscn(photo())).permute(2, 0, 1)[None]
    assert model(pixels).shape == (1,)
    assert model(pixels).item() == pytest.approx(model.score(photo(), crops="whole"), abs=1e-3)


@pytest.mark.parametrize("kind", ["rgb", "mscn"])
def test_a_tensor_of_images_is_scored_as_they_are_on_the_models_scale(model, kind):
    model = dataclasses.replace(model, input=kind, scale=Scale(1.0, 5.0, False, "Tiny"))
    images = [photo(seed=seed) for seed in (1, 2)]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    expected = [model.score(image, crops="whole") for image in images]
    assert model.score(pixels).tolist() == pytest.approx(expected, abs=0.02)  # MSCN is rounded in files
    assert torch.allclose(model.score(pixels / 255), model.score(pixels), atol=1e-4)


@pytest.mark.parametrize("kind", ["rgb", "mscn"])
def test_gradients_of_a_score_reach_the_pixels_and_point_uphill(model, kind):
    model = dataclasses.replace(model, input=kind)
    images = torch.from_numpy(photo() / 255).float().permute(2, 0, 1)[None].repeat(2, 1, 1, 1)
    images[1] = 0.5  # nothing varies in it
    images.requires_grad_()
    before = model.score(images)
    before.sum().backward()
    assert images.grad.shape == images.shape and images.grad.isfinite().all() and images.grad[0].abs().max() > 0
    step = images.grad[:1] / images.grad[0].norm()
    assert model.score(images[:1] + 0.05 * step).item() > before[0].item()


@pytest.mark.parametrize(
    ("pixels", "how", "message"),
    [
        (torch.zeros(3, 64, 64), {}, r"shape \(B, 3, H, W\), not \(3, 64, 64\)"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.int64), {}, "uint8, or float on 0..1, not torch.int64"),
        (torch.full((1, 3, 64, 64), 255.0), {}, "pixels reach from 255 to 255; floats are on 0..1"),
        (torch.zeros(1, 3, 64, 64), {"crops": "grid"}, "scored as it is; leave out crops"),
    ],
    ids=["shape", "type", "range", "crops"],
)
def test_a_tensor_that_is_no_batch_of_images_is_refused(model, pixels, how, message):
    with pytest.raises(ValueError, match=message):
        model.score(pixels, **how)


def test_a_file_that_is_no_model_is_an_error(tmp_path):
    (tmp_path / "other.pt").write_text("text")
    with pytest.raises(CheckpointError, match=r"other\.pt"):
        load_model(tmp_path / "other.pt")


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=r"holds no best\.pt"):
        load_model(tmp_path)


def test_weights_of_another_shape_are_an_error(tmp_path):
    saved = torch.load(save(tmp_path), weights_only=True)
    saved["architecture"]["semantic_channels"] = 16
    torch.save(saved, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match=r"best\.pt: wrong shape: semantic\.2\.weight \(8, .* instead of \(16, "):
        load_model(tmp_path / "best.pt")


def test_a_model_that_does_not_know_the_size_of_its_images_is_to_be_trained_again(tmp_path):
    with pytest.raises(ModelError, match="train the model again"):
        load_model(save(tmp_path, database=DATABASE))


def test_a_file_of_an_older_version_gives_the_same_predictor(tmp_path):
    changes = {"study": "demo", "run": "some", "test_crops": "grid", "test_patches": 4, "fusion": "last", "seed": 9}
    new = load_model(save(tmp_path, **changes), "cpu")
    old = load_model(save(tmp_path, older=True, **changes), "cpu")
    assert {**vars(new), "network": None} == {**vars(old), "network": None}
    assert new.network.params == old.network.params and new.score(photo()) == old.score(photo())


@pytest.mark.parametrize("older", [False, True])
def test_a_file_that_lacks_what_a_predictor_needs_is_told_with_the_key(tmp_path, older):
    saved = torch.load(save(tmp_path, older=older), weights_only=True)
    del saved["params" if older else "scoring"]["crop" if older else "input"]
    torch.save(saved, tmp_path / "best.pt")
    with pytest.raises(
        ModelError, match=f"best.pt lacks '{'crop' if older else 'scoring.input'}'; train the model again"
    ):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("database.low", None, "key 'database.low': .*, not None"),
        ("database.low", "zero", "key 'database.low': .*, not 'zero'"),
        ("database.low", float("nan"), "key 'database.low': Input should be a finite number"),
        ("database.high", 0.0, "scores from 0.0 to 0.0 are no range"),
        ("database.higher_is_better", "yes", "key 'database.higher_is_better'"),
        ("database.size", None, "key 'database.size': .*, not None"),
        ("database.size", {"height": "tall", "width": 3}, "key 'database.size.height': .*, not 'tall'"),
        ("database.size", {"height": 384}, "key 'database.size': .*set both height and width"),
        ("database.size", {"depth": 3}, "key 'database.size.depth'"),
        ("database", [1, 2], r"key 'database': .*, not \[1, 2\]"),
        ("scoring.crop", 0, "key 'scoring.crop': .* greater than 0, not 0"),
        ("scoring.crops", "corner", "key 'scoring.crops'"),
        ("scoring.seed", "one", "key 'scoring.seed'"),
        ("name", 3, "key 'name': .*, not 3"),
        ("architecture.backbone_args", {"wings": 2}, "backbone 'resnet10t' cannot be built: .*wings"),
        ("architecture.target_widths", [64, 33, 5], "wrong shape: hyper"),
        ("state_dict", {}, "holds no named tensors"),
        ("state_dict", {"semantic.0.bias": 3}, "holds no named tensors"),
    ],
)
def test_a_wrong_value_in_a_model_file_is_an_error_that_names_file_and_key(key, value, message, tmp_path):
    saved = torch.load(save(tmp_path), weights_only=True)
    *outer, last = key.split(".")
    part = saved[outer[0]] if outer else saved
    part[last] = value
    torch.save(saved, tmp_path / "best.pt")
    with pytest.raises((ModelError, CheckpointError), match=rf"best\.pt: {message}") as caught:
        load_model(tmp_path, "cpu")
    assert len(str(caught.value).splitlines()) <= 3


def test_scores_that_are_no_numbers_are_an_error(model, monkeypatch):
    monkeypatch.setattr(model.network, "forward", lambda pixels: torch.full((len(pixels),), torch.nan))
    with pytest.raises(Unreadable, match="the image: its score is not a finite number; the model may be damaged"):
        model.score(photo())


@pytest.mark.parametrize(
    ("size", "shape"), [("50x60", (64, 77)), ("96x120", (96, 120)), ("stored", (100, 140)), (None, (100, 140))]
)
def test_a_checkpoint_can_be_used_at_another_size(size, shape, folder):
    assert load_model(folder, "cpu", size).rgb(photo()).shape[:2] == shape


@pytest.mark.parametrize("size", ["", "384", "384x", "0x9", "-3x5", "1000000x3", "own"])
def test_a_size_that_is_none_is_an_error(size, folder):
    with pytest.raises(ModelError, match=r"size '.*': give height x width in pixels, such as 384x512, or stored"):
        load_model(folder, "cpu", size)


def test_an_architecture_that_this_version_does_not_know_is_an_error_that_names_the_key(tmp_path):
    saved = torch.load(save(tmp_path), weights_only=True)
    saved["architecture"]["heads"] = 3
    torch.save(saved, tmp_path / "best.pt")
    with pytest.raises(ParameterError, match=r"best.pt: unknown key 'heads'; did you mean 'head'\?"):
        load_model(tmp_path)


def test_a_run_that_was_not_made_is_told_with_its_command():
    with pytest.raises(ResultsError, match=r"iqa run demo/train/absent"):
        load_model("demo/absent")


def test_a_name_that_is_nothing_is_told_what_a_run_is_called(tmp_path):
    with pytest.raises(ModelError, match=r"no file and no folder, and no training run: .*study/run.*demo"):
        load_model(tmp_path / "absent.pth")


def test_a_device_that_is_not_there_is_an_error(folder):
    with pytest.raises(ModelError, match="device 'gpu' cannot be used"):
        load_model(folder, "gpu")


def test_a_published_checkpoint_keeps_its_own_preparation_and_range(tmp_path, monkeypatch):
    network = HyperIQA(tiny.PARAMS.architecture())
    layout = LAYOUTS["hyperiqa"]
    monkeypatch.setattr(checkpoints, "read", lambda file: (network, layout))
    torch.save({"params": {"backbone": torch.zeros(1)}, "state_dict": {}}, tmp_path / "weights.pth")
    model = load_model(tmp_path / "weights.pth", "cpu")
    assert model.network is network and not network.training
    assert (model.name, model.input, model.crop) == ("HyperIQA", "rgb", 224)
    assert model.size == Size(512, 384, keep_aspect=False, filter="bilinear", least=224)
    assert model.scale == Scale(0.0, 100.0, True, "HyperIQA")
    assert (model.options["crops"], model.options["patches"]) == ("random", 25)


def test_where_lower_is_better_the_score_is_turned():
    bright, dark = np.full((40, 40, 3), 255, np.uint8), np.zeros((40, 40, 3), np.uint8)
    assert (brightness().score(bright), brightness().score(dark)) == (100, 0)
    assert (brightness(up=False).score(bright), brightness(up=False).score(dark)) == (0, 100)


# --- agreement with the scoring of databases


@pytest.mark.parametrize("crops", ["whole", "center", "random", "grid"])
@pytest.mark.parametrize("up", [True, False])
def test_a_file_gets_the_score_that_its_database_gets(tmp_path, crops, up):
    data = tiny.database(4, sizes=((72, 96), (80, 64)), low=1.0, high=5.0, up=up)
    rgb = [photo(height, width, seed) for seed, (height, width) in enumerate([(75, 98), (80, 70), (75, 98), (90, 70)])]
    data.stores["mscn"] = [mscn(image) for image in rgb]
    scale = {"low": 1.0, "high": 5.0, "higher_is_better": up}
    model = load_model(save(tmp_path, SEEN | scale, test_crops=crops, test_patches=6, seed=3), "cpu")
    expected = predict(model.network, data, np.arange(4), **model.options)["prediction"]
    assert [model.score(image) for image in rgb] == pytest.approx(list(expected), abs=4e-5)
    assert len(set(expected)) == 4


# --- kinds of files


def same_score(model, first, second):
    return model.score(first) == model.score(second)


def test_a_file_an_array_and_an_image_of_pillow_get_the_same_score(model, tmp_path):
    file = written(tmp_path / "a.png")
    assert model.score(file) == model.score(str(file)) == model.score(photo()) == model.score(Image.fromarray(photo()))
    assert model.score(photo(seed=1)) != model.score(photo())


def test_the_exif_orientation_is_applied(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90 degrees clockwise
    file = written(tmp_path / "a.png", exif=exif)
    assert same_score(model, file, np.rot90(photo(), -1).copy())


def test_grey_is_scored_as_three_equal_channels(model, tmp_path):
    file = written(tmp_path / "a.png", photo()[..., 0])
    assert same_score(model, file, np.repeat(photo()[..., :1], 3, axis=-1))


def test_a_palette_is_resolved(model, tmp_path):
    image = Image.fromarray(photo()).quantize(16)
    image.save(tmp_path / "a.png")
    assert same_score(model, tmp_path / "a.png", image.convert("RGB"))


def test_transparent_pixels_are_laid_over_white(model, tmp_path):
    alpha = np.zeros((100, 140, 1), np.uint8)
    alpha[:, 70:] = 255
    file = written(tmp_path / "a.png", np.concatenate([photo(), alpha], axis=-1))
    assert same_score(model, file, np.where(alpha > 0, photo(), np.uint8(255)))


def test_sixteen_bit_grey_is_divided_by_257(model, tmp_path):
    grey = photo()[..., 0]
    file = written(tmp_path / "a.png", grey.astype(np.uint16) * 257)
    assert same_score(model, file, np.repeat(grey[..., None], 3, axis=-1))


def test_cmyk_becomes_rgb(model, tmp_path):
    inks = np.concatenate([255 - photo(), np.zeros((100, 140, 1), np.uint8)], axis=-1)
    Image.fromarray(inks, mode="CMYK").save(tmp_path / "a.tif")
    assert same_score(model, tmp_path / "a.tif", photo())


def test_of_an_animation_the_first_frame_is_scored(model, tmp_path):
    frames = [Image.fromarray(photo(seed=seed)).quantize(64) for seed in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "first.png")
    with Image.open(tmp_path / "a.gif") as file:
        assert file.n_frames == 3
    assert same_score(model, tmp_path / "a.gif", tmp_path / "first.png")


@pytest.mark.parametrize(("shape", "enlarged"), [((40, 56), (64, 90)), ((50, 140), (64, 179)), ((100, 35), (183, 64))])
def test_an_image_smaller_than_the_crop_is_enlarged_until_it_covers_it(model, shape, enlarged):
    image = Image.fromarray(photo()).resize(shape[::-1])
    larger = image.resize(enlarged[::-1], Image.LANCZOS)
    assert model.rgb(image).shape == (*enlarged, 3)
    assert same_score(model, image, larger)


@pytest.mark.parametrize("crops", ["center", "random", "grid", "whole", "dense"])
def test_an_image_of_one_pixel_can_be_scored(crops):
    pixel = np.full((1, 1, 3), 51, np.uint8)
    assert brightness().score(pixel, crops=crops) == pytest.approx(20)


def test_images_are_brought_to_the_size_of_training():
    size = {"height": 50, "width": 60, "keep_aspect": False}
    assert brightness(size=size).rgb(photo()).shape == (50, 60, 3)
    assert brightness(size=size | {"keep_aspect": True}).rgb(photo()).shape == (50, 70, 3)


def test_an_image_too_narrow_to_be_enlarged_is_refused():
    with pytest.raises(Unreadable, match=r"its 1x200000 pixels would have to be enlarged to 32x6400000"):
        brightness().score(np.zeros((1, 200_000, 3), np.uint8))


def test_pixels_of_another_kind_are_an_error(model):
    with pytest.raises(ValueError, match=r"uint8, not \(100, 140, 3\) and float64"):
        model.score(photo() / 255)
    with pytest.raises(ValueError, match="mode L"):
        model.score(Image.fromarray(photo()[..., 0]))


# --- determinism


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Images of different sizes, two of them smaller than the crop."""
    place = tmp_path_factory.mktemp("images")
    sizes = [(100, 140), (60, 70), (125, 70), (100, 140), (90, 98), (35, 140), (110, 175)]
    return [written(place / f"{seed}.png", photo(*size, seed)) for seed, size in enumerate(sizes)]


def scores(model, files, **options):
    return {file: found.scores for file, found in model.score_files(files, **options)}


def equal(first, second):
    return all(np.array_equal(found, second[file]) for file, found in first.items())


@pytest.mark.parametrize("crops", ["grid", "random", "whole", "dense"])
def test_a_score_does_not_depend_on_its_neighbours_their_order_the_workers_or_the_run(model, folder, files, crops):
    expected = scores(model, files, crops=crops, workers=1)
    assert list(expected) == files
    assert len({found.mean() for found in expected.values()}) == len(files)
    assert equal(expected, scores(model, files[::-1], crops=crops, workers=3))
    assert equal(scores(model, files[2:4], crops=crops), expected)
    assert equal(expected, {file: model.patch_scores(file, crops=crops).scores for file in files})
    assert equal(expected, scores(load_model(folder, "cpu"), files, crops=crops))


@pytest.mark.parametrize("backbone", ["resnet50", "mobilenetv2_100"])
def test_a_score_does_not_depend_on_the_number_of_threads(backbone):
    torch.manual_seed(0)
    network = HyperIQA(tiny.demo(backbone=backbone, backbone_args={}, device="cpu").architecture()).eval()
    found, threads = [], torch.get_num_threads()
    model = dataclasses.replace(brightness(64), network=network.to(memory_format=torch.channels_last))
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(model.patch_scores(photo()).scores)
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(*found)
    assert {part.dilation for part in network.modules() if isinstance(part, nn.Conv2d)} == {(1, 1)}


@pytest.mark.parametrize("crops", ["grid", "random"])
def test_scores_of_different_batch_sizes_agree_to_a_hundred_thousandth_of_the_range(model, files, crops):
    first, *others = (scores(model, files, crops=crops, batch_size=size) for size in (1, 7, 32))
    for other in others:
        for file in files:
            assert np.abs(first[file] - other[file]).max() < 1e-5 * 100


def test_random_crops_follow_from_seed_and_content(model, tmp_path):
    first, second = written(tmp_path / "a.png"), written(tmp_path / "b.bmp")
    how = {"crops": "random", "patches": 5}
    assert model.score(first, **how) == model.score(second, **how)
    assert model.score(first, **how) == model.score(first, **how, seed=1)  # the model's own
    assert model.score(first, **how) != model.score(first, **how, seed=2)
    other = photo()
    other[0, 0] += 1
    positions = [patch_positions(pixels, 64, **how)[0] for pixels in (photo(), other)]
    assert not np.array_equal(*positions)


def test_the_next_images_are_prepared_ahead_but_not_all_of_them():
    begun = []
    results = predictor._ahead(lambda item: begun.append(item) or item, range(100), workers=3)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(begun) <= 5 + 2 * 3
    results.close()


def test_large_images_are_prepared_one_after_the_other(monkeypatch):
    monkeypatch.setattr(predictor, "AHEAD", 10)
    begun = []
    results = predictor._ahead(lambda item: begun.append(item) or item, [3, 3, 3, 3, 40, 1], 4, cost=lambda item: item)
    assert next(results) == 3
    assert len(begun) <= 4
    assert list(results) == [3, 3, 3, 40, 1]


def test_the_pixels_that_a_file_will_hold_are_known_from_its_header(tmp_path):
    wide = written(tmp_path / "wide.png", np.zeros((2, 300, 3), np.uint8))
    (tmp_path / "text.png").write_text("no image")
    held = brightness()._pixels_held
    assert held(written(tmp_path / "a.png")) == 100 * 140 and held(wide) == 32 * 4800
    assert held(tmp_path / "text.png") == predictor.AHEAD and held(tmp_path / "absent.png") == 0


# --- patches


def test_by_default_an_image_is_scored_by_the_rule_of_the_models_own_test():
    found = brightness().patch_scores(photo())
    assert found.window == (32, 32) and len(found.scores) == 4
    assert found.positions.min() == 0 and tuple(found.positions.max(axis=0)) == (100 - 32, 140 - 32)
    assert brightness().rule == "grid of 4 crops"


@pytest.mark.parametrize(
    ("changes", "count"), [({"crops": "random"}, 25), ({"patches": 9}, 9), ({"crops": "whole"}, 1), ({"seed": 3}, 4)]
)
def test_what_is_not_asked_for_stays_as_the_models_own(changes, count):
    assert len(brightness().patch_scores(photo(), **changes).scores) == count


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crops": "center", "patches": 9}, r"'patches' \(9\) has no meaning for crops 'center'; .* random, grid"),
        ({"crops": "dense", "patches": 9}, r"'patches' \(9\) has no meaning for crops 'dense'"),
        ({"stride": 3}, r"'stride' \(3\) has no meaning for crops 'grid'; it belongs to dense"),
    ],
)
def test_what_would_change_nothing_is_refused(changes, message):
    with pytest.raises(RuleError, match=message):
        brightness().score(photo(), **changes)


def test_score_and_spread_are_mean_and_deviation_of_the_patches():
    image = photo()
    corners = [image[top : top + 32, left : left + 32].mean() / 2.55 for top in (0, 68) for left in (0, 108)]
    found = brightness().patch_scores(image, patches=4)
    assert found.score == pytest.approx(np.mean(corners))
    assert found.spread == pytest.approx(np.std(corners))
    assert brightness().patch_scores(image, crops="center").spread == 0


def test_a_dense_grid_has_equal_steps_and_reaches_every_edge():
    positions, window = patch_positions(photo(100, 140), 32, crops="dense")
    tops, lefts = (np.unique(starts) for starts in positions.T)
    assert window == (32, 32)
    assert (tops[0], tops[-1], lefts[0], lefts[-1]) == (0, 68, 0, 108)
    assert set(np.diff(tops)) <= {7, 8} and set(np.diff(lefts)) <= {7, 8}
    assert patch_positions(photo(100, 140), 32, crops="dense", stride=32)[0][:, 0].tolist()[:6] == [0] * 5 + [23]


@pytest.mark.parametrize("stride", [0, -1, 33])
def test_a_stride_that_leaves_gaps_is_an_error(stride):
    with pytest.raises(ValueError, match="is not between 1 and the crop's 32"):
        brightness().quality_map(photo(), stride=stride)


def test_an_unknown_way_to_crop_is_an_error():
    with pytest.raises(ValueError, match="unknown crops 'corner'"):
        brightness().score(photo(), crops="corner")


# --- quality maps


def test_a_quality_map_shows_which_half_is_worse():
    image = np.full((80, 120, 3), 200, np.uint8)
    image[:, 60:] = 50
    found = brightness().quality_map(image)
    assert found.scores.shape == (7 * 12,)
    pixels = found.per_pixel()
    assert pixels.shape == (80, 120)
    assert pixels[:, :28] == pytest.approx(200 / 2.55) and pixels[:, -28:] == pytest.approx(50 / 2.55)
    assert (np.diff(pixels, axis=1) < 1e-9).all()


def test_the_mean_of_a_quality_map_is_the_score_of_its_crops(model):
    found = model.quality_map(photo(), stride=20)
    assert found.scores.mean() == pytest.approx(found.score)
    assert found.score == model.score(photo(), crops="dense", stride=20)


def test_each_place_of_a_quality_map_holds_the_score_of_the_crop_there():
    found = brightness().quality_map(photo(), stride=16)
    for (top, left), score in zip(found.positions, found.scores, strict=True):
        crop = photo()[top : top + 32, left : left + 32]
        assert score == pytest.approx(crop.mean() / 2.55)


def test_a_pixel_of_a_quality_map_is_the_mean_of_the_crops_that_cover_it():
    found = brightness().quality_map(photo(), stride=16)
    inside = ((found.positions <= (50, 77)) & (found.positions > (50 - 32, 77 - 32))).all(axis=1)
    assert found.per_pixel()[50, 77] == pytest.approx(found.scores[inside].mean())


def test_pixels_that_no_crop_covers_have_no_score():
    found = brightness().patch_scores(photo(), crops="center")
    assert np.isnan(found.per_pixel()).sum() == 100 * 140 - 32 * 32


def test_every_second_pixel_of_a_quality_map_is_that_of_the_whole_one():
    found = brightness().quality_map(photo(), stride=15)
    for step in (2, 3, 7):
        assert np.array_equal(found.per_pixel(step), found.per_pixel()[::step, ::step])


def test_mscn_in_strips_is_mscn_bit_by_bit(monkeypatch):
    images = [photo(200, 140), np.zeros((70, 7, 3), np.uint8), photo(35, 700) // 64]
    whole = [mscn(image) for image in images]
    monkeypatch.setattr(pixels, "AT_ONCE", 1)
    for rows in (1, 5, 32, 64):
        monkeypatch.setattr(pixels, "LEAST_ROWS", rows)
        assert all(np.array_equal(mscn(image), expected) for image, expected in zip(images, whole, strict=True))


@pytest.mark.parametrize("up", [True, False])
def test_a_map_is_drawn_beside_its_image_with_the_scale(up):
    model = brightness(up=up)
    figure = analysis.quality_map(model.rgb(photo()), model.quality_map(photo()), model.scale)
    image, quality, bar = figure.axes
    assert image.images[0].get_array().shape == (100, 140, 3)
    assert quality.images[0].get_array().shape == (100, 140)
    assert quality.images[0].get_cmap().name == ("viridis" if up else "viridis_r")
    assert bar.get_xlabel() == f"score, {model.scale}" and "the scale of Toy" in bar.get_xlabel()


def test_a_map_without_differences_is_drawn_without_contrast():
    flat = np.full((64, 64, 3), 128, np.uint8)
    model = brightness()
    shown = analysis.quality_map(flat, model.quality_map(flat), model.scale).axes[1].images[0]
    assert np.diff(shown.get_clim()) == pytest.approx(10)


# --- files that cannot be read


def test_unreadable_files_are_told_with_their_reasons_and_the_others_are_scored(model, tmp_path):
    good = written(tmp_path / "good.jpg", quality=90)
    cases = {
        "absent.png": (None, "No such file or directory"),
        "empty.png": (b"", "the file is empty"),
        "text.txt": (b"not an image", "this is no image that can be decoded"),
        "cut.jpg": (good.read_bytes()[:-500], "image file is truncated"),
        "broken.png": (written(tmp_path / "a.png").read_bytes()[:300], ""),
    }
    for name, (content, _) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    Image.fromarray(np.zeros((80, 80), np.float32)).save(tmp_path / "float.tif")
    names = [*cases, "float.tif", "good.jpg", "."]
    results = dict(model.score_files([tmp_path / name for name in names]))
    assert isinstance(results[good], PatchScores)
    refused = {file: error for file, error in results.items() if file != good}
    assert all(isinstance(error, Unreadable) and error.image == file for file, error in refused.items())
    for name, (_, reason) in cases.items():
        assert refused[tmp_path / name].reason.startswith(reason)
    floating = "its pixels are floating-point numbers without a known range"
    assert refused[tmp_path / "float.tif"].reason == floating
    assert refused[tmp_path].reason == "Is a directory"
    with pytest.raises(Unreadable, match=r"text\.txt: this is no image"):
        model.score(tmp_path / "text.txt")


@pytest.mark.parametrize(
    "error", [MemoryError(), OverLimit("memory"), RuntimeError("can't allocate memory"), KeyError(1)]
)
@pytest.mark.parametrize("place", ["pixels", "_score"])
def test_one_image_that_does_not_fit_or_breaks_the_scoring_does_not_stop_the_others(
    tmp_path, monkeypatch, error, place
):
    good, bad = written(tmp_path / "a.png"), written(tmp_path / "b.png", photo(seed=1))
    model, work = brightness(), getattr(Predictor, place)

    def fail(self, first, *arguments, **options):
        if Path(str(first)) == bad:
            raise error
        return work(self, first, *arguments, **options)

    monkeypatch.setattr(Predictor, place, fail)
    found = dict(model.score_files([bad, good]))
    reason = "it cannot be scored (KeyError: 1)" if isinstance(error, KeyError) else predictor.NO_MEMORY
    assert found[bad].reason == reason and isinstance(found[good], PatchScores)


def test_an_image_whose_decoding_would_not_fit_is_told_and_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "AHEAD", 100)
    monkeypatch.setattr(predictor, "available", lambda: 15 * 100 * 140 - 1)
    ((_, found),) = brightness().score_files([written(tmp_path / "a.png")])
    assert found.reason == predictor.NO_MEMORY


@pytest.mark.parametrize("library", [SimpleNamespace(), None])
def test_freed_memory_is_kept_where_the_c_library_can_be_told_so(library, monkeypatch):
    told = []
    if library:
        library.mallopt = lambda *order: told.append(order)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: library)
    memory.keep_freed()
    assert [value for _, value in told] == ([2**30, 2**25] if library else [])


def test_a_forward_pass_that_takes_too_much_memory_is_stopped(model, monkeypatch):
    scored = model.score(photo(), crops="whole")
    monkeypatch.setattr(predictor, "WATCHED", 100)
    assert model.score(photo(), crops="whole") == scored
    monkeypatch.setattr(predictor, "available", lambda: 1e5)
    with pytest.raises(OverLimit, match="memory: more than"):
        model.score(photo(), crops="whole")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_an_error_and_the_reason_of_its_file(tmp_path, monkeypatch, value):
    model, file = brightness(), written(tmp_path / "a.png")
    monkeypatch.setattr(model.network, "forward", lambda pixels: torch.full((len(pixels),), value))
    ((_, found),) = model.score_files([file])
    assert isinstance(found, Unreadable) and found.reason.startswith("its score is not a finite number")
    with pytest.raises(Unreadable, match=r"a\.png: its score is not a finite number"):
        model.score(file)


def test_crops_that_no_image_has_are_an_error_before_any_file_is_read(tmp_path):
    with pytest.raises(ValueError, match="is not between 1 and the crop's 32"):
        next(brightness().score_files([tmp_path / "absent.png"], crops="dense", stride=33))


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_told_and_not_waited_for(model, tmp_path, kind):
    path = Path("/dev/zero") if kind == "device" else tmp_path / "a.png"
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    ((_, found),) = model.score_files([path])
    assert found.reason.startswith("it is a pipe, a socket or a device")


def test_a_decoder_that_fails_in_its_own_way_does_not_stop_the_others(model, tmp_path, monkeypatch):
    def fail(path):
        raise RuntimeError("decoder: bad item")

    (tmp_path / "a.avif").write_bytes(b"avif")
    monkeypatch.setattr(Image, "open", fail)
    ((_, found),) = model.score_files([tmp_path / "a.avif"])
    assert found.reason == "decoder: bad item"


# --- which files


def names(found):
    return [file.name for file in found]


def test_a_folder_gives_its_images_with_those_of_its_subfolders_sorted(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt", "sub/c.Tiff", "sub/deep/d.webp", "sub/labels.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found, refused = find_images([tmp_path])
    assert [file.relative_to(tmp_path).as_posix() for file in found] == [
        "a.jpg",
        "b.PNG",
        "sub/c.Tiff",
        "sub/deep/d.webp",
    ]
    assert not refused
    assert names(find_images([tmp_path / "sub" / "c.Tiff", tmp_path])[0])[0] == "c.Tiff"


def test_what_is_named_is_tried_whatever_its_suffix_and_taken_once(tmp_path, monkeypatch):
    (tmp_path / "photo").touch()
    (tmp_path / "a.png").touch()
    (tmp_path / "link.png").symlink_to("a.png")
    monkeypatch.chdir(tmp_path)
    found, _ = find_images(["photo", "./photo", tmp_path / "photo", "absent.png", ".", "../" + tmp_path.name])
    assert names(found) == ["photo", "absent.png", "a.png", "link.png"]


def test_a_folder_without_images_is_an_error(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"no images in this folder; it holds \.txt 1\. Name another"):
        find_images([tmp_path])
    with pytest.raises(DataError, match="one of the names is empty"):
        find_images(["", tmp_path])


def test_what_a_system_keeps_in_a_folder_is_left_out_and_other_files_are_counted(tmp_path):
    kept = ["a.png", "3d.mpo", "x.jpg/b.png", "x.jxl"]
    system = [
        "._a.png",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "__MACOSX/._a.png",
        "__MACOSX/d.png",
        ".thumbnails/a.png",
    ]
    system += ["@eaDir/a.png", "$RECYCLE.BIN/a.png", "~$a.png", "x.jpg/.a.png"]
    for name in [*kept, *system, "IMG.CR2", "IMG2.CR2", "x.jpg/notes.txt", "README"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "x.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    passed = Counter()
    found, refused = find_images([f"{tmp_path}/", tmp_path / "x.jpg", tmp_path / "README"], passed)
    assert [file.relative_to(tmp_path).as_posix() for file in found] == [
        *["3d.mpo", "a.png", "dangling.jpg", "x.jpg/b.png", "x.jxl", "README"]
    ]
    assert not refused and passed == {".CR2": 2, ".txt": 1, "links to folders": 1}
    assert counted(passed).startswith(".CR2 2, ")


def test_links_in_a_circle_are_told(model, tmp_path):
    (tmp_path / "a.png").symlink_to("b.png")
    (tmp_path / "b.png").symlink_to("a.png")
    (tmp_path / "folder").symlink_to("folder")
    files, _ = find_images([tmp_path, tmp_path / "folder" / "a.png"])
    reasons = {found.reason for _, found in model.score_files(files)}
    assert len(files) == 3 and reasons == {"Too many levels of symbolic links"}


def test_a_folder_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").touch()
    scan = os.scandir

    def closed(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    found, refused = find_images([tmp_path])
    assert names(found) == ["a.png"]
    assert [(Path(error.image).name, error.reason) for error in refused] == [("closed", "Permission denied")]
