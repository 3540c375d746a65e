"""What files hold, read again only after they have changed."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from iqa.study import paths, progress
from iqa.study.code import digest, file_hash
from iqa.study.disk import DiskError, write_whole

KNOWN = TypeAdapter(dict[str, Annotated[list, Field(min_length=3, max_length=3)]])
MANY = 1_000  # from this many files on, reading them shows its progress
UNTRUSTED_NS = 2 * 10**9  # a file changed this recently may change again within the clock's resolution


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
        write_whole(memory, json.dumps(seal({"files": known | learned})))
    return [(new if name in new else known)[name][2] for name in names]


def _load(memory: Path) -> dict[str, list]:
    """For each file its size, its time of change, and what was read in it."""
    try:
        memorised = json.loads(memory.read_bytes())
        if not is_intact(memorised):
            raise ValueError("it is not what was written")
        return KNOWN.validate_python(memorised["files"])
    except FileNotFoundError:
        return {}
    except IsADirectoryError:
        raise DiskError(f"{paths.shown(memory)} is a folder in place of a file; remove it") from None
    except (ValueError, TypeError, KeyError):
        print(f"{paths.shown(memory)}: damaged; it is made anew, for which all files are read again", flush=True)
        return {}


def seal(values: dict[str, Any]) -> dict[str, Any]:
    """Values for JSON with a checksum of all others, `check`."""
    values = {key: value for key, value in values.items() if key != "check"}
    return values | {"check": digest(json.loads(json.dumps(values)))}


def is_intact(sealed: dict[str, Any]) -> bool:
    """Whether values that were read from JSON are those that were sealed; those without a seal count as intact."""
    return "check" not in sealed or sealed["check"] == digest({k: v for k, v in sealed.items() if k != "check"})
