"""Where things are. Every path is resolved from the package, never from the working directory."""

import os
from pathlib import Path
from string import Template

from iqa.study.echo import quoted

ROOT = Path(__file__).resolve().parents[2]
PARAMS = ROOT / "params"
NOTEBOOKS = ROOT / "notebooks"
RESULTS = ROOT / "results"
REPORT = ROOT / "report"
UNFINISHED = ".unfinished"  # end of the name of a working folder, and of no run's name
LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes that file systems allow
IN_CHECKOUT = PARAMS.is_dir()  # and not in an installation, which nobody writes to


class PathError(ValueError):
    """A path that cannot be used; the message shows it and the remedy."""


def run_folder(study: str, step: str, run: str) -> Path:
    """Results folder of one run."""
    return RESULTS / study / step / run


def work_folder(place: Path) -> Path:
    """Where the results of a run are made: beside the folder that they replace once they are complete."""
    return place.with_name(f"{place.name}{UNFINISHED}")


def results_of(work: Path) -> Path:
    """The results folder that a working folder belongs to; of any other folder itself."""
    return work.with_name(work.name.removesuffix(UNFINISHED))


def resolve(path: str | Path) -> Path:
    """A user's path: `~` and `$VARIABLES` are expanded, and a relative path starts at the repository root.

    `$IQA_SHARED` is a folder of databases and weights that several checkouts share, `../shared` by default.

    Raises:
        PathError: a variable is not set, `~name` is no user, or no file can have this name.
    """
    variables = {"IQA_SHARED": str(ROOT.parent / "shared")} | {key: value for key, value in os.environ.items() if value}
    shown = quoted(str(path))
    try:
        expanded = Path(Template(str(path)).substitute(variables)).expanduser()
    except KeyError as error:
        name = error.args[0]
        raise PathError(f"{shown}: the environment variable {name} is not set; set it or write the path out") from None
    except ValueError:
        raise PathError(f"{shown}: '$' begins the name of a variable; write '$$' for the character") from None
    except RuntimeError:
        raise PathError(f"{shown}: '~' stands before no user of this machine; write the path out") from None
    if "\0" in str(expanded):
        raise PathError(f"{shown}: no path holds a NUL character; remove it")
    name = max((len(os.fsencode(part)) for part in expanded.parts), default=0)
    if name > LONGEST_NAME or len(os.fsencode(expanded)) > LONGEST_PATH:
        raise PathError(
            f"{shown}: a name has at most {LONGEST_NAME} bytes and a path {LONGEST_PATH}; write a shorter one"
        )
    return expanded if expanded.is_absolute() else ROOT / expanded


def shown(path: str | Path) -> str:
    """A path as it is printed and recorded: relative to the repository root where it lies inside it."""
    path = Path(path)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def cache_folder(name: str | None) -> Path:
    """The folder that the environment variable IQA_CACHE names; by default `cache/`, or `~/.cache/iqa` where installed.

    Raises:
        PathError: something stands there that is no folder.
    """
    folder = resolve((name or ("cache" if IN_CHECKOUT else "~/.cache/iqa")).replace("$", "$$"))
    place = next(place for place in (folder, *folder.parents) if place.exists())
    if not place.is_dir():
        raise PathError(f"the environment variable IQA_CACHE names {quoted(str(place))}, no folder; name another")
    return folder


CACHE = cache_folder(os.environ.get("IQA_CACHE"))
