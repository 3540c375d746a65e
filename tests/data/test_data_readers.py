"""Each reader, on the release's own label file where there is one, with small images under the release's names."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from openpyxl import Workbook
from PIL import Image
from scipy.io import loadmat, savemat

from iqa.data import DataError
from iqa.data.audit import audit, scale
from iqa.data.files import find, stored_paths
from iqa.data.params import DataPrepParams
from iqa.data.prepare import COLUMNS, fingerprint, prepare, read
from iqa.data.readers import LIVE_IMAGES, READERS
from iqa.data.releases import RELEASES, read_releases
from iqa.data.splits import read_split, seeded_split, write_metas
from iqa.study import paths
from iqa.study.params import ParameterError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")


@pytest.fixture
def labels(shared) -> Path:
    """The real label files."""
    return shared / "datasets" / "labels"


def params(reader: str, folder: Path, **changes) -> DataPrepParams:
    return DataPrepParams(**{"run": reader, "reader": reader, "folder": str(folder), "inputs": ["rgb"]} | changes)


def images(folder: Path, names) -> Path:
    """A folder with one small image under many names."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "source.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(source)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        os.link(source, folder / name)
    source.unlink()
    return folder


def workbook(file: Path, rows, title: str = "Sheet1") -> None:
    book = Workbook()
    book.active.title = title
    for row in rows:
        book.active.append(row)
    book.save(file)


def counts(table: pd.DataFrame) -> dict[str, int]:
    return table["split"].value_counts().to_dict()


def assert_no_content_is_in_two_splits(table: pd.DataFrame) -> None:
    assert table.groupby("reference")["split"].nunique().max() == 1


# --- what is known of the releases


def test_every_reader_can_be_named_in_a_parameter_file_and_every_release_has_its_facts():
    for name in READERS:
        assert DataPrepParams(reader=name).reader == name
    with pytest.raises(ParameterError, match=r"key 'reader': .*'koniq' is none of synthetic, koniq10k, spaq, .*, csv"):
        DataPrepParams.build({"reader": "koniq"}, "some file")
    assert set(READERS) == set(RELEASES) | {"metas", "csv"}
    for name, release in RELEASES.items():
        assert "http" not in release.source
        assert release.image_folders and release.label_files
        assert (release.folder == "") == (name == "synthetic")
    assert [name for name, release in RELEASES.items() if not release.higher_is_better] == ["csiq", "live"]


FACTS = {
    "reader": "mydb",
    "title": "My DB",
    "images": "10",
    "low": "1",
    "high": "5",
    "higher_is_better": "no",
    "splits": "train=8; test=2",
    "image_folders": "images | photos; more?",
    "label_files": "labels.csv",
    "distortions": "01=blur; 02=noise",
    "citation": "me",
    "licence": "mine",
    "source": "here",
}


def releases_file(file: Path, *rows: dict[str, str]) -> Path:
    pd.DataFrame(rows).to_csv(file, index=False)
    return file


def test_the_facts_of_a_release_are_read_from_its_row(tmp_path):
    release = read_releases(releases_file(tmp_path / "releases.csv", FACTS))["mydb"]
    assert (release.images, release.references, release.low, release.high) == (10, None, 1.0, 5.0)
    assert (release.higher_is_better, release.synthetic, release.size) == (False, False, "not stated")
    assert release.splits == {"train": 8, "test": 2}
    assert release.image_folders == ("images | photos", "more?")
    assert release.distortions == {"01": "blur", "02": "noise"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": "one"}, r"row 3 \(mydb\), column 'low': .*valid number.*, not 'one'; correct the row"),
        ({"high": ""}, r"row 3 \(mydb\), column 'high': .*required"),
        ({"high": "1"}, r"row 3 \(mydb\): 'low' \(1\) must be below 'high' \(1\)"),
        ({"higher_is_better": ""}, r"row 3 \(mydb\), column 'higher_is_better': .*required"),
        ({"higher_is_better": "lower"}, r"row 3 \(mydb\), column 'higher_is_better': .*, not 'lower'"),
        ({"images": "10,000"}, r"row 3 \(mydb\), column 'images': .*, not '10,000'"),
        ({"splits": "train=8, test=2"}, r"row 3 \(mydb\), column 'splits': write it as in 'train=8; test=2', not"),
        ({"splits": "train=8; val=1"}, r"row 3 \(mydb\): 'splits' add up to 9 images, 'images' is 10"),
        ({"label_files": ""}, r"row 3 \(mydb\), column 'label_files': a part is empty"),
        ({"image_folders": "a; "}, r"row 3 \(mydb\), column 'image_folders': a part is empty; .*, not 'a;'"),
        ({"reader": ""}, r"row 3, column 'reader': '' is empty or stands twice"),
        ({"reader": "other"}, r"row 3, column 'reader': 'other' is empty or stands twice"),
        ({"colour": "red"}, r"row 3 \(mydb\), column 'colour': .*, not 'red'"),
    ],
)
def test_a_wrong_fact_is_an_error_with_its_row_and_column(tmp_path, changes, message):
    file = releases_file(tmp_path / "releases.csv", FACTS | {"reader": "other"}, FACTS | changes)
    with pytest.raises(DataError, match=rf"releases\.csv, {message}"):
        read_releases(file)


def test_a_row_with_a_cell_too_many_is_an_error(tmp_path):
    file = releases_file(tmp_path / "releases.csv", FACTS)
    file.write_text(file.read_text().rstrip() + ",more\n")
    with pytest.raises(DataError, match="row 2: 14 cells, but 13 columns; quote cells that hold a comma"):
        read_releases(file)


# --- KonIQ-10k


@pytest.fixture
def koniq(labels, tmp_path) -> Path:
    folder = tmp_path / "KonIQ-10k"
    file = labels / "koniq10k" / "koniq10k_distributions_sets.csv"
    images(folder / "512x384", pd.read_csv(file)["image_name"])
    shutil.copy(file, folder)
    return folder


def test_koniq10k_has_its_official_split_and_the_deviations_on_the_scale_of_the_mos(koniq):
    found = read(params("koniq10k", koniq))
    assert found.table.columns.tolist() == COLUMNS
    assert counts(found.table) == {"train": 7058, "val": 1000, "test": 2015} == RELEASES["koniq10k"].splits
    first = found.table.iloc[0]
    assert (first["image"], first["split"], first["mos"]) == ("10004473376.jpg", "train", 77.3836206897)
    assert first["mos_std"] == pytest.approx(0.527277894494 * 24.75)
    assert (found.low, found.high, found.higher_is_better) == (1, 100, True)
    assert found.folder.name == "512x384"


def test_the_deviations_of_a_small_koniq10k_are_brought_from_ratings_of_1_to_5_to_the_scale_of_the_mos(tmp_path):
    images(tmp_path / "512x384", ["1.jpg", "2.jpg"])
    text = "image_name,MOS,SD,set\n1.jpg,1.0,0.0,training\n2.jpg,100.0,0.5,test\n"
    (tmp_path / "koniq10k_distributions_sets.csv").write_text(text)
    table, _ = READERS["koniq10k"](params("koniq10k", tmp_path), tmp_path)
    assert table["mos_std"].tolist() == [0.0, 0.5 * (100 - 1) / (5 - 1)]


def test_the_deviation_of_koniq10k_in_its_file_is_that_of_the_ratings_from_1_to_5(labels):
    table = pd.read_csv(labels / "koniq10k" / "koniq10k_distributions_sets.csv")
    shares, ratings = table[["c1", "c2", "c3", "c4", "c5"]], np.arange(1, 6)
    mean = (shares * ratings).sum(axis=1)
    assert np.allclose(np.sqrt((shares * ratings**2).sum(axis=1) - mean**2), table["SD"], atol=0.01)


def test_the_larger_images_of_koniq10k_are_preferred_and_a_parameter_chooses(koniq):
    (koniq / "1024x768").symlink_to("512x384")
    assert read(params("koniq10k", koniq)).folder.name == "1024x768"
    assert read(params("koniq10k", koniq, images="512x384")).folder.name == "512x384"
    with pytest.raises(DataError, match="224x224: this part of the release is missing"):
        read(params("koniq10k", koniq, images="224x224"))


@pytest.mark.slow
def test_the_older_label_file_of_koniq10k_gives_a_seeded_split_and_a_warning(koniq):
    file = koniq / "koniq10k_distributions_sets.csv"
    older = pd.read_csv(file).rename(columns={"MOS": "MOS_zscore"}).drop(columns="set").assign(MOS=3.0)
    older.to_csv(koniq / "koniq10k_scores_and_distributions.csv", index=False)
    expected = read(params("koniq10k", koniq)).table["mos"]
    file.unlink()
    found = read(params("koniq10k", koniq))
    assert found.table["mos"].tolist() == expected.tolist()
    assert counts(found.table) == {"train": 7252, "val": 806, "test": 2015}
    assert found.warnings == ["The release has an official split, which this label file does not hold."]
    assert read(params("koniq10k", koniq, split="seeded")).warnings == []
    with pytest.raises(DataError, match="split 'official', but the label file holds no split; set 'split: seeded'"):
        read(params("koniq10k", koniq, split="official"))


# --- SPAQ


@pytest.mark.parametrize("place", ["Annotations", "."])
def test_spaq_is_read_wherever_its_workbook_lies(labels, tmp_path, place):
    file = labels / "spaq" / "MOS and Image attribute scores.xlsx"
    images(tmp_path / "TestImage", [f"{number:05d}.jpg" for number in range(1, 11126)])
    (tmp_path / place).mkdir(exist_ok=True)
    shutil.copy(file, tmp_path / place)
    found = read(params("spaq", tmp_path))
    assert counts(found.table) == {"train": 8010, "val": 890, "test": 2225}
    assert found.table.iloc[0][["image", "mos"]].tolist() == ["00001.jpg", 48.86]
    assert (found.table["mos"].min(), found.table["mos"].max()) == (2, 96)
    assert (found.low, found.high) == (0, 100)


# --- KADID-10k


@pytest.fixture
def kadid(labels, tmp_path) -> Path:
    table = pd.read_csv(labels / "kadid10k" / "dmos.csv")
    images(tmp_path / "KADID-10k" / "images", table["dist_img"])
    table.to_csv(tmp_path / "KADID-10k" / "dmos.csv", index=False)
    return tmp_path / "KADID-10k"


def test_kadid10k_is_a_quality_score_from_1_to_5_with_distortion_level_and_reference(kadid):
    found = read(params("kadid10k", kadid))
    table = found.table
    assert table.iloc[0].tolist()[:3] == ["I01_01_01.png", 4.57, 0.496]
    assert table.iloc[0].tolist()[4:] == ["I01.png", "gaussian blur", 1]
    assert (table["mos"].min(), table["mos"].max()) == (1, 4.93)
    assert np.all(np.diff(table.groupby("level")["mos"].mean()) < 0), "the mean falls as the level rises"
    assert found.higher_is_better
    assert table["distortion"].nunique() == 25
    assert (table.groupby(["distortion", "level"]).size() == 81).all()
    assert counts(table) == {"train": 59 * 125, "val": 6 * 125, "test": 16 * 125}
    assert_no_content_is_in_two_splits(table)


def test_kadid10k_is_the_same_from_the_releases_scores_and_from_those_rescaled_to_0_1(kadid):
    rescaled = read(params("kadid10k", kadid)).table
    file = kadid / "dmos.csv"
    table = pd.read_csv(file)
    table.assign(dmos=(1 + 3.93 * table["dmos"]).round(2)).to_csv(file, index=False)
    assert read(params("kadid10k", kadid)).table.equals(rescaled)
    table.assign(dmos=((3.93 * table["dmos"]).round(2) / 4).round(5)).to_csv(file, index=False)
    with pytest.raises(DataError, match=r"dmos.csv: all scores lie within 0..1, but not as .*take the release's own"):
        read(params("kadid10k", kadid))


def test_the_column_var_of_kadid10k_holds_standard_deviations(labels):
    table = pd.read_csv(labels / "kadid10k" / "dmos.csv")
    ratings = [1] * 27 + [2] * 3  # the only thirty ratings with the mean 1.1 and none above 2
    row = table[table["dist_img"] == "I01_01_05.png"].iloc[0]
    assert 1 + 3.93 * row["dmos"] == pytest.approx(np.mean(ratings), abs=1e-3)
    assert row["var"] == pytest.approx(np.std(ratings))


def test_a_name_that_is_not_of_the_release_is_an_error_with_its_row(kadid):
    file = kadid / "dmos.csv"
    file.write_text(file.read_text().replace("I01_01_02.png", "other.png"))
    with pytest.raises(DataError, match=r"not a name of this release: .*dmos.csv, row 3: other.png"):
        read(params("kadid10k", kadid))
    file.write_text(file.read_text().replace("other.png", "I01_26_02.png"))  # there are 25 distortions
    with pytest.raises(DataError, match=r"not a name of this release: .*dmos.csv, row 3: I01_26_02.png"):
        read(params("kadid10k", kadid))


# --- AGIQA-3K


def test_agiqa3k_is_for_testing_as_its_facts_say_unless_a_split_is_asked_for(tmp_path):
    names = [f"{number}.jpg" for number in range(10)]
    images(tmp_path / "images", names)
    table = pd.DataFrame({"name": names, "mos_quality": 2.5, "std_quality": 0.5})
    table.to_csv(tmp_path / "data.csv", index=False)
    assert [name for name, release in RELEASES.items() if release.test_only] == ["agiqa3k"]
    assert counts(read(params("agiqa3k", tmp_path)).table) == {"test": 10}
    assert counts(read(params("agiqa3k", tmp_path, split="seeded")).table) == {"train": 7, "val": 1, "test": 2}


# --- LIVE In the Wild


def test_livec_leaves_out_the_seven_training_images_of_its_study(labels, tmp_path):
    shutil.copytree(labels / "livec" / "Data", tmp_path / "ChallengeDB_release" / "Data")
    data = tmp_path / "ChallengeDB_release" / "Data"
    names = [cell.item() for cell in loadmat(data / "AllImages_release.mat")["AllImages_release"].ravel()]
    images(tmp_path / "ChallengeDB_release" / "Images", names[7:])
    images(tmp_path / "ChallengeDB_release" / "Images" / "trainingImages", names[:7])
    found = read(params("livec", tmp_path))  # unpacked one folder deeper
    assert len(found.table) == RELEASES["livec"].images == 1162
    assert found.table.iloc[0][["image", "mos", "mos_std"]].tolist() == [
        "100.bmp",
        pytest.approx(32.5610753),
        pytest.approx(19.1247265),
    ]
    assert found.table["mos"].between(3.42, 92.44).all()
    assert counts(found.table) == {"train": 837, "val": 93, "test": 232}


def test_lists_of_different_length_in_mat_files_are_an_error(labels, tmp_path):
    shutil.copytree(labels / "livec" / "Data", tmp_path / "Data")
    (tmp_path / "Images").mkdir()
    savemat(tmp_path / "Data" / "AllMOS_release.mat", {"AllMOS_release": [[1.0, 2.0]]})
    with pytest.raises(DataError, match=r"differ in length \(1169 of image, 2 of mos, 1169 of mos_std\)"):
        read(params("livec", tmp_path))
    savemat(tmp_path / "Data" / "AllMOS_release.mat", {"other": [1.0]})
    with pytest.raises(DataError, match=r"AllMOS_release.mat: holds no 'AllMOS_release', only other"):
        read(params("livec", tmp_path))
    (tmp_path / "Data" / "AllMOS_release.mat").write_bytes(b"not a MATLAB file")
    with pytest.raises(DataError, match=r"AllMOS_release.mat: cannot be read"):
        read(params("livec", tmp_path))


# --- CSIQ

CSIQ_FOLDERS = {
    "AWGN": "awgn",
    "BLUR": "blur",
    "contrast": "contrast",
    "fnoise": "fnoise",
    "JPEG": "jpeg",
    "jpeg2000": "jpeg2000",
}


@pytest.fixture
def csiq(labels, tmp_path) -> Path:
    """The arrangement of HyperIQA."""
    folder = tmp_path / "CSIQ"
    file = labels / "csiq" / "csiq_label.txt"
    images(folder / "dst_imgs_all", [line.split()[0] for line in file.read_text().splitlines()])
    shutil.copy(file, folder)
    return folder


def as_released(csiq: Path) -> None:
    """The release's own arrangement: a folder per distortion, and a workbook whose table begins at D4."""
    rows = [(), (), (), (None, None, None, "image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos")]
    kinds = {"AWGN": "noise", "BLUR": "blur", "JPEG": "jpeg", "jpeg2000": "jpeg 2000"}
    for line in (csiq / "csiq_label.txt").read_text().splitlines():
        name, dmos = line.split()
        reference, kind, level, _ = name.split(".")
        reference = int(reference) if reference.isdigit() else reference
        rows.append((None, None, None, reference, 1, kinds.get(kind, kind), int(level), 0.05, float(dmos)))
        (csiq / "dst_imgs" / CSIQ_FOLDERS[kind]).mkdir(parents=True, exist_ok=True)
        os.link(csiq / "dst_imgs_all" / name, csiq / "dst_imgs" / CSIQ_FOLDERS[kind] / name)
    workbook(csiq / "csiq.DMOS.xlsx", rows, "all_by_image")
    shutil.rmtree(csiq / "dst_imgs_all")


def test_csiq_is_dmos_and_is_turned_and_the_audit_says_so(csiq):
    database = prepare(params("csiq", csiq))
    assert len(database) == 866
    assert database.table.iloc[0].drop("mos_std").tolist() == [
        "1600.AWGN.1.png",
        0.061989,
        database.table["split"][0],
        "1600",
        "white noise",
        1,
    ]
    assert database.normalise(0.25) == 0.75
    found = audit(database)
    assert found["scale"].startswith(
        "Scores run from 0 (best) to 1 (worst): they are DMOS, lower is better. The table ke"
    )
    assert "turned" in found["scale"]
    assert {check["check"]: check["here"] for check in found["checks"]}["references"] == 30
    assert found["splits"]["test"]["references"] == 6
    assert found["warnings"] == []
    assert_no_content_is_in_two_splits(database.table)


def test_csiq_is_the_same_in_the_arrangement_of_the_release(csiq):
    flat = read(params("csiq", csiq)).table
    as_released(csiq)
    deep = read(params("csiq", csiq)).table
    assert deep["image"][0] == "awgn/1600.AWGN.1.png"
    assert deep["image"].str.split("/").str[1].tolist() == flat["image"].tolist()
    columns = ["mos", "split", "reference", "distortion", "level"]
    assert deep[columns].equals(flat[columns])
    (csiq / "csiq_label.txt").unlink()
    (csiq / "csiq.DMOS.xlsx").rename(csiq / "csiq.DMOS.XLSX")
    (csiq / "dst_imgs" / "._awgn.png").write_bytes(b"\0\5\26\7")
    (csiq / "dst_imgs" / "overview.png").write_bytes(b"not of the release")
    from_workbook = read(params("csiq", csiq)).table
    assert from_workbook[columns].equals(deep[columns])
    assert (from_workbook["mos_std"] == 0.05).all()
    assert prepare(params("csiq", csiq)).pixels(865).shape == (8, 8, 3)


# --- TID2013


@pytest.fixture
def tid(labels, tmp_path) -> Path:
    folder = tmp_path / "TID2013"
    names = [line.split()[1] for line in (labels / "tid2013" / "mos_with_names.txt").read_text().splitlines()]
    images(folder / "distorted_images", [name.lower() for name in names])
    for file in ("mos_with_names.txt", "mos_std.txt"):
        shutil.copyfile(labels / "tid2013" / file, folder / file)
    return folder


def test_tid2013_is_found_whatever_the_letter_case_of_its_names(tid):
    found = read(params("tid2013", tid))
    assert len(found.table) == 3000
    assert found.table.iloc[0].drop("split").tolist() == ["i01_01_1.bmp", 5.51429, 0.13013, "I01", "gaussian noise", 1]
    assert found.table["reference"].nunique() == 25
    assert (found.table.groupby(["distortion", "level"]).size() == 25).all()
    assert found.table["distortion"].nunique() == 24
    assert counts(found.table) == {"train": 18 * 120, "val": 2 * 120, "test": 5 * 120}
    assert_no_content_is_in_two_splits(found.table)
    upper = tid / "distorted_images" / "I01_01_1.BMP"
    (tid / "distorted_images" / "i01_01_1.bmp").rename(upper)
    assert read(params("tid2013", tid)).table["image"][0] == "I01_01_1.BMP"


def test_deviations_of_tid2013_that_do_not_fit_its_names_are_an_error(tid):
    file = tid / "mos_std.txt"
    file.write_text("0.1\n0.2\n")
    with pytest.raises(DataError, match=r"mos_std.txt: 2 lines for 3000 of mos_with_names.txt"):
        read(params("tid2013", tid))
    file.unlink()
    assert read(params("tid2013", tid)).table["mos_std"].isna().all()


# --- LIVE release 2


@pytest.fixture
def live(tmp_path) -> Path:
    """A release with the files of the real one: 982 entries, of which 203 are undistorted."""
    folder = tmp_path / "LIVE" / "databaserelease2"
    names = [f"{place}/img{number}.bmp" for place, count in LIVE_IMAGES.items() for number in range(1, count + 1)]
    images(folder, names)
    rng = np.random.default_rng(0)
    originals = np.zeros((1, 982), dtype=np.uint8)
    originals[0, rng.permutation(982)[:203]] = 1
    originals[0, [0, 1]] = 1, 0
    originals[0, np.flatnonzero(originals)[203:]] = 0
    references = np.array([f"ref{number % 29}.bmp" for number in range(982)], dtype=object)
    dmos = np.linspace(-2.64, 111.77, 982)[None]
    savemat(folder / "refnames_all.mat", {"refnames_all": references[None]})
    savemat(folder / "dmos_realigned.mat", {"dmos_new": dmos, "orgs": originals, "dmos_std": dmos / 10 + 1})
    savemat(folder / "dmos.mat", {"dmos": (dmos + 3) / 2, "orgs": originals})
    return folder.parent


def test_live_follows_the_order_of_its_folders_and_leaves_out_the_originals(live):
    found = read(params("live", live))
    table, dmos = found.table, np.linspace(-2.64, 111.77, 982)
    originals = loadmat(live / "databaserelease2" / "dmos_realigned.mat")["orgs"].ravel()
    assert len(table) == 982 - originals.sum() == RELEASES["live"].images
    assert table["image"][0] == "jp2k/img2.bmp"
    assert table["mos"].tolist() == dmos[originals == 0].tolist()
    assert table["mos_std"].tolist() == (dmos / 10 + 1)[originals == 0].tolist()
    for place, start, end in (("jp2k", 0, 227), ("jpeg", 227, 460), ("wn", 460, 634), ("gblur", 634, 808)):
        here = table["image"].str.startswith(place + "/")
        assert table["mos"][here].tolist() == dmos[start:end][originals[start:end] == 0].tolist()
    assert table["distortion"].iloc[-1] == "fast fading"
    assert table["reference"].nunique() == 29
    assert table["level"].isna().all()
    assert (found.low, found.high, found.higher_is_better) == (-3, 112, False)
    assert "lower is better" in scale(found)
    assert_no_content_is_in_two_splits(table)


def test_live_is_read_from_its_older_scores_too(live):
    (live / "databaserelease2" / "dmos_realigned.mat").unlink()
    table = read(params("live", live)).table
    assert len(table) == 779
    assert table["mos"].max() < 60
    assert table["mos_std"].isna().all()


# --- BID


@pytest.mark.parametrize("place", ["ImageDatabase", "."])
@pytest.mark.parametrize("extension", ["JPG", "jpg"])
def test_bid_is_read_from_its_workbook(tmp_path, place, extension):
    images(tmp_path / place, [f"DatabaseImage{number:04d}.{extension}" for number in range(1, 587)])
    rows = [(number, round(number / 120, 3)) for number in range(1, 587)]
    workbook(tmp_path / "DatabaseGrades.xlsx", [("Image Number", "Average Subjective Grade"), *rows])
    found = read(params("bid", tmp_path))
    assert len(found.table) == RELEASES["bid"].images
    assert found.table.iloc[11][["image", "mos"]].tolist() == [f"DatabaseImage0012.{extension}", 0.1]
    assert counts(found.table) == {"train": 422, "val": 47, "test": 117}


def test_a_workbook_that_is_none_is_an_error(tmp_path):
    (tmp_path / "DatabaseGrades.xlsx").write_text("Image Number,Average Subjective Grade\n")
    with pytest.raises(DataError, match=r"DatabaseGrades.xlsx: cannot be read"):
        read(params("bid", tmp_path))


# --- one's own images

OWN = {"low": 0.0, "high": 100.0, "higher_is_better": True}


@pytest.fixture
def own(tmp_path) -> Path:
    """Images of three scenes in two folders, names with blanks and capitals, and a CSV file of labels."""
    folder = tmp_path / "own"
    names = [
        f"{place}/Scene {scene} ({take}).JPG" for place in ("a", "Deep b") for scene in range(3) for take in (1, 2)
    ]
    images(folder, names)
    rows = [(name, 8.5 * number, name.split("/")[1].split(" (")[0]) for number, name in enumerate(names)]
    pd.DataFrame(rows, columns=["image", "mos", "reference"]).to_csv(folder / "labels.csv", index=False)
    return folder


def test_own_images_are_read_from_a_csv_file_with_the_columns_that_are_known(own):
    found = read(params("csv", own, run="mine", labels=str(own / "labels.csv"), **OWN))
    assert (found.title, found.high, found.release_images) == ("mine", 100, None)
    assert found.table["image"][6] == "Deep b/Scene 0 (1).JPG"
    assert found.table["mos"].tolist() == [8.5 * number for number in range(12)]
    assert counts(found.table) == {"train": 8, "test": 4}
    assert_no_content_is_in_two_splits(found.table)
    assert prepare(params("csv", own, labels=str(own / "labels.csv"), **OWN)).pixels(6).shape == (8, 8, 3)


@pytest.mark.parametrize("change", [str.upper, lambda name: name.replace("/", "\\"), lambda name: f" ./{name} "])
def test_an_image_in_a_folder_is_found_with_back_slashes_other_case_and_blanks_around(own, change):
    expected = read(params("csv", own, labels=str(own / "labels.csv"), **OWN)).table
    table = pd.read_csv(own / "labels.csv")
    table.assign(image=table["image"].map(change)).to_csv(own / "labels.csv", index=False)
    assert read(params("csv", own, labels=str(own / "labels.csv"), **OWN)).table.equals(expected)


def test_an_image_outside_the_folder_and_a_folder_are_missing_images(own):
    table = pd.read_csv(own / "labels.csv")
    names = ["../own/a/Scene 0 (1).JPG", str(own / "a" / "Scene 0 (1).JPG"), "a", ""]
    table.assign(image=[*names, *table["image"][4:]]).to_csv(own / "labels.csv", index=False)
    with pytest.raises(DataError, match=r"4 listed image\(s\) are missing"):
        read(params("csv", own, labels=str(own / "labels.csv"), **OWN))


def test_the_split_of_ones_own_csv_file_may_be_spelled_out_and_a_wrong_one_is_an_error(own):
    table = pd.read_csv(own / "labels.csv")
    names = ["training", "Training", "validation", "test"] * 3
    table.assign(split=names, reference=np.nan, mos_std=2.5, level=np.nan).to_csv(own / "labels.csv", index=False)
    found = read(params("csv", own, labels=str(own / "labels.csv"), **OWN)).table
    assert counts(found) == {"train": 6, "val": 3, "test": 3}
    assert found["reference"].equals(found["image"])
    assert (found["mos_std"] == 2.5).all()
    table.assign(split=["held out", *names[1:]]).to_csv(own / "labels.csv", index=False)
    with pytest.raises(DataError, match=r"not one of train, val, test: .*labels.csv, row 2: held out"):
        read(params("csv", own, labels=str(own / "labels.csv"), **OWN))
    table.assign(mos_std="much").to_csv(own / "labels.csv", index=False)
    with pytest.raises(DataError, match=r"'mos_std' is not a number: .*labels.csv, row 2: much"):
        read(params("csv", own, labels=str(own / "labels.csv"), **OWN))


def test_lists_of_images_and_scores_are_written_and_read_back(own, tmp_path):
    database = prepare(params("csv", own, run="mine", labels=str(own / "labels.csv"), val_fraction=0.5, **OWN))
    files = write_metas(database, tmp_path / "metas")
    assert [file.name for file in files] == ["mine_train.json", "mine_val.json", "mine_test.json"]
    first = json.loads(files[0].read_text())[0]
    assert sorted(first) == ["image", "score"]
    lists = {f"{split}_list": str(file) for split, file in zip(("train", "val", "test"), files, strict=True)}
    back = read(params("metas", own, **lists, **OWN)).table
    columns = ["image", "mos", "split"]
    assert (
        back[columns]
        .sort_values("image", ignore_index=True)
        .equals(database.table[columns].sort_values("image", ignore_index=True))
    )
    without = read(params("metas", own, test_list=lists["test_list"], **OWN))
    assert counts(without.table) == {"test": 4}
    assert without.split_rule == "Every image is for testing."


def test_lists_may_start_from_a_folder_above_the_images(own, tmp_path):
    labels = read(params("csv", own, run="mine", labels=str(own / "labels.csv"), split="all_test", **OWN))
    (file,) = write_metas(labels, tmp_path / "metas", root=tmp_path)
    assert json.loads(file.read_text())[6] == {"image": "own/Deep b/Scene 0 (1).JPG", "score": 51.0}
    assert len(read(params("metas", tmp_path, test_list=str(file), **OWN)).table) == 12
    with pytest.raises(DataError, match="give a `root` above the images"):
        write_metas(labels, tmp_path, root=own / "a")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('{"image": "a.jpg"}', "the list is not as in"),
        ('[{"image": "a.jpg"}]', "entry 1 is not as in"),
        ('[{"image": "a.jpg", "score": 1}, 3]', "entry 2 is not as in"),
        ("[{", "cannot be read"),
    ],
)
def test_a_list_of_another_form_is_an_error_that_shows_the_form(own, text, wrong):
    file = own / "train.json"
    file.write_text(text)
    with pytest.raises(DataError, match=f"train.json: {wrong}"):
        read(params("metas", own, train_list=str(file), **OWN))


def test_an_entry_with_a_wrong_score_or_an_image_in_two_lists_is_an_error(own):
    for name, score in (("train", 101), ("test", None)):
        (own / f"{name}.json").write_text(json.dumps([{"image": "a/Scene 0 (1).JPG", "score": score}]))
    lists = {name: str(own / f"{name}.json") for name in ("train", "test")}
    with pytest.raises(DataError, match=r"range 0 to 100 of metas: .*train.json, entry 1: 101"):
        read(params("metas", own, train_list=lists["train"], **OWN))
    with pytest.raises(DataError, match=r"range 0 to 100 of metas: .*test.json, entry 1: None"):
        read(params("metas", own, test_list=lists["test"], **OWN))
    with pytest.raises(
        DataError, match=r"listed twice: .*train.json, entry 1: a/Scene 0 .1..JPG; .*test.json, entry 1"
    ):
        read(params("metas", own, train_list=lists["train"], test_list=lists["test"], **OWN))


def test_what_ones_own_images_need_is_named_and_what_a_release_has_no_use_for_too(own):
    def error(reader, **changes):
        with pytest.raises(DataError, match=r"^params/demo/data_prep/.*\.yaml: ") as caught:
            read(DataPrepParams(run=reader, reader=reader, **changes))
        return str(caught.value)

    assert "needs folder, low, high, higher_is_better, labels; set them" in error("csv")
    assert "needs train_list or val_list or test_list; set" in error("metas", folder=str(own), **OWN)
    assert "low (5) must be below high (5)" in error("csv", folder="x", labels="y", **OWN | {"low": 5.0, "high": 5.0})
    assert "reader 'biq2021' has no use for high, low; remove them" in error("biq2021", low=0.0, high=1.0)
    assert "reader 'csv' has no use for images, train_list" in error("csv", images="x", train_list="y")
    with pytest.raises(DataError, match=r"absent: no such folder; set `folder` in params/demo/data_prep/csv.yaml"):
        read(params("csv", own / "absent", labels=str(own / "labels.csv"), **OWN))
    with pytest.raises(DataError, match=r"absent\.csv: this label file is missing"):
        read(params("csv", own, labels=str(own / "absent.csv"), **OWN))


# --- splits


def test_a_seeded_split_does_not_depend_on_the_order_of_the_images_and_each_repeat_is_another():
    reference = pd.Series([f"scene {number % 25}" for number in range(500)])

    def test_part(repeat, seed=0, order=slice(None)):
        split = seeded_split(reference[order], 0.8, np.random.default_rng([seed, repeat]))
        return frozenset(reference[split[split == "test"].index])

    assert test_part(1) == test_part(1, order=slice(None, None, -1))
    assert len({test_part(repeat) for repeat in range(1, 11)}) == 10
    assert test_part(1) != test_part(1, seed=1)
    assert len(test_part(1)) == 5
    with pytest.raises(DataError, match=r"a seeded split of 2 reference\(s\) leaves nothing"):
        seeded_split(reference[:2], 0.8, np.random.default_rng(0))


def test_split_and_its_fractions_are_parameters(own):
    def split(**changes):
        return read(params("csv", own, labels=str(own / "labels.csv"), **OWN | changes))

    assert counts(split(split="all_test").table) == {"test": 12}
    assert counts(split(train_fraction=0.34, val_fraction=0).table) == {"train": 4, "test": 8}
    assert counts(split(val_fraction=0.5).table) == {"train": 4, "val": 4, "test": 4}
    assert "(seed 0, repeat 3)" in split(repeat=3).split_rule
    with pytest.raises(DataError, match="`repeat` picks a seeded split, this one is 'all_test'"):
        split(repeat=2, split="all_test")


def test_the_split_of_another_run_is_read_from_its_table(own, tmp_path):
    changes = {"labels": str(own / "labels.csv"), "val_fraction": 0.5, **OWN}
    database = prepare(params("csv", own, repeat=4, **changes))
    file = tmp_path / "database.csv"
    database.table.to_csv(file, index=False)
    again = params("csv", own, split_file=str(file), **changes)
    assert read(again).table.equals(database.table)
    assert "database.csv" in read(again).split_rule
    assert fingerprint(again) == database.fingerprint


def test_a_split_file_that_does_not_fit_is_an_error(own, tmp_path):
    file = tmp_path / "split.csv"
    names = pd.Series(["a/b.png", "c.png"])
    for text, message in (
        ("A\\B.png,test\nc.png,train", None),
        ("a/b.png,test", r"split.csv: lacks images of the database: c.png"),
        ("a/b.png,test\nc.png,train\nd.png,val", r"does not have: .*split.csv, row 4"),
        ("a/b.png,test\nc.png,train\nC.png,val", r"listed twice: .*split.csv, row 4"),
        ("a/b.png,test\nc.png,", r"not one of train, val, test: .*split.csv, row 3: .empty."),
    ):
        file.write_text("image,split\n" + text + "\n")
        if message is None:
            assert read_split(file, names).tolist() == ["test", "train"]
        else:
            with pytest.raises(DataError, match=message):
                read_split(file, names)
    with pytest.raises(ParameterError, match="set 'split' or 'split_file', not both"):
        DataPrepParams.build({"reader": "csv", "split": "seeded", "split_file": "x"}, "some file")


# --- finding files


def test_a_part_of_a_release_is_found_in_other_letter_case_and_one_folder_deeper_but_not_in_leftovers(tmp_path):
    (tmp_path / "__MACOSX" / "Images").mkdir(parents=True)
    with pytest.raises(
        DataError, match=r"Images: this part of the release is missing. Looked for Images or imgs/all in"
    ):
        find(tmp_path, "Images", "imgs/all")
    (tmp_path / "deep" / "IMGS" / "All").mkdir(parents=True)
    assert find(tmp_path, "Images", "imgs/all") == tmp_path / "deep" / "IMGS" / "All"
    (tmp_path / "images").mkdir()
    assert find(tmp_path, "Images", "imgs/all") == tmp_path / "images"
    (tmp_path / "other" / "imgs" / "all").mkdir(parents=True)
    with pytest.raises(DataError, match="'imgs/all' fits several"):
        find(tmp_path, "imgs/all")


def test_a_path_fits_the_exact_name_or_else_all_that_differ_in_case(tmp_path):
    images(tmp_path, ["a/x.png", "A/x.png", "A/X.PNG"])
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system does not tell letter case apart")
    assert stored_paths(tmp_path, ["a/x.png", "A\\x.png", "a/X.png", "A/x.Png", "b/x.png", "a", "", "/a/x.png"]) == [
        ["a/x.png"],
        ["A/x.png"],
        ["a/x.png"],
        ["A/X.PNG", "A/x.png"],
        [],
        [],
        [],
        [],
    ]


def test_ten_thousand_names_cost_one_listing_per_folder(tmp_path, monkeypatch):
    names = [f"{number % 2}/{number}.PNG" for number in range(1000)]
    images(tmp_path, names)
    listed = []
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: listed.append(path) or iterdir(path))
    assert [fits[0] for fits in stored_paths(tmp_path, map(str.lower, names))] == names
    assert len(listed) == 3
