"""Published databases of rated images: what is known of each release, and how its labels are read.

A reader is a function `(params, folder) -> (table, images)` of some lines. The table has one row per image, as the
release says it: `row` (where it stands, for error messages), `image` (its path inside the folder `images`), `mos`, and
where known `mos_std`, `split`, `reference`, `distortion`, `level`. What differs between databases as a fact (range and
direction of the scores, counts, licence, source) stands in `RELEASES`; what all share (finding the files, checking the
scores, splitting) is done by `iqa.data.prepare`.
"""

import json
import re
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from iqa import paths
from iqa.config import DataPrepParams
from iqa.data import DataError
from iqa.data.files import find, look_for, some


@dataclass(frozen=True)
class Release:
    """What is known of a published database before it is read.

    Args:
        title: name for tables and figures.
        images: number of images in the whole release, `None` if it has no fixed number.
        low, high: range of the scores.
        citation: who made it, when, and the title of the paper.
        licence: as stated by its authors.
        source: where it can be had, without an address.
        size: of the download, `?` where not known.
        folder: where it is looked for when the parameter `folder` is not set.
        higher_is_better: direction of the scores.
        synthetic: True if no person has rated the images.
        references: number of undistorted contents, `None` where each image has its own.
        splits: number of images per split of an official split, `None` where there is none.
        notes: what a reader of its scores should know, in sentences.
    """

    title: str
    images: int | None
    low: float
    high: float
    citation: str
    licence: str
    source: str
    size: str = "?"
    folder: str = ""
    higher_is_better: bool = True
    synthetic: bool = False
    references: int | None = None
    splits: dict[str, int] | None = None
    notes: str = ""


FREE_WITH_CITATION = "free for any purpose, with its copyright notice and a citation"
NOT_STATED = "not stated here; see the release"

RELEASES = {
    "synthetic": Release(
        title="synthetic",
        images=None,
        low=0,
        high=100,
        citation="Generated: dead leaves (Lee, Mumford & Huang 2001) and bundled photographs, rated by simulated "
        "observers around HaarPSI (Reisenhofer et al. 2018)",
        licence="Generated images: as this project. Photographs: as bundled with scikit-image (CC0 or public domain), "
        "scikit-learn (CC BY 2.0) and Matplotlib (public domain)",
        source="made by iqa.data.synthetic",
        synthetic=True,
    ),
    "koniq10k": Release(
        title="KonIQ-10k",
        images=10_073,
        low=1,
        high=100,
        citation="Hosu, Lin, Sziranyi & Saupe 2020, KonIQ-10k: an ecologically valid database for deep learning of "
        "blind image quality assessment",
        licence="labels and split: MIT; images: " + NOT_STATED,
        source="the MMSP database site of the University of Konstanz; the label file with the official split is in the "
        "repository subpic/koniq, in `metadata/`",
        size="about 6 GB in both sizes",
        folder="data/KonIQ-10k",
        splits={"train": 7_058, "val": 1_000, "test": 2_015},
        notes="The MOS is the release's z-score MOS on 1..100. The release gives the deviation of the ratings on their "
        "scale 1..5; it is multiplied by 99/4 here, the ratio of the two ranges.",
    ),
    "spaq": Release(
        title="SPAQ",
        images=11_125,
        low=0,
        high=100,
        citation="Fang, Zhu, Zeng, Ma & Wang 2020, Perceptual quality assessment of smartphone photography",
        licence="research use",
        source="the links in the repository h4nwei/SPAQ",
        size="35 GB",
        folder="data/SPAQ",
    ),
    "kadid10k": Release(
        title="KADID-10k",
        images=10_125,
        low=1,
        high=5,
        citation="Lin, Hosu & Saupe 2019, KADID-10k: a large-scale artificially distorted IQA database",
        licence=NOT_STATED,
        source="the MMSP database site of the University of Konstanz",
        size="3.1 GB",
        folder="data/KADID-10k",
        references=81,
        notes="The column is called `dmos`, but a higher score is a better image (the mean falls from level 1 to level "
        "5), so it is not turned. A label file that was rescaled to 0..1 by (dmos - 1) / 3.93 is brought back to 1..5. "
        "The column `var` holds standard deviations (0.3 for 27 ratings of 1 and three of 2).",
    ),
    "agiqa3k": Release(
        title="AGIQA-3K",
        images=2_982,
        low=0,
        high=5,
        citation="Li et al. 2023, AGIQA-3K: an open database for AI-generated image quality assessment",
        licence="MIT",
        source="the database repository lcysyzxdxc/AGIQA-3k-Database",
        folder="data/AGIQA-3K",
    ),
    "livec": Release(
        title="LIVE In the Wild",
        images=1_162,
        low=0,
        high=100,
        citation="Ghadiyaram & Bovik 2016, Massive online crowdsourced study of subjective and objective picture "
        "quality",
        licence=FREE_WITH_CITATION,
        source="the Laboratory for Image and Video Engineering, University of Texas at Austin (ChallengeDB_release)",
        size="330 MB",
        folder="data/LIVE-itW",
        notes="The seven images that trained the observers (t1 to t7) are left out.",
    ),
    "csiq": Release(
        title="CSIQ",
        images=866,
        low=0,
        high=1,
        higher_is_better=False,
        citation="Larson & Chandler 2010, Most apparent distortion: full-reference image quality assessment and the "
        "role of strategy",
        licence="images: " + NOT_STATED + "; csiq_label.txt: MIT",
        source="the authors' site; the label file csiq_label.txt comes with the HyperIQA code (SSL92/hyperIQA)",
        size="380 MB",
        folder="data/CSIQ",
        references=30,
    ),
    "tid2013": Release(
        title="TID2013",
        images=3_000,
        low=0,
        high=9,
        citation="Ponomarenko et al. 2015, Image database TID2013: peculiarities, results and perspectives",
        licence=NOT_STATED,
        source="Nikolay Ponomarenko's site",
        size="910 MB",
        folder="data/TID2013",
        references=25,
        notes="The deviations are those of mos_std.txt. At 0.13 on average they are too small for single ratings; "
        "they are probably those of the mean.",
    ),
    "live": Release(
        title="LIVE",
        images=779,
        low=-3,
        high=112,
        higher_is_better=False,
        citation="Sheikh, Sabir & Bovik 2006, A statistical evaluation of recent full reference image quality "
        "assessment algorithms",
        licence=FREE_WITH_CITATION,
        source="the Laboratory for Image and Video Engineering, University of Texas at Austin (databaserelease2)",
        size="720 MB",
        folder="data/LIVE",
        references=29,
        notes="The realigned DMOS of the 779 distorted images run from -2.64 to 111.77, hence the range -3 to 112. The "
        "203 undistorted originals among the 982 entries are left out.",
    ),
    "bid": Release(
        title="BID",
        images=586,
        low=0,
        high=5,
        citation="Ciancio et al. 2011, No-reference blur assessment of digital pictures based on multifeature "
        "classifiers",
        licence=NOT_STATED,
        source="the authors' site at the Federal University of Rio de Janeiro (UFRJ)",
        folder="data/BID",
    ),
    "biq2021": Release(
        title="BIQ2021",
        images=12_000,
        low=0,
        high=1,
        citation="Ahmed & Asif 2021, BIQ2021: a large-scale blind image quality assessment database",
        licence="none stated",
        source="the public git repository nisarahmedrana/BIQ2021 (420 MB)",
        size="420 MB",
        folder="data/BIQ2021",
        splits={"train": 10_000, "test": 2_000},
    ),
}

Reader = Callable[[DataPrepParams, Path], tuple[pd.DataFrame, Path]]

SPLIT_NAMES = {"training": "train", "validation": "val", "testing": "test"}

KADID_DISTORTIONS = dict(
    enumerate(
        (
            *("gaussian blur", "lens blur", "motion blur", "color diffusion", "color shift", "color quantization"),
            *("color saturation 1", "color saturation 2", "jpeg2000", "jpeg", "white noise", "white noise in color"),
            *("impulse noise", "multiplicative noise", "denoise", "brighten", "darken", "mean shift", "jitter"),
            *("non-eccentricity patch", "pixelate", "quantization", "color block", "high sharpen", "contrast change"),
        ),
        start=1,
    )
)
KADID_SPAN = 3.93  # the release's scores run from 1 to 4.93

TID_DISTORTIONS = dict(
    enumerate(
        (
            *("gaussian noise", "noise in color", "spatially correlated noise", "masked noise", "high frequency noise"),
            *("impulse noise", "quantization noise", "gaussian blur", "denoise", "jpeg", "jpeg2000"),
            *("jpeg transmission errors", "jpeg2000 transmission errors", "non-eccentricity pattern", "local blocks"),
            *("mean shift", "contrast change", "color saturation", "multiplicative noise", "comfort noise"),
            *("lossy compression of noise", "color quantization with dither", "chromatic aberration"),
            "sparse sampling",
        ),
        start=1,
    )
)

# by the second part of an image's name: its folder in `dst_imgs/`, the name in the workbook, and what it is
CSIQ_DISTORTIONS = {
    "AWGN": ("awgn", "noise", "white noise"),
    "BLUR": ("blur", "blur", "gaussian blur"),
    "contrast": ("contrast", "contrast", "contrast change"),
    "fnoise": ("fnoise", "fnoise", "pink noise"),
    "JPEG": ("jpeg", "jpeg", "jpeg"),
    "jpeg2000": ("jpeg2000", "jpeg 2000", "jpeg2000"),
}

# in the order of the label files: folder, number of images in it, what it is
LIVE_DISTORTIONS = [
    ("jp2k", 227, "jpeg2000"),
    ("jpeg", 233, "jpeg"),
    ("wn", 174, "white noise"),
    ("gblur", 174, "gaussian blur"),
    ("fastfading", 174, "fast fading"),
]


def read_synthetic(params: DataPrepParams, folder: Path) -> tuple[pd.DataFrame, Path]:
    """A demo database, as `iqa.data.synthetic` writes it: `images/` and `labels.csv`."""
    columns = ["image", "mos", "mos_std", "split", "reference", "distortion", "level", "quality"]
    return read_csv(folder / "labels.csv", {name: name for name in columns}), folder / "images"


def read_koniq10k(params: DataPrepParams, folder: Path) -> tuple[pd.DataFrame, Path]:
    """KonIQ-10k: `1024x768/` or `512x384/`, and one of two label files, of which only the first holds the split."""
    labels = find(folder, "koniq10k_distributions_sets.csv", "koniq10k_scores_and_distributions.csv")
    columns = {"image_name": "image", "SD": "mos_std"}
    if labels.name.lower() == "koniq10k_distributions_sets.csv":
        columns |= {"MOS": "mos", "set": "split"}
    else:
        columns |= {"MOS_zscore": "mos"}
    table = read_csv(labels, columns).assign(distortion="authentic")
    table["mos_std"] = numbers(table, "mos_std") * 99 / 4
    return table, _images(params, folder, "1024x768", "512x384")


def read_spaq(params: DataPrepParams, folder: Path) -> tuple[pd.DataFrame, Path]:
    """SPAQ: `TestImage/` (or `images/`) and a workbook, at the top or in `Annotations/`."""
    name = "MOS and Image attribute scores.xlsx"
    sheet = read_sheet(find(folder, name, f"Annotations/{name}"), {"Image name": "image", "MOS": "mos"})
    return sheet.assign(distortion="authentic"), _images(params, folder, "TestImage", "images")


def read_kadid10k(params: DataPrepParams, folder: Path) -> tuple[pd.DataFrame, Path]:
    """KADID-10k: `images/` and `dmos.csv`, with scores on 1..5 or rescaled to 0..1."""
    labels = find(folder, "dmos.csv")
    table = read_csv(labels, {"dist_img": "image", "ref_img": "reference", "dmos": "mos", "var": "mos_std"})
    table["mos"] = _kadid_scores(labels, numbers(table, "mos"))
    name = name_parts(table, r"I\d+_(?P<distortion>\d+)_(?P<level>\d+)\.\w+")
    table["distortion"] = name["distortion"].astype(int).map(KADID_DISTORTIONS)
    table["level"] = name["level"]
    return table, _images(params, folder, "images", "distorted_images")


def _kadid_scores(labels: Path, scores: pd.Series) -> pd.Series:
    """Scores on 1..5: those above 1 as they are, a file whose scores are all within 0..1 after (dmos - 1) / 3.93.

    The release's scores have two decimals, which tells whether a file was rescaled in this way.
    """
    if not scores.between(0, 1).all():
        return scores
    original = 1 + KADID_SPAN * scores
    if (original - original.round(2)).abs().max() > 1e-3:
        raise DataError(
            f"{paths.shown(labels)}: all scores lie within 0..1, but not as (dmos - 1) / {KADID_SPAN} of the release's "
            "scores; take the release's own dmos.csv, with scores on 1..5"
        )
    return original.round(2)


def read_agiqa3k(params: DataPrepParams, folder: Path) -> tuple[pd.DataFrame, Path]:
    """AGIQA-3K: `images/` and `data.csv`; used as a whole for testing unless a split is asked for."""
    columns = {"name": "image", "mos_quality": "mos", "std_quality": "mos_std"}
    table = read_csv(find(folder, "data.csv"), columns).assign(split="test", distortion="generated")
    return table, _images(params, folder, "images")


def read_livec(params: DataPrepParams, folder: Path) -> tuple[pd.DataFrame, Path]:
    """LIVE In the Wild: `Images/` and three files in `Data/`; the observers' training images t1 to t7 are left out."""
    keys = {"image": "AllImages_release", "mos": "AllMOS_release", "mos_std": "AllStdDev_release"}
    files = {column: find(folder, f"Data/{key}.mat", f"{key}.mat") for column, key in keys.items()}
    table = entries(files["mos"], {column: read_mat(file, keys[column]) for column, file in files.items()})
    training = table["image"].str.fullmatch(r"t\d\.bmp", case=False)
    return table[~training].assign(distortion="authentic"), _images(params, folder, "Images")


def read_csiq(params: DataPrepParams, folder: Path) -> tuple[pd.DataFrame, Path]:
    """CSIQ: images in `dst_imgs_all/` or in a folder per distortion of `dst_imgs/`; a text file or a workbook."""
    labels = find(folder, "csiq_label.txt", "csiq.DMOS.xlsx")
    table = _csiq_workbook(labels) if labels.suffix == ".xlsx" else read_words(labels, ["image", "mos"])
    name = name_parts(table, rf"(?P<reference>.+)\.(?P<distortion>{'|'.join(CSIQ_DISTORTIONS)})\.(?P<level>\d)\.png")
    kind = name["distortion"].str.lower().map({name.lower(): kind for name, kind in CSIQ_DISTORTIONS.items()})
    images = _images(params, folder, "dst_imgs_all", "dst_imgs")
    if not any(path.suffix.lower() == ".png" for path in images.iterdir()):
        table["image"] = kind.str[0] + "/" + table["image"]
    return table.assign(reference=name["reference"], distortion=kind.str[2], level=name["level"]), images


def _csiq_workbook(labels: Path) -> pd.DataFrame:
    columns = {"image": "reference", "dst_type": "kind", "dst_lev": "level", "dmos": "mos", "dmos_std": "mos_std"}
    table = read_sheet(labels, columns, sheet="all_by_image")
    names = {kind: name for name, (_, kind, _) in CSIQ_DISTORTIONS.items()}
    table["image"] = table["reference"] + "." + table["kind"].map(names) + "." + table["level"] + ".png"
    return table[["row", "image", "mos", "mos_std"]]


def read_tid2013(params: DataPrepParams, folder: Path) -> tuple[pd.DataFrame, Path]:
    """TID2013: `distorted_images/`, `mos_with_names.txt` and, line by line the same images, `mos_std.txt`."""
    labels = find(folder, "mos_with_names.txt")
    table = read_words(labels, ["mos", "image"])
    deviations = look_for(folder, "mos_std.txt")
    if deviations is not None:
        std = read_words(deviations, ["mos_std"])["mos_std"]
        if len(std) != len(table):
            raise DataError(
                f"{paths.shown(deviations)}: {len(std)} lines for {len(table)} of {labels.name}; "
                "take both files from the same release, or remove this one"
            )
        table["mos_std"] = std
    name = name_parts(table, r"(?P<reference>i\d+)_(?P<distortion>\d+)_(?P<level>\d)\.bmp")
    table["reference"] = name["reference"].str.upper()
    table["distortion"] = name["distortion"].astype(int).map(TID_DISTORTIONS)
    table["level"] = name["level"]
    return table, _images(params, folder, "distorted_images")


def read_live(params: DataPrepParams, folder: Path) -> tuple[pd.DataFrame, Path]:
    """LIVE release 2: a folder per distortion, `refnames_all.mat`, and `dmos_realigned.mat` or the older `dmos.mat`.

    The 982 entries follow the folders in the order of `LIVE_DISTORTIONS`, `img1.bmp` first; `orgs` marks originals.
    """
    scores = find(folder, "dmos_realigned.mat", "dmos.mat")
    realigned = scores.name.lower() == "dmos_realigned.mat"
    columns = {
        "image": [f"{place}/img{number}.bmp" for place, count, _ in LIVE_DISTORTIONS for number in range(1, count + 1)],
        "mos": read_mat(scores, "dmos_new" if realigned else "dmos"),
        "original": read_mat(scores, "orgs"),
        "reference": read_mat(find(folder, "refnames_all.mat"), "refnames_all"),
        "distortion": [name for _, count, name in LIVE_DISTORTIONS for _ in range(count)],
    }
    deviations = read_mat(scores, "dmos_std", required=False)
    if deviations is not None:
        columns["mos_std"] = deviations
    table = entries(scores, columns)
    distorted = numbers(table, "original") == 0
    return table[distorted].drop(columns="original"), find(folder, params.images) if params.images else find(
        folder, "jp2k"
    ).parent


def read_bid(params: DataPrepParams, folder: Path) -> tuple[pd.DataFrame, Path]:
    """BID: `DatabaseGrades.xlsx` (number and grade, below a header), images in `ImageDatabase/` or beside it."""
    labels = find(folder, "DatabaseGrades.xlsx")
    table = labelled(labels, read_cells(labels).iloc[1:, :2].set_axis(["number", "mos"], axis="columns"), first=2)
    table["image"] = "DatabaseImage" + table["number"].str.zfill(4) + ".JPG"
    images = find(folder, params.images) if params.images else look_for(folder, "ImageDatabase")
    return table.assign(distortion="authentic"), images or labels.parent


def read_biq2021(params: DataPrepParams, folder: Path) -> tuple[pd.DataFrame, Path]:
    """BIQ2021: `Images/`, official training and test lists; validation images are cut from the training list."""
    columns = {"Image Name": "image", "MOS": "mos"}
    train = read_csv(find(folder, "Train (Images and MOS).csv"), columns).assign(split="train")
    test = read_csv(find(folder, "Test (Images and MOS).csv"), columns).assign(split="test")
    table = pd.concat([train, test], ignore_index=True).assign(distortion="authentic")
    return table, _images(params, folder, "Images")


def read_own_lists(params: DataPrepParams, folder: Path) -> tuple[pd.DataFrame, Path]:
    """One's own images in JSON lists of `{"image", "score"}`, one list per split (reader `metas`)."""
    lists = {"train": params.train_list, "val": params.val_list, "test": params.test_list}
    tables = [_read_list(paths.resolve(file), split) for split, file in lists.items() if file is not None]
    return pd.concat(tables, ignore_index=True), folder


def _read_list(file: Path, split: str) -> pd.DataFrame:
    with readable(file):
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    wrong = "the list" if not isinstance(values, list) else None
    for number, value in enumerate(values if wrong is None else [], start=1):
        if not isinstance(value, dict) or not {"image", "score"} <= value.keys():
            wrong = f"entry {number}"
            break
    if wrong is not None:
        raise DataError(f'{paths.shown(file)}: {wrong} is not as in [{{"image": "a.jpg", "score": 71.5}}]; correct it')
    columns = {"image": [str(value["image"]) for value in values], "mos": [str(value["score"]) for value in values]}
    return entries(file, columns).assign(split=split)


def read_own_csv(params: DataPrepParams, folder: Path) -> tuple[pd.DataFrame, Path]:
    """One's own images in a CSV file with the columns `image`, `mos` and those known of the others (reader `csv`)."""
    optional = ["mos_std", "split", "reference", "distortion", "level"]
    labels = paths.resolve(params.labels)
    return read_csv(labels, {"image": "image", "mos": "mos"}, optional), folder


READERS: dict[str, Reader] = {
    "synthetic": read_synthetic,
    "koniq10k": read_koniq10k,
    "spaq": read_spaq,
    "kadid10k": read_kadid10k,
    "agiqa3k": read_agiqa3k,
    "livec": read_livec,
    "csiq": read_csiq,
    "tid2013": read_tid2013,
    "live": read_live,
    "bid": read_bid,
    "biq2021": read_biq2021,
    "metas": read_own_lists,
    "csv": read_own_csv,
}


def _images(params: DataPrepParams, folder: Path, *usual: str) -> Path:
    return find(folder, *([params.images] if params.images else usual))


@contextmanager
def readable(file: Path):
    """Turns what a reading library raises into an error that names the file."""
    if not file.is_file():
        raise DataError(f"{paths.shown(file)}: this label file is missing")
    try:
        yield
    except (OSError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, MatReadError) as error:
        raise DataError(f"{paths.shown(file)}: cannot be read ({error}); fetch the file again") from None


def read_csv(file: Path, columns: dict[str, str], optional: list[str] | None = None) -> pd.DataFrame:
    """Some columns of a CSV file as text, renamed, and those of `optional` that are there."""
    with readable(file):
        table = pd.read_csv(file, dtype=str, encoding="utf-8-sig", skip_blank_lines=False)
    return labelled(file, table, columns, optional)


def read_cells(file: Path, sheet: str | int = 0) -> pd.DataFrame:
    """All cells of a sheet of an Excel workbook as text without blanks around; whole numbers without a decimal."""
    with readable(file):
        cells = pd.read_excel(file, sheet_name=sheet, header=None, dtype=str)
    return cells.map(lambda cell: cell.strip().removesuffix(".0") if isinstance(cell, str) else None)


def read_sheet(file: Path, columns: dict[str, str], sheet: str | int = 0) -> pd.DataFrame:
    """Some columns of a sheet of an Excel workbook as text, renamed; the first row with all their names heads them."""
    cells = read_cells(file, sheet)
    header = next((row for row in range(len(cells)) if set(columns) <= set(cells.iloc[row])), 0)
    table = cells.iloc[header + 1 :].set_axis(cells.iloc[header].astype(str), axis="columns")
    return labelled(file, table, columns, first=header + 2)


def read_words(file: Path, columns: list[str]) -> pd.DataFrame:
    """A text file without a header, its columns separated by blanks, as text."""
    with readable(file):
        table = pd.read_csv(file, sep=r"\s+", header=None, names=columns, dtype=str, encoding="utf-8-sig")
    return labelled(file, table, first=1)


def read_mat(file: Path, key: str, required: bool = True) -> list[Any] | None:
    """A vector of numbers or strings of a MATLAB file; `None` where the file lacks one that is not required."""
    with readable(file):
        values = loadmat(file, squeeze_me=True)
    if key in values:
        return values[key].ravel().tolist()
    if required:
        known = ", ".join(name for name in values if not name.startswith("__"))
        raise DataError(f"{paths.shown(file)}: holds no '{key}', only {known}; take the file from the release")
    return None


def entries(file: Path, columns: dict[str, list]) -> pd.DataFrame:
    """A table of columns that a file holds as lists of one length."""
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{length} of {name}" for name, length in lengths.items())
        raise DataError(f"{paths.shown(file)}: its lists differ in length ({shown}); fetch the release again")
    table = pd.DataFrame(columns).map(str)
    table["row"] = [f"{paths.shown(file)}, entry {number}" for number in range(1, len(table) + 1)]
    return table


def numbers(table: pd.DataFrame, column: str) -> pd.Series:
    """A column of text as numbers; empty cells are NaN.

    Raises:
        DataError: a cell is neither empty nor a number; the message names its row.
    """
    values = pd.to_numeric(table[column], errors="coerce")
    wrong = table[values.isna() & table[column].notna()]
    if len(wrong):
        raise DataError(f"'{column}' is not a number: {some(wrong['row'] + ': ' + wrong[column])}; correct the file")
    return values


def name_parts(table: pd.DataFrame, pattern: str) -> pd.DataFrame:
    """The named groups of a pattern that every image's name follows, whatever its letter case."""
    parts = table["image"].str.strip().str.extract(rf"^{pattern}$", flags=re.IGNORECASE)
    wrong = table[parts.isna().any(axis=1)]
    if len(wrong):
        names = some(wrong["row"] + ": " + wrong["image"].fillna("(empty)"))
        raise DataError(f"not a name of this release: {names}; correct the label file")
    return parts


def labelled(
    file: Path,
    table: pd.DataFrame,
    columns: dict[str, str] | None = None,
    optional: list[str] | None = None,
    first: int = 2,
) -> pd.DataFrame:
    """Some columns of a file's table, renamed, without empty rows; `row` says where each row came from.

    Args:
        file: where the table was read.
        table: text; an empty cell is missing.
        columns: the needed columns and their new names; `None` for all as they are.
        optional: columns that are taken where they are there.
        first: number of the table's first row in the file.
    """
    table = table.rename(columns=lambda name: str(name).strip())
    columns = columns or {name: name for name in table.columns}
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(f"{paths.shown(file)}: no column {', '.join(missing)}; found: {', '.join(table.columns)}")
    columns = columns | {name: name for name in optional or [] if name in table.columns}
    table = table[list(columns)].rename(columns=columns)
    shown = paths.shown(file)
    table["row"] = [f"{shown}, row {number}" for number in range(first, len(table) + first)]
    return table.dropna(subset=list(columns.values()), how="all").reset_index(drop=True)
