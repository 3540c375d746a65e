"""Things that a parameter names: losses, fusions, crops, readers. Each is registered where it is defined.

    FUSIONS = Registry("fusion")

    @FUSIONS.add("concat", title="all maps, concatenated")
    class Concat(nn.Module): ...

A registered class or function carries its `name` and whatever words `add` was called with (`title`, `formula`, ...).
Names are also known without importing the module, so that a parameter file is checked before torch is loaded.
"""

import ast
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from iqa.study.echo import quoted

PACKAGE = Path(__file__).resolve().parents[1]


class Registry(dict[str, Any]):
    """The registered classes or functions by name, in the order of their definition.

    Args:
        kind: what an entry is, for error messages.
        words: that an entry has when it is not registered with others.
    """

    def __init__(self, kind: str, **words: Any):
        super().__init__()
        self.kind = kind
        self.words = words

    def add(self, name: str, **words: Any) -> Callable[[Any], Any]:
        """Register a class or function under `name`; `words` become its attributes.

        Raises:
            ValueError: the name is taken.
        """

        def register(entry: Any) -> Any:
            if name in self:
                raise ValueError(f"two entries are registered as {self.kind} '{name}'")
            for key, value in {"name": name, **self.words, **words}.items():
                setattr(entry, key, value)
            self[name] = entry
            return entry

        return register

    def __missing__(self, name: str) -> Any:
        raise ValueError(f"unknown {self.kind} '{name}'; known are: {', '.join(self)}")


@cache
def registered(module: str) -> tuple[str, ...]:
    """Names that a module of this package registers, such as those of `iqa.model.fusion`, without an import of it."""
    file = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = (mark for node in tree.body for mark in getattr(node, "decorator_list", []) if isinstance(mark, ast.Call))
    return tuple(
        call.args[0].value for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "add"
    )


def one_of(module: str) -> Callable[[str], str]:
    """A check for a parameter that names an entry which a module registers.

    >>> one_of("iqa.model.fusion")("concat")
    'concat'
    """

    def check(name: str) -> str:
        if name not in registered(module):
            raise ValueError(f"{quoted(name)} is none of {', '.join(registered(module))}")
        return name

    return check
