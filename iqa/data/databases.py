"""A database ready for use: its labels checked, split and joined with cached pixels, and its audit.

What is read from a release, and the facts about each, stand in `iqa.data.releases`. The rules that all share:

- a name that is not there exactly is looked up without regard to letter case, extension and folders included; two
  files that fit are an error;
- a missing image, an image that is listed twice, and a score outside the stated range are errors;
- a part of a release is fine; the audit says how much of it is there;
- scores stay on the database's own scale; `normalise` turns those where lower is better.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from iqa import config, paths
from iqa.config import DataPrepParams
from iqa.data import DataError, synthetic
from iqa.data.cache import Size, Store, code_version, content_hashes, open_stores
from iqa.data.files import SHOWN, some, stored_paths
from iqa.data.releases import READERS, RELEASES, SPLIT_NAMES, Release, numbers, read_csv
from iqa.study.code import digest

COLUMNS = ["image", "mos", "mos_std", "split", "reference", "distortion", "level"]
SPLITS = ("train", "val", "test")
SIZES_SHOWN = 10  # how many stored sizes an audit lists
OWN_SCALE = ("low", "high", "higher_is_better")
OWN_FILES = {"metas": ("train_list", "val_list", "test_list"), "csv": ("labels",)}


@dataclass(kw_only=True)
class Labels:
    """A database as its release describes it.

    Args:
        name: name in the study.
        title: name for tables and figures.
        table: one row per image: `image` (path inside `folder`, with forward slashes), `mos` and `mos_std` (on the
            database's own scale; `mos_std` is NaN where unknown), `split` (train, val or test), `reference` (which
            content is shown; the image itself where each has its own), `distortion`, `level` (NaN where unknown), and
            for synthetic databases `quality` (the score without the observers' noise).
        folder: folder of the images.
        low, high: range of the scores.
        higher_is_better: direction of the scores.
        synthetic: True if no person has rated the images.
        release_images: number of images in the whole release, `None` if it has no fixed number.
        release_references: number of its contents, `None` where not known.
        release_splits: number of images per split of the official split, `None` where another split is used.
        citation, licence, source, notes: as in `Release`.
        split_rule: how the split came about, a sentence.
        warnings: what came up in reading, sentences.
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
    release_references: int | None = None
    release_splits: dict[str, int] | None = None
    citation: str
    licence: str
    source: str
    notes: str = ""
    split_rule: str = ""
    warnings: list[str] = field(default_factory=list)


def read(params: DataPrepParams) -> Labels:
    """Labels of a database; a synthetic one is generated first where that has not been done.

    Raises:
        DataError: the release is missing, its labels cannot be used, or a parameter does not fit the reader.
    """
    release = _release(params)
    table, images = READERS[params.reader](params, _folder(params, release))
    if table.empty:
        raise DataError(f"database '{params.run}': its label file lists no image")
    table = _checked(table.reset_index(drop=True), images, release)
    way = _way(params, table)
    table["split"], rule = _split(params, table, way)
    lost = release.splits and way == "seeded" and params.split is None
    official = way == "official" and len(set(table["split"])) > 1
    return Labels(
        name=params.run,
        title=release.title,
        table=table.reindex(columns=COLUMNS + (["quality"] if "quality" in table else [])),
        folder=images,
        low=release.low,
        high=release.high,
        higher_is_better=release.higher_is_better,
        synthetic=release.synthetic,
        release_images=release.images,
        release_references=release.references,
        release_splits=release.splits if official else None,
        citation=release.citation,
        licence=release.licence,
        source=release.source,
        notes=release.notes,
        split_rule=rule,
        warnings=["The release has an official split, which this label file does not hold."] if lost else [],
    )


def _file(params: DataPrepParams) -> str:
    return paths.shown(config.params_file(params.study, "data_prep", params.run))


def _release(params: DataPrepParams) -> Release:
    """What is known of a release; for one's own images, what the parameters say."""
    own = {*OWN_SCALE, *(name for names in OWN_FILES.values() for name in names)}
    used = {*OWN_SCALE, *OWN_FILES[params.reader]} if params.reader in OWN_FILES else {"images"}
    given = {name for name in own | {"images"} if getattr(params, name) is not None}
    if given - used:
        names = ", ".join(sorted(given - used))
        raise DataError(f"{_file(params)}: reader '{params.reader}' has no use for {names}; remove them")
    if params.reader == "synthetic":
        return replace(RELEASES["synthetic"], title=synthetic.TITLES[params.part])
    if params.reader not in OWN_FILES:
        return RELEASES[params.reader]
    missing = [name for name in ("folder", *OWN_SCALE) if getattr(params, name) is None]
    if not given & set(OWN_FILES[params.reader]):
        missing.append(" or ".join(OWN_FILES[params.reader]))
    if missing:
        raise DataError(f"{_file(params)}: reader '{params.reader}' needs {', '.join(missing)}; set them")
    if params.low >= params.high:
        raise DataError(f"{_file(params)}: low ({params.low:g}) must be below high ({params.high:g})")
    return Release(
        title=params.run,
        images=None,
        low=params.low,
        high=params.high,
        higher_is_better=params.higher_is_better,
        citation="one's own",
        licence="one's own",
        source="one's own",
    )


def _folder(params: DataPrepParams, release: Release) -> Path:
    if params.reader == "synthetic":
        return synthetic.ensure(params.part, params.seed, params.scale, _jobs(params))
    reason = absent(params)
    if reason is not None:
        raise DataError(reason)
    return _place(params, release)


def _place(params: DataPrepParams, release: Release) -> Path:
    return paths.resolve(params.folder or release.folder)


def absent(params: DataPrepParams) -> str | None:
    """Why a database is not available on this machine and where it can be had; `None` where its folder is there."""
    release = _release(params)
    if params.reader == "synthetic" or (folder := _place(params, release)).is_dir():
        return None
    shown = paths.shown(folder)
    if params.reader in OWN_FILES:
        return f"{shown}: no such folder; set `folder` in {_file(params)} to where the images are"
    return (
        f"{shown}: no such folder. {release.title} ({release.citation}) comes from {release.source}; get it, and "
        f"set `folder` in {_file(params)} to where it is"
    )


def _checked(table: pd.DataFrame, images: Path, release: Release) -> pd.DataFrame:
    """The table with numbers for numbers and the images' stored names; errors name the rows."""
    table = table.assign(image=_stored_names(table, images))
    twice = table[table.duplicated("image", keep=False)].sort_values("image", kind="stable")
    if len(twice):
        raise DataError(f"an image is listed twice: {some(twice['row'] + ': ' + twice['image'])}; keep one row of each")
    mos = pd.to_numeric(table["mos"], errors="coerce")
    wrong = table[~mos.between(release.low, release.high)]
    if len(wrong):
        raise DataError(
            f"MOS outside the range {release.low:g} to {release.high:g} of {release.title}: "
            f"{some(wrong['row'] + ': ' + wrong['mos'].fillna('(empty)').astype(str))}; correct the label file"
        )
    table["mos"] = mos
    for column in {"mos_std", "level", "quality"} & set(table.columns):
        table[column] = numbers(table, column)
    table["reference"] = table["reference"].fillna(table["image"]) if "reference" in table else table["image"]
    return table


def _stored_names(table: pd.DataFrame, folder: Path) -> list[str]:
    """The listed images' names as they are on disk: the exact name, or else the one name that differs in case only."""
    listed = table["image"].fillna("").astype(str)
    matches = stored_paths(folder, listed)
    for row, name, fits in zip(table["row"], listed, matches, strict=True):
        if len(fits) > 1:
            raise DataError(
                f"{row}: '{name}' fits several files of {paths.shown(folder)} ({', '.join(fits)}); rename one"
            )
    missing = [f"{row}: '{name}'" for row, name, fits in zip(table["row"], listed, matches, strict=True) if not fits]
    if missing:
        raise DataError(
            f"{paths.shown(folder)}: {len(missing)} listed image(s) are missing: {some(missing)}; "
            "complete the folder, or remove these rows from the label file"
        )
    return [fits[0] for fits in matches]


def _way(params: DataPrepParams, table: pd.DataFrame) -> str:
    """How the images are split: `file`, `official`, `seeded` or `all_test`."""
    way = params.split or ("file" if params.split_file else "official" if "split" in table else "seeded")
    if way == "official" and "split" not in table:
        raise DataError(f"{_file(params)}: split 'official', but the label file holds no split; set 'split: seeded'")
    if params.repeat != 1 and way != "seeded":
        raise DataError(f"{_file(params)}: `repeat` picks a seeded split, this one is '{way}'; set 'split: seeded'")
    return way


def _split(params: DataPrepParams, table: pd.DataFrame, way: str) -> tuple[pd.Series, str]:
    """The split of each image, and how it came about."""
    rng = np.random.default_rng(params.seed)
    if way == "all_test":
        split, rule = pd.Series("test", table.index), "Every image is for testing."
    elif way == "seeded":
        rng = np.random.default_rng([params.seed, params.repeat])
        split = seeded_split(table["reference"], params.train_fraction, rng)
        rule = (
            f"Seeded split: {params.train_fraction:g} of the references for training, the rest for testing "
            f"(seed {params.seed}, repeat {params.repeat})."
        )
    elif way == "file":
        split = read_split(paths.resolve(params.split_file), table["image"])
        rule = f"Split read from {paths.shown(paths.resolve(params.split_file))}."
    else:
        split = _split_names(table, "split")
        rule = "Every image is for testing." if set(split) == {"test"} else "The split that the label files hold."
    if "val" in set(split) or "train" not in set(split) or params.val_fraction == 0:
        return split, rule
    held_out = hold_out(table["reference"], split, params.val_fraction, rng)
    return held_out, f"{rule} Of the training references {params.val_fraction:g} are held out for validation."


def seeded_split(reference: pd.Series, train_fraction: float, rng: np.random.Generator) -> pd.Series:
    """`train` or `test` for each image, drawn by reference: no content is in both. Their order does not matter.

    Raises:
        DataError: there are too few references for both.
    """
    references = np.sort(reference.unique())
    count = round(len(references) * train_fraction)
    if not 0 < count < len(references):
        raise DataError(f"a seeded split of {len(references)} reference(s) leaves nothing to train on or to test on")
    drawn = rng.permutation(references)[:count]
    return pd.Series(np.where(reference.isin(drawn), "train", "test"), reference.index)


def hold_out(reference: pd.Series, split: pd.Series, fraction: float, rng: np.random.Generator) -> pd.Series:
    """The split with a fraction of the training references, drawn by `rng`, turned into validation."""
    train = split == "train"
    references = reference[train].unique()
    drawn = rng.permutation(references)[: round(len(references) * fraction)]
    return split.mask(train & reference.isin(drawn), "val")


def write_split(database: Labels, file: Path) -> None:
    """Write a database's split as a CSV file with the columns `image` and `split`, for `split_file`."""
    database.table[["image", "split"]].to_csv(file, index=False)


def read_split(file: Path, images: pd.Series) -> pd.Series:
    """The split of each image from a CSV file with (at least) the columns `image` and `split`.

    A run's `database.csv` is such a file. Names may differ in letter case and in the direction of slashes.

    Raises:
        DataError: an image of the database is not in the file, one of the file is not in the database, or one is there
            twice.
    """
    table = read_csv(file, {"image": "image", "split": "split"})
    keys = table["image"].fillna("").map(_key)
    if keys.duplicated().any():
        raise DataError(f"{paths.shown(file)}: listed twice: {some(table['row'][keys.duplicated()])}; keep one row")
    split = pd.Series(_split_names(table, "split").to_numpy(), keys)
    wanted = images.map(_key)
    lacking, unknown = images[~wanted.isin(keys)], table["row"][~keys.isin(wanted)]
    if len(lacking):
        raise DataError(f"{paths.shown(file)}: lacks images of the database: {some(lacking)}; add them")
    if len(unknown):
        raise DataError(f"{paths.shown(file)}: images that the database does not have: {some(unknown)}; remove them")
    return pd.Series(split[wanted].to_numpy(), images.index)


def _key(image: str) -> str:
    return image.strip().replace("\\", "/").lower()


def _split_names(table: pd.DataFrame, column: str) -> pd.Series:
    split = table[column].str.strip().str.lower().replace(SPLIT_NAMES)
    wrong = table[~split.isin(SPLITS)]
    if len(wrong):
        shown = some(wrong["row"] + ": " + wrong[column].fillna("(empty)"))
        raise DataError(f"not one of {', '.join(SPLITS)}: {shown}; correct the file")
    return split


def write_metas(database: Labels, folder: Path, root: Path | None = None) -> list[Path]:
    """Write one JSON list of `{"image", "score"}` per split, `<name>_<split>.json`, for the reader `metas`.

    Args:
        database: its scores are written on its own scale.
        folder: for the lists; made where it is not there.
        root: what the images' paths start from; the database's folder of images by default.

    Returns:
        the written files.

    Raises:
        DataError: the images do not lie inside `root`.
    """
    images, root = database.folder.resolve(), (root or database.folder).resolve()
    if not images.is_relative_to(root):
        raise DataError(f"{paths.shown(images)}: not inside {paths.shown(root)}; give a `root` above the images")
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for split in SPLITS:
        rows = database.table[database.table["split"] == split]
        if len(rows):
            names = [(images.relative_to(root) / image).as_posix() for image in rows["image"]]
            values = [{"image": image, "score": mos} for image, mos in zip(names, rows["mos"], strict=True)]
            files.append(folder / f"{database.name}_{split}.json")
            files[-1].write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return files


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
    if params.reader == "synthetic":
        return digest(synthetic.identity(params.part, params.seed, params.scale), vars(_size(params)), code_version())
    labels = read(params)
    return _fingerprint(params, labels, content_hashes(labels.folder, labels.table["image"]))


def _fingerprint(params: DataPrepParams, labels: Labels, hashes: list[str]) -> str:
    scores = (labels.table.to_csv(index=False), labels.low, labels.high, labels.higher_is_better)
    return digest(*scores, hashes, vars(_size(params)), code_version())


@dataclass(kw_only=True)
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
    labels = read(params)
    images = labels.table["image"]
    hashes = content_hashes(labels.folder, images)
    stores = open_stores(
        params.reader, labels.folder, list(images), hashes, _size(params), params.inputs, _jobs(params)
    )
    made_from = fingerprint(params) if params.reader == "synthetic" else _fingerprint(params, labels, hashes)
    return Database(**vars(labels), stores=stores, fingerprint=made_from, size=_size(params))


def open_database(study: str, name: str) -> Database:
    """The database `name` of a study, as `params/<study>/data_prep/<name>.yaml` describes it."""
    return prepare(config.load(study, "data_prep", name))


def open_available(study: str, names: list[str]) -> tuple[dict[str, Database], dict[str, dict[str, str]]]:
    """Those of some databases of a study that are on this machine, by name; of the others `title` and `reason`."""
    opened, missing = {}, {}
    for name in names:
        params = config.load(study, "data_prep", name)
        reason = absent(params)
        if reason is None:
            opened[name] = prepare(params)
        else:
            missing[name] = {"title": title(params), "reason": reason}
    return opened, missing


def title(params: DataPrepParams) -> str:
    """A database's name for tables and figures, whether or not it is on this machine."""
    return _release(params).title


def audit(database: Database) -> dict:
    """What a reader should know of a database before trusting a number from it, as plain values.

    The rule: what makes numbers wrong is an error (a missing or broken image, an image listed twice, a score outside
    the range, a reference in two splits; all but the last stop already in reading). What a release may have but a
    reader should know is a warning: a part of the release, another official split than the release's, copies of an
    image, different sizes, enlarged images.

    Returns:
        name, title, synthetic, low, high, higher_is_better, scale (their meaning in a sentence), n, splits (per split
        `n` and `references`), split_rule, mos (mean, std, min, max), mos_std_mean and mos_std (mean, min, max; `None`
        where unknown), ceiling_srcc, citation, licence, source, notes, fingerprint, bytes, height and width (of the
        smallest cached image), sizes (the most frequent stored sizes: height, width, n), checks (a list of `check`,
        `here`, `release`: counts, and what the release has, `None` where not known), warnings (a list of sentences).

    Raises:
        DataError: a reference is in two splits.
    """
    table, store = database.table, next(iter(database.stores.values()))
    shared = table.groupby("reference")["split"].nunique().loc[lambda count: count > 1].index
    if len(shared):
        raise DataError(f"database '{database.name}': references in more than one split: {some(shared)}")
    splits = {
        split: {"n": len(rows), "references": int(rows["reference"].nunique())}
        for split, rows in table.groupby("split")
    }
    mos, deviation = table["mos"], table["mos_std"]
    sizes = store.index.groupby(["height", "width"]).size().sort_values(ascending=False, kind="stable")
    return {
        "name": database.name,
        "title": database.title,
        "synthetic": database.synthetic,
        "low": database.low,
        "high": database.high,
        "higher_is_better": database.higher_is_better,
        "scale": scale(database),
        "n": len(table),
        "splits": {split: splits[split] for split in SPLITS if split in splits},
        "split_rule": database.split_rule,
        "mos": {key: float(getattr(mos, key)()) for key in ("mean", "std", "min", "max")},
        "mos_std_mean": float(deviation.mean()) if deviation.notna().any() else None,
        "mos_std": {key: float(getattr(deviation, key)()) for key in ("mean", "min", "max")}
        if deviation.notna().any()
        else None,
        "ceiling_srcc": database.ceiling_srcc(),
        "citation": database.citation,
        "licence": database.licence,
        "source": database.source,
        "notes": database.notes,
        "fingerprint": database.fingerprint,
        "bytes": database.bytes,
        "height": int(store.index["height"].min()),
        "width": int(store.index["width"].min()),
        "sizes": [
            {"height": int(height), "width": int(width), "n": int(n)}
            for (height, width), n in sizes.head(SIZES_SHOWN).items()
        ],
        "checks": _checks(database, store),
        "warnings": database.warnings + _warnings(database, store),
    }


def scale(database: Labels) -> str:
    """Range and direction of the scores in a sentence."""
    if database.higher_is_better:
        return f"Scores run from {database.low:g} (worst) to {database.high:g} (best); higher is better."
    return (
        f"Scores run from {database.low:g} (best) to {database.high:g} (worst): they are DMOS, lower is better. "
        "The table keeps them; for training and evaluation they are turned, so that 0 is worst and 1 best."
    )


def _checks(database: Database, store: Store) -> list[dict]:
    """Counts beside those of the release."""
    table, known = database.table, database.release_splits
    here = table["split"].value_counts().to_dict()
    if known and "val" not in known:
        here["train"] = here.get("train", 0) + here.pop("val", 0)
    within, across = _copies(table, store)
    counts = [
        ("images", len(table), database.release_images),
        ("references", int(table["reference"].nunique()), database.release_references),
        *((f"{split} images of the official split", here.get(split, 0), n) for split, n in (known or {}).items()),
        ("missing images", 0, 0),  # otherwise reading would have stopped
        ("unreadable images", 0, 0),
        ("references in more than one split", 0, 0),
        ("images that occur in more than one split", len(across), None),
        ("images that occur more than once in a split", len(within), None),
        ("images that were enlarged", store.manifest["enlarged"], None),
        ("stored sizes", len(store.index[["height", "width"]].drop_duplicates()), None),
    ]
    return [{"check": check, "here": int(found), "release": release} for check, found, release in counts]


def _warnings(database: Database, store: Store) -> list[str]:
    table, index = database.table, store.index
    warnings = [
        f"{check['here']} {check['check']} are here, {check['release']} are in the release."
        for check in _checks(database, store)
        if check["release"] not in (None, check["here"])
    ]
    if store.manifest["enlarged"]:
        warnings.append(f"{store.manifest['enlarged']} image(s) are smaller than the stored size and were enlarged.")
    sizes = (index["height"].astype(str) + "x" + index["width"].astype(str)).value_counts()
    if len(sizes) > 1:
        most = f"{sizes.iloc[0]} are {sizes.index[0]} (height x width)"
        warnings.append(f"The images have {len(sizes)} different stored sizes; {most}.")
    within, across = _copies(table, store)
    for found, where in ((across, "in different splits"), (within, "in the same split")):
        if len(found):
            warnings.append(f"{len(found)} image(s) occur more than once {where}: {some(found)}.")
    return warnings


def _copies(table: pd.DataFrame, store: Store) -> tuple[pd.Series, pd.Series]:
    """Images whose files are the same: in one split, and in different ones; the names of each group as `a = b`."""
    rows = table.assign(sha256=store.index["sha256"])
    copies = rows[rows.duplicated("sha256", keep=False)]
    splits = copies.groupby("sha256")["split"].transform("nunique")
    names = [copies[found].groupby("sha256")["image"].agg(_equal) for found in (splits == 1, splits > 1)]
    return names[0], names[1]


def _equal(names: pd.Series) -> str:
    """The first few names of one image, and how many there are."""
    shown = " = ".join(names[:SHOWN])
    return shown + (f" = ... ({len(names)} names)" if len(names) > SHOWN else "")
