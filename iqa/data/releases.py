"""What is known of each published database before it is read: the rows of `releases.csv`.

`python -m iqa.data.releases` prints the README's tables of them, `python -m iqa.data.releases README.md` renews them.
"""

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PositiveInt, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from iqa.data import DataError
from iqa.study import paths

FILE = Path(__file__).with_suffix(".csv")
MARKS = "<!-- releases: made by .venv/bin/python -m iqa.data.releases README.md -->\n\n", "\n\n<!-- end of releases -->"


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


def tables() -> str:
    """Two Markdown tables of the releases that people have rated: what to unpack where, and whom to cite."""
    releases = {name: release for name, release in RELEASES.items() if not release.synthetic}
    files = [["`reader`", "default `folder`", "images", "in", "labels", "scores", "split by default", "size"]]
    for name, release in releases.items():
        count = f"{release.images:,}" + (f" of {release.references}" if release.references else "")
        best = "high" if release.higher_is_better else "**low**"
        scores = f"{release.low:g} to {release.high:g}, {best} is best"
        places = [_names(release.image_folders, end="/"), _names(release.label_files)]
        files.append([f"`{name}`", f"`{release.folder}`", count, *places, scores, _split(release), release.size])
    origins = [[each.title, each.source, each.licence, each.citation] for each in releases.values()]
    return _markdown(files) + "\n\n" + _markdown([["database", "from", "licence", "please cite"], *origins])


def _names(cell: tuple[str, ...], end: str = "") -> str:
    names = [name.removesuffix("?").split(" | ") for name in cell]
    shown = [" or ".join(f"`{name}{end}`" for name in alternatives) for alternatives in names]
    return "; ".join(text + " (optional)" * name.endswith("?") for text, name in zip(shown, cell, strict=True))


def _split(release: Release) -> str:
    if release.splits:
        return "official " + " / ".join(f"{count:,}" for count in release.splits.values())
    return "all for testing" if release.test_only else "seeded" + " by reference" * bool(release.references)


def _markdown(rows: list[list[str]]) -> str:
    header, *others = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([header, "|---" * len(rows[0]) + "|", *others])


def renewed(page: str) -> str:
    """The text of a page with the tables between its two marks made anew."""
    before, start, rest = page.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not end:
        raise DataError(f"this page lacks the marks {MARKS[0].strip()} and {MARKS[1].strip()}; put them back")
    return before + start + tables() + end + after


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(tables())
    for page in map(Path, sys.argv[1:]):
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
