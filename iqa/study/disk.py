"""Files and folders that are written whole or not at all."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any
from uuid import uuid4

from iqa.study import paths


class DiskError(ValueError):
    """A file that cannot be written; the message says what can be done."""


def write_whole(file: Path, content: bytes | str | Callable[[IO[bytes]], Any], durable: bool = False) -> None:
    """Write a file under another name and rename it, so that it is whole or absent, whoever else writes it.

    Args:
        content: of the file; or what writes it to an open file.
        durable: whether it is on the disk when this returns, and outlives a power failure.

    Raises:
        DiskError: the disk is full.
    """
    part = file.with_name(f".{uuid4().hex}.part")
    with full_disk_explained(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as stream:
                if callable(content):
                    content(stream)
                else:
                    stream.write(content.encode() if isinstance(content, str) else content)
                if durable:
                    stream.flush()
                    os.fsync(stream.fileno())
            part.replace(file)
            if durable:
                sync(file.parent)
        finally:
            part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # not every file system knows this of folders
            raise
    finally:
        os.close(descriptor)


@contextmanager
def publish(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `folder` in one step when the block ends without an error.

    Raises:
        DiskError: the disk is full.
    """
    with full_disk_explained(folder):
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
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Turn the error of a full disk, while something is written to a folder, into `disk_full`."""
    try:
        yield
    except DiskError:
        raise
    except Exception as error:  # PyTorch turns the one of the system into one of its own
        cause: BaseException | None = error
        while cause and not (isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)):
            cause = cause.__context__
        if cause is None:
            raise
        raise disk_full(folder) from error


def disk_full(folder: Path, needed: int | None = None) -> DiskError:
    """The error of a disk that has no space for what is to be written to a folder, with what can be done."""
    wanted = "" if needed is None else f", {amount(needed)} are needed"
    remedy = "free some space; earlier results are kept"
    if folder.is_relative_to(paths.CACHE):
        remedy = (
            "free some space, set a smaller `height` and `width`, or move the cache with the environment variable "
            "IQA_CACHE; images that are already cached are kept"
        )
    return DiskError(f"{paths.shown(folder)}: the disk is full ({amount(free(folder))} free{wanted}); {remedy}")


def free(folder: Path) -> int:
    """Free bytes on the disk that a folder lies on or will lie on."""
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free


def amount(size: int) -> str:
    """A number of bytes in MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
