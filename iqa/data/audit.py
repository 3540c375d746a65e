"""What a reader should know of a database before trusting a number from it."""

import pandas as pd

from iqa.data.database import Database, Labels
from iqa.data.files import refuse
from iqa.data.prepare import MISSING
from iqa.data.splits import SKIPPED, SPLITS
from iqa.study.echo import some

SIZES_SHOWN = 10  # how many stored sizes an audit lists
SCALE = ("name", "title", "synthetic", "low", "high", "higher_is_better")
ORIGIN = ("citation", "licence", "source", "notes", "fingerprint", "bytes")


def audit(database: Database) -> dict:
    """The contents of a database, its scale, counts beside those of the release, and warnings, as plain values.

    What makes numbers wrong is an error: a missing or broken image that is not to be skipped, an image listed twice, a
    score outside the range (all found in reading), or a reference in two splits. What a release may have but a reader
    should know is a warning: a part of the release, another official split than the release's, skipped images, twins
    (`iqa.data.twins`), different or enlarged sizes.

    Returns:
        name, title, synthetic, low, high, higher_is_better, scale (their meaning in a sentence), n, splits (per split
        `n` and `references`), split_rule, mos (mean, std, min, max), mos_std_mean and mos_std (mean, min, max; `None`
        where unknown), ceiling_srcc, citation, licence, source, notes, fingerprint, bytes, height and width (of the
        smallest cached image), sizes (the most frequent stored sizes: height, width, n), skipped (a list of `image` and
        `why`), checks (a list of `check`,
        `here`, `release`: counts, and what the release has, `None` where not known), warnings (a list of sentences).

    Raises:
        DataError: a reference is in two splits.
    """
    table, index = database.table, next(iter(database.stores.values())).index
    shared = table.groupby("reference")["split"].nunique().loc[lambda count: count > 1].index
    refuse(shared, f"database '{database.name}': references in more than one split", "correct `reference` or the split")
    splits = {split: rows for split, rows in table.groupby("split")}
    deviation = table["mos_std"].agg(["mean", "min", "max"]).to_dict() if table["mos_std"].notna().any() else None
    sizes = index.groupby(["height", "width"]).size().sort_values(ascending=False, kind="stable").rename("n")
    across = database.twins["split_a"] != database.twins["split_b"]
    copies = {"different splits": database.twins[across], "one split": database.twins[~across]}
    enlarged = int(index["enlarged"].sum())
    checks = _checks(database, copies, enlarged, len(sizes))
    return {
        **{key: getattr(database, key) for key in SCALE},
        "scale": scale(database),
        "n": len(table),
        "splits": {
            split: {"n": len(splits[split]), "references": splits[split]["reference"].nunique()}
            for split in SPLITS
            if split in splits
        },
        "split_rule": database.split_rule,
        "mos": table["mos"].agg(["mean", "std", "min", "max"]).to_dict(),
        "mos_std_mean": deviation["mean"] if deviation else None,
        "mos_std": deviation,
        "ceiling_srcc": database.ceiling_srcc(),
        **{key: getattr(database, key) for key in ORIGIN},
        "height": int(index["height"].min()),
        "width": int(index["width"].min()),
        "sizes": sizes.head(SIZES_SHOWN).reset_index().to_dict("records"),
        "skipped": database.skipped.to_dict("records"),
        "checks": checks,
        "warnings": _warnings(database, checks, copies, enlarged, sizes),
    }


def scale(database: Labels) -> str:
    """Range and direction of the scores in a sentence."""
    if database.higher_is_better:
        return f"Scores run from {database.low:g} (worst) to {database.high:g} (best); higher is better."
    return (
        f"Scores run from {database.low:g} (best) to {database.high:g} (worst): they are DMOS, lower is better. "
        "The table keeps them; for training and evaluation they are turned, so that 0 is worst and 1 best."
    )


def with_skipped(database: Labels) -> pd.DataFrame:
    """The table, with rows below it of the images that were skipped: their names, and `skipped` in place of a split."""
    if database.skipped.empty:
        return database.table
    return pd.concat([database.table, database.skipped[["image"]].assign(split=SKIPPED)], ignore_index=True)


def _checks(database: Database, copies: dict[str, pd.DataFrame], enlarged: int, sizes: int) -> list[dict]:
    """Counts beside those of the release; `None` where the release has no fixed number."""
    known = database.release_splits or {}
    here = database.table["split"].value_counts().to_dict()
    if known and "val" not in known:
        here["train"] = here.get("train", 0) + here.pop("val", 0)
    counts = [
        ("images", len(database.table), database.release_images),
        ("references", database.table["reference"].nunique(), database.release_references),
        *((f"{split} images of the official split", here.get(split, 0), count) for split, count in known.items()),
        ("missing images", int((database.skipped["why"] == MISSING).sum()), 0),
        ("unreadable images", int((database.skipped["why"] != MISSING).sum()), 0),
        ("references in more than one split", 0, 0),
        *((f"pairs of twins in {where}", len(pairs), None) for where, pairs in copies.items()),
        ("images that were enlarged", enlarged, None),
        ("stored sizes", sizes, None),
    ]
    return [{"check": check, "here": count, "release": release} for check, count, release in counts]


def _warnings(
    database: Labels, checks: list[dict], copies: dict[str, pd.DataFrame], enlarged: int, sizes: pd.Series
) -> list[str]:
    skipped = database.skipped.groupby("why")["image"]
    warnings = [f"{len(images)} image(s) were skipped ({why}): {some(images)}." for why, images in skipped]
    warnings += [
        f"{check['here']} {check['check']} are here, {check['release']} are in the release."
        for check in checks
        if check["release"] not in (None, check["here"], 0)
    ]
    if enlarged:
        warnings.append(f"{enlarged} image(s) are smaller than the stored size and were enlarged.")
    if len(sizes) > 1:
        height, width = sizes.index[0]
        most = f"{sizes.iloc[0]} are {height}x{width} (height x width)"
        warnings.append(f"The images have {len(sizes)} different stored sizes; {most}.")
    for where, pairs in copies.items():
        if len(pairs):
            names = pairs["image_a"] + " = " + pairs["image_b"]
            warnings.append(f"{len(pairs)} pair(s) of images in {where} are one photograph saved twice: {some(names)}.")
    return database.warnings + warnings
