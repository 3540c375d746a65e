"""Typed parameters of each step, and the parameter files that set them.

A study is a folder of `params/`. A run is one file, `params/<study>/<step>/<run>.yaml`, that lists only what
differs from the defaults; what all runs of a step share stands in `params/<study>/<step>.yaml`. The defaults
are the fields below, and the parameters cell of each notebook repeats them (a test compares the two). A file with
`like: <other>`, of any step, starts from the values of the file `<other>.yaml` beside it.

Some files stand for several runs. A training file `<name>.yaml` with `seeds: [1, 2]` is an experiment: the runs
`<name>_s1` and `<name>_s2`. A data_prep file with `repeats: [1, 2]`, or a range such as `1..10`, is a database in
several seeded splits: the runs `<name>_r1` and `<name>_r2`, with `repeat: 1` and `repeat: 2`. A training file whose
`database` is that file has a run on each of these splits, `<name>_r1` and `<name>_r2`, or on those that its own
`repeats` chooses. Where these keys have no effect, they are refused.

A training that goes on with the weights of another one (`start_from`) takes the values from it that belong to these
weights.
"""

import re
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
Runs = dict[str, tuple[Path, dict[str, Any]]]  # file of each run of a step, and what it alone has of that, by its name
LARGEST = 2**18  # bytes of a parameter file
MOST_VALUES, DEEPEST = 20_000, 20  # of a parameter file, its aliases written out
SEVERAL = {  # what a file of several runs lists under these keys
    key: TypeAdapter(Annotated[list[kind], Field(min_length=1, max_length=1000, strict=True)])
    for key, kind in (("seeds", types.Seed), ("repeats", types.Positive))
}
LISTING = {"data_prep": ("repeats",), "train": ("seeds", "repeats")}  # steps whose files may hold them
RANGE = re.compile(r"(\d{1,5})\.\.(\d{1,5})")


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
        if "_" in node.value and node.tag.endswith((":int", ":float")):  # in YAML 1.1 alone, 1_0 is a number
            node.tag = "tag:yaml.org,2002:str"
        return 1, 0
    if id(node) not in known:
        known[id(node)] = MOST_VALUES, DEEPEST  # of a node that holds itself
        parts = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else [entry])]
        values, depths = zip(*(_size(part, known) for part in parts), (0, 0), strict=True)
        known[id(node)] = 1 + sum(values), 1 + max(depths)
    return known[id(node)]


def run_names(study: str, step: str) -> list[str]:
    """Names of the runs that `params/<study>/<step>/` defines, sorted by file, and by seed or split."""
    return list(runs_of(study, step))


def experiments(study: str, step: str = "train") -> dict[str, list[str]]:
    """Runs of each experiment (a parameter file), by the experiment's name."""
    found: dict[str, list[str]] = {}
    for run, (file, _) in runs_of(study, step).items():
        found.setdefault(file.stem, []).append(run)
    return found


def experiment_of(study: str, step: str = "train") -> dict[str, str]:
    """The experiment of each run, by the run's name."""
    return {run: name for name, runs in experiments(study, step).items() for run in runs}


def runs_of(study: str, step: str) -> Runs:
    """File of each run of a step, and the seed or split (the repeat, or the database) that it has for itself."""
    found: Runs = {}
    folder = study_folder(study)
    splits = {file.stem: _numbers(file, "repeats") for file in _files(folder / "data_prep")} if step in LISTING else {}
    for file in _files(folder / step):
        several = _several(file, splits) if step in LISTING else {}
        runs = {f"{file.stem}{ending}": (file, values) for ending, values in several.items()} or {file.stem: (file, {})}
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


def _several(file: Path, splits: dict[str, list[int]]) -> dict[str, dict[str, Any]]:
    """What each run of a file has for itself, by the ending of its name; nothing where the file stands for one run.

    `splits` are the repeats that each file of data_prep lists.
    """
    if file.parent.name == "data_prep":
        return {f"_r{number}": {"repeat": number} for number in splits[file.stem]}
    seeds, repeats = _numbers(file, "seeds"), _numbers(file, "repeats")
    database = _database(file) if repeats or any(splits.values()) else None
    known = splits.get(database, [])
    if unknown := sorted(set(repeats) - set(known)):
        prepared = file.parent.parent / "data_prep" / f"{database}.yaml"
        remedy = f"list it in {paths.shown(prepared)}" if database else "set 'database'"
        raise ParameterError(f"{paths.shown(file)}: key 'repeats': its database has no repeat {unknown[0]}; {remedy}")
    if seeds and known:
        problem = f"its database '{database}' stands for {len(known)} splits, with one training on each"
        remedy = f"remove it, or name one split, such as {database}_r{known[0]}"
        raise ParameterError(f"{paths.shown(file)}: key 'seeds': {problem}; {remedy}")
    runs = {f"_r{number}": {"database": f"{database}_r{number}"} for number in repeats or known}
    return runs or {f"_s{seed}": {"seed": seed} for seed in seeds}


def _database(file: Path) -> str | None:
    """The database that the sources of a training file name, if they do."""
    named = [values["database"] for source in sources(file) if "database" in (values := _read(source))]
    return named[-1] if named and types.NAME.fullmatch(str(named[-1])) else None


def _numbers(file: Path, key: str) -> list[int]:
    """The different whole numbers that a file has under a key, as a list or as a range (`1..10`); none without it."""
    values = _read(file)
    if key not in values:
        return []
    given = values[key]
    ends = RANGE.fullmatch(given) if isinstance(given, str) else None
    numbers = list(range(int(ends[1]), int(ends[2]) + 1)[:1001]) if ends else given
    try:
        SEVERAL[key].validate_python(numbers)
    except ValidationError:
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers):
        wanted = "a list of different whole numbers, or a range such as 1..10"
        raise ParameterError(f"{paths.shown(file)}: key '{key}': {wanted}, not {quoted(given)}")
    if key[:-1] in values:
        raise ParameterError(f"{paths.shown(file)}: set '{key[:-1]}' or '{key}', not both")
    return numbers


def params_file(study: str, step: str, run: str) -> Path:
    """The parameter file of a run, or where it would be."""
    return runs_of(study, step).get(run, (paths.PARAMS / study / step / f"{run}.yaml", {}))[0]


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
    file, alone = known[run]
    values: dict[str, Any] = {}
    for source in sources(file):
        own = read_yaml(source)
        _refuse_misplaced(own, source, step)
        values |= {key: value for key, value in own.items() if key not in ("like", *LISTING.get(step, ()))}
        named = {**values, "study": study, "run": run}
        shown = paths.shown(source)
        cls.build(_taken(cls, named, shown, (*behind, (study, run))) | named, shown, partly=True)
    values |= {**alone, "study": study, "run": run, **(overrides or {})}
    place = paths.shown(file) + " (overrides)" * bool(overrides)
    return cls.build(_taken(cls, values, place, (*behind, (study, run))) | values, place)


def _taken(cls: type[P], values: dict[str, Any], place: str, behind: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """The values that a run takes from the one that it starts from, if there is one."""
    source = cls.source(values, behind[-1][0])
    if source is None:
        return {}
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
    return other


def _played(cls: type[Params], values: dict[str, Any]) -> dict[str, Any]:
    """What a notebook without a parameter file takes from the study's main run: what its cell leaves as it is."""
    known, defaults = runs_of(values["study"], cls.step), cls.defaults()
    main = next((run for run, (file, _) in known.items() if file.stem == "main"), next(iter(known), None))
    own = load(cls, values["study"], main, known=known).model_dump(exclude={"study", "run"}) if main else {}
    taken = {key: value for key, value in own.items() if values[key] == defaults.get(key) != value}
    if taken:
        shown = ", ".join(f"{key}: {value}" for key, value in taken.items())
        print(f"as in {paths.shown(known[main][0])}: {shown}")
    return taken


Params.played = staticmethod(_played)


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
    if "repeats" in values and step in LISTING and not of_run:
        raise ParameterError(f"{paths.shown(source)}: key 'repeats' belongs in the file of a run, {step}/<name>.yaml")


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
