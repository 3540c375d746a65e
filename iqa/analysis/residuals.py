"""Where predictions are wrong, single cases, and the ceiling that the noise of the ratings sets."""

from typing import Any

import numpy as np
import pandas as pd

from iqa.analysis.evaluation import MOST
from iqa.analysis.gathering import band, resampled_means
from iqa.data import DataError
from iqa.metrics import bootstrap, coefficients
from iqa.metrics.verdicts import OPEN

FEWEST = 5  # images below which a group has no row
CEILING = ["what", "n", "srcc", "srcc_low", "srcc_high", "plcc", "plcc_low", "plcc_high", "reliability", "reason"]


def groups_of(table: pd.DataFrame, bands: int) -> tuple[dict[str, pd.Series], dict[str, str]]:
    """What images are grouped by to look at their errors, and what is left out, with the reason.

    MOS and rating deviation are cut into bands; distortion, level and stored size are taken as they are, but cut into
    bands of the number of pixels where there are too many sizes.
    """
    sizes = table["height"].astype(str) + " x " + table["width"].astype(str)
    if sizes.nunique() > bands:
        sizes = _ranges(table["height"] * table["width"], bands, " pixels")
    listed = {
        "MOS": _ranges(table["mos"], bands),
        "rating deviation": _ranges(table["mos_std"], bands),
        "distortion": table["distortion"],
        "level": table["level"].map(lambda value: f"{value:g}", na_action="ignore"),
        "size": sizes,
    }
    kept, left_out = {}, {}
    for name, values in listed.items():
        count = values.nunique()
        if count == 0:
            left_out[name] = "not known for this database"
        elif count == 1:
            left_out[name] = f"the same for all images ({values.dropna().iloc[0]})"
        elif count > MOST.get(name, count):
            left_out[name] = f"{count} different values, which are no kinds"
        else:
            kept[name] = values
    return kept, left_out


def _ranges(values: pd.Series, bands: int, unit: str = "") -> pd.Series:
    """The band of each value as a text `1.2 to 3.4`, NaN where the value is not known."""
    known = values.dropna()
    if known.empty:
        return pd.Series(np.nan, values.index, dtype=object)
    numbers = pd.Series(band(known, bands), known.index)
    texts = known.groupby(numbers).agg(lambda inside: f"{inside.min():.4g} to {inside.max():.4g}{unit}")
    return numbers.map(texts).reindex(values.index)


def split_groups(table: pd.DataFrame, by: str, values: pd.Series) -> dict[str, pd.DataFrame]:
    """The images of each group by its value: bands in the order of their numbers, other values in alphabetical order.

    Groups of fewer than 5 images are left out.

    Args:
        by: what is grouped by, a key of `groups_of`.
        values: of each image, as `groups_of` returns them.
    """
    parts = {str(value): part for value, part in table.groupby(values)}
    if column := {"MOS": "mos", "rating deviation": "mos_std"}.get(by):
        parts = dict(sorted(parts.items(), key=lambda named: named[1][column].mean()))
    return {value: part for value, part in parts.items() if len(part) >= FEWEST}


def error(part: pd.DataFrame, resamples: int = 2000, confidence: float = 0.95, seed: int = 0) -> dict[str, Any]:
    """Mean error (bias) and mean absolute error of some images, in units of the MOS.

    Returns:
        `n`, `bias`, `bias_low`, `bias_high`, `mae`, `mae_low`, `mae_high`, `verdict` (too high, too low, or not
        distinguishable from no bias).
    """
    residual = part["residual"].to_numpy()
    both = np.stack([residual, np.abs(residual)], axis=1)
    drawn = resampled_means(both, part["reference"].to_numpy(), resamples, seed)
    row: dict[str, Any] = {"n": len(part)}
    for name, mean, resampled in zip(("bias", "mae"), both.mean(axis=0), drawn.T, strict=True):
        row |= {name: mean} | bootstrap.ends(name, resampled, confidence)
    return row | {"verdict": "too high" if row["bias_low"] > 0 else "too low" if row["bias_high"] < 0 else OPEN}


def cases(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The images with the largest errors and those with the smallest: `kind` (worst, best), `rank`, and their columns.

    Where there are fewer than two times `count` images, half of them are worst and half best.
    """
    order = table["residual"].abs().sort_values(kind="stable").index
    count = min(count, len(order) // 2)
    columns = ["image", "mos", "mos_std", "prediction", "residual", "distortion", "level"]
    parts = [
        table.loc[rows, columns].assign(kind=kind, rank=np.arange(1, count + 1))
        for kind, rows in (("worst", order[::-1][:count]), ("best", order[:count]))
    ]
    return pd.concat(parts)[["kind", "rank", *columns]]


def chosen(table: pd.DataFrame, images: list[str]) -> pd.DataFrame:
    """The named images, or those with the smallest, the median and the largest error; `why` says which.

    Raises:
        DataError: a name is not among the images.
    """
    unknown = [name for name in images if name not in set(table["image"])]
    if unknown:
        raise DataError(f"key 'images': not among the test images: {', '.join(unknown)}; see database.csv for names")
    if images:
        rows = [table.index[table["image"] == name][0] for name in images]
        return table.loc[rows].assign(why="chosen")
    order = table["residual"].abs().sort_values(kind="stable").index
    picked = {"smallest error": order[0], "median error": order[len(order) // 2], "largest error": order[-1]}
    return table.loc[list(picked.values())].assign(why=list(picked))


def simulate(table: pd.DataFrame, ratings: int | None, resamples: int, confidence: float, seed: int) -> dict[str, Any]:
    """How well the true mean opinion would agree with the MOS: MOS = true mean + independent normal error.

    The error of N ratings with standard deviation s has the variance s^2 / N. The true means have the variance of the
    MOS less the mean error variance: they are the MOS pulled towards their mean by the square root of the reliability.
    Repeated draws of errors give new MOS, whose agreement with the true means is the ceiling. A habit that all raters
    share does not show in it; rounding and the ends of the scale are left out.

    Args:
        table: `mos` and `mos_std`.
        ratings: number of ratings behind a MOS, None where not known.

    Returns:
        `n`, `reliability`, SRCC and PLCC with the intervals of the draws; or `reason`.
    """
    known = table["mos_std"].notna().to_numpy()
    if not known.any():
        return {"reason": "the database gives no deviation of the ratings"}
    if ratings is None:
        return {"reason": "the number of ratings of an image is not known (parameter 'ratings')"}
    mos, error = table["mos"].to_numpy()[known], table["mos_std"].to_numpy()[known] / np.sqrt(ratings)
    reliability = 1 - np.mean(error**2) / mos.var()
    if reliability <= 0:
        noise = f"the rating noise ({np.sqrt(np.mean(error**2)):.3g})"
        return {"reason": f"{noise} exceeds the spread of the MOS ({mos.std():.3g})"}
    true = mos.mean() + np.sqrt(reliability) * (mos - mos.mean())
    drawn = true + np.random.default_rng(seed).normal(0, 1, (resamples, len(mos))) * error
    row = {"n": len(mos), "reliability": reliability}
    for name in ("srcc", "plcc"):
        values = getattr(coefficients, name)(np.broadcast_to(true, drawn.shape), drawn)
        row |= {name: values.mean()} | bootstrap.ends(name, values, confidence)
    return row
