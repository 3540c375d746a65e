"""Figures: data frame in, matplotlib figure out. No function opens a file or leaves a figure open in pyplot.

House style (`iqa.style`): no information in colour alone.
"""

import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from iqa import diagram, metrics, tables
from iqa.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, WIDTH, in_style

if TYPE_CHECKING:
    from iqa.prediction import PatchScores, Scale

NARROWEST = 0.1  # of the scale's range; the least that the colours of a quality map span
MANY_POINTS = 5_000  # points of a scatter beyond which they are a picture also in svg and pdf, at about 100 bytes each
SPLIT_COLOURS = {"train": BLUE, "val": GREEN, "test": ORANGE}
LOOKS = [  # of things that are compared: told apart by line and marker where colours are not seen
    {"color": INK, "linestyle": "-", "marker": "D"},
    {"color": BLUE, "linestyle": "--", "marker": "o"},
    {"color": ORANGE, "linestyle": "-.", "marker": "^"},
    {"color": GREEN, "linestyle": ":", "marker": "s"},
    {"color": PURPLE, "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": GREY, "linestyle": (0, (8, 2)), "marker": "P"},
]


@in_style
def mos_histogram(table: pd.DataFrame, low: float, high: float, higher_is_better: bool = True) -> Figure:
    """Distribution of the mean opinion scores, one panel per split, as a share of the split's images.

    Args:
        table: one row per image, with columns `mos` and `split`.
        low: lower end of the database's score range.
        high: upper end of the range.
        higher_is_better: False where the scores are DMOS; the axis says so.
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
        ax.set(xlabel="mean opinion score" if higher_is_better else "DMOS (lower is better)", xlim=(low, high))
        ax.grid(axis="x", visible=False)
    axes[0].set_ylabel("share of images (%)")
    return figure


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


@in_style
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


@in_style
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


@in_style
def scatter_grid(panels: dict[str, tuple[pd.DataFrame, float, float]]) -> Figure:
    """`prediction_scatter` of several databases side by side.

    Args:
        panels: for each title the predictions and the low and high end of that database's score range.
    """
    if not panels:
        figure = Figure(figsize=(WIDTH / 2, 0.8))
        figure.text(0.5, 0.5, "no database was available", ha="center", va="center")
        return figure
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


@in_style
def cross_heatmap(cross: pd.DataFrame, coefficient: str = "srcc") -> Figure:
    """A coefficient of each model (rows) on each database (columns), as a number on a colour; empty where unknown.

    Args:
        cross: one row per model and database, with columns `model`, `trained_on`, `title` and the coefficient, which
            is NaN where a database is not available.
    """
    names = cross["model"] + "\n(" + cross["trained_on"].fillna("not run") + ")"
    table = cross.assign(name=names).pivot_table(
        index="name", columns="title", values=coefficient, sort=False, dropna=False, aggfunc="first"
    )
    table = table.reindex(index=names.unique(), columns=cross["title"].unique())
    values = table.to_numpy(dtype=float)
    figure = Figure(figsize=(WIDTH, 1.2 + 0.45 * len(table)), layout="constrained")
    ax = figure.subplots()
    shown = ax.imshow(
        np.ma.masked_invalid(values), cmap="cividis", vmin=min(0, np.nanmin(values)), vmax=1, aspect="auto"
    )
    for (row, column), value in np.ndenumerate(values):
        known = np.isfinite(value)
        light = known and value < 0.6
        text = f"{value:.3f}" if known else "not\navailable"
        colour = "white" if light else INK
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=8 if known else 6.5)
    ax.set_xticks(range(table.shape[1]), table.columns, rotation=30, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(table.shape[0]), table.index)
    ax.grid(visible=False)
    ax.set_title(f"{coefficient.upper()} on each database, of models trained on (...)")
    figure.colorbar(shown, ax=ax, fraction=0.03)
    return figure


@in_style
def quality_map(image: np.ndarray, found: "PatchScores", scale: "Scale") -> Figure:
    """An image beside its quality map: bright is good. The colours span the map's own scores, which the bar tells.

    Args:
        image: (height, width, 3), uint8, as it is scored (`iqa.prediction.Predictor.rgb`).
        found: its scores (`Predictor.quality_map`).
        scale: of the scores.
    """
    quality = found.per_pixel()
    low, high = quality.min(), quality.max()
    wider = max(0.0, NARROWEST * (scale.high - scale.low) - (high - low)) / 2  # a flat map has no contrast to show
    height = min(max(WIDTH / 2 * found.height / found.width, 1.5), 8.0)
    figure = Figure(figsize=(WIDTH, height + 1.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(image)
    left.set_title("image")
    colours = "viridis" if scale.higher_is_better else "viridis_r"
    shown = right.imshow(quality, cmap=colours, vmin=low - wider, vmax=high + wider)
    right.set_title(f"score {found.score:.4g}, {len(found.scores):,} crops")
    for ax in (left, right):
        ax.axis("off")
    figure.colorbar(shown, ax=(left, right), location="bottom", fraction=0.1, aspect=50, label=f"score, {scale}")
    return figure


def _scatter(ax: Axes, predictions: pd.DataFrame, low: float, high: float, title: str | None) -> None:
    limits = _limits(predictions, low, high)
    ax.add_patch(Rectangle((low, low), high - low, high - low, color="#F4F6F9", zorder=0))
    _points(ax, predictions, limits, title)


def _limits(predictions: pd.DataFrame, *more: float) -> tuple[float, float]:
    """Ends of an axis that shows all MOS and predictions, and more values."""
    values = [*more, *predictions["mos"], *predictions["prediction"]]
    margin = 0.04 * (max(values) - min(values))
    return min(values) - margin, max(values) + margin


def _points(ax: Axes, predictions: pd.DataFrame, limits: tuple[float, float], title: str | None) -> None:
    mos, predicted = predictions["mos"], predictions["prediction"]
    ax.plot(limits, limits, color=INK, linewidth=1, linestyle="--", zorder=2)
    size, alpha = (9, 0.55) if len(predictions) <= 1000 else (5, 0.35)
    many = len(predictions) > MANY_POINTS
    ax.scatter(mos, predicted, s=size, alpha=alpha, color=BLUE, linewidths=0, zorder=3, rasterized=many)
    text = f"SRCC {metrics.srcc(predicted, mos):.3f}\nPLCC {metrics.plcc(predicted, mos):.3f}\nn = {len(mos):,}"
    card = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "#D9DEE7", "alpha": 0.9}
    ax.text(0.04, 0.96, text, transform=ax.transAxes, va="top", fontsize=8, bbox=card, zorder=4)
    ax.set(xlim=limits, ylim=limits, aspect="equal", xlabel="mean opinion score", ylabel="predicted score")
    if title:
        ax.set_title(title)


@in_style
def ablation_forest(ablation: pd.DataFrame) -> Figure:
    """SRCC of each group of runs: mean over seeds with its bootstrap interval, and the spread of the seeds.

    A group that was not run has no mark, but the command that makes it. One whose epoch was chosen on the test images
    says so and has a hollow mark.

    Args:
        ablation: one row per group, the reference first, with columns `label`, `srcc_mean`, `srcc_std`, `srcc_low`,
            `srcc_high`, `chosen_on`, `verdict` and `command`, as `iqa.ablation.compare` returns it.
    """
    colours = {"better": GREEN, "worse": ORANGE, "not run": GREY}
    markers = {"reference": "D", "better": "^", "worse": "v"}
    names = [wrapped(label, 32) for label in ablation["label"]]
    lacking = ablation["verdict"] == "not run"
    notes = [
        wrapped(f"make it with: {row}", 48) if empty else ""
        for row, empty in zip(ablation["command"], lacking, strict=True)
    ]
    places, end = _rows(names, notes)
    figure = Figure(figsize=(WIDTH, 0.7 + 0.17 * end), layout="constrained")
    ax = figure.subplots()
    if np.isfinite(reference := ablation["srcc_mean"].iloc[0]):
        ax.axvline(reference, color=GREY, linewidth=1, linestyle=":")
    for y, note, row in zip(places, notes, ablation.to_dict("records"), strict=True):
        colour, marker = colours.get(row["verdict"], BLUE), markers.get(row["verdict"], "o")
        mean, spread = row["srcc_mean"], row["srcc_std"]
        if note:
            ax.text(0.02, y, note, transform=ax.get_yaxis_transform(), va="center", fontsize=7, color="#5B6472")
        else:
            flattered = row["chosen_on"] == "TEST"
            ax.plot([row["srcc_low"], row["srcc_high"]], [y, y], color=colour, linewidth=1.2)
            if np.isfinite(spread):
                ax.plot([mean - spread, mean + spread], [y, y], color=colour, linewidth=6, alpha=0.35)
            ax.plot(mean, y, marker, color=colour, markersize=6, markerfacecolor="white" if flattered else colour)
        verdict = row["verdict"] + (",\nepoch chosen on TEST" if row["chosen_on"] == "TEST" else "")
        ax.annotate(verdict, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=INK)
    ax.set_yticks(places, names)
    ax.set_ylim(end, 0)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("SRCC, mean over seeds")
    return figure


def nothing(why: str) -> Figure:
    """In place of a figure that has nothing to show."""
    figure = Figure(figsize=(WIDTH, 0.6))
    figure.text(0.5, 0.5, why, ha="center", va="center", color="#5B6472")
    return figure


def wrapped(text: object, width: int) -> str:
    """A text in lines of at most so many characters."""
    return textwrap.fill(str(text), width, break_on_hyphens=False)


def _rows(*texts: Sequence[str]) -> tuple[list[float], float]:
    """Centres of rows of text, in lines, and where the last ends. A row is as high as its texts, two lines at least."""
    heights = np.array([max(2, *(text.count("\n") + 1.5 for text in row)) for row in zip(*texts, strict=True)])
    return list(np.cumsum(heights) - heights / 2), float(heights.sum())


@in_style
def compare_trainings(dynamics: pd.DataFrame) -> Figure:
    """Training loss, validation SRCC and validation PLCC against the epoch, of the first six groups.

    A line is the mean over seeds, its band reaches from the smallest to the largest.

    Args:
        dynamics: as `iqa.ablation.dynamics` returns it: columns `label`, `quantity`, `epoch`, `mean`, `min`, `max`.
    """
    groups = list(dynamics["label"].unique())[: len(LOOKS)]
    if not groups:
        return nothing("no training of this table is finished")
    legend = [wrapped(label, 34) for label in groups]
    lines = sum(max(name.count("\n") + 1 for name in legend[start : start + 3]) for start in range(0, len(legend), 3))
    figure = Figure(figsize=(WIDTH, 2.3 + 0.16 * lines), layout="constrained")
    titles = {"train_loss": "training loss", "val_srcc": "validation SRCC", "val_plcc": "validation PLCC"}
    for ax, (quantity, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        for label, name, look in zip(groups, legend, LOOKS, strict=False):
            own = dynamics[(dynamics["label"] == label) & (dynamics["quantity"] == quantity)]
            every = max(1, len(own) // 6)
            ax.plot(own["epoch"], own["mean"], label=name, markersize=3.5, markevery=every, **look)
            ax.fill_between(own["epoch"], own["min"], own["max"], color=look["color"], alpha=0.15, linewidth=0)
        ax.set_title(title)
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        if quantity != "train_loss":
            ax.set_ylim(top=1)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=3, handlelength=3.5)
    return figure


@in_style
def scatter_pairs(panels: dict[str, pd.DataFrame]) -> Figure:
    """Predicted against mean opinion score of several trainings on the same test images, on the same axes.

    Args:
        panels: predictions by title, with columns `mos` and `prediction`; the reference comes first.
    """
    if not panels:
        return nothing("no training of this table is finished")
    limits = _limits(pd.concat(panels.values()))
    columns = len(panels) if len(panels) <= 3 else 2
    rows, side = -(-len(panels) // columns), WIDTH / max(2, columns)
    titles = [wrapped(title, int(11 * side)) for title in panels]
    height = rows * side + 0.13 * sum(title.count("\n") + 1 for title in titles[::columns])
    figure = Figure(figsize=(columns * side, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, title, predictions in zip(axes, titles, panels.values(), strict=False):
        _points(ax, predictions, limits, title)
    for ax in axes[len(panels) :]:
        ax.axis("off")
    return figure


@in_style
def sensitivity(sweep: pd.DataFrame, parameter: str) -> Figure:
    """SRCC against the value of one parameter: on the test images with its interval, and on the validation images.

    The axis is logarithmic where the positive values span more than a factor of ten; a zero then stands to their left,
    at the end of a linear stretch. A value that was not run is named without a mark.

    Args:
        sweep: as `iqa.ablation.sweep` returns it: rows of a comparison with the parameter's value in its column.
        parameter: the column.
    """
    figure = Figure(figsize=(WIDTH * 0.75, 3.3), layout="constrained")
    ax = figure.subplots()
    values = sweep[parameter].to_numpy(dtype=float)
    run = sweep[sweep["verdict"] != "not run"]
    span = np.abs([run["srcc_mean"] - run["srcc_low"], run["srcc_high"] - run["srcc_mean"]])
    test = {"color": BLUE, "marker": "o", "markersize": 5, "capsize": 3, "label": "test, with interval"}
    ax.errorbar(run[parameter], run["srcc_mean"], yerr=span, **test)
    validation = {"color": GREEN, "linestyle": "--", "marker": "s", "markersize": 5, "markerfacecolor": "white"}
    ax.plot(run[parameter], run["val_srcc_mean"], label="validation (decides)", **validation)
    reference = sweep[sweep["verdict"] == "reference"]
    ring = {"marker": "o", "markersize": 12, "linestyle": "none", "color": INK, "markerfacecolor": "none"}
    ax.plot(reference[parameter], reference["srcc_mean"], label="reference", **ring)
    for value in sweep.loc[sweep["verdict"] == "not run", parameter]:
        place = {"transform": ax.get_xaxis_transform(), "ha": "center", "va": "bottom", "rotation": 90}
        ax.text(value, 0.03, "not run", fontsize=7.5, color="#5B6472", **place)
    _scale_x(ax, values)
    ax.set_xlabel(parameter)
    ax.set_ylabel("SRCC, mean over seeds")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _scale_x(ax: Axes, values: np.ndarray) -> None:
    """A tick at each value, on a logarithmic axis where the positive ones span more than a factor of ten."""
    positive = values[values > 0]
    if values.min() >= 0 and len(positive) and positive.max() > 10 * positive.min():
        if values.min() == 0:
            ax.set_xscale("symlog", linthresh=positive.min(), linscale=0.5)
            ax.set_xlim(-0.15 * positive.min(), positive.max() * 1.3)
        else:
            ax.set_xscale("log")
            ax.set_xlim(positive.min() / 1.3, positive.max() * 1.3)
    elif np.ptp(values):
        margin = 0.06 * np.ptp(values)
        ax.set_xlim(values.min() - margin, values.max() + margin)
    ax.set_xticks(np.unique(values), [f"{value:g}" for value in np.unique(values)])
    ax.set_xticks([], minor=True)


@in_style
def compare_evaluations(cross: pd.DataFrame) -> Figure:
    """SRCC of up to six models on each database, with intervals; a database or a model without results says so.

    Args:
        cross: `cross.csv`: one row per model and database, with columns `model`, `title`, `available`, `srcc`,
            `srcc_low` and `srcc_high`.
    """
    models, titles = list(cross["model"].unique())[: len(LOOKS)], list(cross["title"].unique())
    height = max(2, len(models)) * 0.16 + 0.12
    figure = Figure(figsize=(WIDTH, 0.9 + height * len(titles) + 0.2 * -(-len(models) // 3)), layout="constrained")
    ax = figure.subplots()
    for place, (model, look) in enumerate(zip(models, LOOKS, strict=False)):
        rows = cross[(cross["model"] == model) & cross["available"].astype(bool)]
        y = [titles.index(title) + (place - (len(models) - 1) / 2) * 0.8 / len(models) for title in rows["title"]]
        span = np.abs([rows["srcc"] - rows["srcc_low"], rows["srcc_high"] - rows["srcc"]])
        point = {"color": look["color"], "marker": look["marker"], "markersize": 5, "linestyle": "none", "capsize": 2}
        name = wrapped(model if len(rows) else f"{model} (no results)", 34)
        bars = ax.errorbar(rows["srcc"], y, xerr=span, label=name, **point)
        bars[2][0].set_linestyle(look["linestyle"])
    for y, title in enumerate(titles):
        if not cross.loc[cross["title"] == title, "available"].any():
            place = {"transform": ax.get_yaxis_transform(), "va": "center"}
            ax.text(0.02, y, "not available", fontsize=7.5, color="#5B6472", **place)
        if y:
            ax.axhline(y - 0.5, color="#E4E7EC", linewidth=0.7)
    ax.set_yticks(range(len(titles)), [wrapped(title, 24) for title in titles])
    ax.set_ylim(len(titles) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("SRCC")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@in_style
def latency(latency: pd.DataFrame) -> Figure:
    """Time of one image of each model: median, and from the smallest to the 95th percentile; a panel per device.

    Args:
        latency: one row per run, device, precision, compilation and batch size, as `iqa.speed.speeds` returns it with
            a column `run`.
    """
    runs, settings = list(latency["run"].unique()), _settings(latency)
    names = [wrapped(run, 26) for run in runs]
    height = 0.14 * len(settings) + 0.16
    size = (WIDTH, 0.9 + height * len(runs) + 0.2 * -(-len(settings) // 3))
    figure = Figure(figsize=size, layout="constrained")
    devices = list(latency["device"].unique())
    axes = figure.subplots(1, len(devices), sharey=True, squeeze=False)[0]
    for ax, device in zip(axes, devices, strict=True):
        for place, (setting, look) in enumerate(zip(settings, LOOKS, strict=False)):
            own = latency[(latency["device"] == device) & (latency["batch_size"] == 1) & _is(latency, setting)]
            y = [runs.index(run) + (place - (len(settings) - 1) / 2) * 0.8 / len(settings) for run in own["run"]]
            ax.hlines(y, own["min_ms"], own["p95_ms"], color=look["color"], linewidth=4, alpha=0.35)
            point = {"color": look["color"], "marker": look["marker"], "markersize": 5, "linestyle": "none"}
            ax.plot(own["median_ms"], y, label=tables.setting(dict(zip(SETTING, setting, strict=True))), **point)
            for height, reason in zip(y, own["reason"], strict=True):
                if isinstance(reason, str) and reason:
                    at = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 7, "color": "#5B6472"}
                    ax.text(0.02, height, reason.split(":")[0], **at)
        ax.set_xlim(left=0)
        ax.set_title(wrapped(_hardware(latency, device), 68 // len(devices)))
        ax.set_xlabel("ms per image")
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(runs)), names)
    axes[0].set_ylim(len(runs) - 0.5, -0.5)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@in_style
def throughput(latency: pd.DataFrame) -> Figure:
    """Images per second against the batch size: a panel per device and setting, a line per model.

    A cross over the batch size that did not fit marks where a line ends for want of memory or time.

    Args:
        latency: as for `latency`.
    """
    runs, settings, devices = list(latency["run"].unique()), _settings(latency), list(latency["device"].unique())
    columns = 3 if max(map(len, runs)) <= 22 else 2
    size = (WIDTH, 0.5 + 2.2 * len(devices) + 0.18 * -(-len(runs) // columns))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(devices), len(settings), sharex=True, sharey="row", squeeze=False)
    for axes, device in zip(grid, devices, strict=True):
        for ax, setting in zip(axes, settings, strict=True):
            here = latency[(latency["device"] == device) & _is(latency, setting)]
            for place, run in enumerate(runs):
                own, look = here[here["run"] == run], _look(place)
                speed = own["images_per_second"]
                ax.plot(own["batch_size"], speed, label=run, markersize=4, **look)
                failed = own[speed.isna()]
                if len(failed) and speed.notna().any():
                    ax.plot(failed["batch_size"], speed.dropna().iloc[-1:], "x", color=look["color"], markersize=6)
            ax.set_xscale("log", base=2)
            sizes = sorted(latency["batch_size"].unique())
            sizes = sizes[:: -(-len(sizes) * len(settings) // 16)]  # about 16 labels fit side by side
            ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
            ax.set_xticks([], minor=True)
            title = tables.setting(dict(zip(SETTING, setting, strict=True)))
            ax.set_title(wrapped(title, 72 // len(settings)))
        axes[0].set_ylabel(f"images per second\n{wrapped(_hardware(latency, device), 36)}")
        speeds = latency.loc[latency["device"] == device, "images_per_second"]
        if speeds.max() > 10 * speeds.min():
            _logarithmic(axes[0], "y")
        else:
            axes[0].set_ylim(bottom=0)
    for ax in grid[-1]:
        ax.set_xlabel("images per batch")
    legend = {"loc": "outside lower left", "ncols": columns, "handlelength": 3.5}
    figure.legend(*grid[0][0].get_legend_handles_labels(), **legend)
    return figure


SETTING = ("precision", "compiled")


def _settings(latency: pd.DataFrame) -> list[tuple[str, bool]]:
    return list(dict.fromkeys(zip(latency["precision"], latency["compiled"].astype(bool), strict=True)))


def _is(latency: pd.DataFrame, setting: tuple[str, bool]) -> pd.Series:
    return (latency["precision"] == setting[0]) & (latency["compiled"].astype(bool) == setting[1])


def _hardware(latency: pd.DataFrame, device: str) -> str:
    return str(latency.loc[latency["device"] == device, "hardware"].iloc[0])


def _look(place: int) -> dict[str, Any]:
    """One of 36 different looks: after the sixth, colours come again with another line and marker."""
    again = place // len(LOOKS)
    line, marker = (LOOKS[(place + step * again) % len(LOOKS)] for step in (1, 2))
    return LOOKS[place % len(LOOKS)] | {"linestyle": line["linestyle"], "marker": marker["marker"]}


@in_style
def tradeoff(overview: pd.DataFrame) -> Figure:
    """SRCC against MACs and against the time of one image; the area of a bubble is the number of parameters.

    A filled bubble is measured, a hollow one published (of several sources, the first); models are numbered. What has
    neither is named in the list without a bubble.

    Args:
        overview: as `iqa.tradeoff.overview` returns it; where there are several devices, the last one's time counts.
    """
    rows = overview.drop_duplicates("run", keep="last").reset_index(drop=True)
    lines = -(-len(rows) // 2)
    figure = Figure(figsize=(WIDTH, 3.1 + 0.17 * lines), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    published = [_first_number(value) for value in rows["published_srcc"]]
    device = rows["hardware"].dropna()
    titles = ("GMACs per image", f"ms per image on {device.iloc[-1] if len(device) else 'this machine'}")
    for ax, values, title in zip(panels, (rows["macs_torch"] / 1e9, rows["latency_ms"]), titles, strict=True):
        known = values.notna() & (rows["srcc"].notna() | pd.Series(published).notna())
        for place in np.flatnonzero(known):
            area = 28 + 420 * rows["parameters"][place] / rows["parameters"].max()
            marks = [(rows["srcc"][place], BLUE, "white"), (published[place], "none", INK)]
            for srcc, face, ink in marks:
                if np.isfinite(srcc):
                    alpha = 0.75 if face != "none" else 1.0
                    ax.scatter(values[place], srcc, s=area, facecolor=face, edgecolor=BLUE, alpha=alpha, zorder=3)
                    inside = area > 90
                    at = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": 7, "zorder": 4}
                    colour = ink if inside else INK
                    ax.annotate(place + 1, (values[place], srcc), (0, 0 if inside else 7), color=colour, **at)
        ax.set_xlabel(wrapped(title, 52))
        ax.xaxis.get_major_locator().set_params(nbins=5)
        ax.margins(0.14)
        if known.any():
            spread = values[known]
            if spread.max() > 10 * spread.min():
                _logarithmic(ax, "x")
            elif len(spread) == 1:
                ax.set_xlim(0, 2 * spread.iloc[0])
        else:
            ax.set(xticks=[], yticks=[])
            ax.text(0.5, 0.5, "no SRCC measured or published", transform=ax.transAxes, ha="center", va="center")
    panels[0].set_ylabel("SRCC")
    figure.legend(handles=_numbered(rows), loc="outside lower left", ncols=2, handlelength=0, handletextpad=0)
    panels[0].set_title("filled: measured, hollow: published")
    return figure


def _logarithmic(ax: Axes, name: str) -> None:
    """An axis in powers of ten with plain numbers at 1, 2, 5, 10, ..."""
    ax.set(**{f"{name}scale": "log"})
    axis = getattr(ax, f"{name}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _numbered(rows: pd.DataFrame) -> list[Line2D]:
    """Entries of a legend without marks: number, run, parameters, and whether it was run."""
    texts = [
        f"{place} {row['run']}, {row['parameters'] / 1e6:.3g}M parameters{', not run' * (row['status'] == 'not run')}"
        for place, row in enumerate(rows.to_dict("records"), 1)
    ]
    return [Line2D([], [], linestyle="none", label=text) for text in texts]


def _first_number(value: Any) -> float:
    """A number, the first one of a text `(1) 0.9 (2) 0.8`, or NaN."""
    if not isinstance(value, str):
        return float(value)
    found = re.search(r"\d+\.\d+", value)
    return float(found[0]) if found else float("nan")


@in_style
def architecture(description: dict[str, Any]) -> Figure:
    """Data flow of one model, with the shapes, widths and parameters of its description.

    Args:
        description: the model's `architecture.json`, as `iqa.model.describe` returns it.
    """
    return _diagrams([(description, description["name"], {})])


@in_style
def before_after(before: dict[str, Any], after: dict[str, Any]) -> Figure:
    """Data flow of two models, one above the other; the parts that differ have thick frames and stronger colours.

    The second states how many parameters it has more or less, as a whole and in each part that differs. Two equal
    descriptions are drawn once.

    Args:
        before: description of the model to compare with, as `iqa.model.describe` returns it.
        after: description of the model that is shown.
    """
    if before == after:
        return _diagrams([(after, after["name"], {})])
    changes = diagram.difference(before, after)
    return _diagrams(
        [
            (before, f"before: {before['name']}", dict.fromkeys(changes, 0)),
            (after, f"after: {after['name']}", changes),
        ]
    )


def _diagrams(rows: list[tuple[dict[str, Any], str, dict[str, int]]]) -> Figure:
    """A figure of diagrams one above the other, each a description, its title and its changes."""
    width, height = diagram.SIZE
    figure = Figure(figsize=(WIDTH, len(rows) * WIDTH * height / width))
    for place, row in enumerate(rows):
        diagram.draw(figure.add_axes((0, 1 - (place + 1) / len(rows), 1, 1 / len(rows))), *row)
    return figure
