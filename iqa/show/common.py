"""What figures of several steps share: panels, points, intervals, legends, notes."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iqa.show.style import BLUE, GREEN, GREY, INK, MUTED, ORANGE, PURPLE, WIDTH, in_style

TALLEST = 1.3 * WIDTH  # inches of a figure that fits a page with its caption
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
    columns = -(-len(images) // -(-len(images) // columns))
    aspect = float(np.mean([image.shape[0] / image.shape[1] for image in images]))
    figure, axes = panel_grid(len(images), columns, WIDTH / columns, WIDTH / columns * aspect + 0.2)
    for ax, image, label in zip(axes, images, labels, strict=True):
        ax.imshow(image, cmap="gray")
        caption_image(ax, label)
    return figure


def caption_image(ax: Axes, text: str) -> None:
    """A small title above a picture without axes."""
    ax.set_title(text, fontsize=7, fontweight="normal", loc="center", pad=2)
    ax.axis("off")


def draw_figure(
    height: float, rows: int = 1, columns: int = 1, width: float = WIDTH, **shared: Any
) -> tuple[Figure, np.ndarray]:
    """An empty figure, its size in inches (at most `TALLEST` high), and its panels, an array of rows and columns."""
    figure = Figure(figsize=(width, min(height, TALLEST)), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def panel_grid(count: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A figure of so many panels of one size in rows of at most `columns`, and the panels in their order."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure, axes = draw_figure(rows * height, rows, columns, columns * width)
    for ax in axes.ravel()[count:]:
        ax.axis("off")
    return figure, axes.ravel()[:count]


def nothing(why: str) -> Figure:
    """In place of a figure that has nothing to show."""
    figure = Figure(figsize=(WIDTH, 0.6))
    figure.text(0.5, 0.5, why, ha="center", va="center", color=MUTED)
    return figure


def wrapped(text: object, width: int) -> str:
    """A text in lines of at most so many characters."""
    return textwrap.fill(str(text), width, break_on_hyphens=False)


def row_positions(*texts: Sequence[str]) -> tuple[list[float], float]:
    """Centres of rows of text, in lines, and where the last ends. A row is as high as its texts, two lines at least."""
    heights = np.array([max(2, *(text.count("\n") + 1.5 for text in row)) for row in zip(*texts, strict=True)])
    return list(np.cumsum(heights) - heights / 2), float(heights.sum())


def stagger(place: int, count: int) -> float:
    """How far from the middle of its row a mark lies that is one of several side by side."""
    return (place - (count - 1) / 2) * 0.8 / count


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    """Names of the rows 0, 1, ... from top to bottom, without lines between them."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def note(ax: Axes, y: float, text: str) -> None:
    """A small text in a row that has no mark."""
    ax.text(0.02, y, text, transform=ax.get_yaxis_transform(), va="center", fontsize=7, color=MUTED)


def error_bars(rows: pd.DataFrame, value: str, low: str = "", high: str = "") -> np.ndarray:
    """Lengths of the bars below and above a column's values, from the columns of the interval's ends."""
    below, above = rows[low or f"{value}_low"], rows[high or f"{value}_high"]
    return np.abs([rows[value] - below, above - rows[value]])


def epoch_axes(ax: Axes, title: str) -> None:
    """A panel of something against the epoch; a coefficient ends at 1."""
    ax.set_title(title)
    ax.set_xlabel("epoch")
    ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if "loss" not in title:
        ax.set_ylim(top=1)


def add_legend(figure: Figure, ax: Axes, columns: int, place: str = "center", **options: Any) -> None:
    """The legend of one panel below the figure."""
    figure.legend(*ax.get_legend_handles_labels(), loc=f"outside lower {place}", ncols=columns, **options)
