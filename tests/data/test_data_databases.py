"""Readers follow the releases' layouts, and say clearly what is wrong with a release that cannot be used."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from iqa.data import DataError, cache, pixels
from iqa.data.audit import audit
from iqa.data.params import DataPrepParams
from iqa.data.pixels import decode
from iqa.data.prepare import COLUMNS, fingerprint, open_database, prepare, read
from iqa.data.readers import READERS
from iqa.study import code, hashes, param_files, paths
from iqa.study.params import ParameterError

TRAIN, TEST = "Train (Images and MOS).csv", "Test (Images and MOS).csv"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")


@pytest.fixture
def release(tmp_path):
    """A small BIQ2021 in the release's own layout: 20 training and 5 test images."""
    folder = tmp_path / "BIQ2021"
    (folder / "Images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(25):
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(
            folder / "Images" / f"ss ({number}).jpg"
        )
    train = [f"ss ({number}).jpg,{number / 25},," for number in range(20)]
    test = [f"ss ({number}).jpg,{number / 25}" for number in range(20, 25)]
    (folder / TRAIN).write_text("\n".join(["Image Name,MOS,,", *train, ",,,", ""]))
    (folder / TEST).write_text("\n".join(["Image Name,MOS", *test, ""]))
    return folder


def params(folder, **changes):
    return DataPrepParams(**{"run": "biq", "reader": "biq2021", "folder": str(folder), "inputs": ["rgb"]} | changes)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# --- BIQ2021


def test_biq2021_is_read_with_its_official_split_and_stray_columns_and_rows_are_dropped(release):
    database = prepare(params(release))
    assert database.table.columns.tolist() == COLUMNS
    assert {split: len(database.indices(split)) for split in ("train", "val", "test")} == {
        "train": 18,
        "val": 2,
        "test": 5,
    }
    assert (database.low, database.high, database.higher_is_better, database.synthetic) == (0, 1, True, False)
    assert database.table["mos"].tolist() == [number / 25 for number in range(25)]
    assert database.table["mos_std"].isna().all()
    assert database.image_path(3).name == "ss (3).jpg"
    assert database.pixels(3).shape == (24, 32, 3)


def test_the_validation_split_follows_from_the_seed(release):
    def validation(**changes):
        return prepare(params(release, **changes)).indices("val").tolist()

    assert validation() == validation()
    assert len({tuple(validation(seed=seed, val_fraction=0.5)) for seed in range(3)}) == 3
    assert len(validation(val_fraction=0.25)) == 5
    assert validation(val_fraction=0.0) == []


def test_an_image_is_found_whatever_the_letter_case_of_its_name_and_extension(release):
    images = release / "Images"
    (images / "ss (4).jpg").rename(images / "SS (4).JPG")
    database = prepare(params(release))
    assert database.table["image"][4] == "SS (4).JPG"
    assert database.image_path(4).is_file()


def test_the_exact_name_wins_and_two_names_that_differ_in_case_only_are_an_error(release):
    images = release / "Images"
    shutil.copy(images / "ss (4).jpg", images / "SS (4).jpg")
    if len(list(images.glob("[sS][sS] (4).jpg"))) == 1:
        pytest.skip("this file system does not tell letter case apart")
    assert prepare(params(release)).table["image"][4] == "ss (4).jpg"
    (images / "ss (4).jpg").rename(images / "ss (4).JPG")
    with pytest.raises(DataError, match=r"row 6: 'ss \(4\).jpg' fits several files .*SS \(4\).jpg, ss \(4\).JPG"):
        prepare(params(release))


def test_missing_images_are_counted_and_five_are_named(release):
    for number in range(3, 10):
        (release / "Images" / f"ss ({number}).jpg").unlink()
    with pytest.raises(DataError) as error:
        prepare(params(release))
    assert "7 listed image(s) are missing" in str(error.value)
    assert f"{TRAIN}, row 5: 'ss (3).jpg'" in str(error.value)
    assert "ss (7)" in str(error.value)
    assert "ss (8)" not in str(error.value)


@pytest.mark.parametrize("value", ["1.5", "-0.1", "high", ""])
def test_a_mos_outside_the_range_is_an_error_with_file_row_and_value(release, value):
    edit(release / TEST, "ss (22).jpg,0.88", f"ss (22).jpg,{value}")
    with pytest.raises(DataError, match=rf"range 0 to 1 of BIQ2021: .*{TEST[:4]}.*row 4: {value or '.empty.'}"):
        prepare(params(release))


@pytest.mark.parametrize("again", ["ss (1).jpg", "SS (1).JPG"])
def test_an_image_listed_twice_is_an_error(release, again):
    edit(release / TEST, "ss (22).jpg", again)
    with pytest.raises(DataError, match=r"listed twice: .*Train.*row 3: ss \(1\).jpg; .*Test.*row 4"):
        prepare(params(release))


def test_a_missing_folder_says_what_to_get_from_where_and_which_parameter_to_set(tmp_path):
    with pytest.raises(DataError) as error:
        prepare(params(tmp_path / "absent"))
    for part in ("nisarahmedrana/BIQ2021", "420 MB", "Ahmed & Asif 2021", "`folder` in params/demo/data_prep/biq.yaml"):
        assert part in str(error.value)


@pytest.mark.parametrize("name", [TRAIN, TEST])
def test_a_list_without_images_is_an_error_and_not_a_database_for_testing_alone(release, name):
    (release / name).write_text("Image Name,MOS,,\n,,,\n")
    with pytest.raises(DataError, match=r"\(Images and MOS\)\.csv: lists no image"):
        read(params(release))


def test_a_synthetic_database_has_another_fingerprint_where_its_split_is_another(tmp_path):
    def print_of(**changes):
        return fingerprint(DataPrepParams(run="demo", reader="synthetic", **changes))

    (tmp_path / "split.csv").write_text("image,split\n")
    others = [{"split": "seeded"}, {"split": "seeded", "repeat": 2}, {"split": "all_test"}]
    others += [{"split": "seeded", "val_fraction": 0.2}, {"split_file": str(tmp_path / "split.csv")}]
    assert len({print_of(), *(print_of(**changes) for changes in others)}) == 6
    assert print_of(split="official") == print_of(val_fraction=0.5) == print_of()
    with pytest.raises(DataError, match=r"none\.csv: is missing"):
        print_of(split_file=str(tmp_path / "none.csv"))


def test_a_missing_label_file_column_or_image_folder_is_named(release):
    edit(release / TEST, "Image Name", "Name")
    with pytest.raises(DataError, match=r"Test \(Images and MOS\)\.csv: no column Image Name; found: Name, MOS"):
        prepare(params(release))
    (release / TEST).unlink()
    with pytest.raises(DataError, match=r"Test \(Images and MOS\)\.csv: this part of the release is missing"):
        prepare(params(release))
    shutil.rmtree(release / "Images")
    (release / TEST).write_text("Image Name,MOS\n")
    with pytest.raises(DataError, match="Images: this part of the release is missing"):
        prepare(params(release))


def test_a_truncated_jpeg_is_an_error_that_names_the_file(release):
    path = release / "Images" / "ss (7).jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"ss \(7\)\.jpg: cannot be decoded"):
        prepare(params(release))


def test_environment_variables_in_the_folder_are_expanded(release, monkeypatch):
    monkeypatch.setenv("MY_DATABASES", str(release.parent))
    assert len(prepare(params("$MY_DATABASES/BIQ2021"))) == 25


def test_height_without_width_is_a_parameter_error():
    with pytest.raises(ParameterError, match="set both 'height' and 'width', or neither"):
        DataPrepParams.build({"reader": "agiqa3k", "height": 384}, "some file")


# --- AGIQA-3K


def test_agiqa3k_is_read_as_one_test_split_with_deviations(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (16, 16), "red" if name == "a.jpg" else "blue").save(tmp_path / "images" / name)
    (tmp_path / "data.csv").write_text(
        'name,prompt,mos_quality,std_quality,mos_align\na.jpg,"two\nlines, and a comma",0.5,0.2,9\nb.jpg,x,4.5,0.3,9\n'
    )
    database = prepare(params(tmp_path, reader="agiqa3k", inputs=["rgb", "mscn"]))
    assert database.table["mos"].tolist() == [0.5, 4.5]
    assert database.table["mos_std"].tolist() == [0.2, 0.3]
    assert database.indices("test").tolist() == [0, 1]
    assert database.high == 5
    assert database.ceiling_srcc() is None


# --- the database and its audit


def test_scores_are_normalised_to_one_for_the_best_and_back(release):
    database = prepare(params(release))
    assert database.normalise([0, 0.25, 1]).tolist() == [0, 0.25, 1]
    database.low, database.high, database.higher_is_better = 1, 5, False
    assert database.normalise([1, 2, 5]).tolist() == [1, 0.75, 0]
    scores = np.linspace(0, 6, 13)
    assert np.allclose(database.denormalise(database.normalise(scores)), scores)


def test_an_input_that_was_not_cached_is_an_error_with_its_remedy(release):
    with pytest.raises(DataError, match="holds no 'mscn' input, only rgb; add it to `inputs`"):
        prepare(params(release)).pixels(0, "mscn")


def test_the_audit_says_what_is_there(release):
    database = prepare(params(release))
    found = audit(database)
    assert (found["name"], found["title"], found["n"]) == ("biq", "BIQ2021", 25)
    assert found["splits"] == {
        "train": {"n": 18, "references": 18},
        "val": {"n": 2, "references": 2},
        "test": {"n": 5, "references": 5},
    }
    assert found["mos"] == pytest.approx({"mean": 0.48, "std": pd.Series(range(25)).std() / 25, "min": 0, "max": 0.96})
    assert found["mos_std_mean"] is None
    assert (found["height"], found["width"], found["bytes"]) == (24, 32, 25 * 24 * 32 * 3)
    assert found["fingerprint"] == fingerprint(params(release))
    assert found["scale"] == "Scores run from 0 (worst) to 1 (best); higher is better."
    assert found["split_rule"].startswith(
        "The split that the label files hold. Of the training references 0.1 are held"
    )
    assert found["sizes"] == [{"height": 24, "width": 32, "n": 25}]
    assert found["checks"][0] == {"check": "images", "here": 25, "release": 12000}
    assert found["warnings"] == [
        "25 images are here, 12000 are in the release.",
        "20 train images of the official split are here, 10000 are in the release.",
        "5 test images of the official split are here, 2000 are in the release.",
    ]


def test_the_audit_warns_of_copies_across_splits_of_enlarged_images_and_of_different_sizes(release):
    images = release / "Images"
    shutil.copy(images / "ss (20).jpg", images / "ss (0).jpg")
    Image.new("RGB", (60, 30)).save(images / "ss (5).jpg")
    first, second = audit(prepare(params(release, height=30, width=40)))["warnings"][3:5]
    assert first == "24 image(s) are smaller than the stored size and were enlarged."
    assert second.startswith("The images have 2 different stored sizes; 24 are 30x40")
    copies = audit(prepare(params(release, val_fraction=0.0)))["warnings"][-1]
    assert copies.startswith(
        "1 pair(s) of images in different splits are one photograph saved twice: ss (0).jpg = ss (20)"
    )


def test_a_reference_in_two_splits_is_an_error(release):
    database = prepare(params(release))
    database.table.loc[[0, 22], "reference"] = "same scene"
    with pytest.raises(DataError, match="references in more than one split: same scene"):
        audit(database)


# --- fingerprints


def test_the_fingerprint_follows_labels_images_and_size_and_nothing_else(release):
    first = fingerprint(params(release))
    assert fingerprint(params(release, workers=3, inputs=["mscn"], run="other")) == first
    found = {first, fingerprint(params(release, height=20, width=20)), fingerprint(params(release, seed=1))}
    edit(release / TEST, "0.88", "0.89")
    found.add(fingerprint(params(release)))
    shutil.copy(release / "Images" / "ss (1).jpg", release / "Images" / "ss (2).jpg")
    found.add(fingerprint(params(release)))
    assert len(found) == 5
    assert fingerprint(params(release, split="all_test")) not in found


def test_the_identity_of_an_input_follows_the_code_that_makes_its_pixels_and_the_fingerprint_does_not(
    release, monkeypatch
):
    def hashes():
        opened = prepare(params(release))
        return opened.fingerprint, *(cache.contents_hash(opened.fingerprint, kind) for kind in ("rgb", "mscn"))

    first = hashes()
    assert len(set(first)) == 3 and hashes() == first
    code = {kind: cache.pixel_code(kind) for kind in pixels.PIXELS}
    monkeypatch.setattr(cache, "pixel_code", (code | {"mscn": "changed"}).get)
    assert [now == before for now, before in zip(hashes(), first, strict=True)] == [True, True, False]
    edit(release / TEST, "0.88", "0.89")
    assert not set(hashes()) & set(first)


def test_the_fingerprint_does_not_depend_on_where_the_release_lies(release, tmp_path):
    shutil.copytree(release, tmp_path / "moved")
    assert fingerprint(params(release)) == fingerprint(params(tmp_path / "moved"))


def test_an_unchanged_database_is_opened_and_fingerprinted_without_reading_an_image(release, monkeypatch):
    old = time.time() - 60
    for path in (release / "Images").iterdir():
        os.utime(path, (old, old))
    first = prepare(params(release)).fingerprint
    hash_of = code.file_hash
    monkeypatch.setattr(hashes, "file_hash", lambda file: None if file.suffix == ".jpg" else hash_of(file))
    monkeypatch.setattr(cache, "_build", None)
    assert prepare(params(release)).fingerprint == fingerprint(params(release)) == first


def imported(modules, *wanted):
    """Which of the wanted modules are there after some modules were imported."""
    code = f"import sys, {modules}; print([name for name in {wanted} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_reading_databases_imports_no_heavy_package():
    assert imported("iqa.data.prepare, iqa.data.audit", "torch", "skimage", "sklearn", "piq") == "[]"


@pytest.mark.slow
def test_a_fit_and_a_prediction_import_no_reader():
    assert imported("iqa.training.fit, iqa.model.predictor", "iqa.data.releases", "iqa.data.synthetic") == "[]"


# --- real images


def test_the_real_biq2021_is_read(shared):
    real = params(shared / "datasets" / "biq2021")
    labels = read(real)
    assert labels.table["split"].value_counts().to_dict() == {"train": 1350, "test": 500, "val": 150}
    assert labels.table["mos"].min() < 0.2 < 0.8 < labels.table["mos"].max()
    assert decode(labels.folder / labels.table["image"][0]).size == (512, 512)


def test_the_real_agiqa3k_is_read(shared):
    real = params(shared / "datasets" / "agiqa3k", reader="agiqa3k")
    labels = read(real)
    assert labels.table["split"].value_counts().to_dict() == {"test": 600}
    assert labels.table["mos_std"].notna().all()
    assert decode(labels.folder / labels.table["image"][0]).mode == "RGB"


def test_every_data_prep_file_of_every_study_can_be_loaded():
    for folder in sorted(paths.PARAMS.glob("*/data_prep")):
        for run in param_files.run_names(folder.parent.name, "data_prep"):
            assert param_files.load(DataPrepParams, folder.parent.name, run).reader in READERS


def test_the_smoke_study_opens_its_databases_by_name():
    database = open_database("smoke", "demo_photos")
    assert (database.name, database.synthetic) == ("demo_photos", True)
    assert database.pixels(0, "mscn").shape == database.pixels(0, "rgb").shape == (192, 256, 3)
