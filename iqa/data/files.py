"""Finding the files of a release, whatever the letter case of their names and also one folder deeper.

Every folder is listed once per call, so that ten thousand names cost one listing.
"""

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path, PurePosixPath

from iqa.data import DataError
from iqa.study import paths

SHOWN = 5  # how many offenders an error message names
Listing = Callable[[Path], dict[str, list[str]]]


def some(lines: Iterable[str]) -> str:
    """The first few lines in one, and how many there are."""
    lines = list(lines)
    return "; ".join(lines[:SHOWN]) + (f"; ... ({len(lines)} in all)" if len(lines) > SHOWN else "")


def find(folder: Path, *names: str) -> Path:
    """The first of some files or folders that exists in `folder` or in a folder inside it.

    Args:
        folder: the release's folder.
        names: paths with forward slashes, the preferred one first; letter case does not matter unless two fit.

    Raises:
        DataError: none of them exists, or one name fits several; the message names every place that was tried.
    """
    found = look_for(folder, *names)
    if found is None:
        tried = ", ".join(paths.shown(place) for place in _places(folder))
        raise DataError(
            f"{paths.shown(folder / names[0])}: this part of the release is missing. Looked for "
            f"{' or '.join(names)} in {tried}; complete the release, or set `folder` to where it was unpacked"
        )
    return found


def look_for(folder: Path, *names: str) -> Path | None:
    """As `find`, but `None` where there is no such file."""
    listing = cache(_listing)
    for name in names:
        for places in ([folder], _places(folder)[1:]):
            fits = [place / path for place in places for path in _fits(place, name, listing)]
            if len(fits) > 1:
                shown = ", ".join(paths.shown(path) for path in fits)
                raise DataError(f"{paths.shown(folder)}: '{name}' fits several ({shown}); rename or remove all but one")
            if fits:
                return fits[0]
    return None


def stored_paths(folder: Path, listed: Iterable[str]) -> list[list[str]]:
    """For each listed path the files of `folder` that it fits, relative to `folder` and with forward slashes.

    A path may have forward or back slashes and may differ in letter case. The exact name wins, part by part.

    Returns:
        per listed path: none, one, or several (their names differ in letter case only).
    """
    listing = cache(_listing)
    return [[path for path in _fits(folder, name, listing) if (folder / path).is_file()] for name in listed]


def _places(folder: Path) -> list[Path]:
    inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX"))]
    return [folder, *sorted(inside)]


def _fits(folder: Path, path: str, listing: Listing) -> list[str]:
    parts = PurePosixPath(path.strip().replace("\\", "/")).parts
    fits = [""] if parts else []
    for part in parts:
        fits = [f"{start}{name}/" for start in fits for name in _names(listing(folder / start), part)]
    return [fit.removesuffix("/") for fit in fits]


def _names(listed: dict[str, list[str]], part: str) -> list[str]:
    names = listed.get(part.lower(), [])
    return [part] if part in names else names


def _listing(folder: Path) -> dict[str, list[str]]:
    """Names in a folder by their lower-case spelling; empty for what is no folder."""
    listed: dict[str, list[str]] = {}
    if folder.is_dir():
        for name in sorted(path.name for path in folder.iterdir()):
            listed.setdefault(name.lower(), []).append(name)
    return listed
