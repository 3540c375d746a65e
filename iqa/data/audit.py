"""What a reader should know of a database before trusting a number from it."""

import pandas as pd

from iqa.data import DataError
from iqa.data.cache import Store
from iqa.data.database import Database, Labels
from iqa.data.files import SHOWN, some
from iqa.data.splits import SPLITS

SIZES_SHOWN = 10  # how many stored sizes an audit lists


def audit(database: Database) -> dict:
    """What a reader should know of a database before trusting a number from it, as plain values.

    The rule: what makes numbers wrong is an error (a missing or broken image, an image listed twice, a score outside
    the range, a reference in two splits; all but the last stop already in reading). What a release may have but a
    reader should know is a warning: a part of the release, another official split than the release's, copies of an
    image, different sizes, enlarged images.

    Returns:
        name, title, synthetic, low, high, higher_is_better, scale (their meaning in a sentence), n, splits (per split
        `n` and `references`), split_rule, mos (mean, std, min, max), mos_std_mean and mos_std (mean, min, max; `None`
        where unknown), ceiling_srcc, citation, licence, source, notes, fingerprint, bytes, height and width (of the
        smallest cached image), sizes (the most frequent stored sizes: height, width, n), checks (a list of `check`,
        `here`, `release`: counts, and what the release has, `None` where not known), warnings (a list of sentences).

    Raises:
        DataError: a reference is in two splits.
    """
    table, store = database.table, next(iter(database.stores.values()))
    shared = table.groupby("reference")["split"].nunique().loc[lambda count: count > 1].index
    if len(shared):
        raise DataError(f"database '{database.name}': references in more than one split: {some(shared)}")
    splits = {
        split: {"n": len(rows), "references": int(rows["reference"].nunique())}
        for split, rows in table.groupby("split")
    }
    mos, deviation = table["mos"], table["mos_std"]
    sizes = store.index.groupby(["height", "width"]).size().sort_values(ascending=False, kind="stable")
    return {
        "name": database.name,
        "title": database.title,
        "synthetic": database.synthetic,
        "low": database.low,
        "high": database.high,
        "higher_is_better": database.higher_is_better,
        "scale": scale(database),
        "n": len(table),
        "splits": {split: splits[split] for split in SPLITS if split in splits},
        "split_rule": database.split_rule,
        "mos": {key: float(getattr(mos, key)()) for key in ("mean", "std", "min", "max")},
        "mos_std_mean": float(deviation.mean()) if deviation.notna().any() else None,
        "mos_std": {key: float(getattr(deviation, key)()) for key in ("mean", "min", "max")}
        if deviation.notna().any()
        else None,
        "ceiling_srcc": database.ceiling_srcc(),
        "citation": database.citation,
        "licence": database.licence,
        "source": database.source,
        "notes": database.notes,
        "fingerprint": database.fingerprint,
        "bytes": database.bytes,
        "height": int(store.index["height"].min()),
        "width": int(store.index["width"].min()),
        "sizes": [
            {"height": int(height), "width": int(width), "n": int(n)}
            for (height, width), n in sizes.head(SIZES_SHOWN).items()
        ],
        "checks": _checks(database, store),
        "warnings": database.warnings + _warnings(database, store),
    }


def scale(database: Labels) -> str:
    """Range and direction of the scores in a sentence."""
    if database.higher_is_better:
        return f"Scores run from {database.low:g} (worst) to {database.high:g} (best); higher is better."
    return (
        f"Scores run from {database.low:g} (best) to {database.high:g} (worst): they are DMOS, lower is better. "
        "The table keeps them; for training and evaluation they are turned, so that 0 is worst and 1 best."
    )


def _checks(database: Database, store: Store) -> list[dict]:
    """Counts beside those of the release."""
    table, known = database.table, database.release_splits
    here = table["split"].value_counts().to_dict()
    if known and "val" not in known:
        here["train"] = here.get("train", 0) + here.pop("val", 0)
    within, across = _copies(table, store)
    counts = [
        ("images", len(table), database.release_images),
        ("references", int(table["reference"].nunique()), database.release_references),
        *((f"{split} images of the official split", here.get(split, 0), n) for split, n in (known or {}).items()),
        ("missing images", 0, 0),  # otherwise reading would have stopped
        ("unreadable images", 0, 0),
        ("references in more than one split", 0, 0),
        ("images that occur in more than one split", len(across), None),
        ("images that occur more than once in a split", len(within), None),
        ("images that were enlarged", store.index["enlarged"].sum(), None),
        ("stored sizes", len(store.index[["height", "width"]].drop_duplicates()), None),
    ]
    return [{"check": check, "here": int(found), "release": release} for check, found, release in counts]


def _warnings(database: Database, store: Store) -> list[str]:
    table, index = database.table, store.index
    warnings = [
        f"{check['here']} {check['check']} are here, {check['release']} are in the release."
        for check in _checks(database, store)
        if check["release"] not in (None, check["here"])
    ]
    if index["enlarged"].any():
        warnings.append(f"{index['enlarged'].sum()} image(s) are smaller than the stored size and were enlarged.")
    sizes = (index["height"].astype(str) + "x" + index["width"].astype(str)).value_counts()
    if len(sizes) > 1:
        most = f"{sizes.iloc[0]} are {sizes.index[0]} (height x width)"
        warnings.append(f"The images have {len(sizes)} different stored sizes; {most}.")
    within, across = _copies(table, store)
    for found, where in ((across, "in different splits"), (within, "in the same split")):
        if len(found):
            warnings.append(f"{len(found)} image(s) occur more than once {where}: {some(found)}.")
    return warnings


def _copies(table: pd.DataFrame, store: Store) -> tuple[pd.Series, pd.Series]:
    """Images whose files are the same: in one split, and in different ones; the names of each group as `a = b`."""
    rows = table.assign(sha256=store.index["sha256"])
    copies = rows[rows.duplicated("sha256", keep=False)]
    splits = copies.groupby("sha256")["split"].transform("nunique")
    names = [copies[found].groupby("sha256")["image"].agg(_equal) for found in (splits == 1, splits > 1)]
    return names[0], names[1]


def _equal(names: pd.Series) -> str:
    """The first few names of one image, and how many there are."""
    shown = " = ".join(names[:SHOWN])
    return shown + (f" = ... ({len(names)} names)" if len(names) > SHOWN else "")
