"""Tables and figures of `05_cross_dataset`."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from iqa.show import common, scatter
from iqa.show.common import LOOKS, wrapped
from iqa.show.style import INK, WIDTH, in_style
from iqa.show.tables import Table, records, table_of, with_difference, with_intervals


def cross_database_table(cross: pd.DataFrame, baselines: pd.DataFrame | None = None) -> pd.DataFrame:
    """SRCC and PLCC on databases that were not trained on, from `cross.csv`; dashes where one is not available.

    Where models have seeds, columns give their number, their spread, and what the intervals cover. With `baselines.csv`
    baselines have rows too, and what was compared with the first model has its difference.
    """
    beside = [] if baselines is None else records(baselines)
    compared = {(row["model"], row["database"]): row for row in beside}
    databases = set(cross["database"])
    simple = [row for row in beside if row["kind"] == "baseline" and row["database"] in databases]
    several = "seeds" in cross and cross["seeds"].notna().any()
    rows = []
    for row in [*records(cross), *simple]:
        cells = _database(row) | {"Images:,.0f": row["n"]} | ({"Seeds:,.0f": row.get("seeds")} if several else {})
        cells |= with_intervals(row, "srcc") | ({"SD of seeds": row.get("srcc_std")} if several else {})
        cells |= with_intervals(row, "plcc") | ({"Intervals cover": row.get("covers")} if several else {})
        cells |= with_difference(compared.get((row["model"], row["database"]), {})) if beside else {}
        rows.append(cells)
    return table_of(rows)


def cross_further_table(cross: pd.DataFrame) -> pd.DataFrame:
    """The other coefficients on these databases, from `cross.csv`, the ceiling, and copies of training images."""
    return table_of(
        {
            **_database(row),
            **with_intervals(row, "plcc_fitted"),
            "PLCC, fitted (5)": row.get("plcc_fitted5"),
            **with_intervals(row, "krcc", "rmse", "bias"),
            "Ceiling": row["ceiling_srcc"],
            "Copies:,.0f": row.get("copies"),
        }
        for row in records(cross)
    )


def _database(row: dict[str, Any]) -> dict[str, Any]:
    not_run = isinstance(row["reason"], str) and row["reason"].startswith("not run")
    absent = "" if row["available"] else " (not run)" if not_run else " (not available)"
    return {"Model": row.get("label", row["model"]), "Database": f"{row['title']}{absent}"}


def breakdown_tables(breakdown: pd.DataFrame, model: str) -> dict[str, pd.DataFrame]:
    """Agreement of one model per distortion and per level, by title of the database, from `breakdown.csv`."""
    of_model = breakdown[breakdown["model"] == model]
    return {str(title): breakdown_table(part) for title, part in of_model.groupby("title", sort=False)}


def breakdown_table(breakdown: pd.DataFrame) -> pd.DataFrame:
    """Agreement of one model on one database per distortion and per level."""
    return table_of(
        {
            "Part": row["value"] if row["by"] == "distortion" else f"level {row['value']}",
            "Images:,.0f": row["n"],
            **with_intervals(row, "srcc", "plcc", "bias"),
        }
        for row in records(breakdown)
    )


def sanity_table(sanity: pd.DataFrame) -> pd.DataFrame:
    """What checks of predictions found, and which found nothing, from `sanity.csv`.

    Findings have a row each; the other checks of a model (and database) share one.
    """
    places = {name: title for name, title in (("model", "Model"), ("title", "Database")) if name in sanity}
    rows = []
    for place, part in sanity.groupby(list(places), sort=False):
        where = dict(zip(places.values(), place, strict=True))
        for row in records(part[part["found"].astype(bool)]):
            counts = {"Concerned:,.0f": row["n"], "Of:,.0f": row["of"], "Images": row["group"]}
            rows.append(where | {"Check": row["check"]} | counts | {"Finding": row["words"], "p:p": row["p_value"]})
        if clear := ", ".join(part.loc[~part["found"].astype(bool), "check"]):
            rows.append(where | {"Check": "others", "Finding": f"nothing ({clear})"})
    return table_of(rows)


@in_style
def scatter_grid(panels: dict[str, tuple[pd.DataFrame, float, float]]) -> Figure:
    """`prediction_scatter` of several databases side by side.

    `panels` holds for each title the predictions and the low and high end of that database's score range.
    """
    if not panels:
        return common.nothing("no database was available")
    side = WIDTH / min(max(len(panels), 2), 3)
    figure, axes = common.panel_grid(len(panels), 3, side, side)
    for ax, (title, (predictions, low, high)) in zip(axes, panels.items(), strict=True):
        scatter.draw_scatter(ax, predictions, low, high, title)
    return figure


@in_style
def cross_heatmap(cross: pd.DataFrame) -> Figure:
    """SRCC of each model (rows) on each database (columns), as a number on a colour; empty where unknown.

    `cross` is `cross.csv`, where the SRCC is NaN if the database is not available.
    """
    names = cross["model"] + "\n(" + cross["trained_on"].fillna("not run") + ")"
    how = {"values": "srcc", "sort": False, "dropna": False, "aggfunc": "first"}
    table = cross.assign(name=names).pivot_table(index="name", columns="title", **how)
    table = table.reindex(index=names.unique(), columns=cross["title"].unique())
    values = table.to_numpy(dtype=float)
    figure, [[ax]] = common.draw_figure(1.2 + 0.45 * len(table))
    low = min(0, np.nanmin(values))
    shown = ax.imshow(np.ma.masked_invalid(values), cmap="cividis", vmin=low, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text, size = (f"{value:.3f}", 8) if np.isfinite(value) else ("not\navailable", 6.5)
        ax.text(column, row, text, ha="center", va="center", color="white" if value < 0.6 else INK, fontsize=size)
    ax.set_xticks(range(table.shape[1]), table.columns, rotation=30, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(table.shape[0]), table.index)
    ax.grid(visible=False)
    ax.set_title("SRCC on each database, of models trained on (...)")
    figure.colorbar(shown, ax=ax, fraction=0.03)
    return figure


@in_style
def compare_evaluations(cross: pd.DataFrame) -> Figure:
    """SRCC of up to six models on each database, with intervals; a database or a model without results says so.

    `cross` is `cross.csv`, whose values are means over seeds where models are experiments.
    """
    models, titles = list(cross["model"].unique())[: len(LOOKS)], list(cross["title"].unique())
    height = max(2, len(models)) * 0.16 + 0.12
    figure, [[ax]] = common.draw_figure(0.9 + height * len(titles) + 0.2 * -(-len(models) // 3))
    for place, (model, look) in enumerate(zip(models, LOOKS, strict=False)):
        rows = cross[(cross["model"] == model) & cross["available"].astype(bool)]
        y = [titles.index(title) + common.stagger(place, len(models)) for title in rows["title"]]
        point = {"color": look["color"], "marker": look["marker"], "markersize": 5, "linestyle": "none", "capsize": 2}
        name = wrapped(model if len(rows) else f"{model} (no results)", 34)
        bars = ax.errorbar(rows["srcc"], y, xerr=common.error_bars(rows, "srcc"), label=name, **point)
        bars[2][0].set_linestyle(look["linestyle"])
    for y, title in enumerate(titles):
        if not cross.loc[cross["title"] == title, "available"].any():
            common.note(ax, y, "not available")
        if y:
            ax.axhline(y - 0.5, color="#E4E7EC", linewidth=0.7)
    common.name_rows(ax, [wrapped(title, 24) for title in titles])
    ax.set_xlabel("SRCC")
    common.add_legend(figure, ax, 3)
    return figure


TABLES = (
    Table("cross", "Other databases", cross_database_table, ("cross_dataset/cross.csv", "cross_dataset/baselines.csv")),
    Table("cross_further", "Other databases: further measures", cross_further_table, ("cross_dataset/cross.csv",)),
    Table("cross_sanity", "Other databases: checks of predictions", sanity_table, ("cross_dataset/sanity.csv",)),
)
