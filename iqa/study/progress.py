"""Progress as its reader wants it: a live bar for a person, a line every half minute for the log of a pipeline."""

import io
import os
from collections.abc import Callable, Iterable
from typing import Any

from tqdm import std
from tqdm.auto import tqdm

EVERY = 30.0  # seconds between two lines; of work that takes less there is none


def in_batch() -> bool:
    """Whether a pipeline runs this; it sets `IQA_BATCH`."""
    return "IQA_BATCH" in os.environ


class _Epochs:
    """What a bar of several epochs says of the present one."""

    epochs = 1

    def present(self) -> tuple[float, float, float, str, str]:
        """Units that are done of the present part, and its size; units per second; the rest of it, and of all."""
        size = self.total / self.epochs
        place = min(int(self.n // size), self.epochs - 1)
        rate = max(self.n - self.initial, 1e-9) / max(self._time() - self.start_t, 1e-9)
        rest, whole = (_words((end - self.n) / rate) for end in ((place + 1) * size, self.total))
        return self.n - place * size, size, rate, rest, whole


class _Bar(_Epochs, tqdm):
    @property
    def format_dict(self) -> dict[str, Any]:
        last = {"postfix": f"{self.present()[3]} of this epoch"} if self.epochs > 1 and self.n > self.initial else {}
        return super().format_dict | last


class Lines(_Epochs, std.tqdm):
    """A bar of tqdm that says every half minute in a line how far the work is.

    Args:
        tell: called with each line.
        epochs: epochs of the work: a line tells how far the present one is, and `desc` names it.
        every: seconds between two lines.
    """

    def __init__(self, items: Iterable | None = None, *, tell: Callable, epochs=1, every=None, **options: Any):
        self.tell, self.epochs = tell, epochs
        every = EVERY if every is None else every
        quiet = {"file": io.StringIO(), "leave": False, "miniters": 1, "mininterval": every, "delay": every}
        super().__init__(items, **quiet, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if msg is None and self.n > self.initial:  # with a message it is to be cleared
            self.tell(self.sentence())

    def sentence(self) -> str:
        """What is done of how much, how fast it goes, and how long the rest takes at this speed."""
        done, size, rate, rest, whole = self.present()
        units = self.unit + ("es" if self.unit.endswith("ch") else "s")
        several = f", {whole} of all {self.epochs} epochs" if self.epochs > 1 else ""
        return f"{self.desc}: {done:,.0f} of {size:,.0f} {units}, {rate:,.3g} {units}/s, {rest} left{several}"


def _words(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 1.5 else f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def bar(items: Iterable | None = None, *, epochs: int = 1, tell: Callable = print, **options: Any) -> tqdm:
    """A bar with the options `total`, `desc` and `unit` of tqdm, a widget in JupyterLab; in batch `Lines`."""
    if in_batch():
        return Lines(items, epochs=epochs, tell=tell, **options)
    made = _Bar(items, mininterval=1, delay=0 if epochs > 1 else 1, **options)
    made.epochs = epochs
    return made
