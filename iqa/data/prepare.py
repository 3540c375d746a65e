"""A database made ready for use: read, checked, split, and joined with its cached pixels.

`iqa.data.readers` reads the label files, `iqa.data.releases` knows the facts of each release. The rules for all:

- a file name fits exactly, or else in another letter case, extension and folders included; two that fit are an error;
- a missing image, an image that is listed twice, and a score outside the stated range are errors;
- a part of a release is fine; the audit says how much of it is there;
- scores stay on the database's own scale; `normalise` turns those where lower is better.
"""

from dataclasses import replace
from pathlib import Path

import joblib
import pandas as pd

from iqa.data import DataError, synthetic
from iqa.data.cache import open_stores
from iqa.data.database import Database, Labels
from iqa.data.files import cells, refuse, stored_paths
from iqa.data.params import DataPrepParams
from iqa.data.readers import READERS, numbers
from iqa.data.releases import Release, absent, folder_of, release_of, title
from iqa.data.sizes import Size
from iqa.data.splits import choose_way, split_images
from iqa.study import param_files, paths
from iqa.study.code import digest
from iqa.study.hashes import content_hashes

COLUMNS = ["image", "mos", "mos_std", "split", "reference", "distortion", "level"]
FACTS = ("title", "low", "high", "higher_is_better", "synthetic", "citation", "licence", "source", "notes")


def prepare(params: DataPrepParams) -> Database:
    """A database ready for use; what is not yet generated or cached is made now, with a progress bar.

    Raises:
        DataError: the release is missing, its labels cannot be used, an image is broken, or the disk is full.
    """
    labels, size = read(params), _size(params)
    images = labels.table["image"]
    hashes = content_hashes(labels.folder, images)
    jobs = params.workers or joblib.cpu_count()
    stores = open_stores(labels.folder, list(images), hashes, size, params.inputs, jobs)
    made_from = fingerprint(params) if params.reader == "synthetic" else _fingerprint(labels, hashes, size)
    return Database(**vars(labels), stores=stores, fingerprint=made_from, size=size)


def open_database(study: str, name: str) -> Database:
    """The database `name` of a study, as `params/<study>/data_prep/<name>.yaml` describes it."""
    return prepare(param_files.load(DataPrepParams, study, name))


def open_available(study: str, names: list[str]) -> tuple[dict[str, Database], dict[str, dict[str, str]]]:
    """Those of some databases of a study that are on this machine, and `title` and `reason` of the others; by name."""
    opened, missing = {}, {}
    for name in names:
        params = param_files.load(DataPrepParams, study, name)
        if reason := absent(params):
            missing[name] = {"title": title(params), "reason": reason}
        else:
            opened[name] = prepare(params)
    return opened, missing


def in_size(database: Database, split: str, size: Size, kind: str) -> Database:
    """A database whose images of one split are in the size, the colours and the kind of input that a model reads.

    It is the database itself where it is stored so. Otherwise it holds that split alone, whose images are cached anew.

    Raises:
        DataError: an image is broken, or the disk is full.
    """
    rows, store = database.indices(split), database.stores.get(kind)
    same = store is not None and database.size == replace(size, least=database.size.least)
    if same and (size.least is None or all(min(store[row].shape[:2]) >= size.least for row in rows)):
        return database
    table = database.table.iloc[rows].reset_index(drop=True)
    images = list(table["image"])
    hashes = content_hashes(database.folder, images)
    stores = open_stores(database.folder, images, hashes, size, [kind], joblib.cpu_count())
    return replace(database, table=table, stores=stores, size=size)


def fingerprint(params: DataPrepParams) -> str:
    """A hash of a database's labels, images and stored size; `Database.identity` adds the code that makes the pixels.

    Cheap: image files are read only when they are new or changed, and a synthetic database need not exist yet. It does
    not depend on where the images lie, on `inputs`, or on `workers`.

    Raises:
        DataError: the release is missing or its labels cannot be used.
    """
    if params.reader == "synthetic":
        return digest(synthetic.identity(params.part, params.seed, params.scale), vars(_size(params)))
    labels = read(params)
    return _fingerprint(labels, content_hashes(labels.folder, labels.table["image"]), _size(params))


def _fingerprint(labels: Labels, hashes: list[str], size: Size) -> str:
    scores = (labels.table.to_csv(index=False), labels.low, labels.high, labels.higher_is_better)
    return digest(*scores, hashes, vars(size))


def _size(params: DataPrepParams) -> Size:
    return Size(params.height, params.width, params.keep_aspect, params.filter, params.colours)


def read(params: DataPrepParams) -> Labels:
    """Labels of a database; a synthetic one is generated first, if it is not in the cache.

    Raises:
        DataError: the release is missing, its labels cannot be used, or a parameter does not fit the reader.
    """
    release = release_of(params)
    if reason := absent(params):
        raise DataError(reason)
    table, images = READERS[params.reader](params, folder_of(params))
    if table.empty:
        raise DataError(f"database '{params.run}': its label file lists no image")
    table = _checked(table.reset_index(drop=True), images, release)
    way = choose_way(params, table)
    table["split"], rule = split_images(params, table, way)
    lost = release.splits and way == "seeded" and params.split is None
    official = way == "official" and len(set(table["split"])) > 1
    return Labels(
        name=params.run,
        table=table.reindex(columns=COLUMNS + (["quality"] if "quality" in table else [])),
        folder=images,
        release_images=release.images,
        release_references=release.references,
        release_splits=release.splits if official else None,
        split_rule=rule,
        warnings=["The release has an official split, which this label file does not hold."] if lost else [],
        **{fact: getattr(release, fact) for fact in FACTS},
    )


def _checked(table: pd.DataFrame, images: Path, release: Release) -> pd.DataFrame:
    """The table with numbers for numbers and the images' stored names; errors name the rows."""
    table = table.assign(image=_stored_names(table, images))
    twice = table[table.duplicated("image", keep=False)].sort_values("image", kind="stable")
    refuse(cells(twice, "image"), "an image is listed twice", "keep one row of each")
    mos = pd.to_numeric(table["mos"], errors="coerce")
    outside = cells(table[~mos.between(release.low, release.high)], "mos")
    problem = f"MOS outside the range {release.low:g} to {release.high:g} of {release.title}"
    refuse(outside, problem, "correct the label file")
    table["mos"] = mos
    for column in {"mos_std", "level", "quality"} & set(table.columns):
        table[column] = numbers(table, column)
    table["reference"] = table["reference"].fillna(table["image"]) if "reference" in table else table["image"]
    return table


def _stored_names(table: pd.DataFrame, folder: Path) -> list[str]:
    """The listed images' names as they are on disk: the exact name, or else the one name that differs in case only."""
    listed = table["image"].fillna("").astype(str)
    places = (table["row"] + ": '" + listed + "'").tolist()
    matches = stored_paths(folder, listed)
    for place, fits in zip(places, matches, strict=True):
        if len(fits) > 1:
            raise DataError(f"{place} fits several files of {paths.shown(folder)} ({', '.join(fits)}); rename one")
    missing = [place for place, fits in zip(places, matches, strict=True) if not fits]
    problem = f"{paths.shown(folder)}: {len(missing)} listed image(s) are missing"
    refuse(missing, problem, "complete the folder, or remove these rows from the label file")
    return [fits[0] for fits in matches]
