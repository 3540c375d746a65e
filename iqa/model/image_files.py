"""Which files are scored of the files and folders that a person names."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from iqa.data import DataError
from iqa.model.predictor import Unreadable

# of the files that are taken from a folder
SUFFIXES = {".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm"}
SUFFIXES |= {".apng", ".dib", ".j2k", ".jpx", ".jxl", ".mpo", ".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif", ".tiff"}
SUFFIXES |= {".webp"}
# in small letters, what systems and programs keep in folders; hidden files and folders are passed over, too
SYSTEM = {"#recycle", "$recycle.bin", "@eadir", "@tmp", "__macosx", "lost+found", "system volume information"}
SYSTEM |= {"desktop.ini", "ehthumbs.db", "thumbs.db"}


def find_images(named: Iterable[str | Path], passed: Counter[str] | None = None) -> tuple[list[Path], list[Unreadable]]:
    """The files to score, and the folders that cannot be read; `passed` counts files that are passed over, by suffix.

    A folder stands for its image files (`SUFFIXES`, in any letter case), sorted, with those of its subfolders. Links to
    folders are passed over, as are other files; hidden ones and those of the system (`SYSTEM`) are not even counted.
    A named file is taken whatever its suffix, and only once.

    Raises:
        DataError: a name is empty, or a folder holds no image.
    """
    images: dict[Path, Path] = {}
    others: dict[Path, str] = {}
    refused: list[Unreadable] = []
    for name in named:
        if not str(name):
            raise DataError("one of the names is empty; name an image, or a folder ('.' is the one you are in)")
        path, files = Path(name), [Path(name)]
        if os.path.isdir(path):  # noqa: PTH112 (unlike Path.is_dir, it raises nothing where access is denied)
            closed: list[OSError] = []
            inside = list(_walk(path, closed.append))
            files = sorted(file for file in inside if file.suffix.lower() in SUFFIXES and not os.path.isdir(file))  # noqa: PTH112
            rest = {file: _kind(file) for file in set(inside).difference(files)}
            refused += [Unreadable(error.filename, error.strerror) for error in closed]
            if not files and not closed:
                holds = f"; it holds {counted(Counter(rest.values()))}" if rest else ""
                raise DataError(f"{path}: no images in this folder{holds}. Name another")
            others |= {_place(file): kind for file, kind in rest.items()}
        for file in files:
            images.setdefault(_place(file), file)
    if passed is not None:
        passed.update(kind for file, kind in others.items() if file not in images)
    return list(images.values()), refused


def _walk(folder: Path, closed: Callable[[OSError], Any]) -> Iterator[Path]:
    """The files of a folder and of its subfolders, and the links to folders, without what belongs to the system."""
    for place, folders, names in os.walk(folder, onerror=closed):
        folders[:] = [name for name in folders if not _of_system(name)]
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from (Path(place, name) for name in [*names, *links] if not _of_system(name))


def _of_system(name: str) -> bool:
    return name.startswith((".", "~$")) or name.strip().lower() in SYSTEM


def _place(file: Path) -> Path:
    """A file's path by which it is known again; links to files stay what they are."""
    return Path(os.path.realpath(file.parent), file.name)


def _kind(file: Path) -> str:
    return "links to folders" if os.path.isdir(file) else file.suffix or "no suffix"  # noqa: PTH112


def counted(kinds: Counter[str]) -> str:
    """Kinds of files with their numbers, the most frequent ones first: `.CR2 3, .txt 1`."""
    most = kinds.most_common(10)
    rest = kinds.total() - sum(count for _, count in most)
    return ", ".join([f"{kind} {count}" for kind, count in most] + [f"others {rest}"] * bool(rest))
