"""Files as people have them: what can be read in one way only is read, anything else is an error with its remedy."""

import json
import os
import shutil
import unicodedata

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from iqa.data import DataError, synthetic
from iqa.data.audit import audit, with_skipped
from iqa.data.params import DataPrepParams
from iqa.data.prepare import fingerprint, prepare, read
from iqa.data.splits import read_split
from iqa.study import paths

NAMES = ["a.png", "b.png", "c.png", "é.png"]
PLAIN = "image,mos\na.png,10\nb.png,50\nc.png,90\né.png,70\n"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    """A folder of four images."""
    made = tmp_path / "im"
    made.mkdir()
    for number, name in enumerate(NAMES):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(made / name)
    return made


def params(folder, **changes):
    own = {"run": "own", "reader": "csv", "low": 0.0, "high": 100.0, "higher_is_better": True, "inputs": ["rgb"]}
    return DataPrepParams(**own | {"folder": str(folder), "labels": str(folder.parent / "labels.csv")} | changes)


def write(folder, text, encoding="utf-8"):
    (folder.parent / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode(encoding))


# --- labels


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_label_file_is_read_in_any_usual_encoding_and_with_any_usual_separator(folder, encoding, mark, capsys):
    write(folder, PLAIN.replace(",", mark), encoding)
    assert read(params(folder)).table[["image", "mos"]].to_numpy().tolist() == [
        ["a.png", 10],
        ["b.png", 50],
        ["c.png", 90],
        ["é.png", 70],
    ]
    assert ("Windows-1252" in capsys.readouterr().out) == (encoding in ("latin-1", "cp1252"))


@pytest.mark.parametrize("ends", [("", ","), (",", ","), ("", ",,"), (",,", ""), ("", " , ")])
def test_commas_at_the_ends_of_rows_move_no_column(folder, ends):
    header, *rows = PLAIN.split()
    write(folder, "\n".join([header + ends[0], *(row + ends[1] for row in rows)]))
    assert read(params(folder)).table["mos"].tolist() == [10, 50, 90, 70]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "labels.csv: is empty"),
        ("\n\n", "no column image, mos; found: nothing"),
        (b"\xef\xbb\xbf", "no column image, mos; found: nothing"),
        ("image,mos\n", "labels.csv: lists no image"),
        (PLAIN.encode("utf-16-le"), "labels.csv: is no text in UTF-8, or UTF-16 without its mark"),
        (PLAIN.encode("utf-32"), "labels.csv: is no text in UTF-8"),
        (bytes(range(1, 256)), "labels.csv: its encoding is neither UTF-8 nor Windows-1252"),
        (LFS, "labels.csv: is a Git LFS pointer .* `git lfs pull`"),
        ("<!DOCTYPE html>\n<html>", "labels.csv: is a web page"),
        ("\n <HTML>", "labels.csv: is a web page"),
        (PLAIN.replace("10", "10,blurred"), "labels.csv: more cells than columns: row 2; quote"),
        (PLAIN.replace("image,mos", "image,mos,mos"), "column 'mos' stands twice"),
        (PLAIN.replace("10", "nan"), "outside the range 0 to 100 of own: .*row 2: nan"),
        (PLAIN.replace("10", "-inf"), "outside the range 0 to 100 of own: .*row 2: -inf"),
        (PLAIN.replace("10", ""), "outside the range 0 to 100 of own: .*row 2: .empty."),
        ("image,mos,mos_std\na.png,10,-0.5\n", "'mos_std' is negative: .*row 2: -0.5"),
        ("image,mos,mos_std\na.png,10,inf\n", "'mos_std' is not a number: .*row 2: inf"),
        ("image,mos,mos_std\na.png,10,nan\n", "'mos_std' is not a number: .*row 2: nan"),
        ("image,mos,level\na.png,10,NA\n", "'level' is not a number: .*row 2: NA"),
        (f"image,mos\n{'x' * 5000},10\n", r"1 listed image\(s\) are missing: .*row 2: 'x{80}'"),
        ("image,mos,split\na.png,10,null\n", "not one of train, val, test: .*row 2: null"),
    ],
)
def test_a_label_file_that_cannot_be_used_is_an_error_that_says_why(folder, text, message):
    write(folder, text)
    with pytest.raises(DataError, match=message) as error:
        read(params(folder))
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("name", ["NA", "null", "None", "nan", "n/a", "N/A", "NULL", "#N/A", "-"])
def test_a_content_may_have_any_name(folder, name):
    write(
        folder, f"image,mos,reference,distortion\na.png,10,{name},{name}\nb.png,50,{name},x\nc.png,90,,\né.png,7,d,\n"
    )
    table = read(params(folder)).table
    assert table["reference"].tolist() == [name, name, "c.png", "d"]
    assert table["distortion"].fillna("").tolist() == [name, "x", "", ""]
    assert table["split"][0] == table["split"][1]


@pytest.mark.parametrize("kind", ["folder", "pipe", "missing"])
def test_what_is_no_file_cannot_be_a_label_file(folder, kind):
    labels = folder.parent / "labels.csv"
    if kind == "folder":
        labels.mkdir()
    if kind == "pipe":
        os.mkfifo(labels)
    words = {"folder": "is a folder", "pipe": "is no regular file", "missing": "this label file is missing"}
    with pytest.raises(DataError, match=f"labels.csv: {words[kind]}"):
        read(params(folder))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "t.json: lists no image; fill it, or remove `train_list`"),
        ("{}", "t.json: the list is not as in"),
        ("[[]]", "t.json: entry 1 is not as in"),
        ("[", "t.json: cannot be read"),
        ("", "t.json: is empty"),
        ('[{"image": "a.png", "score": NaN}]', "outside the range .*t.json, entry 1: nan"),
        ('[{"image": "a.png", "score": null}]', "outside the range .*t.json, entry 1: None"),
        (LFS, "t.json: is a Git LFS pointer"),
    ],
)
def test_a_list_of_images_that_cannot_be_used_is_an_error(folder, text, message):
    lists = {name: str(folder.parent / f"{name[0]}.json") for name in ("train_list", "test_list")}
    (folder.parent / "t.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read(params(folder, reader="metas", labels=None, train_list=lists["train_list"]))
    (folder.parent / "v.json").write_text(json.dumps([{"image": "b.png", "score": 3}]))
    given = {"train_list": str(folder.parent / "v.json"), "val_list": str(folder.parent / "none.json")}
    with pytest.raises(DataError, match=r"none\.json: this label file is missing"):
        read(params(folder, reader="metas", labels=None, **given))


# --- releases


@pytest.mark.parametrize("damage", ["", LFS, "<!doctype html>", "not a workbook", b"PK\x03\x04 cut"])
def test_a_damaged_workbook_or_matlab_file_of_a_release_is_named(tmp_path, damage):
    content = damage if isinstance(damage, bytes) else damage.encode()
    for reader, files, place in (
        ("spaq", ["MOS and Image attribute scores.xlsx"], "TestImage"),
        ("livec", [f"Data/All{name}_release.mat" for name in ("Images", "MOS", "StdDev")], "Images"),
    ):
        (tmp_path / reader / place).mkdir(parents=True)
        (tmp_path / reader / "Data").mkdir()
        for file in files:
            (tmp_path / reader / file).write_bytes(content)
        with pytest.raises(DataError, match=r"(scores\.xlsx|_release\.mat): (is|cannot)"):
            read(DataPrepParams(run=reader, reader=reader, folder=str(tmp_path / reader)))


@pytest.mark.parametrize(
    ("reader", "text", "scale"),
    [
        ("koniq10k", "image_name,MOS,SD,set\n{0}.png,1.5,.5,training\n", "1 to 5"),
        ("koniq10k", "image_name,MOS,SD,set\n{0}.png,1.0{0},.5,training\n", "1 to 5"),
        ("biq2021", None, None),
    ],
)
def test_scores_of_a_release_on_another_scale_are_refused(tmp_path, reader, text, scale):
    names = [str(number) for number in range(8)]
    (tmp_path / "1024x768").mkdir()
    (tmp_path / "Images").mkdir()
    for number, name in enumerate(names):
        image = Image.fromarray(np.full((8, 8, 3), number, np.uint8))
        image.save(tmp_path / "1024x768" / f"{name}.png")
        image.save(tmp_path / "Images" / f"{name}.png")
    chosen = DataPrepParams(run="other", reader=reader, folder=str(tmp_path))
    if text is None:  # scores on the release's own scale of 0 to 1
        rows = "".join(f"{name}.png,0.{name}\n" for name in names)
        for part in ("Train", "Test"):
            (tmp_path / f"{part} (Images and MOS).csv").write_text("Image Name,MOS\n" + rows[:60] * (part == "Train"))
        (tmp_path / "Test (Images and MOS).csv").write_text("Image Name,MOS\n" + rows[60:])
        assert len(read(chosen).table) == 8
        return
    header, row = text.split("\n")[:2]
    file = tmp_path / "koniq10k_distributions_sets.csv"
    file.write_text("\n".join([header, *(row.format(name) for name in names)]))
    with pytest.raises(DataError, match=f"KonIQ-10k: the scores run from .* as on a scale of {scale}.*column MOS of"):
        read(chosen)


def test_own_scores_that_fill_a_small_part_of_their_range_are_warned_of(folder):
    shutil.copy(folder / "a.png", folder / "e.png")
    write(folder, "image,mos\n" + "".join(f"{name},{1 + n}\n" for n, name in enumerate([*NAMES, "e.png"])))
    (warning,) = read(params(folder)).warnings
    assert warning.startswith("The scores run from 1 to 5, as on a scale of 1 to 5, a small part of the range 0 to 100")
    assert read(params(folder, high=5.0)).warnings == []


# --- names


@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_accent_may_be_written_in_two_ways(folder, listed, stored):
    (folder / "é.png").rename(folder / unicodedata.normalize(stored, "é.png"))
    write(folder, unicodedata.normalize(listed, PLAIN))
    assert len(prepare(params(folder))) == 4
    split = folder.parent / "split.csv"
    names = pd.Series([unicodedata.normalize(stored, "é.png")])
    split.write_text(unicodedata.normalize(listed, "image,split\né.png,test\n"))
    assert read_split(split, names).tolist() == ["test"]


def test_what_a_mac_leaves_behind_is_passed_over(folder):
    write(folder, PLAIN)
    images = folder.parent / "release"
    (images / "__MACOSX" / "Images").mkdir(parents=True)
    (images / "Images").mkdir()
    shutil.copy(folder / "a.png", images / "Images" / "a.png")
    (images / "Images" / "._a.png").write_bytes(b"\0\5\26\7")
    for part in ("Train", "Test"):
        (images / f"._{part} (Images and MOS).csv").write_bytes(b"\0\5\26\7")
    (images / "Train (Images and MOS).csv").write_text("Image Name,MOS\na.png,0.5\n")
    (images / "Test (Images and MOS).csv").write_text("Image Name,MOS\nA.PNG,0.5\n")
    with pytest.raises(DataError, match="listed twice"):
        read(DataPrepParams(run="biq", reader="biq2021", folder=str(images)))


# --- images


BROKEN = {
    "cut.png": (None, "cannot be decoded"),
    "lfs.png": (LFS.encode(), "cannot be decoded (it is a Git LFS pointer in place of the file; run `git lfs pull`"),
    "web.png": (b"<html>", "cannot be decoded (it is a web page"),
    "empty.png": (b"", "cannot be decoded (it is empty"),
}


@pytest.fixture
def broken(folder):
    """Four images more that cannot be decoded, one that is missing, and a pipe."""
    for name, (content, _) in BROKEN.items():
        (folder / name).write_bytes((folder / "a.png").read_bytes()[:300] if content is None else content)
    os.mkfifo(folder / "pipe.png")
    return folder


def test_an_error_names_every_image_that_is_missing_or_broken(broken):
    write(broken, PLAIN + "gone.png,5\npipe.png,5\n")
    with pytest.raises(
        DataError, match=r"2 listed image\(s\) are missing: .*'gone.png'; .*'pipe.png'; .*`missing: skip`"
    ):
        prepare(params(broken))
    write(broken, PLAIN + "".join(f"{name},5\n" for name in BROKEN))
    with pytest.raises(DataError) as error:
        prepare(params(broken))
    for name, (_, problem) in BROKEN.items():
        assert f"{name}: {problem}" in str(error.value)


def test_images_are_skipped_when_asked_for_counted_and_named(broken):
    write(broken, PLAIN + "".join(f"{name},5\n" for name in (*BROKEN, "gone.png", "pipe.png")))
    chosen = params(broken, missing="skip")
    database = prepare(chosen)
    found = audit(database)
    assert database.table["image"].tolist() == NAMES
    assert [database.pixels(number)[0, 0].tolist() for number in range(4)] == [
        np.asarray(Image.open(broken / name))[0, 0].tolist() for name in NAMES
    ]
    checks = {check["check"]: check["here"] for check in found["checks"]}
    assert (checks["missing images"], checks["unreadable images"], checks["images"]) == (2, 4, 4)
    assert {each["image"]: each["why"] for each in found["skipped"]} == {
        **dict.fromkeys(BROKEN, "cannot be decoded"),
        "gone.png": "missing",
        "pipe.png": "missing",
    }
    assert "2 image(s) were skipped (missing): gone.png; pipe.png." in found["warnings"]
    assert fingerprint(chosen) == database.fingerprint
    file = broken.parent / "database.csv"
    with_skipped(database).to_csv(file, index=False)
    assert pd.read_csv(file)["split"].value_counts()["skipped"] == 6
    assert read_split(file, database.table["image"]).tolist() == database.table["split"].tolist()
    shutil.copy(broken / "a.png", broken / "gone.png")
    assert fingerprint(chosen) != database.fingerprint


def test_where_every_image_is_broken_nothing_is_skipped_silently(folder):
    write(folder, PLAIN)
    for name in NAMES:
        (folder / name).write_bytes(b"no image")
    with pytest.raises(DataError, match="none of 4 images can be decoded"):
        prepare(params(folder, missing="skip"))


@pytest.mark.slow
def test_a_changed_or_incomplete_synthetic_database_is_made_again(monkeypatch, capsys):
    plan = synthetic.plan
    monkeypatch.setattr(synthetic, "plan", lambda *how: list({each.split: each for each in plan(*how)}.values()))
    chosen = DataPrepParams(run="demo", reader="synthetic", scale=0.01, inputs=["rgb"])
    first = prepare(chosen).table
    (folder,) = paths.CACHE.glob("generated-main-*")
    image = sorted((folder / "images").iterdir())[3]
    labels = (folder / "labels.csv").read_text()
    for damage in (
        lambda: (folder / "labels.csv").write_text(labels.replace("train", "test", 1)),
        lambda: image.write_bytes(image.read_bytes()[:-9] + bytes(9)),
        lambda: (folder / "hashes.json").write_text("[1]"),
    ):
        damage()
        assert prepare(chosen).table.equals(first)
        assert "made again" in capsys.readouterr().out
    assert prepare(chosen).table.equals(first)
    assert "made again" not in capsys.readouterr().out
