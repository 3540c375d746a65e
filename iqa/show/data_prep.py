"""Tables and figures of `01_data_prep`."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from iqa.show.style import BLUE, GREEN, GREY, INK, ORANGE, WIDTH, in_style
from iqa.show.tables import table_of


def databases_table(audits: Iterable[dict[str, Any]], absent: Iterable[str] = ()) -> pd.DataFrame:
    """What each database holds, one row per `audit.json`; of those that are absent, the title and dashes."""
    rows = [
        {
            "Database": audit["title"],
            "Images": audit["n"],
            "Train": audit["splits"].get("train", {}).get("n"),
            "Validation": audit["splits"].get("val", {}).get("n"),
            "Test": audit["splits"].get("test", {}).get("n"),
            "Worst": audit["low"] if audit["higher_is_better"] else audit["high"],
            "Best": audit["high"] if audit["higher_is_better"] else audit["low"],
            "MOS": audit["mos"]["mean"],
            "MOS SD": audit["mos"]["std"],
            "Ceiling": audit["ceiling_srcc"],
        }
        for audit in audits
    ]
    return table_of([*rows, *({"Database": f"{title} (not available)"} for title in absent)])


def audits_table(audits: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """What the audit counted in each database, one row per `audit.json`."""
    rows = []
    for audit in audits:
        here = {check["check"]: check["here"] for check in audit["checks"]}
        release = {check["check"]: check["release"] for check in audit["checks"]}
        deviation = audit["mos_std"] or {}
        rows.append(
            {
                "Database": audit["title"],
                "Images": here["images"],
                "In the release": release["images"],
                "Contents": here["references"],
                "Sizes": here["stored sizes"],
                "Enlarged": here["images that were enlarged"],
                "Copies across splits": here["images that occur in more than one split"],
                "Copies within one": here["images that occur more than once in a split"],
                "Rating SD": deviation.get("mean"),
            }
        )
    return table_of(rows)


SPLIT_COLOURS = {"train": BLUE, "val": GREEN, "test": ORANGE}


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
