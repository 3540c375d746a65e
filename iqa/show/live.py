"""Figures that follow a training while it goes on."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pandas as pd
from matplotlib.figure import Figure

from iqa.study.progress import in_batch

Follow = Callable[[pd.DataFrame], None]


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=140)
    return stream.getvalue()


@contextmanager
def curves(draw: Callable[[pd.DataFrame], Figure]) -> Iterator[Follow | None]:
    """What shows a figure of the history below a cell after each epoch, until the training ends; in batch None."""
    if in_batch():
        yield None
        return
    from IPython.display import HTML, Image, display

    shown = display(HTML(""), display_id=True)
    yield lambda history: shown.update(Image(png(draw(history)), width=900))
    shown.update(HTML(""))
