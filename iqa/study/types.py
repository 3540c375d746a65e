"""The types of parameters: each refuses what the run would choke on, with a message that says what is meant.

The bounds are far from what is useful, and near enough that no value ends in a crash of another program.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from iqa.study import paths

YAML_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
MOST = 100  # entries of a list
LONGEST_TEXT = 300  # characters
CONTROL = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's line breaks, control characters, and halves of characters


def _yaml_1_2_number(value: Any) -> Any:
    """`1e-4` is a number in YAML 1.2; the bare `papermill` command reads YAML 1.1, where it is a string."""
    return float(value) if isinstance(value, str) and YAML_NUMBER.fullmatch(value) else value


def run_name(name: str) -> str:
    if not NAME.fullmatch(name) or name.endswith(paths.UNFINISHED):
        raise ValueError(
            "a name has at most 100 letters, digits, '_', '-' and '.', starts with a letter or digit, "
            f"and does not end in '{paths.UNFINISHED}'"
        )
    return name


def _one_line(longest: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not text.strip() or len(text) > longest or CONTROL & set(map(unicodedata.category, text)):
            raise ValueError(f"a text is one line of 1 to {longest} characters, none of which is a control character")
        return text

    return check


def _can_be_resolved(path: str) -> str:
    paths.resolve(path)
    return path


def _device(*others: str) -> Callable[[str], str]:
    def check(name: str) -> str:
        if name not in ("auto", "cpu", "mps", *others) and not re.fullmatch("cuda(:[0-9]{1,2})?", name):
            raise ValueError(f"a device is one of {', '.join((*others, 'auto', 'cpu', 'mps', 'cuda', 'cuda:1, ...'))}")
        return name

    return check


def _plain(value: Any, depth: int = 0) -> Any:
    """Refuse what JSON cannot hold, which the run would notice at its end."""
    if isinstance(value, dict) and depth < 4:
        if not all(isinstance(key, str) for key in value):
            raise ValueError("the keys are texts")
        _plain([*value, *value.values()], depth)
    elif isinstance(value, list) and depth < 4 and len(value) <= MOST:
        for part in value:
            _plain(part, depth + 1)
    elif isinstance(value, str):
        _one_line(LONGEST_TEXT)(value or "-")
    elif value is not None and not (isinstance(value, int | float) and abs(value) < 1e15):
        raise ValueError("a value is a text, a finite number, true, false, null, or a short list or map of these")
    return value


Number = Annotated[float, BeforeValidator(_yaml_1_2_number), Field(allow_inf_nan=False)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]
Share = Annotated[Number, Field(gt=0, lt=1)]
Rate = Annotated[Number, Field(ge=0, le=1e6)]
Factor = Annotated[Number, Field(ge=1e-6, le=1e6)]
Triple = Annotated[list[Annotated[Number, Field(ge=-100, le=100)]], Field(min_length=3, max_length=3)]
Deviations = Annotated[list[Annotated[Number, Field(ge=1e-4, le=100)]], Field(min_length=3, max_length=3)]

Natural = Annotated[int, Field(ge=0, le=256)]
Positive = Annotated[int, Field(gt=0, le=100_000)]
Size = Annotated[int, Field(gt=0, le=16_384)]  # pixels of a side, channels, images of a batch
Grid = Annotated[int, Field(gt=0, le=64)]  # cells of a side
Parallel = Annotated[int, Field(gt=0, le=256)]  # threads, processes, devices or machines
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # which NumPy, PyTorch and Lightning take
Sizes = Annotated[list[Size], Field(min_length=1, max_length=MOST)]
Hidden = Annotated[list[Size], Field(max_length=MOST)]  # of hidden layers, of which there may be none
ThreeSizes = Annotated[list[Size], Field(min_length=3, max_length=3)]
FourGrids = Annotated[list[Grid], Field(min_length=4, max_length=4)]

Name = Annotated[str, AfterValidator(run_name)]  # of a study, a run, an experiment or a database
Names = Annotated[list[Name], Field(max_length=1000)]
Text = Annotated[str, AfterValidator(_one_line(LONGEST_TEXT))]
FileName = Annotated[str, AfterValidator(_one_line(paths.LONGEST_PATH)), AfterValidator(_can_be_resolved)]
Plain = Annotated[Any, AfterValidator(_plain)]
Precision = Literal["32-true", "bf16-mixed", "fp16-mixed"]
Device = Annotated[str, AfterValidator(_device())]
DeviceOrAll = Annotated[str, AfterValidator(_device("all"))]
