"""Typed parameters: what all steps share."""

import re
from typing import Annotated, Any, ClassVar, Self

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from iqa.study import paths, types
from iqa.study.echo import cut, quoted
from iqa.study.progress import in_batch

NAMED = 3  # problems of a file that a message names


class ParameterError(ValueError):
    """A parameter file or a notebook's parameters cell that cannot be used; the message names file and key."""


class Checked(BaseModel):
    """Typed values. Unknown keys and wrong types are errors; `step` names what they are of in messages."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    step: ClassVar[str]

    @classmethod
    def build(cls, values: dict[str, Any], source: str) -> Self:
        """Typed values from plain ones; `source` is named in the error message."""
        try:
            return cls(**values)
        except pydantic.ValidationError as error:
            raise ParameterError(f"{source}: {_explain(cls, error.errors(include_url=False))}") from None

    @classmethod
    def check(cls, values: dict[str, Any], source: str) -> None:
        """Refuse what `build` refuses, but for keys that are lacking: others will be added."""
        try:
            cls(**values)
        except pydantic.ValidationError as error:
            if problems := [each for each in error.errors(include_url=False) if each["type"] != "missing"]:
                raise ParameterError(f"{source}: {_explain(cls, problems)}") from None


class Params(Checked):
    """Parameters that every step has."""

    study: types.Name = "demo"
    run: types.Name = "scratch"

    @classmethod
    def collect(cls, namespace: dict[str, Any]) -> Self:
        """Typed parameters from the variables of a notebook (`globals()`).

        Raises:
            ParameterError: a parameter is missing from the namespace, or has a wrong type or value.
        """
        missing = [key for key in cls.model_fields if key not in namespace]
        if missing:
            raise ParameterError(f"the parameters cell of the {cls.step} notebook lacks {', '.join(missing)}")
        values = {key: namespace[key] for key in cls.model_fields}
        if values["run"] == cls.model_fields["run"].default and not in_batch():
            values |= cls._of_the_study(values)
        return cls.build(values, f"parameters cell of {cls.step}")

    @classmethod
    def _of_the_study(cls, values: dict[str, Any]) -> dict[str, Any]:
        """What a notebook that is played with takes from the study's main run: what the cell leaves as it is."""
        from iqa.study import param_files  # which knows this class

        known = param_files.runs_of(values["study"], cls.step)
        first = next((run for run, (file, _) in known.items() if file.stem == "main"), next(iter(known), None))
        if first is None:
            return {}
        own = param_files.load(cls, values["study"], first, known=known).model_dump(exclude={"study", "run"})
        defaults = cls.defaults()
        taken = {key: value for key, value in own.items() if values[key] == defaults.get(key) != value}
        if taken:
            shown = ", ".join(f"{key}: {value}" for key, value in taken.items())
            print(f"as in {paths.shown(known[first][0])}: {shown}")
        return taken

    packages: ClassVar[tuple[str, ...]] = ()  # whose versions decide the results of the step
    taken: ClassVar[tuple[str, ...]] = ()  # keys that a run takes from the one that it starts from
    free: ClassVar[frozenset[str]] = frozenset()  # those of them that it may set otherwise
    not_deciding: ClassVar[tuple[str, ...]] = ("study", "run")  # keys that change no result

    @classmethod
    def source(cls, values: dict[str, Any], study: str) -> tuple[str, str] | None:
        """Study and run that a run with these values starts from, if there is one."""
        return None

    def needs(self) -> list[tuple[str, str]]:
        """Runs `(step, run)` of the same study whose results this run reads."""
        return []

    def files(self) -> list[str]:
        """Further files that this run reads, as `paths.resolve` takes them."""
        return []

    def words(self) -> frozenset[str]:
        """Words in the deciding parameters, among them the names of losses, fusions and readers that the run uses."""
        return frozenset(re.findall(r"\w+", str(self.deciding())))

    def deciding(self) -> dict[str, Any]:
        """The values that decide the results."""
        return self.model_dump(exclude=set(self.not_deciding))

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Default of each key that has one, as a plain value."""
        return cls.model_construct().model_dump(warnings=False)


def _explain(cls: type[Checked], problems: list[Any]) -> str:
    """What is wrong with values, key by key; of many problems the first."""
    found = []
    for problem in problems[:NAMED]:
        key, what = ".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            found.append(f"unknown key {quoted(key)}")
        elif problem["type"] == "missing" or (problem["input"] is None and _is_required(cls, problem)):
            found.append(f"key '{key}' is not set and has no default; set it")
        elif key:
            given = quoted(problem["input"])
            told = "" if given in what else f": {given}" if ", not " in what else f", not {given}"
            found.append(f"key '{cut(key)}': {what}{told}")
        else:
            found.append(what)
    if len(problems) > NAMED:
        found.append(f"and {len(problems) - NAMED} more")
    if any(problem["type"] == "extra_forbidden" for problem in problems):
        found.append(f"the keys of {cls.step} are: {', '.join(cls.model_fields)}")
    return "; ".join(found)


def _is_required(cls: type[Checked], problem: Any) -> bool:
    field = cls.model_fields.get(problem["loc"][0]) if len(problem["loc"]) == 1 else None
    return field is not None and field.is_required()


class FigureParams(Params):
    """Parameters of a step that draws figures."""

    dpi: Annotated[int, Field(ge=10, le=1200)] = 150
