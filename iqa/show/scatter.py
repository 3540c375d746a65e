"""Predicted against true scores, as points."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from iqa.metrics.coefficients import plcc, srcc
from iqa.show.style import BLUE, INK

MANY_POINTS = 5_000  # points of a scatter beyond which they are a picture also in svg and pdf, at about 100 bytes each


def draw_scatter(ax: Axes, predictions: pd.DataFrame, low: float, high: float, title: str | None) -> None:
    """`draw_points` on axes that show the whole score range, which is shaded."""
    ax.add_patch(Rectangle((low, low), high - low, high - low, color="#F4F6F9", zorder=0))
    draw_points(ax, predictions, score_limits(predictions, low, high), title)


def score_limits(predictions: pd.DataFrame, *more: float) -> tuple[float, float]:
    """Ends of an axis that shows all MOS and predictions, and more values."""
    values = [*more, *predictions["mos"], *predictions["prediction"]]
    margin = 0.04 * (max(values) - min(values))
    return min(values) - margin, max(values) + margin


def draw_points(ax: Axes, predictions: pd.DataFrame, limits: tuple[float, float], title: str | None) -> None:
    """Predicted against mean opinion score, with the identity line and the agreement in numbers."""
    mos, predicted = predictions["mos"], predictions["prediction"]
    ax.plot(limits, limits, color=INK, linewidth=1, linestyle="--", zorder=2)
    size, alpha = (9, 0.55) if len(predictions) <= 1000 else (5, 0.35)
    many = len(predictions) > MANY_POINTS
    ax.scatter(mos, predicted, s=size, alpha=alpha, color=BLUE, linewidths=0, zorder=3, rasterized=many)
    text = f"SRCC {srcc(predicted, mos):.3f}\nPLCC {plcc(predicted, mos):.3f}\nn = {len(mos):,}"
    card = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "#D9DEE7", "alpha": 0.9}
    ax.text(0.04, 0.96, text, transform=ax.transAxes, va="top", fontsize=8, bbox=card, zorder=4)
    ax.set(xlim=limits, ylim=limits, aspect="equal", xlabel="mean opinion score", ylabel="predicted score")
    if title:
        ax.set_title(title)
