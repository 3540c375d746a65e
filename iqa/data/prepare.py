"""A database made ready for use: read, checked, split, and joined with its cached pixels.

`iqa.data.readers` reads the label files, `iqa.data.releases` knows the facts of each release. The rules for all:

- a file name fits exactly, or else in another letter case, extension and folders included; two that fit are an error;
- an image that is listed twice, and a score outside the stated range are errors;
- so is an image that is missing or cannot be read, unless `missing: skip` leaves it out and says so;
- twins, two images that are one photograph, are kept in one split wherever a seed draws it;
- a part of a release is fine; the audit says how much of it is there;
- scores stay on the database's own scale; `normalise` turns those where lower is better.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from iqa.data import DataError, synthetic, twins
from iqa.data.cache import THUMBNAILS, Store, decoded, open_stores, pixel_code
from iqa.data.database import Database, Labels
from iqa.data.files import SHOWN_CHARACTERS, cells, refuse, stored_paths, what_is_wrong
from iqa.data.params import DataPrepParams
from iqa.data.pixels import rgb
from iqa.data.readers import READERS, numbers
from iqa.data.releases import OWN_FILES, Release, absent, folder_of, release_of, title
from iqa.data.sizes import Size
from iqa.data.splits import choose_way, split_images
from iqa.study import param_files, paths
from iqa.study.code import digest, file_hash
from iqa.study.hashes import content_hashes

COLUMNS = ["image", "mos", "mos_std", "split", "reference", "distortion", "level"]
MISSING, UNREADABLE, BROKEN = "missing", "not readable", "cannot be decoded"  # why an image is left out
SCALES = ((0, 1), (1, 5), (0, 5), (1, 10), (0, 10))  # on which scores are often given
NARROW, FEW = 0.25, 5  # largest share of the stated range that such a scale has, and fewest images to tell
SMALL, MANY = 0.1, 20  # share of the stated range that so many images fill at least
FACTS = ("title", "low", "high", "higher_is_better", "synthetic", "citation", "licence", "source", "notes")


def prepare(params: DataPrepParams) -> Database:
    """A database ready for use; what is not yet generated or cached is made now, with a progress bar.

    Raises:
        DataError: the release is missing, its labels cannot be used, an image is broken, or the disk is full.
    """
    labels, size = read(params), _size(params)
    hashes, jobs, skip = _hashes(labels), params.workers or joblib.cpu_count(), params.missing == "skip"
    kinds = [*params.inputs, THUMBNAILS]
    stores = open_stores(labels.folder, labels.table["image"].tolist(), hashes, size, kinds, jobs, skip)
    thumbnails = stores.pop(THUMBNAILS)
    if not len(thumbnails):
        raise DataError(f"{paths.shown(labels.folder)}: none of {len(hashes)} images can be decoded; fetch them again")
    key = _key_of_twins(labels, hashes, size)
    pairs = twins.recall(key)
    if pairs is None:
        pairs = _find_twins(labels, stores, thumbnails, size)
        twins.remember(key, pairs)
    labels = _keep_together(params, labels, pairs)
    made_from = fingerprint(params) if params.reader == "synthetic" else _fingerprint(labels, hashes, size)
    found = twins.name(pairs, labels.table)
    whole = labels.table["image"].isin(thumbnails.index["image"])
    labels.skipped = pd.concat([labels.skipped, labels.table.loc[~whole, ["image"]].assign(why=BROKEN)])
    labels.table = twins.mark(labels.table[whole].reset_index(drop=True), found)
    return Database(**vars(labels), stores=stores, thumbnails=thumbnails, twins=found, fingerprint=made_from, size=size)


def _key_of_twins(labels: Labels, hashes: list[str], size: Size) -> str:
    """A hash of all that decides which pairs of twins a database has."""
    about = (labels.table[column].astype(object).fillna("").tolist() for column in ("reference", "distortion", "level"))
    return digest(hashes, *about, vars(size), pixel_code(THUMBNAILS), twins.code_of_twins())


def _find_twins(labels: Labels, stores: dict[str, Store], thumbnails: Store, size: Size) -> list[twins.Pair]:
    """The pairs of twins of a database; of two images with different distortions or levels only what is the same."""
    index = next(iter(stores.values())).index
    numbers = np.flatnonzero(labels.table["image"].isin(index["image"])).tolist()  # of the images that are not broken
    table = labels.table.iloc[numbers]
    large = index[["height", "width"]].min(axis=1) >= twins.SMALLEST
    hashes = [sha if fits else None for sha, fits in zip(index["sha256"], large, strict=True)]
    pairs = twins.find(thumbnails, _pixels(labels, stores, index, size), hashes, table["reference"].tolist())
    made = list(zip(table["distortion"].astype(object).fillna(""), table["level"].fillna(-1), strict=True))
    alike = [(one, other, psnr) for one, other, psnr in pairs if made[one] == made[other] or psnr == twins.MOST]
    return [(numbers[one], numbers[other], psnr) for one, other, psnr in alike]


def _keep_together(params: DataPrepParams, labels: Labels, pairs: list[twins.Pair]) -> Labels:
    """The labels, with twins in one split if that is drawn."""
    reference = labels.table["reference"].tolist()
    same = [(reference[one], reference[other]) for one, other, _ in pairs]
    return read(params, same) if same and labels.drawn else labels


def _pixels(labels: Labels, stores: dict[str, Store], index: pd.DataFrame, size: Size) -> twins.Pixels:
    """The images themselves at their stored size, decoded where they are not cached, by their numbers."""
    if rgb.name in stores:
        return stores[rgb.name].__getitem__
    return lambda number: decoded(labels.folder / index["image"][number], index["sha256"][number], size)[1]


def find_copies(trained_on: Database, tested: Database) -> pd.DataFrame:
    """The test images of a database that are twins of training or validation images of another: image, twin, psnr."""
    (images, names), (others, other_names) = _part(tested, "test"), _part(trained_on, "train", "val")
    pairs = twins.find_between(*images, *others)
    rows = [(names[one], other_names[other], value) for one, other, value in pairs]
    return pd.DataFrame(rows, columns=["image", "twin", "psnr"]).drop_duplicates("image", ignore_index=True)


def _part(database: Database, *splits: str) -> tuple[tuple[Store, twins.Pixels], list[str]]:
    """Thumbnails and images of some splits, and their names."""
    index = next(iter(database.stores.values())).index
    large = index[["height", "width"]].min(axis=1) >= twins.SMALLEST
    rows = np.flatnonzero(database.table["split"].isin(splits) & large).tolist()
    pixels = _pixels(database, database.stores, index, database.size)
    names = database.table["image"].iloc[rows].tolist()
    return (database.thumbnails.take(rows), lambda place: pixels(rows[place])), names


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
    return replace(database, table=table, stores=stores, size=size, thumbnails=None, twins=database.twins[:0])


def fingerprint(params: DataPrepParams) -> str:
    """A hash of a database's labels, images, split and stored size; `contents_hash` adds the code of the pixels.

    Cheap: image files are read only when they are new or changed, and a synthetic database need not exist yet; twins
    are known once the database was prepared with this cache. It does not depend on where the images lie, on `inputs`,
    or on `workers`.

    Raises:
        DataError: the release is missing or its labels cannot be used.
    """
    if params.reader == "synthetic":
        split = []
        if params.split_file is not None:
            file = paths.resolve(params.split_file)
            if problem := what_is_wrong(file):
                raise DataError(f"{paths.shown(file)}: {problem}")
            split = [file_hash(file)]
        elif params.split not in (None, "official"):
            split = [[params.split, params.repeat, params.train_fraction, params.val_fraction]]
        return digest(synthetic.identity(params.part, params.seed, params.scale), vars(_size(params)), *split)
    labels, size = read(params), _size(params)
    hashes = _hashes(labels)
    if labels.drawn:
        labels = _keep_together(params, labels, twins.recall(_key_of_twins(labels, hashes, size)) or [])
    return _fingerprint(labels, hashes, size)


def _fingerprint(labels: Labels, hashes: list[str], size: Size) -> str:
    scores = (labels.table.to_csv(index=False), labels.low, labels.high, labels.higher_is_better)
    return digest(*scores, hashes, vars(size))


def _hashes(labels: Labels) -> list[str]:
    """SHA-256 of each image file."""
    try:
        return content_hashes(labels.folder, labels.table["image"])
    except OSError as error:
        raise DataError(f"{paths.shown(error.filename)}: cannot be read ({error.strerror})") from None


def _size(params: DataPrepParams) -> Size:
    return Size(params.height, params.width, params.keep_aspect, params.filter, params.colours)


def read(params: DataPrepParams, same: Sequence[tuple[str, str]] = ()) -> Labels:
    """Labels of a database; a synthetic one is generated first, if it is not in the cache.

    Args:
        same: pairs of references that show one photograph, and that a drawn split keeps together.

    Raises:
        DataError: the release is missing, its labels cannot be used, or a parameter does not fit the reader.
    """
    release = release_of(params)
    if reason := absent(params):
        raise DataError(reason)
    table, images = READERS[params.reader](params, folder_of(params))
    if table.empty:
        raise DataError(f"database '{params.run}': its label file lists no image")
    table, why = _checked(params, table.reset_index(drop=True), images, release)
    way = choose_way(params, table)
    joined = table.assign(reference=twins.join(table["reference"], same)) if same else table
    table["split"], rule, drawn = split_images(params, joined, way)
    skipped = table.assign(why=why)[["image", "why"]][why != ""]  # only now: the split is that of the whole
    table = table[why == ""].reset_index(drop=True)
    lost = release.splits and way == "seeded" and params.split is None
    official = way == "official" and len(set(table["split"])) > 1
    warnings = ["The release has an official split, which this label file does not hold."] if lost else []
    warnings += [f"{text[0].upper()}{text[1:]}." for text in _narrow(params, table["mos"], release)]
    return Labels(
        name=params.run,
        table=table.reindex(columns=COLUMNS + (["quality"] if "quality" in table else [])),
        folder=images,
        release_images=release.images,
        release_references=release.references,
        release_splits=release.splits if official else None,
        split_rule=rule,
        drawn=drawn,
        skipped=skipped.reset_index(drop=True),
        warnings=warnings,
        **{fact: getattr(release, fact) for fact in FACTS},
    )


def _checked(
    params: DataPrepParams, table: pd.DataFrame, images: Path, release: Release
) -> tuple[pd.DataFrame, pd.Series]:
    """The table with numbers for numbers and the images' stored names, and why some are to be left out.

    Errors name the rows.
    """
    table["image"], why = _stored_names(params, table, images)
    twice = table[table.duplicated("image", keep=False)].sort_values("image", kind="stable")
    refuse(cells(twice, "image"), "an image is listed twice", "keep one row of each")
    mos = pd.to_numeric(table["mos"], errors="coerce")
    outside = cells(table[~mos.between(release.low, release.high)], "mos")
    problem = f"MOS outside the range {release.low:g} to {release.high:g} of {release.title}"
    refuse(outside, problem, "correct the label file")
    table["mos"] = mos
    for column in {"mos_std", "level", "quality"} & set(table.columns):
        values = numbers(table, column)
        if column == "mos_std":
            refuse(cells(table[values < 0], column), "'mos_std' is negative", "correct the label file")
        table[column] = values
    table["reference"] = table["reference"].fillna(table["image"]) if "reference" in table else table["image"]
    return table, why


def _narrow(params: DataPrepParams, mos: pd.Series, release: Release) -> list[str]:
    """What is noticed of scores that fill only a small part of the stated range.

    Raises:
        DataError: they are those of a published database, which therefore stand on another scale.
    """
    low, high, width = mos.min(), mos.max(), release.high - release.low
    scales = [scale for scale in SCALES if scale[0] <= low and high <= scale[1] <= release.low + NARROW * width]
    if len(mos) < FEW or not (scales or (high - low < SMALL * width and len(mos) >= MANY)):
        return []
    like = f", as on a scale of {scales[0][0]} to {scales[0][1]}" if scales else ""
    part = f"a small part of the range {release.low:g} to {release.high:g}"
    found = f"the scores run from {low:.3g} to {high:.3g}{like}, {part}"
    if params.reader in OWN_FILES or params.reader == "synthetic":
        return [f"{found} that is stated; see that `low` and `high` are right"]
    remedy = f"take {release.scores}" if release.scores else "take the label files of the release"
    raise DataError(f"{release.title}: {found} of this release; {remedy}")


def _stored_names(params: DataPrepParams, table: pd.DataFrame, folder: Path) -> tuple[list[str], pd.Series]:
    """The listed images' names as they are on disk, and why some are to be left out (empty: they are not).

    A name is the exact one, or else the one that differs in case only.
    """
    listed = table["image"].fillna("").astype(str)
    places = (table["row"] + ": '" + listed.str.slice(0, SHOWN_CHARACTERS) + "'").tolist()
    matches = stored_paths(folder, listed)
    for place, fits in zip(places, matches, strict=True):
        if len(fits) > 1:
            raise DataError(f"{place} fits several files of {paths.shown(folder)} ({', '.join(fits)}); rename one")
    names = [fits[0] if fits else name for fits, name in zip(matches, listed, strict=True)]
    readable = [os.access(folder / fits[0], os.R_OK) if fits else None for fits in matches]
    why = pd.Series({None: MISSING, False: UNREADABLE, True: ""}[known] for known in readable)
    if params.missing == "skip" and (why == "").any():
        return names, why
    for kind, remedy in ((MISSING, "complete the folder"), (UNREADABLE, "change its permissions")):
        wrong = [place for place, problem in zip(places, why, strict=True) if problem == kind]
        problem = f"{paths.shown(folder)}: {len(wrong)} listed image(s) are {kind}"
        refuse(wrong, problem, f"{remedy}, remove these rows from the label file, or set `missing: skip`")
    return names, why
