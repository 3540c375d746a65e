"""Files of the cache: written whole or not at all, and read again only after they have changed."""

import errno
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from uuid import uuid4

from pydantic import Field, TypeAdapter, ValidationError

from iqa.study import paths, progress
from iqa.study.code import digest, file_hash

KNOWN = TypeAdapter(dict[str, Annotated[list, Field(min_length=3, max_length=3)]])
MANY = 1_000  # from this many files on, reading them shows its progress
UNTRUSTED_NS = 2 * 10**9  # a file changed this recently may change again within the clock's resolution


class DiskError(ValueError):
    """A file that cannot be written; the message says what can be done."""


def content_hashes(folder: Path, names: Sequence[str]) -> list[str]:
    """SHA-256 of each file of a folder; a file is read only if it is new or changed.

    Raises:
        DiskError: the disk is full.
    """
    return remembered(folder, names, file_hash, "hashing")


def remembered(folder: Path, names: Sequence[str], read: Callable[[Path], Any], what: str) -> list:
    """What `read` returns for each file of a folder: a value that JSON can hold.

    It is remembered with the file's size and time of change, as in git's index, so an unchanged folder costs one `stat`
    per file. What a file holds that changed within the last two seconds is not remembered.

    Args:
        what: what the progress bar says is being done.

    Raises:
        DiskError: the disk is full.
    """
    memory = paths.CACHE / "hashes" / f"{digest(str(folder.resolve()))}.json"
    known, now = _load(memory), time.time_ns()
    stats = {name: (folder / name).stat() for name in names}
    stamps = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
    changed = [name for name, stamp in stamps.items() if name not in known or known[name][:2] != stamp]
    shown = progress.bar(changed, total=len(changed), desc=what, unit="image") if len(changed) >= MANY else changed
    new = {name: [*stamps[name], read(folder / name)] for name in shown}
    learned = {name: entry for name, entry in new.items() if entry[1] < now - UNTRUSTED_NS}
    if learned:
        write_whole(memory, json.dumps(known | learned).encode())
    return [(new if name in new else known)[name][2] for name in names]


def _load(memory: Path) -> dict[str, list]:
    """For each file its size, its time of change, and what was read in it."""
    try:
        return KNOWN.validate_json(memory.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError:
        print(f"{paths.shown(memory)}: damaged; it is made anew, for which all files are read again", flush=True)
        return {}


def write_whole(file: Path, content: bytes) -> None:
    """Write a file under another name and rename it, so that it is whole or absent, whoever else writes it.

    Raises:
        DiskError: the disk is full.
    """
    part = file.with_name(f".{file.name}-{uuid4().hex}")
    with _full_disk_explained(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(content)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def publish(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `folder` in one step when the block ends without an error.

    Raises:
        DiskError: the disk is full.
    """
    with _full_disk_explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True) as name:
            temporary = Path(name)
            temporary.chmod(0o755)
            yield temporary
            try:
                temporary.rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process has published the same content first
                    raise


@contextmanager
def _full_disk_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(folder) from error
        raise


def disk_full(folder: Path, needed: int | None = None) -> DiskError:
    """The error of a disk that has no space for what is to be written to a folder, with what can be done."""
    wanted = "" if needed is None else f", {amount(needed)} are needed"
    return DiskError(
        f"{paths.shown(folder)}: the disk is full ({amount(free(folder))} free{wanted}); free some space, set a "
        "smaller `height` and `width`, or move the cache with the environment variable IQA_CACHE; images that are "
        "already cached are kept"
    )


def free(folder: Path) -> int:
    """Free bytes on the disk that a folder lies on or will lie on."""
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free


def amount(size: int) -> str:
    """A number of bytes in MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
