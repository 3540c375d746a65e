"""What figures of several steps share."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from iqa.metrics.coefficients import plcc, srcc
from iqa.show.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, WIDTH, in_style

MANY_POINTS = 5_000  # points of a scatter beyond which they are a picture also in svg and pdf, at about 100 bytes each
LOOKS = [  # of things that are compared: told apart by line and marker where colours are not seen
    {"color": INK, "linestyle": "-", "marker": "D"},
    {"color": BLUE, "linestyle": "--", "marker": "o"},
    {"color": ORANGE, "linestyle": "-.", "marker": "^"},
    {"color": GREEN, "linestyle": ":", "marker": "s"},
    {"color": PURPLE, "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": GREY, "linestyle": (0, (8, 2)), "marker": "P"},
]


@in_style
def sample_images(images: Sequence[np.ndarray], labels: Sequence[str], columns: int = 6) -> Figure:
    """A grid of images with a label above each.

    Args:
        images: arrays of shape (H, W, 3) or (H, W), uint8 or floats in [0, 1]. Sizes may differ.
        labels: one label per image.
        columns: images in a row, at most.
    """
    if not images or len(images) != len(labels):
        raise ValueError(f"expected images with one label each, got {len(images)} images and {len(labels)} labels")
    rows = -(-len(images) // columns)
    columns = -(-len(images) // rows)
    aspect = float(np.mean([image.shape[0] / image.shape[1] for image in images]))
    figure = Figure(figsize=(WIDTH, rows * (WIDTH / columns * aspect + 0.2)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.axis("off")
    for ax, image, label in zip(axes, images, labels, strict=False):
        ax.imshow(image, cmap="gray")
        ax.set_title(label, fontsize=7, fontweight="normal", loc="center", pad=2)
    return figure


def draw_scatter(ax: Axes, predictions: pd.DataFrame, low: float, high: float, title: str | None) -> None:
    limits = score_limits(predictions, low, high)
    ax.add_patch(Rectangle((low, low), high - low, high - low, color="#F4F6F9", zorder=0))
    draw_points(ax, predictions, limits, title)


def score_limits(predictions: pd.DataFrame, *more: float) -> tuple[float, float]:
    """Ends of an axis that shows all MOS and predictions, and more values."""
    values = [*more, *predictions["mos"], *predictions["prediction"]]
    margin = 0.04 * (max(values) - min(values))
    return min(values) - margin, max(values) + margin


def draw_points(ax: Axes, predictions: pd.DataFrame, limits: tuple[float, float], title: str | None) -> None:
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


def nothing(why: str) -> Figure:
    """In place of a figure that has nothing to show."""
    figure = Figure(figsize=(WIDTH, 0.6))
    figure.text(0.5, 0.5, why, ha="center", va="center", color="#5B6472")
    return figure


def wrapped(text: object, width: int) -> str:
    """A text in lines of at most so many characters."""
    return textwrap.fill(str(text), width, break_on_hyphens=False)


def row_positions(*texts: Sequence[str]) -> tuple[list[float], float]:
    """Centres of rows of text, in lines, and where the last ends. A row is as high as its texts, two lines at least."""
    heights = np.array([max(2, *(text.count("\n") + 1.5 for text in row)) for row in zip(*texts, strict=True)])
    return list(np.cumsum(heights) - heights / 2), float(heights.sum())
