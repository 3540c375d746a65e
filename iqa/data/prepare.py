"""A database made ready for use: read, checked, split, and joined with its cached pixels.

What is read from a release, and the facts about each, stand in `iqa.data.releases`. The rules that all share:

- a name that is not there exactly is looked up without regard to letter case, extension and folders included; two
  files that fit are an error;
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
from iqa.data.files import some, stored_paths
from iqa.data.params import DataPrepParams
from iqa.data.pixels import Size
from iqa.data.readers import READERS, numbers
from iqa.data.releases import RELEASES, Release
from iqa.data.splits import choose_way, file_of, split_images
from iqa.study import param_files, paths
from iqa.study.code import digest
from iqa.study.disk import content_hashes

COLUMNS = ["image", "mos", "mos_std", "split", "reference", "distortion", "level"]
OWN_SCALE = ("low", "high", "higher_is_better")
OWN_FILES = {"metas": ("train_list", "val_list", "test_list"), "csv": ("labels",)}


def prepare(params: DataPrepParams) -> Database:
    """A database ready for use; what is not yet generated or cached is made now, with a progress bar.

    Raises:
        DataError: the release is missing, its labels cannot be used, an image is broken, or the disk is full.
    """
    labels = read(params)
    images = labels.table["image"]
    hashes = content_hashes(labels.folder, images)
    stores = open_stores(labels.folder, list(images), hashes, _size(params), params.inputs, _jobs(params))
    made_from = fingerprint(params) if params.reader == "synthetic" else _fingerprint(params, labels, hashes)
    return Database(**vars(labels), stores=stores, fingerprint=made_from, size=_size(params))


def open_database(study: str, name: str) -> Database:
    """The database `name` of a study, as `params/<study>/data_prep/<name>.yaml` describes it."""
    return prepare(param_files.load(DataPrepParams, study, name))


def open_available(study: str, names: list[str]) -> tuple[dict[str, Database], dict[str, dict[str, str]]]:
    """Those of some databases of a study that are on this machine, by name; of the others `title` and `reason`."""
    opened, missing = {}, {}
    for name in names:
        params = param_files.load(DataPrepParams, study, name)
        reason = absent(params)
        if reason is None:
            opened[name] = prepare(params)
        else:
            missing[name] = {"title": title(params), "reason": reason}
    return opened, missing


def title(params: DataPrepParams) -> str:
    """A database's name for tables and figures, whether or not it is on this machine."""
    return release_of(params).title


def absent(params: DataPrepParams) -> str | None:
    """Why a database is not available on this machine and where it can be had; `None` where its folder is there."""
    release = release_of(params)
    if params.reader == "synthetic" or (folder := _place(params, release)).is_dir():
        return None
    shown = paths.shown(folder)
    if params.reader in OWN_FILES:
        return f"{shown}: no such folder; set `folder` in {file_of(params)} to where the images are"
    return (
        f"{shown}: no such folder. {release.title} ({release.citation}) comes from {release.source}; get it, and "
        f"set `folder` in {file_of(params)} to where it is"
    )


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
    return _fingerprint(params, labels, content_hashes(labels.folder, labels.table["image"]))


def _fingerprint(params: DataPrepParams, labels: Labels, hashes: list[str]) -> str:
    scores = (labels.table.to_csv(index=False), labels.low, labels.high, labels.higher_is_better)
    return digest(*scores, hashes, vars(_size(params)))


def _jobs(params: DataPrepParams) -> int:
    return params.workers or joblib.cpu_count()


def _size(params: DataPrepParams) -> Size:
    return Size(params.height, params.width, params.keep_aspect)


def read(params: DataPrepParams) -> Labels:
    """Labels of a database; a synthetic one is generated first where that has not been done.

    Raises:
        DataError: the release is missing, its labels cannot be used, or a parameter does not fit the reader.
    """
    release = release_of(params)
    table, images = READERS[params.reader](params, _folder(params, release))
    if table.empty:
        raise DataError(f"database '{params.run}': its label file lists no image")
    table = _checked(table.reset_index(drop=True), images, release)
    way = choose_way(params, table)
    table["split"], rule = split_images(params, table, way)
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


def release_of(params: DataPrepParams) -> Release:
    """What is known of a release; for one's own images, what the parameters say."""
    own = {*OWN_SCALE, *(name for names in OWN_FILES.values() for name in names)}
    used = {*OWN_SCALE, *OWN_FILES[params.reader]} if params.reader in OWN_FILES else {"images"}
    given = {name for name in own | {"images"} if getattr(params, name) is not None}
    if given - used:
        names = ", ".join(sorted(given - used))
        raise DataError(f"{file_of(params)}: reader '{params.reader}' has no use for {names}; remove them")
    if params.reader == "synthetic":
        return replace(RELEASES["synthetic"], title=synthetic.TITLES[params.part])
    if params.reader not in OWN_FILES:
        return RELEASES[params.reader]
    missing = [name for name in ("folder", *OWN_SCALE) if getattr(params, name) is None]
    if not given & set(OWN_FILES[params.reader]):
        missing.append(" or ".join(OWN_FILES[params.reader]))
    if missing:
        raise DataError(f"{file_of(params)}: reader '{params.reader}' needs {', '.join(missing)}; set them")
    if params.low >= params.high:
        raise DataError(f"{file_of(params)}: low ({params.low:g}) must be below high ({params.high:g})")
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
