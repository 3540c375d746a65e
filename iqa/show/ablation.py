"""Tables and figures of `03_ablation`."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iqa.show.common import LOOKS, draw_points, nothing, row_positions, score_limits, wrapped
from iqa.show.style import BLUE, GREEN, GREY, INK, ORANGE, WIDTH, in_style
from iqa.show.tables import interval_or_none, missing, published_text, records, table_of


def ablation_table(ablation: pd.DataFrame) -> pd.DataFrame:
    """Groups of runs against the reference, with intervals, from `ablation.csv`.

    All columns, as a file holds them; on a page they are two, `ablation_verdicts` and `ablation_further`. A group that
    was not run has dashes, and the command that makes it as its verdict. Where the epoch was chosen is told if it
    was on the test images anywhere; what others published is told if there is any.
    """
    rows = records(ablation)
    on_test = any(row["chosen_on"] == "TEST" for row in rows)
    published = any(not missing(row.get("published_srcc")) for row in rows)
    return table_of(
        {
            "Differs in": _differs(row),
            "Seeds": row["seeds"] or None,
            "SRCC": interval_or_none(row["srcc_mean"], row["srcc_low"], row["srcc_high"]),
            "SD of seeds": row["srcc_std"],
            "PLCC": row["plcc_mean"],
            "SRCC difference": interval_or_none(row["delta"], row["delta_low"], row["delta_high"]),
            "p (Holm)": row["p_holm"],
            "Verdict": f"not run: {row['command']}" if row["verdict"] == "not run" else row["verdict"],
            "Decision": row["decision"] or None,
            "Validation SRCC": row["val_srcc_mean"],
            **({"Chosen on": row["chosen_on"]} if on_test else {}),
            **({"Published SRCC": published_text(row["published_srcc"])} if published else {}),
            **({"Published protocol": row["published_protocol"] or None} if published else {}),
        }
        for row in rows
    )


def ablation_verdicts_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of `ablation` that tell whether a group differs from the reference."""
    return ablation_table(frame)[["Differs in", "Seeds", "SRCC", "SRCC difference", "p (Holm)", "Verdict", "Decision"]]


def ablation_further_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The other columns of `ablation`: spread, PLCC, validation and published values."""
    table = ablation_table(frame)
    return table.drop(columns=[name for name in ablation_verdicts_table(frame) if name != "Differs in"])


def _differs(row: dict[str, Any]) -> str:
    """What a group differs in, after its name where the figures use one."""
    if row["verdict"] == "reference":
        return "reference"
    return row["differs"] if row["label"] == row["differs"] else f"{row['label']}: {row['differs']}"


@in_style
def ablation_forest(ablation: pd.DataFrame) -> Figure:
    """SRCC of each group of runs: mean over seeds with its bootstrap interval, and the spread of the seeds.

    A group that was not run has no mark, but the command that makes it. One whose epoch was chosen on the test images
    says so and has a hollow mark.

    Args:
        ablation: one row per group, the reference first, with columns `label`, `srcc_mean`, `srcc_std`, `srcc_low`,
            `srcc_high`, `chosen_on`, `verdict` and `command`, as `iqa.analysis.comparison.compare` returns it.
    """
    colours = {"better": GREEN, "worse": ORANGE, "not run": GREY}
    markers = {"reference": "D", "better": "^", "worse": "v"}
    names = [wrapped(label, 32) for label in ablation["label"]]
    lacking = ablation["verdict"] == "not run"
    notes = [
        wrapped(f"make it with: {row}", 48) if empty else ""
        for row, empty in zip(ablation["command"], lacking, strict=True)
    ]
    places, end = row_positions(names, notes)
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


@in_style
def compare_trainings(dynamics: pd.DataFrame) -> Figure:
    """Training loss, validation SRCC and validation PLCC against the epoch, of the first six groups.

    A line is the mean over seeds, its band reaches from the smallest to the largest.

    Args:
        dynamics: as `iqa.analysis.comparison.dynamics` returns it: columns `label`, `quantity`, `epoch`, `mean`, `min`,
            `max`.
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
    limits = score_limits(pd.concat(panels.values()))
    columns = len(panels) if len(panels) <= 3 else 2
    rows, side = -(-len(panels) // columns), WIDTH / max(2, columns)
    titles = [wrapped(title, int(11 * side)) for title in panels]
    height = rows * side + 0.13 * sum(title.count("\n") + 1 for title in titles[::columns])
    figure = Figure(figsize=(columns * side, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, title, predictions in zip(axes, titles, panels.values(), strict=False):
        draw_points(ax, predictions, limits, title)
    for ax in axes[len(panels) :]:
        ax.axis("off")
    return figure


@in_style
def sensitivity(sweep: pd.DataFrame, parameter: str) -> Figure:
    """SRCC against the value of one parameter: on the test images with its interval, and on the validation images.

    The axis is logarithmic where the positive values span more than a factor of ten; a zero then stands to their left,
    at the end of a linear stretch. A value that was not run is named without a mark.

    Args:
        sweep: as `iqa.analysis.comparison.sweep` returns it: rows of a comparison with the parameter's value in its
            column.
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
