"""Figures: data frame in, matplotlib figure out. No function opens a file or leaves a figure open in pyplot.

House style: sizes in inches for a text width of 7.2 in (A4), Okabe and Ito's colours (distinguishable with every
kind of colour blindness and, by their brightness, in grey print), and no information in colour alone.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

from iqa import metrics

WIDTH = 7.2
TIMES = "\N{MULTIPLICATION SIGN}"
BLUE, ORANGE, GREEN, PURPLE, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#8A4F7D", "#8A8F98", "#1C2330"
SPLIT_COLOURS = {"train": BLUE, "val": GREEN, "test": ORANGE}
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


def _in_style(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    @wraps(draw)
    def styled(*args: Any, **kwargs: Any) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


@_in_style
def mos_histogram(table: pd.DataFrame, low: float, high: float) -> Figure:
    """Distribution of the mean opinion scores, one panel per split, as a share of the split's images.

    Args:
        table: one row per image, with columns `mos` and `split`.
        low: lower end of the database's score range.
        high: upper end of the range.
    """
    import seaborn  # a second to import, for this figure alone

    known = [split for split in SPLIT_COLOURS if split in set(table["split"])]
    splits = known + sorted(set(table["split"]) - set(known))
    figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
    axes = figure.subplots(1, len(splits), sharex=True, sharey=True, squeeze=False)[0]
    edges = np.linspace(low, high, 21)
    for ax, split in zip(axes, splits, strict=True):
        scores = table.loc[table["split"] == split, "mos"]
        colour = SPLIT_COLOURS.get(split, GREY)
        seaborn.histplot(x=scores, bins=edges, stat="percent", color=colour, edgecolor="white", linewidth=0.5, ax=ax)
        ax.axvline(scores.mean(), color=INK, linewidth=1, linestyle="--")
        ax.set_title(f"{split}: {len(scores):,} images")
        ax.set(xlabel="mean opinion score", xlim=(low, high))
        ax.grid(axis="x", visible=False)
    axes[0].set_ylabel("share of images (%)")
    return figure


@_in_style
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


@_in_style
def training_curves(history: pd.DataFrame, best_epoch: int | None = None) -> Figure:
    """Loss, SRCC and PLCC against the epoch on training and validation images, with the best epoch marked.

    Args:
        history: one row per epoch, with columns `epoch`, `train_loss`, `val_loss`, `train_srcc`, `val_srcc`,
            `train_plcc` and `val_plcc`.
        best_epoch: the epoch whose weights were kept; that of the highest `val_srcc` when not given.
    """
    if best_epoch is None:
        best_epoch = int(history.loc[history["val_srcc"].idxmax(), "epoch"])
    figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
    for ax, key in zip(figure.subplots(1, 3), ("loss", "srcc", "plcc"), strict=True):
        lines = {"train": {"linestyle": "--", "marker": "."}, "val": {"marker": "o", "markersize": 3.5}}
        for split, line in lines.items():
            ax.plot(history["epoch"], history[f"{split}_{key}"], color=SPLIT_COLOURS[split], label=split, **line)
        ax.axvline(best_epoch, color=GREY, linewidth=1, linestyle=":", label=f"best: {best_epoch}")
        ax.set_title(key if key == "loss" else key.upper())
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        if key != "loss":
            ax.set_ylim(top=1)
        ax.legend(loc="upper right" if key == "loss" else "lower right")
    return figure


@_in_style
def prediction_scatter(predictions: pd.DataFrame, low: float, high: float, title: str | None = None) -> Figure:
    """Predicted against mean opinion score, one point per image, with the identity line.

    Predictions are drawn as they are, not rescaled or fitted; both axes have the same scale, and they grow
    where a prediction lies outside the score range (which is shaded).

    Args:
        predictions: one row per image, with columns `mos` and `prediction` on the database's own scale.
        low: lower end of the database's score range.
        high: upper end of the range.
        title: printed above the axes.
    """
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    _scatter(figure.subplots(), predictions, low, high, title)
    return figure


@_in_style
def scatter_grid(panels: dict[str, tuple[pd.DataFrame, float, float]]) -> Figure:
    """`prediction_scatter` of several databases side by side.

    Args:
        panels: for each title the predictions and the low and high end of that database's score range.
    """
    if not panels:
        raise ValueError("a grid of scatter plots needs at least one database")
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    side = WIDTH / max(columns, 2)
    figure = Figure(figsize=(side * columns, side * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (title, (predictions, low, high)) in zip(axes, panels.items(), strict=False):
        _scatter(ax, predictions, low, high, title)
    for ax in axes[len(panels) :]:
        ax.axis("off")
    return figure


def _scatter(ax: Axes, predictions: pd.DataFrame, low: float, high: float, title: str | None) -> None:
    mos, predicted = predictions["mos"], predictions["prediction"]
    values = [low, high, *mos, *predicted]
    margin = 0.04 * (max(values) - min(values))
    limits = (min(values) - margin, max(values) + margin)
    ax.add_patch(Rectangle((low, low), high - low, high - low, color="#F4F6F9", zorder=0))
    ax.plot(limits, limits, color=INK, linewidth=1, linestyle="--", zorder=2)
    size, alpha = (9, 0.55) if len(predictions) <= 1000 else (5, 0.35)
    ax.scatter(mos, predicted, s=size, alpha=alpha, color=BLUE, linewidths=0, zorder=3)
    text = f"SRCC {metrics.srcc(predicted, mos):.3f}\nPLCC {metrics.plcc(predicted, mos):.3f}\nn = {len(mos):,}"
    card = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "#D9DEE7", "alpha": 0.9}
    ax.text(0.04, 0.96, text, transform=ax.transAxes, va="top", fontsize=8, bbox=card, zorder=4)
    ax.set(xlim=limits, ylim=limits, aspect="equal", xlabel="mean opinion score", ylabel="predicted score")
    if title:
        ax.set_title(title)


@_in_style
def ablation_forest(ablation: pd.DataFrame) -> Figure:
    """SRCC of each group of runs: mean over seeds with its bootstrap interval, and the spread of the seeds.

    Args:
        ablation: one row per group, the reference first, with columns `differs`, `seeds`, `srcc_mean`, `srcc_std`,
            `srcc_low`, `srcc_high` and `verdict`.
    """
    colours = {"better": GREEN, "worse": ORANGE}
    markers = {"reference": "D", "better": "^", "worse": "v"}
    figure = Figure(figsize=(WIDTH, 1.15 + 0.34 * len(ablation)), layout="constrained")
    ax = figure.subplots()
    ax.axvline(ablation["srcc_mean"].iloc[0], color=GREY, linewidth=1, linestyle=":")
    for y, row in enumerate(ablation.to_dict("records")):
        colour, marker = colours.get(row["verdict"], BLUE), markers.get(row["verdict"], "o")
        mean, spread = row["srcc_mean"], row["srcc_std"]
        ax.plot([row["srcc_low"], row["srcc_high"]], [y, y], color=colour, linewidth=1.2)
        if np.isfinite(spread):
            ax.plot([mean - spread, mean + spread], [y, y], color=colour, linewidth=6, alpha=0.35)
        ax.plot(mean, y, marker, color=colour, markersize=6)
        ax.annotate(
            row["verdict"], (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=colour
        )
    names = [
        "reference" if row["verdict"] == "reference" else str(row["differs"]) for row in ablation.to_dict("records")
    ]
    ax.set_yticks(range(len(ablation)), names)
    ax.set_ylim(len(ablation) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("SRCC, mean over seeds")
    return figure


@_in_style
def latency(latency: pd.DataFrame) -> Figure:
    """Time per batch and throughput of each model and batch size.

    Args:
        latency: one row per run, device and batch size, with columns `run`, `device`, `batch_size`, `median_ms`,
            `min_ms`, `p95_ms` and `images_per_second`.
    """
    rows = latency.to_dict("records")
    figure = Figure(figsize=(WIDTH, 1.1 + 0.3 * len(rows)), layout="constrained")
    time, speed = figure.subplots(1, 2, sharey=True)
    palette = dict(zip(dict.fromkeys(latency["run"]), [BLUE, ORANGE, GREEN, PURPLE, GREY] * len(rows), strict=False))
    for y, row in enumerate(rows):
        colour = palette[row["run"]]
        time.plot([row["min_ms"], row["p95_ms"]], [y, y], color=colour, linewidth=4, alpha=0.35)
        time.plot(row["median_ms"], y, "o", color=colour, markersize=5)
        speed.barh(y, row["images_per_second"], color=colour, height=0.55, alpha=0.8)
    time.set_yticks(range(len(rows)), [f"{r['run']}, {r['device']}, batch of {r['batch_size']}" for r in rows])
    time.set_ylim(len(rows) - 0.5, -0.5)
    time.set_xlim(left=0)
    time.set_title("latency")
    time.set_xlabel("ms per batch")
    speed.set_title("throughput")
    speed.set_xlabel("images per second")
    for ax in (time, speed):
        ax.grid(axis="y", visible=False)
    return figure


@_in_style
def architecture(description: dict[str, Any]) -> Figure:
    """Data flow of HyperIQA for one model: Su et al. (CVPR 2020), figure 2, with the model's own shapes.

    Blue is the backbone, green the content path, which makes the target network's weights (dashed), and orange the
    distortion path and the target network, which turns local distortion features into a score.

    Args:
        description: the model's `architecture.json`: `name`, `backbone`, `fusion`, `input` [3, H, W], `maps` (four
            [C, H, W]), `target_widths`, `generated_weights`, `parameters`, and `parts` (each `name`, `title`,
            `output`, `parameters`) for backbone, fusion, semantic, hyper, lda and target.
    """
    parts = {part["name"]: part for part in description["parts"]}
    figure = Figure(figsize=(WIDTH, 3.9))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 120), ylim=(2, 67))
    ax.axis("off")
    levels = _draw_backbone(ax, description, parts["backbone"])
    _draw_content_path(ax, description, parts, levels)
    _draw_distortion_path(ax, parts["lda"], levels)
    _draw_target_network(ax, [*description["target_widths"], 1], parts["target"])
    return figure


def _draw_backbone(ax: Axes, description: dict[str, Any], backbone: dict[str, Any]) -> list[float]:
    """The image and the maps, from fine to coarse; returns the horizontal middle of each map."""
    middle = 38
    _image_icon(ax, 1.5, middle - 7, 13, 14)
    ax.text(8, middle - 8.5, f"image\n{_shape(description['input'])}", ha="center", va="top", fontsize=7.5)
    _box(ax, 18, middle - 11.5, 45, 23, BLUE, face="#F3F8FC")
    _box_label(ax, 18, middle + 12, description["backbone"], BLUE)
    ax.text(62, middle - 10.8, _count(backbone["parameters"]), ha="right", va="bottom", fontsize=6.4)
    _arrow(ax, (14.8, middle), (17.8, middle), INK)
    levels = []
    for level, (channels, rows, columns) in enumerate(description["maps"]):
        left, width, height = 20.5 + 10.6 * level, 7.8, 17 - 3 * level
        for shift in (1.0, 0.5, 0.0):  # three sheets, one behind the other
            corner = (left + shift, middle - height / 2 + shift)
            ax.add_patch(Rectangle(corner, width, height, facecolor="#CFE3F2", edgecolor=BLUE, linewidth=0.8))
        levels.append(left + width / 2)
        ax.text(levels[-1], middle, f"{channels}\n{rows}{TIMES}{columns}", ha="center", va="center", fontsize=6.4)
        stride = f"1/{description['input'][1] / rows:.0f}"
        ax.text(levels[-1], middle - height / 2 - 0.6, stride, ha="center", va="top", fontsize=6.2, color=BLUE)
        if level:
            _arrow(ax, (left - 1.7, middle), (left - 0.1, middle), INK, size=5)
    return levels


def _draw_content_path(ax: Axes, description: dict[str, Any], parts: dict[str, Any], levels: list[float]) -> None:
    """Maps -> fusion -> semantic map -> hyper network; with `last` fusion only the coarsest map takes part."""
    height = 61.5
    used = levels[-1:] if description["fusion"] == "last" else levels
    for level in used:
        ax.plot([level, level], [53, height], color=GREEN, linewidth=1.1)
    ax.plot([used[0], 67], [height, height], color=GREEN, linewidth=1.1)
    details = {
        "fusion": (f"Fusion: {description['fusion']}", _shape(parts["fusion"]["output"])),
        "semantic": ("Semantic map", _shape(parts["semantic"]["output"])),
        "hyper": ("Hyper network", f"{description['generated_weights']:,} weights"),
    }
    for left, (name, (title, output)) in zip((67, 85.2, 103.4), details.items(), strict=True):
        _arrow(ax, (left - 2.5, height), (left - 0.1, height), GREEN)
        _box(ax, left, height - 5, 15.6, 10, GREEN, face="white")
        ax.text(left + 7.8, height + 2.6, title, ha="center", va="center", fontsize=7.2, fontweight="bold")
        detail = f"{output}\n{_count(parts[name]['parameters'])}"
        ax.text(left + 7.8, height - 1.7, detail, ha="center", va="center", fontsize=6.4, linespacing=1.35)


def _draw_distortion_path(ax: Axes, lda: dict[str, Any], levels: list[float]) -> None:
    """Every map -> its local distortion aware (LDA) module -> one vector."""
    for level in levels:
        _arrow(ax, (level, 26.3), (level, 18.6), ORANGE)
        _box(ax, level - 4, 11.5, 8, 7, ORANGE, face="white")
        ax.text(level, 15, "LDA", ha="center", va="center", fontsize=7.2, fontweight="bold")
        ax.plot([level, level], [11.4, 6.5], color=ORANGE, linewidth=1.1)
    ax.plot([levels[0], 66, 66], [6.5, 6.5, 24], color=ORANGE, linewidth=1.1)
    _arrow(ax, (66, 24), (71.3, 24), ORANGE)
    text = f"local distortion\naware modules\n{_count(lda['parameters'])}"
    ax.text(levels[0] - 5, 15, text, ha="right", va="center", fontsize=6.8, color=ORANGE, linespacing=1.3)
    ax.text(65.5, 5.8, f"vector of {_shape(lda['output'])}", ha="right", va="top", fontsize=6.8, color=ORANGE)


def _draw_target_network(ax: Axes, widths: list[int], target: dict[str, Any]) -> None:
    """Fully connected layers that shrink to the score; the hyper network sets what connects them (dashed)."""
    middle, bus, gap = 24, 40.5, 35 / (len(widths) - 1)
    _box(ax, 69, 8, 41, 36, ORANGE, face="#FDF6F1")
    _box_label(ax, 69, 44.5, "target network", ORANGE)
    columns = [72.2 + index * gap for index in range(len(widths))]
    sides = [max(2.2, 24 * (width / max(widths)) ** 0.5) for width in widths]
    for left, right, tall, short in zip(columns, columns[1:], sides, sides[1:], strict=False):
        corners = [(left, middle + tall / 2), (right, middle + short / 2)]
        corners += [(x, 2 * middle - y) for x, y in reversed(corners)]
        ax.add_patch(Polygon(corners, facecolor=ORANGE, alpha=0.15, linewidth=0))
        centre = (left + right) / 2
        _arrow(ax, (centre, bus), (centre, middle + (tall + short) / 4), GREEN, size=5, linestyle=(0, (3, 1.5)))
    for column, side, width in zip(columns, sides, widths, strict=True):
        _box(ax, column - 0.8, middle - side / 2, 1.6, side, ORANGE, face="#F6C9AC", radius=0.5)
        ax.text(column, middle - side / 2 - 0.8, f"{width}", ha="center", va="top", fontsize=6.4)
    first = (columns[0] + columns[1]) / 2
    ax.plot([106, 106, first], [56.4, bus, bus], color=GREEN, linewidth=1.1, linestyle=(0, (3, 1.5)))
    ax.text(105, 50.2, "weights and biases\nfor this image", ha="right", va="center", fontsize=6.6, color=GREEN)
    _arrow(ax, (columns[-1] + 1, middle), (112.4, middle), ORANGE)
    ax.text(112.9, middle, "score", va="center", fontsize=8.5, fontweight="bold")


def _shape(sizes: Sequence[int]) -> str:
    return TIMES.join(str(size) for size in sizes)


def _count(parameters: int) -> str:
    """A number of parameters as a reader says it: 1.23M, 45.6k."""
    if parameters >= 1_000_000:
        return f"{parameters / 1e6:.3g}M parameters"
    if parameters >= 10_000:
        return f"{parameters / 1e3:.3g}k parameters"
    return f"{parameters:,} parameters" if parameters else "no parameters"


def _box(
    ax: Axes, x: float, y: float, width: float, height: float, colour: str, face: str, radius: float = 1.0
) -> None:
    style = f"round,pad=0,rounding_size={radius}"
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=face, edgecolor=colour, linewidth=1))


def _box_label(ax: Axes, x: float, y: float, text: str, colour: str) -> None:
    ax.text(x + 0.3, y, text, ha="left", va="bottom", fontsize=7.5, color=colour, fontweight="bold")


def _arrow(ax: Axes, start: tuple, end: tuple, colour: str, size: float = 8, linestyle: Any = "-") -> None:
    arrow = FancyArrowPatch(start, end, arrowstyle="-|>", shrinkA=0, shrinkB=0, mutation_scale=size)
    arrow.set(color=colour, linewidth=1.1, linestyle=linestyle, zorder=3)
    ax.add_patch(arrow)


def _image_icon(ax: Axes, x: float, y: float, width: float, height: float) -> None:
    """A small landscape that stands for the input image."""
    ax.add_patch(Rectangle((x, y), width, height, facecolor="#DCEBF5", edgecolor=INK, linewidth=0.9))
    for left, peak, right, shade in ((0.02, 0.62, 0.75, "#7FA8B8"), (0.35, 0.45, 0.98, "#4F8577")):
        corners = [(left, 0.03), ((left + right) / 2, peak), (right, 0.03)]
        ax.add_patch(Polygon([(x + u * width, y + v * height) for u, v in corners], facecolor=shade, linewidth=0))
    ax.plot(x + 0.75 * width, y + 0.78 * height, "o", color="#E9B44C", markersize=6)
