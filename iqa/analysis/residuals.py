"""Where predictions are wrong, single cases, and the ceiling that the noise of the ratings sets."""

import numpy as np
import pandas as pd

from iqa.analysis.evaluation import MOST
from iqa.analysis.gathering import OPEN, band, resampled_means
from iqa.data import DataError
from iqa.metrics import bootstrap, coefficients

FEWEST = 5  # images below which a group has no row


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
    texts = known.groupby(numbers).agg(lambda own: f"{own.min():.4g} to {own.max():.4g}{unit}")
    return numbers.map(texts).reindex(values.index)


def errors(
    table: pd.DataFrame, bands: int, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Mean error (bias) and mean absolute error of all images and of groups of them, in units of the MOS.

    Returns:
        `by` (all, or what is grouped by), `value`, `n`, `bias`, `bias_low`, `bias_high`, `mae`, `mae_low`, `mae_high`,
        `verdict` (too high, too low, or not distinguishable from no bias); groups of fewer than 5 images have no row.
        And what was left out, with the reason.
    """
    kept, left_out = groups_of(table, bands)
    groups = [("all", "all images", table)]
    for name, values in kept.items():
        order = table["mos"] if name == "MOS" else table["mos_std"] if name == "rating deviation" else None
        parts = [(name, str(value), part) for value, part in table.groupby(values)]
        if order is not None:
            parts.sort(key=lambda part: order[part[2].index].mean())
        groups += parts
    rows = []
    for by, value, part in groups:
        if len(part) < FEWEST:
            continue
        residual = part["residual"].to_numpy()
        both = np.stack([residual, np.abs(residual)], axis=1)
        drawn = resampled_means(both, part["reference"].to_numpy(), resamples, seed)
        row = {"by": by, "value": value, "n": len(part)}
        for name, mean, resampled in zip(("bias", "mae"), both.mean(axis=0), drawn.T, strict=True):
            low, high = bootstrap.percentiles(resampled, confidence)
            row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        row["verdict"] = "too high" if row["bias_low"] > 0 else "too low" if row["bias_high"] < 0 else OPEN
        rows.append(row)
    return pd.DataFrame(rows), left_out


def cases(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The images with the largest errors and those with the smallest: `kind` (worst, best), `rank`, and their columns.

    Where there are fewer than two times `count` images, half of them are worst and half best.
    """
    order = table["residual"].abs().sort_values(kind="stable").index
    count = min(count, len(order) // 2)
    columns = ["image", "mos", "mos_std", "prediction", "residual", "distortion", "level"]
    found = [
        table.loc[rows, columns].assign(kind=kind, rank=np.arange(1, count + 1))
        for kind, rows in (("worst", order[::-1][:count]), ("best", order[:count]))
    ]
    cases = pd.concat(found)
    return cases[["kind", "rank", *columns]]


def chosen(table: pd.DataFrame, images: list[str]) -> pd.DataFrame:
    """The named images, or those with the smallest, the median and the largest error; `why` tells which.

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


def ceiling(
    table: pd.DataFrame, ratings: int | None, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """What the true mean opinion could reach, as the MOS of finitely many ratings is not it, beside the model.

    Model of the noise: MOS = true mean + error; the errors are independent and normal with the variance s^2 / N of N
    ratings with standard deviation s. The true means have the variance of the MOS less the mean error variance: the MOS
    pulled towards their mean by the square root of the reliability. Repeated draws of errors give new MOS, whose
    agreement with these true means is the ceiling. It is the ceiling of the noise of independent ratings: a habit that
    all raters share does not show in it, and rounding and the ends of the scale are left out.

    Args:
        table: `mos`, `mos_std`, `prediction`, and for synthetic databases `quality`, the noise-free score.
        ratings: number of ratings behind a MOS, None where not known.

    Returns:
        Rows `model`, `simulated`, `known` (noise-free quality): `n`, `srcc`, `srcc_low`, `srcc_high`, the same of
        `plcc`, `reliability`, and `reason` where there is no value. The interval of `simulated` is that of the draws,
        the others are bootstraps over contents.
    """
    mos, contents = table["mos"].to_numpy(), table["reference"].to_numpy()
    options = (resamples, confidence, seed, contents)
    rows = [{"what": "model", "n": len(mos)} | _agreement(table["prediction"].to_numpy(), mos, *options)]
    known = table["mos_std"].notna().to_numpy()
    reason = None
    if not known.any():
        reason = "the database gives no deviation of the ratings"
    elif ratings is None:
        reason = "the number of ratings of an image is not known (parameter 'ratings')"
    if reason is None:
        own, error = mos[known], table["mos_std"].to_numpy()[known] / np.sqrt(ratings)
        reliability = 1 - np.mean(error**2) / own.var()
        if reliability <= 0:
            reason = (
                f"the rating noise ({np.sqrt(np.mean(error**2)):.3g}) exceeds the spread of the MOS ({own.std():.3g})"
            )
    if reason is None:
        true = own.mean() + np.sqrt(reliability) * (own - own.mean())
        drawn = true + np.random.default_rng(seed).normal(0, 1, (resamples, len(own))) * error
        row = {"what": "simulated", "n": len(own), "reliability": reliability}
        for name in ("srcc", "plcc"):
            values = getattr(coefficients, name)(np.broadcast_to(true, drawn.shape), drawn)
            low, high = bootstrap.percentiles(values, confidence)
            row |= {name: values.mean(), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    else:
        rows.append({"what": "simulated", "reason": reason})
    if "quality" in table:
        rows.append({"what": "known", "n": len(mos)} | _agreement(table["quality"].to_numpy(), mos, *options))
    else:
        rows.append({"what": "known", "reason": "the true quality of real images is not known"})
    names = [f"{name}{end}" for name in ("srcc", "plcc") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows).reindex(columns=["what", "n", *names, "reliability", "reason"])


def _agreement(
    scores: np.ndarray, mos: np.ndarray, resamples: int, confidence: float, seed: int, contents: np.ndarray
) -> dict[str, float]:
    found = {}
    for name in ("srcc", "plcc"):
        statistic = getattr(coefficients, name)
        low, high = bootstrap.bootstrap_interval(statistic, scores, mos, resamples, confidence, seed, contents)
        found |= {name: statistic(scores, mos), f"{name}_low": low, f"{name}_high": high}
    return found
