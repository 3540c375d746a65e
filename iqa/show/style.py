"""How figures look: sizes, colours, and matplotlib's settings while one is drawn.

Sizes are in inches for a text width of 7.2 in (A4). Colours are Okabe and Ito's: distinguishable with every kind of
colour blindness and, by their brightness, in grey print.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

WIDTH = 7.2
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#8A4F7D"
GREY, MUTED, INK = "#8A8F98", "#5B6472", "#1C2330"
STYLE = {
    "figure.dpi": 150,
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E7EC",
    "grid.linewidth": 0.7,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "text.color": INK,
}


def in_style(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """The same function, drawing with these settings and leaving matplotlib's own as they were."""

    @wraps(draw)
    def styled(*args: Any, **kwargs: Any) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled
