"""Typed parameters of each step, and the parameter files that set them.

A study is a folder of `params/`. A run is one file, `params/<study>/<step>/<run>.yaml`, that lists only what
differs from the defaults; what all runs of a step share stands in `params/<study>/<step>.yaml`. The defaults
are the fields below, and the parameters cell of each notebook repeats them (a test compares the two). A training file
`<name>.yaml` with `seeds: [1, 2]` is an experiment: it stands for the runs `<name>_s1` and `<name>_s2`. A file with
`like: <other>`, of any step, starts from the values of the file `<other>.yaml` beside it. These two keys have no effect
anywhere else, and are refused there. A training that goes on with the weights of another one (`start_from`) takes the
values from it that belong to these weights.
"""

from collections.abc import Collection
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML, Node, ScalarNode
from ruamel.yaml.error import MarkedYAMLError

from iqa.study import paths, types
from iqa.study.echo import cut, listed, quoted
from iqa.study.params import ParameterError, Params

P = TypeVar("P", bound=Params)
Runs = dict[str, tuple[Path, int | None]]  # file and seed of each run of a step, by its name
LARGEST = 2**18  # bytes of a parameter file
MOST_VALUES, DEEPEST = 20_000, 20  # of a parameter file, its aliases written out
SEEDS = TypeAdapter(Annotated[list[types.Seed], Field(min_length=1, max_length=1000, strict=True)])


def read_yaml(path: Path) -> dict[str, Any]:
    """A parameter file as plain values, read as YAML 1.2 (`1e-4` is a number, `on` is a string).

    Raises:
        ParameterError: the file cannot be read, is no UTF-8 text, no YAML, or does not consist of keys and values.
    """
    return deepcopy(_read(path))


def _read(path: Path) -> dict[str, Any]:
    """The same values, which other callers share."""
    shown = paths.shown(path)
    if not path.is_file():  # reading a pipe would never end
        kind = "a folder" if path.is_dir() else "a link to nothing" if path.is_symlink() else "no file"
        raise ParameterError(f"{shown}: {kind}; put a parameter file there, or remove it")
    try:
        if path.stat().st_size > LARGEST:
            raise ParameterError(f"{shown}: a parameter file has at most {LARGEST // 1024} kB; shorten it")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ParameterError(f"{shown}: not UTF-8 text; save the file as UTF-8") from None
    except OSError as error:
        raise ParameterError(f"{shown}: cannot be read ({error.strerror}); allow it") from None
    values = parse(text, shown)
    if not isinstance(values, dict | None):
        raise ParameterError(f"{shown}: expected lines of 'key: value', found {type(values).__name__}")
    if wrong := [key for key in values or {} if not isinstance(key, str)]:
        raise ParameterError(f"{shown}: key {quoted(wrong[0])}: a key is a text; correct it")
    return values or {}


def parse(text: str, source: str) -> Any:
    """The value of a YAML 1.2 text; do not change it, as it is kept.

    Raises:
        ParameterError: it is not valid; `source` is named in the message.
    """
    if "\0" in text:
        raise ParameterError(f"{source}: holds NUL characters; save it as UTF-8")
    try:
        return _parsed(text)
    except MarkedYAMLError as error:
        what, mark = " ".join((error.problem or error.context or "").split()), error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ParameterError(f"{source}{line}: not valid YAML: {cut(what)}; correct it") from None
    except RecursionError:
        raise ParameterError(f"{source}: not valid YAML: it is nested too deeply; correct it") from None
    except Exception as error:  # the parser lets through what the conversion of a value raises
        raise ParameterError(f"{source}: not valid YAML: {cut(' '.join(str(error).split()))}; correct it") from None


@cache
def _parsed(text: str) -> Any:
    """What a YAML text says; the files of a study are asked for over and over."""
    yaml = YAML(typ="safe", pure=True)
    node = yaml.compose(text)
    if node is None:
        return None
    values, depth = _size(node, {})
    if values > MOST_VALUES or depth > DEEPEST:
        raise ValueError(
            f"with its aliases (*) written out it holds more than {MOST_VALUES:,} values, or is nested too deeply"
        )
    return yaml.constructor.construct_document(node)


def _size(node: Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node has with its aliases written out, and how deep they are nested."""
    if isinstance(node, ScalarNode):
        return 1, 0
    if id(node) not in known:
        known[id(node)] = MOST_VALUES, DEEPEST  # of a node that holds itself
        parts = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else [entry])]
        values, depths = zip(*(_size(part, known) for part in parts), (0, 0), strict=True)
        known[id(node)] = 1 + sum(values), 1 + max(depths)
    return known[id(node)]


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


def runs_of(study: str, step: str) -> Runs:
    """File and seed of each run of a step; the seed is None where the file does not list several."""
    found: Runs = {}
    for file in _files(study_folder(study) / step):
        seeds = _seeds(file) if step == "train" else None
        runs = {file.stem: (file, None)} if seeds is None else {f"{file.stem}_s{s}": (file, s) for s in seeds}
        for run in runs.keys() & found.keys():
            raise ParameterError(f"{paths.shown(file)} and {paths.shown(found[run][0])} both stand for the run '{run}'")
        found |= runs
    return found


def study_folder(study: str) -> Path:
    """The parameter files of a study.

    Raises:
        ParameterError: no study has this name.
    """
    try:
        folder = paths.PARAMS / types.run_name(study)
    except ValueError as error:
        raise ParameterError(f"{quoted(study)} is no study: {error}; the studies are: {listed(studies())}") from None
    if not folder.is_dir():
        raise ParameterError(f"{paths.shown(folder)} does not exist; the studies are: {listed(studies())}")
    return folder


def studies() -> list[str]:
    """The studies that there are."""
    return sorted(folder.name for folder in paths.PARAMS.glob("[!.]*/"))


def _files(folder: Path) -> list[Path]:
    """The parameter files of a folder by name; one that would silently not be read is refused."""
    files = [file for file in sorted(folder.glob("[!.]*")) if file.suffix.lower() in (".yaml", ".yml")]
    for file in files:
        try:
            types.run_name(file.stem)
        except ValueError as error:
            raise ParameterError(f"{paths.shown(file)}: the file's name is the run's: {error}; rename it") from None
        if file.suffix != ".yaml":
            raise ParameterError(f"{paths.shown(file)}: the name of a parameter file ends in .yaml; rename it")
    return files


def _seeds(file: Path) -> list[int] | None:
    """The seeds that a training file lists, or None."""
    values = _read(file)
    if "seeds" not in values:
        return None
    seeds = values["seeds"]
    try:
        SEEDS.validate_python(seeds)
    except ValidationError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds):
        given = quoted(values["seeds"])
        raise ParameterError(f"{paths.shown(file)}: key 'seeds': a list of different whole numbers, not {given}")
    if "seed" in values:
        raise ParameterError(f"{paths.shown(file)}: set 'seed' or 'seeds', not both")
    return seeds


def params_file(study: str, step: str, run: str) -> Path:
    """The parameter file of a run, or where it would be."""
    return runs_of(study, step).get(run, (paths.PARAMS / study / step / f"{run}.yaml", None))[0]


def load(
    cls: type[P],
    study: str,
    run: str,
    overrides: dict[str, Any] | None = None,
    known: Runs | None = None,
    behind: tuple[tuple[str, str], ...] = (),
) -> P:
    """Typed parameters of one run: defaults, then `<step>.yaml`, then the run's file, then `overrides`.

    Args:
        cls: class of the step's parameters.
        known: `runs_of` the step, where the caller has it already.
        behind: study and run of those that start from this one.

    Raises:
        ParameterError: no such file, an unknown key, a wrong type, or a value that contradicts the run that this one
            starts from, with the file and the key.
    """
    step = cls.step
    known = runs_of(study, step) if known is None else known
    if run not in known:
        file = paths.PARAMS / study / step / f"{run}.yaml"
        lacking = "is a file of several runs" if file.is_file() else "does not exist"
        raise ParameterError(f"{paths.shown(file)} {lacking}; the {step} runs of study '{study}' are: {listed(known)}")
    file, seed = known[run]
    values: dict[str, Any] = {}
    for source in sources(file):
        own = read_yaml(source)
        _refuse_misplaced(own, source, step)
        values |= {key: value for key, value in own.items() if key not in ("like", "seeds")}
        _build(cls, {**values, "study": study, "run": run}, paths.shown(source), (*behind, (study, run)))
    if seed is not None:
        values["seed"] = seed
    values |= {"study": study, "run": run, **(overrides or {})}
    return _build(cls, values, f"{paths.shown(file)} (overrides)", (*behind, (study, run)))


def _build(cls: type[P], values: dict[str, Any], place: str, behind: tuple[tuple[str, str], ...]) -> P:
    """Typed values, with those that the run takes from the one that it starts from."""
    source = cls.source(values, behind[-1][0])
    if source is None:
        return cls.build(values, place)
    place, name = f"{place}: key 'start_from'", "/".join(source)
    if source in behind:
        raise ParameterError(f"{place}: {name} starts from itself in the end; name another run")
    try:
        other = load(cls, *source, behind=behind).model_dump(include=set(cls.taken))
    except ParameterError as error:
        raise ParameterError(f"{place}: {error}") from None
    for key in other.keys() & values.keys() - cls.free:
        if values[key] != other[key]:
            differs = f"{name} has {key}: {quoted(other[key])}, and this run {quoted(values[key])}"
            raise ParameterError(f"{place}: {differs}; remove the key, which is then taken from there")
    return cls.build(other | values, place.removesuffix(": key 'start_from'"))


def _refuse_misplaced(values: dict[str, Any], source: Path, step: str) -> None:
    """Refuse keys that would have no effect in a file."""
    of_run = source.parent.name == step
    for key in ("study", "run"):
        if key in values:
            raise ParameterError(f"{paths.shown(source)}: key '{key}' follows from the file's place; remove it")
    if "like" in values and not of_run:
        raise ParameterError(f"{paths.shown(source)}: key 'like' belongs in the file of a run, {step}/<run>.yaml")
    if "seeds" in values and not (of_run and step == "train"):
        raise ParameterError(f"{paths.shown(source)}: key 'seeds' belongs in the file of a training, train/<name>.yaml")


def all_files(study: str, step: str) -> list[Path]:
    """The parameter files of a step, that of what its runs share last."""
    folder = paths.PARAMS / study / step
    shared = folder.with_suffix(".yaml")
    return [*_files(folder), *([shared] if shared.is_file() else [])]


def sources(file: Path) -> list[Path]:
    """The parameter files that make up a run's values, a later one overriding earlier ones; the run's own is last.

    Raises:
        ParameterError: `like` names no file beside it, or files are like each other in a circle.
    """
    found = [file]
    while "like" in (values := _read(found[0])):
        place = f"{paths.shown(found[0])}: key 'like'"
        try:
            other = file.with_name(f"{types.run_name(values['like'])}.yaml")
        except (TypeError, ValueError):
            raise ParameterError(f"{place}: the name of a file beside it, not {quoted(values['like'])}") from None
        if not other.is_file() or other in found:
            problem = "is like itself in the end" if other in found else "does not exist"
            raise ParameterError(f"{place}: {paths.shown(other)} {problem}; name another")
        found.insert(0, other)
    shared = file.parent.with_suffix(".yaml")
    return [shared, *found] if shared.is_file() else found


def check_all_read(study: str, steps: Collection[str]) -> None:
    """Refuse files of a study that would silently not be read.

    Args:
        steps: that there are; a study also has `resources.yaml`.

    Raises:
        ParameterError: a file or folder belongs to no step, or a file sets what the runs share of a step without any.
    """
    folder = study_folder(study)
    for place in sorted(folder.glob("[!.]*")):
        if place.is_dir() and place.name not in steps and _files(place):
            raise ParameterError(f"{paths.shown(place)}/: no step has this name; the steps are {', '.join(steps)}")
    for file in _files(folder):
        if file.stem not in (*steps, "resources"):
            raise ParameterError(f"{paths.shown(file)}: no step has this name; the steps are {', '.join(steps)}")
        if file.stem in steps and not runs_of(study, file.stem):
            raise ParameterError(f"{paths.shown(file)}: is for runs of {file.stem}, of which there are none; remove it")
