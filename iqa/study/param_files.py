"""Typed parameters of each step, and the parameter files that set them.

A study is a folder of `params/`. A run is one file, `params/<study>/<step>/<run>.yaml`, that lists only what
differs from the defaults; what all runs of a step share stands in `params/<study>/<step>.yaml`. The defaults
are the fields below, and the parameters cell of each notebook repeats them (a test compares the two). A training file
`<name>.yaml` with `seeds: [1, 2]` is an experiment: it stands for the runs `<name>_s1` and `<name>_s2`. A file with
`like: <other>` starts from the values of the file `<other>.yaml` beside it.
"""

import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from iqa.study import paths
from iqa.study.params import ParameterError, Params

P = TypeVar("P", bound=Params)


def read_yaml(path: Path) -> dict[str, Any]:
    """A parameter file as plain values, read as YAML 1.2 (`1e-4` is a number, `on` is a string)."""
    try:
        values = _parsed(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise ParameterError(f"{paths.shown(path)}: not valid YAML: {error}") from None
    if not isinstance(values or {}, dict):
        raise ParameterError(f"{paths.shown(path)}: expected lines of 'key: value', found {type(values).__name__}")
    return deepcopy(values or {})


@cache
def _parsed(text: str) -> Any:
    """What a YAML text says; the files of a study are asked for over and over."""
    return YAML(typ="safe", pure=True).load(text)


def run_names(study: str, step: str) -> list[str]:
    """Names of the runs that `params/<study>/<step>/` defines, sorted by file and seed."""
    return list(runs_of(study, step))


def experiments(study: str) -> dict[str, list[str]]:
    """Runs of each training experiment (a parameter file), by the experiment's name."""
    found: dict[str, list[str]] = {}
    for run, (file, _) in runs_of(study, "train").items():
        found.setdefault(file.stem, []).append(run)
    return found


def experiment_of(study: str) -> dict[str, str]:
    """The experiment of each training run, by the run's name."""
    return {run: name for name, runs in experiments(study).items() for run in runs}


def runs_of(study: str, step: str) -> dict[str, tuple[Path, int | None]]:
    """File and seed of each run of a step; the seed is None where the file does not list several."""
    found: dict[str, tuple[Path, int | None]] = {}
    for file in sorted((paths.PARAMS / study / step).glob("*.yaml")):
        seeds = _seeds(file) if step == "train" else None
        runs = {file.stem: (file, None)} if seeds is None else {f"{file.stem}_s{s}": (file, s) for s in seeds}
        for run in runs.keys() & found.keys():
            raise ParameterError(f"{paths.shown(file)} and {paths.shown(found[run][0])} both stand for the run '{run}'")
        found |= runs
    return found


def _seeds(file: Path) -> list[int] | None:
    """The seeds that a training file lists, or None."""
    if not re.search(r"^seeds\b", file.read_text(encoding="utf-8"), re.MULTILINE):  # far quicker than to read YAML
        return None
    values = read_yaml(file)
    seeds = values.get("seeds")
    whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise ParameterError(f"{paths.shown(file)}: key 'seeds': a list of different whole numbers, not {seeds!r}")
    if "seed" in values:
        raise ParameterError(f"{paths.shown(file)}: set 'seed' or 'seeds', not both")
    return seeds


def params_file(study: str, step: str, run: str) -> Path:
    """The parameter file of a run, or where it would be."""
    return runs_of(study, step).get(run, (paths.PARAMS / study / step / f"{run}.yaml", None))[0]


def load(cls: type[P], study: str, run: str, overrides: dict[str, Any] | None = None) -> P:
    """Typed parameters of one run: defaults, then `<step>.yaml`, then the run's file, then `overrides`.

    Args:
        cls: class of the step's parameters.

    Raises:
        ParameterError: no such file, an unknown key or a wrong type, with the file and the key.
    """
    step = cls.step
    known = runs_of(study, step)
    if run not in known:
        file = paths.PARAMS / study / step / f"{run}.yaml"
        lacking = "is a file of several runs" if file.is_file() else "does not exist"
        names = ", ".join(known) or "none"
        raise ParameterError(f"{paths.shown(file)} {lacking}; the {step} runs of study '{study}' are: {names}")
    file, seed = known[run]
    values: dict[str, Any] = {}
    for source in sources(file):
        own = read_yaml(source)
        for key in ("study", "run"):
            if key in own:
                raise ParameterError(f"{paths.shown(source)}: key '{key}' follows from the file's place; remove it")
        own = {key: value for key, value in own.items() if key not in ("like", "seeds")}
        values |= own
        cls.build({**values, "study": study, "run": run}, paths.shown(source))
    if seed is not None:
        values["seed"] = seed
    return cls.build({**values, "study": study, "run": run, **(overrides or {})}, f"{paths.shown(file)} (overrides)")


def all_files(study: str, step: str) -> list[Path]:
    """The parameter files of a step, that of what its runs share last."""
    folder = paths.PARAMS / study / step
    shared = folder.with_suffix(".yaml")
    return [*sorted(folder.glob("*.yaml")), *([shared] if shared.is_file() else [])]


def sources(file: Path) -> list[Path]:
    """The parameter files that make up a run's values, a later one overriding earlier ones; the run's own is last.

    Raises:
        ParameterError: `like` names no file beside it, or files are like each other in a circle.
    """
    found = [file]
    while (like := read_yaml(found[0]).get("like")) is not None:
        other = file.with_name(f"{like}.yaml")
        if not other.is_file() or other in found:
            problem = "is like itself in the end" if other in found else "does not exist"
            raise ParameterError(f"{paths.shown(found[0])}: key 'like': {paths.shown(other)} {problem}")
        found.insert(0, other)
    shared = file.parent.with_suffix(".yaml")
    return [shared, *found] if shared.is_file() else found
