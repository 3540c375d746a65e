"""Finding the files of a release, whatever the letter case and Unicode form of their names; naming rows that are wrong.

Every folder is listed once per call, so that ten thousand names cost one listing. Hidden files are passed over, and so
is what a Mac leaves behind (`._name`, `__MACOSX`).
"""

import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path, PurePosixPath

import pandas as pd

from iqa.data import DataError
from iqa.study import paths
from iqa.study.echo import some

SHOWN_CHARACTERS = 80  # how much of a cell it echoes


def cells(rows: pd.DataFrame, column: str) -> pd.Series:
    """For error messages: where each row was read, and its value in a column."""
    return rows["row"] + ": " + rows[column].fillna("(empty)").astype(str).str.slice(0, SHOWN_CHARACTERS)


def refuse(wrong: Iterable[str], problem: str, remedy: str) -> None:
    """Raise a `DataError` that names the first few wrong things, if there are any."""
    if len(wrong := list(wrong)):
        raise DataError(f"{problem}: {some(wrong)}; {remedy}")


def find(folder: Path, *names: str, required: bool = True) -> Path | None:
    """The first of some files or folders that exists in `folder` or in a folder inside it.

    Args:
        folder: the release's folder.
        names: paths with forward slashes, the preferred one first; letter case does not matter unless two fit.
        required: False to return `None` where none of them exists.

    Raises:
        DataError: none of them exists, or one name fits several; the message names every place that was tried.
    """
    inside = [folder / name for name in _names(folder) if (folder / name).is_dir()]
    listing = cache(_listing)
    for name in names:
        for places in ([folder], sorted(inside)):
            fits = [place / path for place in places for path in _fits(place, name, listing)]
            if len(fits) > 1:
                shown = ", ".join(paths.shown(path) for path in fits)
                raise DataError(f"{paths.shown(folder)}: '{name}' fits several ({shown}); rename or remove all but one")
            if fits:
                return fits[0]
    if required:
        tried = ", ".join(paths.shown(place) for place in (folder, *sorted(inside)))
        raise DataError(
            f"{paths.shown(folder / names[0])}: this part of the release is missing. Looked for "
            f"{' or '.join(names)} in {tried}; complete the release, or set `folder` to where it was unpacked"
        )
    return None


def stored_paths(folder: Path, listed: Iterable[str]) -> list[list[str]]:
    """For each listed path the files that it fits (one, several that differ in letter case only, or none).

    A listed path may have forward or back slashes and may differ in letter case; the exact name wins, part by part.
    The files' paths are relative to `folder`, with forward slashes.
    """
    listing = cache(_listing)
    return [[path for path in _fits(folder, name, listing) if (folder / path).is_file()] for name in listed]


def _fits(folder: Path, path: str, listing: Callable[[Path], dict[str, list[str]]]) -> list[str]:
    parts = PurePosixPath(path.strip().replace("\\", "/")).parts
    fits = [""] if parts else []
    for part in parts:
        named = [(start, listing(folder / start).get(same_name(part), [])) for start in fits]
        fits = [f"{start}{name}/" for start, names in named for name in ([part] if part in names else names)]
    return [fit.removesuffix("/") for fit in fits]


def _listing(folder: Path) -> dict[str, list[str]]:
    """Names in a folder by their common spelling; empty for what is no folder."""
    listed: dict[str, list[str]] = {}
    for name in _names(folder) if folder.is_dir() else ():
        listed.setdefault(same_name(name), []).append(name)
    return listed


def _names(folder: Path) -> list[str]:
    """What is in a folder, without hidden files."""
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX")))
    except OSError as error:
        raise DataError(f"{paths.shown(folder)}: cannot be listed ({error.strerror})") from None


def same_name(name: str) -> str:
    """One spelling for names that differ in letter case, or in how an accent is written (NFC, NFD), only."""
    return unicodedata.normalize("NFC", name).lower()


def what_is_wrong(file: Path) -> str | None:
    """Why a file cannot hold what its name says, with the remedy; `None` where nothing is seen at its beginning."""
    if not file.exists():
        return "is missing"
    if not file.is_file():
        return f"is {'a folder' if file.is_dir() else 'no regular file'}; put the file itself there"
    with file.open("rb") as opened:
        start = opened.read(200)
    if not start:
        return "is empty; fetch the file again"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer in place of the file; run `git lfs pull` in its repository"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html")):
        return "is a web page in place of the file; fetch the file itself"
    return None
