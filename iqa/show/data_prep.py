"""Tables and figures of `01_data_prep`."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from iqa.show.common import draw_figure
from iqa.show.style import BLUE, GREEN, GREY, INK, ORANGE, in_style
from iqa.show.tables import Table, table_of

SPLIT_COLOURS = {"train": BLUE, "val": GREEN, "test": ORANGE}


def databases_table(audits: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """What each database holds, from each `audit.json`; of a database that is absent, its title and dashes."""
    rows = []
    for audit in audits.values():
        if "absent" in audit:
            rows.append({"Database": f"{audit['title']} (not available)"})
            continue
        low, high, mos = audit["low"], audit["high"], audit["mos"]
        worst, best = (low, high) if audit["higher_is_better"] else (high, low)
        names = {"Train": "train", "Validation": "val", "Test": "test"}
        splits = {f"{title}:,.0f": audit["splits"].get(split, {}).get("n") for title, split in names.items()}
        about = {"Database": audit["title"], "Images:,.0f": audit["n"], **splits, "Worst:g": worst, "Best:g": best}
        rows.append(about | {"MOS:.2f": mos["mean"], "MOS SD:.2f": mos["std"], "Ceiling": audit["ceiling_srcc"]})
    return table_of(rows)


def audits_table(audits: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """What the audit counted in each database, from each `audit.json`."""
    names = {"Contents": "references", "Sizes": "stored sizes", "Enlarged": "images that were enlarged"}
    names |= {"Twins across splits": "pairs of twins in different splits"}
    names |= {"Twins in one": "pairs of twins in one split"}
    rows = []
    for audit in audits.values():
        if "absent" not in audit:
            checks = {check["check"]: check for check in audit["checks"]}
            counts = {"Images": checks["images"]["here"], "In the release": checks["images"]["release"]}
            counts |= {title: checks[name]["here"] if name in checks else None for title, name in names.items()}
            counts["Skipped"] = checks["missing images"]["here"] + checks["unreadable images"]["here"]
            counts = {f"{title}:,.0f": count for title, count in counts.items()}
            rows.append({"Database": audit["title"], **counts, "Rating SD:.2f": (audit["mos_std"] or {}).get("mean")})
    return table_of(rows)


@in_style
def mos_histogram(table: pd.DataFrame, low: float, high: float, higher_is_better: bool = True) -> Figure:
    """Distribution of the mean opinion scores, one panel per split, as a share of the split's images.

    Args:
        table: one row per image, with columns `mos` and `split`.
        low, high: ends of the database's score range. Where higher is not better the scores are DMOS, as the axis says.
    """
    import seaborn  # a second to import, for this figure alone

    known = [split for split in SPLIT_COLOURS if split in set(table["split"])]
    splits = known + sorted(set(table["split"]) - set(known))
    figure, axes = draw_figure(2.3, 1, len(splits), sharex=True, sharey=True)
    edges = np.linspace(low, high, 21)
    for ax, split in zip(axes[0], splits, strict=True):
        scores = table.loc[table["split"] == split, "mos"]
        colour = SPLIT_COLOURS.get(split, GREY)
        seaborn.histplot(x=scores, bins=edges, stat="percent", color=colour, edgecolor="white", linewidth=0.5, ax=ax)
        ax.axvline(scores.mean(), color=INK, linewidth=1, linestyle="--")
        ax.set_title(f"{split}: {len(scores):,} images")
        ax.set(xlabel="mean opinion score" if higher_is_better else "DMOS (lower is better)", xlim=(low, high))
        ax.grid(axis="x", visible=False)
    axes[0, 0].set_ylabel("share of images (%)")
    return figure


TABLES = (
    Table("databases", "Databases", databases_table, ("data_prep/audit.json",)),
    Table("audits", "Audit of the databases", audits_table, ("data_prep/audit.json",)),
)
