"""Tables and figures of `03_ablation`."""

from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iqa.metrics.power import POWER
from iqa.metrics.verdicts import qualify
from iqa.show import common, scatter
from iqa.show.common import LOOKS, wrapped
from iqa.show.style import BLUE, GREEN, GREY, INK, MUTED, ORANGE, WIDTH, in_style
from iqa.show.tables import PUBLISHED, Table, ends, missing, records, renamed


def ablation_table(ablation: pd.DataFrame) -> pd.DataFrame:
    """Groups of runs against the reference, with intervals, from `ablation.csv`.

    A group that was not run has dashes, and as its verdict the command that makes it. Where the epoch was chosen has a
    column if that was on the test images anywhere; what others published has columns if there is any. Over several
    splits of a database there are medians in place of means.
    """
    over, average, kind = _average(ablation)
    published = "published_srcc" in ablation and ablation["published_srcc"].notna().any()
    digits = ":.4f" if published else ""  # as many as published values have
    columns = {"Differs in": "label", f"{over.title()}:,.0f": lambda row: row["seeds"] or None}
    columns |= {
        f"SRCC{kind}{digits}": (f"srcc_{average}", "srcc_low", "srcc_high"),
        f"SD of {over}{digits}": "srcc_std",
    }
    columns |= {f"PLCC{kind}{digits}": f"plcc_{average}", f"SRCC difference{digits}": ends("delta")}
    columns |= {"p (Holm):p": "p_holm", "Verdict": _verdict, "Decision": "decision"}
    columns |= {f"Validation SRCC{digits}": "val_srcc_mean"}
    columns |= {f"Detectable difference{digits}": "detectable", "Seeds needed:,.0f": lambda row: _needed(row, "seeds")}
    columns |= {"Contents needed:,.0f": lambda row: _needed(row, "contents"), "p (equivalence):p": "p_equivalence"}
    if (ablation["chosen_on"] == "TEST").any():
        columns |= {"Chosen on": "chosen_on"}
    if published:
        names = [name for name in ("srcc", "plcc") if f"published_{name}" in ablation]
        columns |= {f"Published {name.upper()}:{PUBLISHED}": f"published_{name}" for name in names}
        columns |= {"Published protocol": "published_protocol"}
    return renamed(ablation, columns)


def _average(ablation: pd.DataFrame) -> tuple[str, str, str]:
    """Over what a table's values are averaged, by which average, and what their columns say of it."""
    return ("splits", "median", ", median") if "splits" in ablation else ("seeds", "mean", "")


def _verdict(row: dict[str, Any]) -> str:
    return f"not run: {row['command']}" if row["verdict"] == "not run" else qualify(row)


def _needed(row: dict[str, Any], what: str) -> Any:
    number = row[f"{what}_needed"]
    return "none is enough" if number == np.inf else number


@in_style
def ablation_forest(ablation: pd.DataFrame) -> Figure:
    """SRCC of each group of runs: mean over seeds with its bootstrap interval, and the spread of the seeds.

    Over several splits of a database: median and quartiles.

    A group that was not run has no mark, but the command that makes it. One whose epoch was chosen on the test images
    says so and has a hollow mark. `ablation` is as `iqa.analysis.comparison.compare` returns it.
    """
    colours = {"better": GREEN, "worse": ORANGE, "not run": GREY}
    markers = {"reference": "D", "better": "^", "worse": "v", "equivalent": "s"}
    over, average, _ = _average(ablation)
    rows = ablation.to_dict("records")
    names = [wrapped(row["label"], 32) for row in rows]
    notes = [wrapped(f"make it with: {row['command']}", 48) if row["verdict"] == "not run" else "" for row in rows]
    places, end = common.row_positions(names, notes)
    figure, [[ax]] = common.draw_figure(0.7 + 0.17 * end)
    if np.isfinite(reference := ablation[f"srcc_{average}"].iloc[0]):
        ax.axvline(reference, color=GREY, linewidth=1, linestyle=":")
    for y, command, row in zip(places, notes, rows, strict=True):
        verdict, mean, spread = row["verdict"], row[f"srcc_{average}"], row["srcc_std"]
        colour, marker, on_test = colours.get(verdict, BLUE), markers.get(verdict, "o"), row["chosen_on"] == "TEST"
        if command:
            common.note(ax, y, command)
        else:
            ax.plot([row["srcc_low"], row["srcc_high"]], [y, y], color=colour, linewidth=1.2)
            if np.isfinite(spread) and over == "seeds":
                ax.plot([mean - spread, mean + spread], [y, y], color=colour, linewidth=6, alpha=0.35)
            ax.plot(mean, y, marker, color=colour, markersize=6, markerfacecolor="white" if on_test else colour)
        text = verdict + (",\nepoch chosen on TEST" if on_test else "")
        ax.annotate(text, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=INK)
    ax.set_yticks(places, names)
    ax.set_ylim(end, 0)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(f"SRCC, {average} over {over}")
    return figure


@in_style
def power_curves(power: pd.DataFrame, ablation: pd.DataFrame) -> Figure:
    """Left: the difference in SRCC that is found with 80% against the seeds per group, of the first six groups.

    A mark is the difference that was measured, beside the number of seeds that the group has. Right: the probability to
    find a difference against its size for some numbers of seeds, on average over the groups.

    Args:
        power: `power.csv`.
        ablation: `ablation.csv`.
    """
    if power.empty:
        return common.nothing("no two groups of several seeds to compare: the noise of trainings is unknown")
    labels = list(power["label"].unique())[: len(LOOKS)]
    lines = sum(wrapped(label, 34).count("\n") + 1 for label in labels[::3])
    figure, [[left, right]] = common.draw_figure(2.9 + 0.16 * lines, 1, 2)
    for place, (label, look) in enumerate(zip(labels, LOOKS, strict=False)):
        part = power[(power["label"] == label) & np.isclose(power["power"], POWER)]
        left.plot(part["seeds"], part["detectable"], label=wrapped(label, 34), **look | {"marker": ""})
        row = ablation[ablation["label"] == label].iloc[0]
        beside = row["seeds"] + 1.5 * common.stagger(place, len(labels))  # marks of as many seeds side by side
        left.plot(beside, abs(row["delta"]), look["marker"], color=look["color"], markersize=5)
    for seeds, look in zip((2, 3, 5, 10, 20), LOOKS, strict=False):
        mean = power[power["seeds"] == seeds].groupby("power")["detectable"].mean()
        right.plot(mean, mean.index, label=f"{seeds} seeds", **look | {"marker": ""})
    left.set(xlabel="seeds in every group", ylabel="difference in SRCC", ylim=(0, None))
    left.set_title("found with 80%, and measured")
    left.xaxis.get_major_locator().set_params(integer=True)
    right.axhline(POWER, color=GREY, linewidth=1, linestyle=":")
    right.set(xlabel="true difference in SRCC", xlim=(0, None), ylim=(0, 1), title="probability to find a difference")
    right.legend(loc="lower right", fontsize=7.5)
    common.add_legend(figure, left, 3)
    return figure


@in_style
def compare_trainings(dynamics: pd.DataFrame) -> Figure:
    """Training loss, validation SRCC and validation PLCC against the epoch, of the first six groups.

    A line is the mean over seeds, its band reaches from the smallest to the largest. `dynamics` is as
    `iqa.analysis.comparison.dynamics` returns it.
    """
    groups = list(dynamics["label"].unique())[: len(LOOKS)]
    if not groups:
        return common.nothing("no training of this table is finished")
    legend = [wrapped(label, 34) for label in groups]
    lines = sum(max(name.count("\n") + 1 for name in legend[start : start + 3]) for start in range(0, len(legend), 3))
    figure, axes = common.draw_figure(2.3 + 0.16 * lines, 1, 3)
    titles = {"train_loss": "training loss", "val_srcc": "validation SRCC", "val_plcc": "validation PLCC"}
    for ax, (quantity, title) in zip(axes[0], titles.items(), strict=True):
        for label, name, look in zip(groups, legend, LOOKS, strict=False):
            part = dynamics[(dynamics["label"] == label) & (dynamics["quantity"] == quantity)]
            _draw_band(ax, part, name, look, max(1, len(part) // 6))
        common.epoch_axes(ax, title)
    common.add_legend(figure, axes[0, 0], 3, "left", handlelength=3.5)
    return figure


def _draw_band(ax: Axes, part: pd.DataFrame, label: str, look: dict[str, Any], every: int | None = None) -> None:
    """Means over seeds by epoch, with a mark at some of them, and the band from the smallest to the largest seed."""
    ax.plot(part["epoch"], part["mean"], label=label, markersize=3.5, markevery=every, **look)
    ax.fill_between(part["epoch"], part["min"], part["max"], color=look["color"], alpha=0.15, linewidth=0)


def _on_test(dynamics: pd.DataFrame) -> pd.DataFrame:
    """The rows of test images that were monitored, with the `measure` (SRCC, PLCC) and the `line` that they belong to.

    A line is a group, and the database where it is not the group's own.
    """
    found = dynamics["quantity"].astype(str).str.extract(r"^(?!train_|val_)(.+)_(srcc|plcc)$")
    place = (" on " + found[0]).where(found[0] != "test", "")
    rows = dynamics.assign(measure=found[1].str.upper(), line=dynamics["label"].astype(str) + place)
    return rows[rows["measure"].notna()]


def monitored_table(dynamics: pd.DataFrame) -> pd.DataFrame:
    """Mean SRCC over seeds on monitored test images by epoch, from `dynamics.csv`; no rows where none was monitored."""
    rows: dict[int, dict[str, Any]] = {}
    for row in records(_on_test(dynamics)):
        if row["measure"] == "SRCC":
            rows.setdefault(row["epoch"], {"Epoch": row["epoch"]})[row["line"]] = row["mean"]
    table = pd.DataFrame([rows[epoch] for epoch in sorted(rows)], dtype=object)
    table.attrs["formats"] = {"Epoch": ".0f"}  # the names of lines may have colons
    return table


@in_style
def monitored(dynamics: pd.DataFrame) -> Figure:
    """SRCC and PLCC of monitored test images against the epoch: mean over seeds, and from the smallest to the largest.

    `dynamics` is `dynamics.csv`, with such rows.
    """
    rows = _on_test(dynamics)
    lines = list(rows["line"].unique())[: len(LOOKS)]
    figure, axes = common.draw_figure(2.6 + 0.16 * -(-len(lines) // 2), 1, 2)
    for ax, measure in zip(axes[0], ("SRCC", "PLCC"), strict=True):
        for name, look in zip(lines, LOOKS, strict=False):
            part = rows[(rows["line"] == name) & (rows["measure"] == measure)]
            _draw_band(ax, part, wrapped(name, 48), look)
        common.epoch_axes(ax, f"{measure}, monitored on TEST")
    common.add_legend(figure, axes[0, 0], 2, "left", handlelength=3.5)
    return figure


@in_style
def scatter_pairs(panels: dict[str, pd.DataFrame]) -> Figure:
    """Predicted against mean opinion score of several trainings on the same test images, on the same axes.

    `panels` holds predictions by title, with columns `mos` and `prediction`; the reference comes first.
    """
    if not panels:
        return common.nothing("no training of this table is finished")
    limits = scatter.score_limits(pd.concat(panels.values()))
    columns = len(panels) if len(panels) <= 3 else 2
    side = WIDTH / max(2, columns)
    titles = [wrapped(title, int(11 * side)) for title in panels]
    lines = np.mean([title.count("\n") + 1 for title in titles[::columns]])
    figure, axes = common.panel_grid(len(panels), columns, side, side + 0.13 * lines)
    for ax, title, predictions in zip(axes, titles, panels.values(), strict=True):
        scatter.draw_points(ax, predictions, limits, title)
    return figure


@in_style
def sensitivity(sweep: pd.DataFrame, parameter: str) -> Figure:
    """SRCC against the value of one parameter: on the test images with its interval, and on the validation images.

    The axis is logarithmic where the positive values span more than a factor of ten; a zero then stands to their left,
    at the end of a linear stretch. A value that was not run is named without a mark. Of `train_share`, whose axis is
    always logarithmic, the number of training images stands below each value. `sweep` holds rows of a comparison with
    the parameter's value in its column, as `iqa.analysis.comparison.sweep` returns them.
    """
    over, average, _ = _average(sweep)
    value_of = f"srcc_{average}"
    figure, [[ax]] = common.draw_figure(3.3, width=WIDTH * 0.75)
    run, reference = sweep[sweep["verdict"] != "not run"], sweep[sweep["verdict"] == "reference"]
    test = {"color": BLUE, "marker": "o", "markersize": 5, "capsize": 3, "label": "test, with interval"}
    bars = common.error_bars(run, value_of, "srcc_low", "srcc_high")
    ax.errorbar(run[parameter], run[value_of], yerr=bars, **test)
    ax.fill_between(run[parameter], run["srcc_low"], run["srcc_high"], color=BLUE, alpha=0.15, linewidth=0)
    validation = {"color": GREEN, "linestyle": "--", "marker": "s", "markersize": 5, "markerfacecolor": "white"}
    ax.plot(run[parameter], run["val_srcc_mean"], label="validation (decides)", **validation)
    ring = {"marker": "o", "markersize": 12, "linestyle": "none", "color": INK, "markerfacecolor": "none"}
    ax.plot(reference[parameter], reference[value_of], label="reference", **ring)
    for value in sweep.loc[sweep["verdict"] == "not run", parameter]:
        place = {"transform": ax.get_xaxis_transform(), "ha": "center", "va": "bottom", "rotation": 90}
        ax.text(value, 0.03, "not run", fontsize=7.5, color=MUTED, **place)
    of_shares = parameter == "train_share"
    _scale_x(ax, sweep[parameter].to_numpy(dtype=float), factor=1 if of_shares else 10)
    if of_shares:
        marks = sweep.drop_duplicates(parameter).set_index(parameter)["images"]
        names = [str(Fraction(share).limit_denominator(100)) for share in marks.index]
        counts = ["" if missing(count) else f"\n{count:,.0f}" for count in marks]
        ax.set_xticks(marks.index, [f"{name}{count}" for name, count in zip(names, counts, strict=True)])
        parameter = "share of the training contents, and number of training images"
    ax.set_xlabel(parameter)
    ax.set_ylabel(f"SRCC, {average} over {over}")
    common.add_legend(figure, ax, 3)
    return figure


def _scale_x(ax: Axes, values: np.ndarray, factor: float) -> None:
    """A tick at each value, on a logarithmic axis where the positive ones span more than a factor."""
    positive = values[values > 0]
    if values.min() >= 0 and len(positive) and positive.max() > factor * positive.min():
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


TABLES = (  # of each run, whose title comes first
    Table("ablation", "", ablation_table, ("ablation/ablation.csv",)),
    Table("monitored", ": test SRCC by epoch", monitored_table, ("ablation/dynamics.csv",)),
)
