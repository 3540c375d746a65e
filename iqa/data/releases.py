"""What is known of a database before it is read: the published ones are the rows of `releases.csv`."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PositiveInt, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from iqa.data import DataError
from iqa.data.params import DataPrepParams
from iqa.study import param_files, paths

FILE = Path(__file__).with_suffix(".csv")
SYNTHETIC_TITLES = {
    "main": "Synthetic demo",
    "distortions": "Synthetic: other distortions",
    "photos": "Synthetic: mixed distortions on photographs",
}
OWN_SCALE = ("low", "high", "higher_is_better")  # what the parameters say of one's own images
OWN_FILES = {"metas": ("train_list", "val_list", "test_list"), "csv": ("labels",)}


def _listed(cell: str) -> list[str]:
    parts = [part.strip() for part in cell.split(";")]
    if not all(parts):
        raise ValueError("a part is empty; write it as in 'a; b'")
    return parts


def _pairs(cell: str) -> dict[str, str]:
    pairs = [part.split("=") for part in _listed(cell)]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("write it as in 'train=8; test=2'")
    return dict(pairs)


def _text(parse: Callable[[str], Any]) -> BeforeValidator:
    return BeforeValidator(lambda cell: parse(cell) if isinstance(cell, str) else cell)


Listed = Annotated[tuple[str, ...], _text(_listed)]
Counts = Annotated[dict[str, PositiveInt] | None, _text(_pairs)]
Words = Annotated[dict[str, str], _text(_pairs)]


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class Release:
    """A published database. In `releases.csv`, `;` separates the parts of a list, and an empty cell is the default."""

    title: str  # name for tables and figures
    images: PositiveInt | None = None  # in the whole release; None: no fixed number
    references: PositiveInt | None = None  # undistorted contents; None: each image has its own
    low: float  # range of the scores
    high: float
    higher_is_better: bool  # direction of the scores; False for DMOS
    synthetic: bool = False  # no person has rated the images
    test_only: bool = False  # all images are for testing, unless a split is asked for
    splits: Counts = None  # images per official split; None: there is none
    folder: str = ""  # where it is looked for when the parameter `folder` is not set
    image_folders: Listed = ()  # inside it; `a | b`: the first of them that is there; `a?`: may be missing
    label_files: Listed = ()  # the same
    scores: str = ""  # where the scores of this range stand, for messages
    size: str = "not stated"  # of the download
    distortions: Words = Field(default_factory=dict)  # by their codes in names, in lower case
    citation: str  # who made it, when, and the title of the paper
    licence: str  # as stated by its authors
    source: str  # where it can be had, without an address
    notes: str = ""  # what a reader of its scores should know, in sentences

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"'low' ({self.low:g}) must be below 'high' ({self.high:g})")
        if self.splits and sum(self.splits.values()) != self.images:
            raise ValueError(f"'splits' add up to {sum(self.splits.values())} images, 'images' is {self.images}")
        return self


def read_releases(file: Path = FILE) -> dict[str, Release]:
    """The releases by the name of their reader.

    Raises:
        DataError: a cell cannot be used; the message names its row and column.
    """
    with file.open(newline="", encoding="utf-8-sig") as lines:
        header, *rows = csv.reader(lines)
    releases: dict[str, Release] = {}
    for number, row in enumerate(rows, start=2):
        place = f"{paths.shown(file)}, row {number}"
        if len(row) != len(header):
            raise DataError(f"{place}: {len(row)} cells, but {len(header)} columns; quote cells that hold a comma")
        cells = {column: cell.strip() for column, cell in zip(header, row, strict=True) if cell.strip()}
        name = cells.pop("reader", "")
        if not name or name in releases:
            raise DataError(f"{place}, column 'reader': '{name}' is empty or stands twice; give each row its own name")
        try:
            releases[name] = Release(**{"image_folders": "", "label_files": ""} | cells)
        except ValidationError as error:
            wrong = "; ".join(_explain(problem, cells) for problem in error.errors())
            raise DataError(f"{place} ({name}){wrong}; correct the row") from None
    return releases


def _explain(problem: dict, cells: dict[str, str]) -> str:
    column = problem["loc"][0] if problem["loc"] else None
    found = f", not '{cells[column][:80]}'" if column in cells else ""
    return (f", column '{column}': " if column else ": ") + problem["msg"].removeprefix("Value error, ") + found


RELEASES = read_releases()


def file_of(params: DataPrepParams) -> str:
    """The parameter file of a database, for messages."""
    return paths.shown(param_files.params_file(params.study, "data_prep", params.run))


def release_of(params: DataPrepParams) -> Release:
    """The facts of a database's release; for one's own images, what the parameters say.

    Raises:
        DataError: a parameter does not fit the reader, or one that it needs is not set.
    """
    needed = {*OWN_SCALE, *OWN_FILES[params.reader]} if params.reader in OWN_FILES else {"images"}
    known = {"images", *OWN_SCALE, *(name for names in OWN_FILES.values() for name in names)}
    given = {name for name in known if getattr(params, name) is not None}
    if given - needed:
        names = ", ".join(sorted(given - needed))
        raise DataError(f"{file_of(params)}: reader '{params.reader}' has no use for {names}; remove them")
    if params.reader not in OWN_FILES:
        release = RELEASES[params.reader]
        return replace(release, title=SYNTHETIC_TITLES[params.part]) if params.reader == "synthetic" else release
    missing = [name for name in ("folder", *OWN_SCALE) if getattr(params, name) is None]
    if not given & set(OWN_FILES[params.reader]):
        missing.append(" or ".join(OWN_FILES[params.reader]))
    if missing:
        raise DataError(f"{file_of(params)}: reader '{params.reader}' needs {', '.join(missing)}; set them")
    if params.low >= params.high:
        raise DataError(f"{file_of(params)}: low ({params.low:g}) must be below high ({params.high:g})")
    scale = {name: getattr(params, name) for name in OWN_SCALE}
    return Release(title=params.run, citation="one's own", licence="one's own", source="one's own", **scale)


def title(params: DataPrepParams) -> str:
    """A database's name for tables and figures, whether or not it is on this machine."""
    return release_of(params).title


def folder_of(params: DataPrepParams) -> Path:
    """Where the files of a release are looked for."""
    return paths.resolve(params.folder or release_of(params).folder)


def absent(params: DataPrepParams) -> str | None:
    """Why a database is not available on this machine and where to get it; `None` where its folder is there."""
    release = release_of(params)
    if params.reader == "synthetic" or folder_of(params).is_dir():
        return None
    shown = paths.shown(folder_of(params))
    problem = "no folder, but a file" if folder_of(params).exists() else "no such folder"
    if params.reader in OWN_FILES:
        return f"{shown}: {problem}; set `folder` in {file_of(params)} to where the images are"
    return (
        f"{shown}: {problem}. {release.title} ({release.citation}) comes from {release.source}; get it, and "
        f"set `folder` in {file_of(params)} to where it is"
    )
