"""Where things are. Every path is resolved from the package, never from the working directory."""

import os
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parents[2]
PARAMS = ROOT / "params"
NOTEBOOKS = ROOT / "notebooks"
RESULTS = ROOT / "results"
REPORT = ROOT / "report"
IN_CHECKOUT = PARAMS.is_dir()  # and not in an installation, which nobody writes to
CACHE = Path(os.environ.get("IQA_CACHE", ROOT / "cache" if IN_CHECKOUT else "~/.cache/iqa")).expanduser()


class PathError(ValueError):
    """A path in a parameter file that cannot be used."""


def run_folder(study: str, step: str, run: str) -> Path:
    """Results folder of one run."""
    return RESULTS / study / step / run


def resolve(path: str | Path) -> Path:
    """A user's path: `~` and `$VARIABLES` are expanded, and a relative path starts at the repository root.

    `$IQA_SHARED` is a folder of databases and weights that several checkouts share, `../shared` by default.

    Raises:
        PathError: a variable is not set.
    """
    variables = {"IQA_SHARED": str(ROOT.parent / "shared")} | os.environ
    try:
        expanded = Path(Template(str(path)).substitute(variables)).expanduser()
    except KeyError as error:
        raise PathError(f"{path}: the environment variable {error.args[0]} is not set") from None
    return expanded if expanded.is_absolute() else ROOT / expanded


def shown(path: str | Path) -> str:
    """A path as it is printed and recorded: relative to the repository root where it lies inside it."""
    path = Path(path)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
