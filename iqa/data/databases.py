"""Databases of images with mean opinion scores (MOS): one small reader per release, one table for all of them.

A reader is a function `(params, folder) -> Labels` that follows a release's own layout, and a line in `RELEASES` says
where the release comes from. The rules that all readers share are here once:

- a name that is not there exactly is looked up without regard to letter case, extension included; two files that fit
  are an error;
- a missing image, an image that is listed twice, and a score outside the stated range are errors;
- a part of a release is fine; the audit says how much of it is there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from iqa import config, paths
from iqa.config import DataPrepParams
from iqa.data import DataError, synthetic
from iqa.data.cache import Size, Store, code_version, content_hashes, open_stores
from iqa.source import digest

COLUMNS = ["image", "mos", "mos_std", "split", "reference", "distortion", "level"]
SHOWN = 5  # how many offenders an error message names


@dataclass(frozen=True)
class Release:
    """What is known of a published database before it is read.

    Args:
        title: name for tables and figures.
        images: number of images in the whole release, `None` if it has no fixed number.
        low, high: range of the scores.
        citation: who made it.
        licence: as stated by its authors.
        source: where it can be had, without an address.
        folder: where it is looked for when the parameter `folder` is not set.
        higher_is_better: direction of the scores.
        synthetic: True if no person has rated the images.
    """

    title: str
    images: int | None
    low: float
    high: float
    citation: str
    licence: str
    source: str
    folder: str = ""
    higher_is_better: bool = True
    synthetic: bool = False


@dataclass
class Labels:
    """A database as its release describes it.

    Args:
        name: name in the study.
        title: name for tables and figures.
        table: one row per image: `image` (file name inside `folder`), `mos` and `mos_std` (on the database's own
            scale; `mos_std` is NaN where unknown), `split` (train, val or test), `reference` (which content is shown;
            the image itself where each has its own), `distortion`, `level` (NaN where unknown), and for synthetic
            databases `quality` (the score without the observers' noise).
        folder: folder of the images.
        low, high: range of the scores.
        higher_is_better: direction of the scores.
        synthetic: True if no person has rated the images.
        release_images: number of images in the whole release, `None` if it has no fixed number.
        citation, licence, source: as in `Release`.
    """

    name: str
    title: str
    table: pd.DataFrame
    folder: Path
    low: float
    high: float
    higher_is_better: bool
    synthetic: bool
    release_images: int | None
    citation: str
    licence: str
    source: str


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
    "biq2021": Release(
        title="BIQ2021",
        images=12_000,
        low=0,
        high=1,
        citation="Ahmed & Asif 2021, BIQ2021: a large-scale blind image quality assessment database",
        licence="none stated",
        source="the public git repository nisarahmedrana/BIQ2021 (420 MB)",
        folder="data/BIQ2021",
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
}


def read_biq2021(params: DataPrepParams, folder: Path) -> Labels:
    """BIQ2021: `Images/`, official training and test lists; validation images are cut from the training list."""
    columns = {"Image Name": "image", "MOS": "mos"}
    train = _read_csv(folder / "Train (Images and MOS).csv", columns).assign(split="train")
    test = _read_csv(folder / "Test (Images and MOS).csv", columns).assign(split="test")
    table = pd.concat([train, test], ignore_index=True).assign(distortion="authentic")
    labels = _labels(params, table, folder / "Images")
    hold_out(labels.table, params.val_fraction, params.seed)
    return labels


def read_agiqa3k(params: DataPrepParams, folder: Path) -> Labels:
    """AGIQA-3K: `images/` and `data.csv`; used as a whole for testing."""
    columns = {"name": "image", "mos_quality": "mos", "std_quality": "mos_std"}
    table = _read_csv(folder / "data.csv", columns).assign(split="test", distortion="generated")
    return _labels(params, table, folder / "images")


def read_synthetic(params: DataPrepParams, folder: Path) -> Labels:
    """A demo database, as `iqa.data.synthetic` writes it: `images/` and `labels.csv`."""
    columns = {name: name for name in [*COLUMNS, "quality"]}
    labels = _labels(params, _read_csv(folder / "labels.csv", columns), folder / "images")
    labels.title = synthetic.TITLES[params.part]
    return labels


READERS: dict[str, Callable[[DataPrepParams, Path], Labels]] = {
    "synthetic": read_synthetic,
    "biq2021": read_biq2021,
    "agiqa3k": read_agiqa3k,
}


def hold_out(table: pd.DataFrame, fraction: float, seed: int) -> None:
    """Turn a fraction of the training references, drawn by seed, into the validation split (in place)."""
    references = table.loc[table["split"] == "train", "reference"].unique()
    drawn = np.random.default_rng(seed).permutation(references)[: round(len(references) * fraction)]
    table.loc[(table["split"] == "train") & table["reference"].isin(drawn), "split"] = "val"


def _read_csv(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    """Some columns of a label file as text, renamed; `row` says where each came from, for error messages."""
    if not path.is_file():
        raise DataError(f"{paths.shown(path)}: this label file of the release is missing")
    table = pd.read_csv(path, dtype=str, encoding="utf-8-sig", skip_blank_lines=False)
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(f"{paths.shown(path)}: no column {', '.join(missing)}; found: {', '.join(table.columns)}")
    table = table[list(columns)].rename(columns=columns)
    table["row"] = [f"{paths.shown(path)}, row {number}" for number in range(2, len(table) + 2)]
    return table.dropna(subset=list(columns.values()), how="all").reset_index(drop=True)


def _labels(params: DataPrepParams, table: pd.DataFrame, folder: Path) -> Labels:
    """Labels from a table of text with the columns `row`, `image`, `mos`, `split` and, where known, the others."""
    release = RELEASES[params.reader]
    table["image"] = _stored_names(table, folder)
    twice = table[table.duplicated("image", keep=False)].sort_values("image", kind="stable")
    if len(twice):
        raise DataError(
            f"an image is listed twice: {_some(twice['row'] + ': ' + twice['image'])}; keep one row of each"
        )
    mos = pd.to_numeric(table["mos"], errors="coerce")
    wrong = table[~mos.between(release.low, release.high)]
    if len(wrong):
        raise DataError(
            f"MOS outside the range {release.low:g} to {release.high:g} of {release.title}: "
            f"{_some(wrong['row'] + ': ' + wrong['mos'].fillna('(empty)'))}; correct the label file"
        )
    table["mos"] = mos
    for column in ("mos_std", "level", "quality"):
        if column in table:
            table[column] = pd.to_numeric(table[column])
    if "reference" not in table:
        table["reference"] = table["image"]
    extra = ["quality"] if "quality" in table else []
    return Labels(
        name=params.run,
        title=release.title,
        table=table.reindex(columns=COLUMNS + extra),
        folder=folder,
        low=release.low,
        high=release.high,
        higher_is_better=release.higher_is_better,
        synthetic=release.synthetic,
        release_images=release.images,
        citation=release.citation,
        licence=release.licence,
        source=release.source,
    )


def _stored_names(table: pd.DataFrame, folder: Path) -> list[str]:
    """The listed images' names as they are on disk: the exact name, or else the one name that differs in case only."""
    if not folder.is_dir():
        raise DataError(f"{paths.shown(folder)}: this folder of the release is missing")
    exact = {path.name for path in folder.iterdir()}
    folded: dict[str, list[str]] = {}
    for name in sorted(exact):
        folded.setdefault(name.lower(), []).append(name)
    stored, missing = [], []
    for row, listed in zip(table["row"], table["image"].str.strip(), strict=True):
        matches = [listed] if listed in exact else folded.get(str(listed).lower(), [])
        if len(matches) > 1:
            raise DataError(
                f"{row}: '{listed}' fits several files of {paths.shown(folder)} ({', '.join(matches)}); rename one"
            )
        stored += matches
        if not matches:
            missing.append(f"{row}: '{listed}'")
    if missing:
        raise DataError(
            f"{paths.shown(folder)}: {len(missing)} listed image(s) are missing: {_some(missing)}; "
            "complete the folder, or remove these rows from the label file"
        )
    return stored


def _some(lines: pd.Series | list[str]) -> str:
    lines = list(lines)
    return "; ".join(lines[:SHOWN]) + (f"; ... ({len(lines)} in all)" if len(lines) > SHOWN else "")


def _read(params: DataPrepParams) -> Labels:
    """Labels of a database; a synthetic one is generated first where that has not been done."""
    if params.reader == "synthetic":
        return read_synthetic(params, synthetic.ensure(params.part, params.seed, params.scale, _jobs(params)))
    release = RELEASES[params.reader]
    folder = paths.resolve(params.folder or release.folder)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder. {release.title} ({release.citation}) comes from {release.source}; get it, and "
            f"set `folder` in {paths.shown(config.params_file(params.study, 'data_prep', params.run))} to where it is"
        )
    return READERS[params.reader](params, folder)


def _jobs(params: DataPrepParams) -> int:
    return params.workers or joblib.cpu_count()


def _size(params: DataPrepParams) -> Size:
    return Size(params.height, params.width, params.keep_aspect)


def fingerprint(params: DataPrepParams) -> str:
    """A hash of everything that a database's scores and pixels depend on: its labels, images, size and code.

    Cheap: image files are read only when they are new or changed, and a synthetic database need not exist yet. It does
    not depend on where the images lie, on `inputs`, or on `workers`.

    Raises:
        DataError: the release is missing or its labels cannot be used.
    """
    pixels = (vars(_size(params)), code_version())
    if params.reader == "synthetic":
        return digest(synthetic.identity(params.part, params.seed, params.scale), *pixels)
    labels = _read(params)
    return digest(*_content(labels), *pixels)


def _content(labels: Labels) -> tuple:
    hashes = content_hashes(labels.folder, labels.table["image"])
    return labels.table.to_csv(index=False), labels.low, labels.high, labels.higher_is_better, hashes


@dataclass
class Database(Labels):
    """A database that is ready for use: its labels and its cached pixels. Images are numbered 0 to n-1, as in `table`.

    Args:
        stores: the cached pixels, one store per kind of input.
        fingerprint: hash of everything that scores and pixels depend on.
        size: to which size the images were brought.
    """

    stores: dict[str, Store]
    fingerprint: str
    size: Size = field(default_factory=Size)

    def __len__(self) -> int:
        return len(self.table)

    def pixels(self, index: int, input: str = "rgb") -> np.ndarray:
        """One image as a view of the cache: (height, width, 3), uint8; `input` is `rgb` or `mscn`.

        Raises:
            DataError: this kind of input was not cached.
        """
        if input not in self.stores:
            raise DataError(
                f"database '{self.name}' holds no '{input}' input, only {', '.join(self.stores)}; add it to `inputs` "
                f"in its parameter file under data_prep"
            )
        return self.stores[input][index]

    def indices(self, split: str) -> np.ndarray:
        """Numbers of the images of a split (`train`, `val` or `test`), ascending."""
        return np.flatnonzero(self.table["split"] == split)

    def normalise(self, score: np.ndarray | float) -> np.ndarray:
        """Scores of the database's own scale on the scale of training: 0 is the worst quality, 1 the best."""
        value = (np.asarray(score, dtype=float) - self.low) / (self.high - self.low)
        return value if self.higher_is_better else 1 - value

    def denormalise(self, value: np.ndarray | float) -> np.ndarray:
        """The inverse of `normalise`; values outside 0..1 are not cut."""
        value = np.asarray(value, dtype=float)
        return self.low + (value if self.higher_is_better else 1 - value) * (self.high - self.low)

    def ceiling_srcc(self) -> float | None:
        """SRCC of the noise-free quality with the MOS on the test split; `None` where that quality is not known."""
        test = self.table[self.table["split"] == "test"]
        if "quality" not in test or test.empty:
            return None
        return float(test["quality"].corr(test["mos"], method="spearman"))

    def image_path(self, index: int) -> Path:
        """The source file of an image."""
        return self.folder / self.table["image"].iloc[index]

    @property
    def bytes(self) -> int:
        """Size of the cached pixels in bytes, over all kinds of input."""
        return sum(store.manifest["bytes"] for store in self.stores.values())


def prepare(params: DataPrepParams) -> Database:
    """A database ready for use; what is not yet generated or cached is made now, with a progress bar.

    Raises:
        DataError: the release is missing, its labels cannot be used, an image is broken, or the disk is full.
    """
    labels = _read(params)
    images = labels.table["image"]
    hashes = content_hashes(labels.folder, images)
    stores = open_stores(
        params.reader, labels.folder, list(images), hashes, _size(params), params.inputs, _jobs(params)
    )
    return Database(**vars(labels), stores=stores, fingerprint=fingerprint(params), size=_size(params))


def open_database(study: str, name: str) -> Database:
    """The database `name` of a study, as `params/<study>/data_prep/<name>.yaml` describes it."""
    return prepare(config.load(study, "data_prep", name))


def audit(database: Database) -> dict:
    """What a reader should know of a database before trusting a number from it, as plain values.

    Returns:
        name, title, synthetic, low, high, higher_is_better, n, splits (per split `n` and `references`), mos (mean, std,
        min, max), mos_std_mean (`None` where unknown), ceiling_srcc, citation, licence, fingerprint, bytes, height and
        width (of the smallest cached image), warnings (a list of sentences).

    Raises:
        DataError: a reference is in two splits.
    """
    table, store = database.table, next(iter(database.stores.values()))
    shared = table.groupby("reference")["split"].nunique().loc[lambda count: count > 1].index
    if len(shared):
        raise DataError(f"database '{database.name}': references in more than one split: {_some(shared)}")
    splits = {
        split: {"n": len(rows), "references": int(rows["reference"].nunique())}
        for split, rows in table.groupby("split")
    }
    mos = table["mos"]
    known_std = table["mos_std"].notna().any()
    return {
        "name": database.name,
        "title": database.title,
        "synthetic": database.synthetic,
        "low": database.low,
        "high": database.high,
        "higher_is_better": database.higher_is_better,
        "n": len(table),
        "splits": {split: splits[split] for split in ("train", "val", "test") if split in splits},
        "mos": {key: float(getattr(mos, key)()) for key in ("mean", "std", "min", "max")},
        "mos_std_mean": float(table["mos_std"].mean()) if known_std else None,
        "ceiling_srcc": database.ceiling_srcc(),
        "citation": database.citation,
        "licence": database.licence,
        "fingerprint": database.fingerprint,
        "bytes": database.bytes,
        "height": int(store.index["height"].min()),
        "width": int(store.index["width"].min()),
        "warnings": _warnings(database, store),
    }


def _warnings(database: Database, store: Store) -> list[str]:
    warnings = []
    table, index = database.table, store.index
    if database.release_images is not None and len(table) != database.release_images:
        warnings.append(f"{len(table)} images are here, {database.release_images} are in the release.")
    if store.manifest["enlarged"]:
        warnings.append(f"{store.manifest['enlarged']} image(s) are smaller than the stored size and were enlarged.")
    sizes = (index["height"].astype(str) + "x" + index["width"].astype(str)).value_counts()
    if len(sizes) > 1:
        most = f"{sizes.iloc[0]} are {sizes.index[0]} (height x width)"
        warnings.append(f"The images have {len(sizes)} different stored sizes; {most}.")
    rows = table.assign(sha256=index["sha256"])
    copies = rows[rows.duplicated("sha256", keep=False)]
    splits = copies.groupby("sha256")["split"].transform("nunique")
    for found, where in ((copies[splits > 1], "in different splits"), (copies[splits == 1], "in the same split")):
        if len(found):
            names = found.groupby("sha256")["image"].agg(" = ".join)
            warnings.append(f"{len(names)} image(s) occur more than once {where}: {_some(names)}.")
    return warnings
