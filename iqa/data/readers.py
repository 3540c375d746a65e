"""Reading the labels of published databases, and of one's own images.

A reader is a function `(params, folder) -> (table, images)`. The table has one row per image, as the release gives it:
`row` (where it stands, for error messages), `image` (its path inside the folder `images`), `mos`, and where known
`mos_std`, `split`, `reference`, `distortion`, `level`. The facts of each release (names of its files, range and
direction of its scores, counts, licence, source) are in `releases.csv`. `iqa.data.prepare` looks up each image, checks
the scores and splits.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy

from iqa.data import DataError, synthetic
from iqa.data.files import SHOWN_CHARACTERS, cells, find, refuse, stored_paths, what_is_wrong
from iqa.data.params import DataPrepParams
from iqa.data.releases import RELEASES
from iqa.study import paths
from iqa.study.registry import Registry

Table = tuple[pd.DataFrame, Path]
READERS = Registry("reader")  # Callable[[DataPrepParams, Path], Table]

MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # of encodings
KADID_SPAN = 3.93  # the release's scores run from 1 to 4.93
LIVE_IMAGES = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}  # in the order of the label files


def locate(params: DataPrepParams, folder: Path) -> list[Path]:
    """The label files of a release, then the folder of its images, as `releases.csv` names them.

    The parameter `images` names another folder of images. An optional one that is missing is `None`.

    Raises:
        DataError: one that is not optional is missing.
    """
    release = RELEASES[params.reader]
    places = [*release.label_files, *([params.images] if params.images else release.image_folders)]
    found = [find(folder, *place.removesuffix("?").split(" | "), required=not place.endswith("?")) for place in places]
    if found[-1] is not None and not found[-1].is_dir():
        raise DataError(f"{paths.shown(found[-1])}: is no folder; unpack the images there, or set `images`")
    return found


@READERS.add("synthetic")
def read_synthetic(params: DataPrepParams, folder: Path) -> Table:
    """A demo database, as `iqa.data.synthetic` makes it."""
    labels, images = locate(params, synthetic.ensure(params.part, params.seed, params.scale, params.workers))
    return read_csv(labels, {name: name for name in synthetic.COLUMNS}), images


@READERS.add("koniq10k")
def read_koniq10k(params: DataPrepParams, folder: Path) -> Table:
    """KonIQ-10k has one of two label files, of which only the first holds the split."""
    labels, images = locate(params, folder)
    official = labels.name.lower() == "koniq10k_distributions_sets.csv"
    scores = {"MOS": "mos", "set": "split"} if official else {"MOS_zscore": "mos"}
    table = read_csv(labels, {"image_name": "image", "SD": "mos_std"} | scores)
    return table.assign(mos_std=numbers(table, "mos_std") * 99 / 4, distortion="authentic"), images


@READERS.add("spaq")
def read_spaq(params: DataPrepParams, folder: Path) -> Table:
    """SPAQ: a workbook, whose first sheet has names and scores."""
    labels, images = locate(params, folder)
    return read_sheet(labels, {"Image name": "image", "MOS": "mos"}).assign(distortion="authentic"), images


@READERS.add("kadid10k")
def read_kadid10k(params: DataPrepParams, folder: Path) -> Table:
    """KADID-10k has scores on 1..5, or rescaled to 0..1."""
    labels, images = locate(params, folder)
    table = read_csv(labels, {"dist_img": "image", "ref_img": "reference", "dmos": "mos", "var": "mos_std"})
    table["mos"] = _kadid_scores(labels, numbers(table, "mos"))
    return read_names(params, table, r"I\d+_(?P<distortion>\d+)_(?P<level>\d+)\.\w+"), images


def _kadid_scores(labels: Path, scores: pd.Series) -> pd.Series:
    """Scores on 1..5; those of a file that was rescaled to 0..1 by (dmos - 1) / 3.93 are brought back.

    The release's scores have two decimals, which shows whether a file was rescaled in this way.
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


@READERS.add("agiqa3k")
def read_agiqa3k(params: DataPrepParams, folder: Path) -> Table:
    """AGIQA-3K: all images are for testing, unless the parameters ask for a split."""
    labels, images = locate(params, folder)
    table = read_csv(labels, {"name": "image", "mos_quality": "mos", "std_quality": "mos_std"})
    return table.assign(split="test", distortion="generated"), images


@READERS.add("livec")
def read_livec(params: DataPrepParams, folder: Path) -> Table:
    """LIVE In the Wild: the observers' training images t1 to t7 are left out."""
    names, scores, deviations, images = locate(params, folder)
    files = {"image": (names, "Images"), "mos": (scores, "MOS"), "mos_std": (deviations, "StdDev")}
    table = entries(scores, {column: read_mat(file, f"All{key}_release") for column, (file, key) in files.items()})
    training = table["image"].str.fullmatch(r"t\d\.bmp", case=False)
    return table[~training].assign(distortion="authentic"), images


@READERS.add("csiq")
def read_csiq(params: DataPrepParams, folder: Path) -> Table:
    """CSIQ: images in one folder or in a folder per distortion; labels in a text file or a workbook."""
    labels, images = locate(params, folder)
    table = _csiq_workbook(labels) if labels.suffix.lower() == ".xlsx" else read_words(labels, ["image", "mos"])
    table = read_names(params, table, r"(?P<reference>.+)\.(?P<distortion>\w+)\.(?P<level>\d)\.png")
    if not any(stored_paths(images, table["image"])):
        table["image"] = table["image"].str.split(".").str[-3].str.lower() + "/" + table["image"]
    return table, images


def _csiq_workbook(labels: Path) -> pd.DataFrame:
    columns = {"image": "reference", "dst_type": "kind", "dst_lev": "level", "dmos": "mos", "dmos_std": "mos_std"}
    table = read_sheet(labels, columns, sheet="all_by_image")
    kind = table["kind"].replace({"noise": "awgn", "jpeg 2000": "jpeg2000"})
    table["image"] = table["reference"] + "." + kind + "." + table["level"] + ".png"
    return table[["row", "image", "mos", "mos_std"]]


@READERS.add("tid2013")
def read_tid2013(params: DataPrepParams, folder: Path) -> Table:
    """TID2013: the file of deviations has, line by line, the same images."""
    labels, deviations, images = locate(params, folder)
    table = read_words(labels, ["mos", "image"])
    if deviations is not None:
        std = read_words(deviations, ["mos_std"])["mos_std"]
        if len(std) != len(table):
            raise DataError(
                f"{paths.shown(deviations)}: {len(std)} lines for {len(table)} of {labels.name}; "
                "take both files from the same release, or remove this one"
            )
        table["mos_std"] = std
    table = read_names(params, table, r"(?P<reference>i\d+)_(?P<distortion>\d+)_(?P<level>\d)\.bmp")
    return table.assign(reference=table["reference"].str.upper()), images


@READERS.add("live")
def read_live(params: DataPrepParams, folder: Path) -> Table:
    """LIVE release 2: a folder per distortion; the scores are `dmos_new`, or `dmos` in the older file.

    The 982 entries follow the folders in the order of `LIVE_IMAGES`, `img1.bmp` first; `orgs` marks originals.
    """
    scores, references, first = locate(params, folder)
    names = RELEASES[params.reader].distortions
    columns = {
        "image": [f"{place}/img{number}.bmp" for place, count in LIVE_IMAGES.items() for number in range(1, count + 1)],
        "mos": read_mat(scores, "dmos_new" if scores.name.lower() == "dmos_realigned.mat" else "dmos"),
        "original": read_mat(scores, "orgs"),
        "reference": read_mat(references, "refnames_all"),
        "distortion": [names[place] for place, count in LIVE_IMAGES.items() for _ in range(count)],
        "mos_std": read_mat(scores, "dmos_std", required=False),
    }
    table = entries(scores, {name: values for name, values in columns.items() if values is not None})
    distorted = numbers(table, "original") == 0
    return table[distorted].drop(columns="original"), first if params.images else first.parent


@READERS.add("bid")
def read_bid(params: DataPrepParams, folder: Path) -> Table:
    """BID: number and grade, below a header; images in a folder or beside the workbook."""
    labels, images = locate(params, folder)
    table = labelled(labels, read_cells(labels).iloc[1:, :2].set_axis(["number", "mos"], axis="columns"))
    table["image"] = "DatabaseImage" + table["number"].str.zfill(4) + ".JPG"
    return table.assign(distortion="authentic"), images or labels.parent


@READERS.add("biq2021")
def read_biq2021(params: DataPrepParams, folder: Path) -> Table:
    """BIQ2021 has official training and test lists; validation images are cut from the training list."""
    train, test, images = locate(params, folder)
    columns = {"Image Name": "image", "MOS": "mos"}
    tables = [read_csv(train, columns).assign(split="train"), read_csv(test, columns).assign(split="test")]
    return pd.concat(tables, ignore_index=True).assign(distortion="authentic"), images


@READERS.add("metas")
def read_own_lists(params: DataPrepParams, folder: Path) -> Table:
    """One's own images in JSON lists of `{"image", "score"}`, one list per split (reader `metas`)."""
    lists = {"train": params.train_list, "val": params.val_list, "test": params.test_list}
    tables = [_read_list(paths.resolve(file), split) for split, file in lists.items() if file is not None]
    return pd.concat(tables, ignore_index=True), folder


def _read_list(file: Path, split: str) -> pd.DataFrame:
    with readable(file):
        values = json.loads(read_text(file))
    whole = isinstance(values, list)
    fits = [isinstance(value, dict) and {"image", "score"} <= value.keys() for value in (values if whole else ())]
    if whole and not values:
        raise DataError(f"{paths.shown(file)}: lists no image; fill it, or remove `{split}_list`")
    if not (whole and all(fits)):
        wrong, form = f"entry {fits.index(False) + 1}" if whole else "the list", '[{"image": "a.jpg", "score": 71.5}]'
        raise DataError(f"{paths.shown(file)}: {wrong} is not as in {form}; correct it")
    columns = {"image": [value["image"] for value in values], "mos": [value["score"] for value in values]}
    return entries(file, columns).assign(split=split)


@READERS.add("csv")
def read_own_csv(params: DataPrepParams, folder: Path) -> Table:
    """One's own images in a CSV file with the columns `image`, `mos` and those known of the others (reader `csv`)."""
    optional = ["mos_std", "split", "reference", "distortion", "level"]
    return read_csv(paths.resolve(params.labels), {"image": "image", "mos": "mos"}, optional), folder


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Turns what a reading library raises into an error that names the file."""
    try:
        if not file.exists():
            raise DataError(f"{paths.shown(file)}: this label file is missing")
        if problem := what_is_wrong(file):
            raise DataError(f"{paths.shown(file)}: {problem}")
        yield
    except DataError:
        raise
    except Exception as error:  # libraries raise whatever a damaged file leads them to
        problem = f"{type(error).__name__}: {str(error)[:SHOWN_CHARACTERS]}"
        raise DataError(f"{paths.shown(file)}: cannot be read ({problem}); fetch the file again") from None


def read_text(file: Path) -> str:
    """A text in UTF-8, or in UTF-16 with its mark; what is neither is read as Windows-1252 (Latin-1), which is printed.

    Raises:
        DataError: it is none of them.
    """
    data, shown = file.read_bytes(), paths.shown(file)
    encoding = next((encoding for mark, encoding in MARKS.items() if data.startswith(mark)), "utf-8")
    for attempt in (encoding, "cp1252"):
        try:
            text = data.decode(attempt)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            raise DataError(f"{shown}: is no text in UTF-8, or UTF-16 without its mark; save it as UTF-8")
        if attempt != encoding:
            print(f"{shown}: is not UTF-8; read as Windows-1252 (Latin-1)", flush=True)
        return text
    raise DataError(f"{shown}: its encoding is neither UTF-8 nor Windows-1252; save it as UTF-8")


def read_csv(file: Path, columns: dict[str, str], optional: Iterable[str] = ()) -> pd.DataFrame:
    """Some columns of a CSV file as text, renamed, and those of `optional` that are there.

    Its cells are separated by commas, semicolons or tabs: by what gives the needed columns. `NA`, `null` and the like
    are texts; only an empty cell is missing. Empty cells beyond the header's are passed over.

    Raises:
        DataError: the file cannot be read, lacks a needed column or has it twice, or a row has more cells than that.
    """
    with readable(file):
        text = read_text(file)
        tables = [list(csv.reader(io.StringIO(text, newline=""), delimiter=mark)) or [[]] for mark in ",;\t"]
    headers = [[cell.strip() for cell in table[0]] for table in tables]
    place = next((place for place, header in enumerate(headers) if set(columns) <= set(header)), 0)
    (_, *rows), header = tables[place], headers[place]
    twice = [name for name in {*columns, *optional} if header.count(name) > 1]
    if twice:
        raise DataError(f"{paths.shown(file)}: column '{twice[0]}' stands twice; keep one")
    long = [f"row {number}" for number, row in enumerate(rows, 2) if any(cell.strip() for cell in row[len(header) :])]
    refuse(long, f"{paths.shown(file)}: more cells than columns", "quote cells that hold a comma")
    cells = [[cell.strip() or None for cell in row[: len(header)]] for row in rows]
    filled = [row + [None] * (len(header) - len(row)) for row in cells]
    return labelled(file, pd.DataFrame(filled, range(1, len(rows) + 1), header, dtype="str"), columns, optional)


def read_cells(file: Path, sheet: str | int = 0) -> pd.DataFrame:
    """All cells of a sheet of an Excel workbook as text without blanks around; whole numbers without a decimal."""
    with readable(file):
        table = pd.read_excel(file, sheet_name=sheet, header=None, dtype=str, na_filter=False)
    return table.map(lambda cell: str(cell).strip().removesuffix(".0") or None)


def read_sheet(file: Path, columns: dict[str, str], sheet: str | int = 0) -> pd.DataFrame:
    """Some columns of a sheet of an Excel workbook as text, renamed; the first row with all their names heads them."""
    table = read_cells(file, sheet)
    header = next((row for row in range(len(table)) if set(columns) <= set(table.iloc[row])), 0)
    return labelled(file, table.iloc[header + 1 :].set_axis(table.iloc[header].astype(str), axis="columns"), columns)


def read_words(file: Path, columns: list[str]) -> pd.DataFrame:
    """A text file without a header, its columns separated by blanks, as text."""
    with readable(file):
        lines = [line.split() for line in read_text(file).splitlines()]
    wrong = [f"row {number}" for number, line in enumerate(lines, 1) if line and len(line) != len(columns)]
    refuse(wrong, f"{paths.shown(file)}: not as in '{' '.join(columns)}'", "correct the file")
    rows = {number: line for number, line in enumerate(lines) if line}
    return labelled(file, pd.DataFrame(list(rows.values()), list(rows), columns, dtype="str"))


def labelled(
    file: Path, table: pd.DataFrame, columns: dict[str, str] | None = None, optional: Iterable[str] = ()
) -> pd.DataFrame:
    """Some columns of a file's table, renamed, without empty rows; `row` says where each row came from.

    Args:
        file: where the table was read.
        table: text; an empty cell is missing. Its index is the number of the row in the file, from 0.
        columns: the needed columns and their new names; `None` for all as they are.
        optional: columns that are taken where they are there.

    Raises:
        DataError: the file lacks a needed column, or has no row.
    """
    table = table.rename(columns=lambda name: str(name).strip())
    columns = columns or {name: name for name in table}
    missing = [name for name in columns if name not in table]
    if missing:
        found = ", ".join(table)[: 4 * SHOWN_CHARACTERS]
        raise DataError(f"{paths.shown(file)}: no column {', '.join(missing)}; found: {found or 'nothing'}")
    columns = columns | {name: name for name in optional if name in table}
    table = table[list(columns)].rename(columns=columns).dropna(how="all")
    if table.empty:
        raise DataError(f"{paths.shown(file)}: lists no image; complete it")
    return table.assign(row=[f"{paths.shown(file)}, row {number + 1}" for number in table.index]).reset_index(drop=True)


def read_mat(file: Path, key: str, required: bool = True) -> list[Any] | None:
    """A vector of numbers or strings of a MATLAB file; `None` where the file lacks one that is not required."""
    with readable(file):
        values = scipy.io.loadmat(file, squeeze_me=True)
    if key in values:
        return values[key].ravel().tolist()
    if required:
        known = ", ".join(name for name in values if not name.startswith("__"))
        raise DataError(f"{paths.shown(file)}: holds no '{key}', only {known}; take the file from the release")
    return None


def entries(file: Path, columns: dict[str, list]) -> pd.DataFrame:
    """A table, as text, of columns that a file holds as lists of one length.

    Raises:
        DataError: the lists differ in length.
    """
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{length} of {name}" for name, length in lengths.items())
        raise DataError(f"{paths.shown(file)}: its lists differ in length ({shown}); fetch the release again")
    table = pd.DataFrame(columns, dtype=object).map(str)
    return table.assign(row=[f"{paths.shown(file)}, entry {number + 1}" for number in table.index])


def numbers(table: pd.DataFrame, column: str) -> pd.Series:
    """A column of text as numbers; empty cells are NaN.

    Raises:
        DataError: a cell is neither empty nor a number; the message names its row.
    """
    values = pd.to_numeric(table[column], errors="coerce")
    wrong = table[~np.isfinite(values) & table[column].notna()]
    remedy = "correct the file; an empty cell stands for what is not known"
    refuse(cells(wrong, column), f"'{column}' is not a number", remedy)
    return values


def read_names(params: DataPrepParams, table: pd.DataFrame, pattern: str) -> pd.DataFrame:
    """The table with the named groups of a pattern that every image's name follows, whatever its letter case.

    A group `distortion` is a code of the release's `distortions`, and becomes the distortion's name.

    Raises:
        DataError: a name does not follow the pattern, or its code is unknown; the message names its row.
    """
    parts = table["image"].str.strip().str.extract(rf"^{pattern}$", flags=re.IGNORECASE)
    if "distortion" in parts:
        parts["distortion"] = parts["distortion"].str.lower().map(RELEASES[params.reader].distortions)
    wrong = table[parts.isna().any(axis=1)]
    refuse(cells(wrong, "image"), "not a name of this release", "correct the label file")
    return table.assign(**parts)
