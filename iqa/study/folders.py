"""Folders: replaced in one step, and locked."""

import fcntl
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from iqa.study import paths
from iqa.study.disk import DiskError, sync


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; nothing if it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_all(folder: Path) -> None:
    """Write a folder and all that is in it down to the disk."""
    for path in (*folder.rglob("*"), folder):
        if path.is_file() or path.is_dir():
            sync(path)


def replace(new: Path, place: Path) -> None:
    """Let a folder take the place of the one beside it; only then the old one is removed. `sync_all` comes before."""
    recover(place)
    before = _before(place)
    if place.exists():
        place.rename(before)
    new.rename(place)
    sync(place.parent)
    with suppress(OSError):  # the next replacement removes what is left of it
        remove(before)


def recover(place: Path) -> None:
    """Finish or take back a replacement of a folder in whose middle the process was killed."""
    before = _before(place)
    if before.exists() and not place.exists():
        before.rename(place)
    remove(before)


def _before(place: Path) -> Path:
    return place.with_name(f".{place.name}.before")


def lock(file: Path, alone: bool = True, wait: float = 0.0) -> IO[str] | None:
    """Hold a lock for as long as the returned file is open; None if other processes hold it.

    It ends with the process, however that ends. A child that got the descriptor holds it, too.

    Args:
        alone: whether no other process may hold it now; with False, those that a holder started share it.
        wait: seconds to wait for others to end.

    Raises:
        DiskError: a folder is in the place of the file.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    give_up = time.monotonic() + wait
    try:
        held = file.open("a")
    except IsADirectoryError:
        raise DiskError(f"{paths.shown(file)} is a folder in place of a file; remove it") from None
    while True:
        try:
            if alone:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return held
        except BlockingIOError:
            if time.monotonic() >= give_up:
                held.close()
                return None
            time.sleep(0.1)


def unlock(held: IO[str]) -> None:
    """Give a lock back, also for forked children, such as loader workers, that hold it, too."""
    fcntl.flock(held, fcntl.LOCK_UN)
    held.close()
