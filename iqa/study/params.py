"""Typed parameters: what all steps share, and the types that their keys have."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

YAML_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


class ParameterError(ValueError):
    """A parameter file or a notebook's parameters cell that cannot be used; the message names file and key."""


def _yaml_1_2_number(value: Any) -> Any:
    """`1e-4` is a number in YAML 1.2; the bare `papermill` command reads YAML 1.1, where it is a string."""
    return float(value) if isinstance(value, str) and YAML_NUMBER.fullmatch(value) else value


def run_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ValueError("a name is made of letters, digits, '_', '-' and '.', and starts with a letter or digit")
    return name


Number = Annotated[float, BeforeValidator(_yaml_1_2_number)]
Name = Annotated[str, AfterValidator(run_name)]
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]
Rate = Annotated[Number, Field(ge=0)]
Triple = Annotated[list[Number], Field(min_length=3, max_length=3)]
Precision = Literal["32-true", "bf16-mixed"]


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
            lines = [_explain(cls, problem) for problem in error.errors()]
            raise ParameterError(f"{source}: " + "; ".join(lines)) from None


class Params(Checked):
    """Parameters that every step has."""

    study: Name = "demo"
    run: Name = "scratch"

    @classmethod
    def collect(cls, namespace: dict[str, Any]) -> Self:
        """Typed parameters from the variables of a notebook (`globals()`).

        Raises:
            ParameterError: a parameter is missing from the namespace, or has a wrong type or value.
        """
        missing = [key for key in cls.model_fields if key not in namespace]
        if missing:
            raise ParameterError(f"the parameters cell of the {cls.step} notebook lacks {', '.join(missing)}")
        return cls.build({key: namespace[key] for key in cls.model_fields}, f"parameters cell of {cls.step}")

    packages: ClassVar[tuple[str, ...]] = ()  # whose versions decide the results of the step
    not_deciding: ClassVar[tuple[str, ...]] = ("study", "run")  # keys that change no result

    def needs(self) -> list[tuple[str, str]]:
        """Runs `(step, run)` of the same study whose results this run reads."""
        return []

    def files(self) -> list[str]:
        """Further files that this run reads, as `paths.resolve` takes them."""
        return []

    def words(self) -> frozenset[str]:
        """Words in the parameters, among them the names of losses, fusions and readers that the run uses."""
        return frozenset(re.findall(r"\w+", str(self.model_dump())))

    def deciding(self) -> dict[str, Any]:
        """The values that decide the results."""
        return self.model_dump(exclude=set(self.not_deciding))

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Default of each key that has one, as a plain value."""
        return cls.model_construct().model_dump(warnings=False)


def _explain(cls: Any, problem: dict) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "(the whole file)"
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'; the keys of {cls.step} are: {', '.join(cls.model_fields)}"
    return f"key '{key}': {problem['msg']}, not {problem['input']!r}"


class FigureParams(Params):
    """Parameters of a step that draws figures."""

    dpi: Positive = 150
