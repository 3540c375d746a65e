"""Twins, images that are one photograph saved again, are found by their pixels, named, and kept in one split."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from iqa.analysis.evaluation import without_twins
from iqa.data import twins
from iqa.data.audit import audit
from iqa.data.params import DataPrepParams
from iqa.data.prepare import find_copies, fingerprint, prepare, read
from iqa.data.splits import seeded_split
from iqa.study import paths


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")


def photograph(seed: int, width: int = 192, height: int = 144) -> Image.Image:
    """Blurred noise, with finer noise over it."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    fine = rng.normal(0, 12, (height, width, 3))
    return Image.fromarray((np.asarray(coarse) + fine).clip(0, 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(0.5))


def database(folder, images, splits=None, **columns):
    """A database of pictures by name, with evenly spread MOS: its parameters."""
    (folder / "im").mkdir(parents=True)
    for name, image in images.items():
        image.save(folder / "im" / name, **({"quality": 60} if name.endswith(".jpg") else {}))
    table = pd.DataFrame({"image": list(images), "mos": np.linspace(5, 95, len(images))}).assign(**columns)
    (table if splits is None else table.assign(split=splits)).to_csv(folder / "labels.csv", index=False)
    return {"folder": str(folder / "im"), "labels": str(folder / "labels.csv")}


def params(places, **changes):
    own = {"run": "own", "reader": "csv", "low": 0.0, "high": 100.0, "higher_is_better": True, "inputs": ["rgb"]}
    return DataPrepParams(**{**own, **places, **changes})


def pairs(found):
    return set(map(frozenset, found.twins[["image_a", "image_b"]].to_numpy()))


def test_however_many_images_there_are_few_files_are_open_at_once(tmp_path):
    images = {f"{number}.png": photograph(number, 32, 32) for number in range(60)}
    places = database(tmp_path, images)
    code = (
        "import resource, os; opened = len(os.listdir('/dev/fd'))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 40, opened + 40))\n"
        "from iqa.data.params import DataPrepParams\nfrom iqa.data.prepare import find_copies, prepare\n"
        f"made = prepare(DataPrepParams(**{params(places, workers=1).model_dump()}))\n"
        "print(len(made.table), len(find_copies(made, made)))"
    )
    variables = os.environ | {"IQA_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=variables)
    assert done.stdout.split()[-2:] == ["60", "0"], done.stderr


SAVED_AGAIN = {
    "copy.bmp": lambda image: image,
    "copy.png": lambda image: image,
    "copy.jpg": lambda image: image,
    "smaller.png": lambda image: image.resize((96, 72), Image.LANCZOS),
    "larger.jpg": lambda image: image.resize((288, 216), Image.BICUBIC),
}


@pytest.mark.parametrize("name", SAVED_AGAIN)
@pytest.mark.parametrize("changes", [{}, {"inputs": ["mscn"]}, {"height": 96, "width": 128}])
def test_an_image_that_was_saved_again_is_found(tmp_path, name, changes):
    images = {f"{seed}.png": photograph(seed) for seed in range(4)}
    images[name] = SAVED_AGAIN[name](images["2.png"])
    found = prepare(params(database(tmp_path, images, ["train"] * 4 + ["test"]), val_fraction=0.0, **changes))
    assert pairs(found) == {frozenset(("2.png", name))}
    assert found.twins[["split_a", "split_b"]].to_numpy().tolist() == [["train", "test"]]
    assert found.twins["psnr"][0] > 20
    assert found.table["twin"].fillna("").tolist() == ["", "", name, "", "2.png"]


def blurred(image):
    return image.filter(ImageFilter.GaussianBlur(6))


@pytest.mark.parametrize(
    "other",
    [
        photograph(1),
        blurred(photograph(0)),
        photograph(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        Image.fromarray(255 - np.asarray(photograph(0))),
        photograph(0).crop((24, 18, 192, 144)),
        Image.new("RGB", (96, 72), (120, 120, 120)),
    ],
)
def test_an_image_of_something_else_is_no_twin(tmp_path, other):
    found = prepare(params(database(tmp_path, {"a.png": photograph(0), "b.png": other}, ["train", "test"])))
    assert found.twins.empty
    assert "twin" not in found.table


def test_two_smooth_images_of_like_colours_are_no_twins(tmp_path):
    rng, sky = np.random.default_rng(0), np.linspace(90, 220, 72)[:, None, None].repeat(96, axis=1).repeat(3, axis=2)
    images = {f"{n}.png": Image.fromarray((sky + rng.normal(0, 3, sky.shape)).astype(np.uint8)) for n in range(3)}
    assert prepare(params(database(tmp_path, images, ["train", "train", "test"]))).twins.empty


def test_versions_of_one_content_and_different_distortions_are_no_twins(tmp_path):
    images = {"a.png": photograph(0), "b.jpg": photograph(0), "c.jpg": photograph(0), "d.png": photograph(1)}
    places = database(tmp_path, images, reference=["x", "x", "y", "z"], distortion=["none", "jpeg", "jpeg", "none"])
    found = prepare(params(places, split="all_test"))
    assert pairs(found) == {frozenset(("b.jpg", "c.jpg"))}  # not a and b, of one content, nor a and c


class Thumbnails(list):
    """As much of a store as is needed."""

    def take(self, rows):
        return Thumbnails(self[row] for row in rows)


def test_an_image_under_very_many_names_does_not_take_quadratic_time_and_stays_in_one_group():
    image = np.asarray(photograph(0).resize((64, 64)))
    noise = Thumbnails(image ^ np.uint8(number % 2) for number in range(60))
    found = twins.find(noise, noise.__getitem__, [str(n) for n in range(60)], [str(n) for n in range(60)])
    assert 59 <= len(found) <= 60 * (twins.ENOUGH + 1)
    names = pd.Series([f"{number:02d}" for number in range(60)])
    assert set(twins.join(names, [(names[one], names[other]) for one, other, _ in found])) == {"00"}


def test_the_audit_counts_and_names_twins(tmp_path):
    images = {f"{seed}.png": photograph(seed) for seed in range(4)}
    images |= {"across.jpg": photograph(0), "within.bmp": photograph(1)}
    found = audit(prepare(params(database(tmp_path, images, ["train"] * 4 + ["test", "train"]), val_fraction=0.0)))
    counts = {check["check"]: check["here"] for check in found["checks"]}
    assert counts["pairs of twins in different splits"] == counts["pairs of twins in one split"] == 1
    assert any("different splits" in warning and "0.png = across.jpg" in warning for warning in found["warnings"])
    assert any("one split" in warning and "1.png = within.bmp" in warning for warning in found["warnings"])


@pytest.mark.parametrize("split", [{"split": "seeded"}, {"val_fraction": 0.5}])
def test_twins_are_in_one_split_wherever_it_is_drawn(tmp_path, split):
    images = {f"{seed}.png": photograph(seed) for seed in range(8)}
    images |= {f"copy{seed}.jpg": photograph(seed) for seed in range(8)}
    official = None if "split" in split else ["train"] * 16
    places = database(tmp_path, images, official)
    for seed in range(6):
        chosen = params(places, seed=seed, **split)
        found = prepare(chosen)
        assert (found.twins["split_a"] == found.twins["split_b"]).all()
        assert len(found.twins) == 8
        assert {"train", "val"} <= set(found.table["split"])
        assert fingerprint(chosen) == found.fingerprint
        assert found.table["reference"].equals(found.table["image"])


def test_where_there_are_no_twins_the_drawn_split_and_the_columns_are_as_ever(tmp_path):
    images = {f"{seed}.png": photograph(seed) for seed in range(8)}
    chosen = params(database(tmp_path, images), seed=3)
    found = prepare(chosen)
    references = found.table["reference"]
    drawn = seeded_split(references, 0.8, np.random.default_rng([3, 1]))
    assert found.table["split"].replace("val", "train").equals(drawn)
    assert found.table.columns.tolist() == read(chosen).table.columns.tolist()


def test_what_was_found_is_remembered_and_a_damaged_memory_is_made_again(tmp_path, monkeypatch):
    places = database(tmp_path, {"a.png": photograph(0), "b.bmp": photograph(0), "c.png": photograph(1)})
    first = prepare(params(places, split="all_test")).twins
    (memory,) = (paths.CACHE / "twins").iterdir()
    for damage in ("", "[[", '{"a": 1}', "[1, 2]", "\0\0", "null"):
        memory.write_text(damage)
        assert prepare(params(places, split="all_test")).twins.equals(first)
        assert json.loads(memory.read_text()) == [[0, 1, 100.0]]
    monkeypatch.setattr(twins, "find", None)
    assert prepare(params(places, split="all_test")).twins.equals(first)


def test_test_images_that_are_copies_of_anothers_training_images_are_found(tmp_path):
    images = {f"{seed}.png": photograph(seed) for seed in range(4)}
    own = prepare(params(database(tmp_path / "own", images, ["train", "train", "train", "test"]), inputs=["mscn"]))
    others = {
        "new.png": photograph(9),
        "copy.jpg": photograph(1),
        "tested.bmp": photograph(3),
        "left.png": photograph(2),
    }
    other = prepare(params(database(tmp_path / "other", others, ["test", "test", "test", "train"])))
    assert find_copies(own, other)[["image", "twin"]].to_numpy().tolist() == [["copy.jpg", "1.png"]]
    assert find_copies(other, own).empty


def test_a_result_is_given_without_test_images_that_have_a_twin():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"mos": rng.random(30), "reference": [str(number) for number in range(30)]})
    table["prediction"] = table["mos"].where(table.index < 6, rng.random(30))
    assert without_twins(table) == {}
    table["twin"] = [f"{number}.png" if number < 6 else np.nan for number in range(30)]
    found = without_twins(table)["without_twins"]
    new = table[6:]
    assert found["n"] == 24
    assert found["srcc"] == pytest.approx(new["mos"].corr(new["prediction"], method="spearman"))
    assert found["srcc_low"] <= found["srcc"] <= found["srcc_high"]
    table["twin"] = ["a.png"] * 25 + [np.nan] * 5
    assert without_twins(table) == {"without_twins": {"n": 5}}


@pytest.mark.slow
def test_the_twins_of_the_real_biq2021_are_found_and_no_others(shared):
    real = {"run": "biq", "reader": "biq2021", "folder": str(shared / "datasets" / "biq2021")}
    found = prepare(DataPrepParams(**real, inputs=["rgb"], height=96, width=96))
    assert len(found.twins) == 12
    across = found.twins[found.twins["split_a"] != found.twins["split_b"]]
    assert sorted(across["image_b"]) == ["ss03 (5648).jpg", "ss03 (5712).jpg", "ss03 (5733).jpg", "ss03 (6917).jpg"]
    assert set(across["split_b"]) == {"test"}
    assert found.table["twin"].notna().groupby(found.table["split"]).sum().to_dict() == {
        "test": 4,
        "train": 4,
        "val": 0,
    }
