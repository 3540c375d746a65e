"""Typed parameters: what all steps share."""

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Self

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from iqa.study import types
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
    def build(cls, values: dict[str, Any], source: str, partly: bool = False) -> Self | None:
        """Typed values from plain ones; `source` is named in messages. `partly`: None where only keys are lacking."""
        try:
            return cls(**values)
        except pydantic.ValidationError as error:
            problems = error.errors(include_url=False)
        if problems := [each for each in problems if not (partly and each["type"] == "missing")]:
            raise ParameterError(f"{source}: {_explain(cls, problems)}")
        return None


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
            values |= cls.played(cls, values)
        return cls.build(values, f"parameters cell of {cls.step}")

    # what a notebook that is played with takes from the study's files: set by `iqa.study.param_files`
    played: ClassVar[Callable[[type["Params"], dict[str, Any]], dict[str, Any]]] = staticmethod(lambda *_: {})
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
    found, required = [], {key for key, field in cls.model_fields.items() if field.is_required()}
    for problem in problems[:NAMED]:
        key, what = ".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            found.append(f"unknown key {quoted(key)}")
        elif problem["type"] == "missing" or (problem["input"] is None and key in required):
            found.append(f"key '{key}' is not set and has no default; set it")
        elif key:
            given = quoted(problem["input"])
            told = "" if given in what else f": {given}" if ", not " in what else f", not {given}"
            found.append(f"key '{cut(key)}': {what}{told}")
        else:
            found.append(what)
    if len(problems) > NAMED:
        found.append(f"and {len(problems) - NAMED} more")
    if unknown := [str(problem["loc"][-1]) for problem in problems if problem["type"] == "extra_forbidden"]:
        close = get_close_matches(unknown[0], cls.model_fields)
        keys = f"the keys of {cls.step} are: {', '.join(cls.model_fields)}"
        found.append(f"did you mean '{close[0]}'?" if close else keys)
    return "; ".join(found)


class FigureParams(Params):
    """Parameters of a step that draws figures."""

    dpi: Annotated[int, Field(ge=10, le=1200)] = 150
