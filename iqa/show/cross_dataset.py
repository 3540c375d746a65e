"""Tables and figures of `05_cross_dataset`."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from iqa.show.common import LOOKS, draw_scatter, wrapped
from iqa.show.style import INK, WIDTH, in_style
from iqa.show.tables import records, table_of, with_intervals


def cross_database_table(cross: pd.DataFrame) -> pd.DataFrame:
    """SRCC and PLCC on databases that were not trained on, from `cross.csv`; dashes where one is not available."""
    return table_of(
        {**_database(row), "Images": row["n"], **with_intervals(row, "srcc", "plcc")} for row in records(cross)
    )


def cross_further_table(cross: pd.DataFrame) -> pd.DataFrame:
    """The other coefficients on these databases, from `cross.csv`, and the ceiling."""
    return table_of(
        {**_database(row), **with_intervals(row, "plcc_fitted", "krcc", "rmse"), "Ceiling": row["ceiling_srcc"]}
        for row in records(cross)
    )


def _database(row: dict[str, Any]) -> dict[str, Any]:
    not_run = isinstance(row["reason"], str) and row["reason"].startswith("not run")
    absent = "" if row["available"] else " (not run)" if not_run else " (not available)"
    return {"Model": row["model"], "Database": f"{row['title']}{absent}"}


def breakdown_tables(breakdown: pd.DataFrame, model: str) -> dict[str, pd.DataFrame]:
    """Agreement of one model per distortion and per level, by title of the database, from `breakdown.csv`."""
    own = breakdown[breakdown["model"] == model]
    return {
        str(title): table_of(
            {
                "Part": row["value"] if row["by"] == "distortion" else f"level {row['value']}",
                "Images": row["n"],
                **with_intervals(row, "srcc", "plcc"),
            }
            for row in records(part)
        )
        for title, part in own.groupby("title", sort=False)
    }


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
        draw_scatter(ax, predictions, low, high, title)
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
