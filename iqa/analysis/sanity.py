"""What is wrong with predictions that a correlation does not tell: plateaus, ties, compression, no order at all."""

from typing import Any

import numpy as np
import pandas as pd

from iqa.analysis.evaluation import FEWEST, MOST, agreement
from iqa.metrics import bootstrap

WINDOW = 0.01  # width of a plateau, as a share of the scale
SPREAD = 0.25  # of the scale, between the 10% and the 90% quantile of MOS that are called different
CROWD, CROWDED = 0.05, 8  # share and number of the images of a group that a plateau has at least
TIED = 0.01  # share of the images that tie with another, from which that is a finding
TOO_CLOSE, TOO_FAR = 1.1, 1 / 1.1  # slopes of MOS against predictions beyond which these are stretched or compressed
EVERYTHING = "all"  # group of all images
COLUMNS = ["check", "group", "n", "of", "low", "high", "mos_low", "mos_high", "p_value", "found", "words"]


def examine(
    predictions: pd.DataFrame,
    low: float,
    high: float,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    uncalibrated: str = "",
) -> pd.DataFrame:
    """Checks of predictions on a scale from `low` to `high`, a row for each finding, and one for a check without any.

    `plateau`: far more images than elsewhere get nearly the same prediction, though their MOS differ widely: those in
    a window of `WINDOW` of the scale, overall or within a distortion. The p-value is that of the fullest such window
    when the residuals of all images from a line are dealt out anew (a permutation test), after Holm's correction over
    the groups.
    `ties`: images share their prediction exactly. `order`: within a distortion the interval of the SRCC, over contents,
    includes zero or less, though the MOS differ widely. `compression`: the slope of MOS against predictions, which is 1
    where differences are predicted as large as they are, has its whole interval beyond `TOO_CLOSE` or `TOO_FAR`.
    `outside`: predictions beyond an end of the scale by more than `WINDOW` of it.

    Args:
        predictions: one row per image: `prediction`, `mos`, `reference` (the content), `distortion` (NaN: not known).
        resamples, confidence, seed: of permutations and of bootstraps.
        uncalibrated: why the predictions have no scale; the last two checks are left out then.

    Returns:
        `COLUMNS`: the images concerned are `n` of the `of` of a `group` (a distortion, or `all`); `low` and `high` are
        ends of their predictions, or of the interval of the SRCC or the slope; `mos_low` and `mos_high` ends of their
        MOS; `found` whether it is a finding, and `words` what, to be read after "n of the images of the group:".
    """
    table = predictions.assign(prediction=predictions["prediction"].astype(float))
    if uncalibrated:  # only the order is known: brought to the spread of the MOS
        ratio = table["mos"].std() / (table["prediction"].std() or 1)
        table["prediction"] = table["mos"].mean() + ratio * (table["prediction"] - table["prediction"].mean())
    groups = {EVERYTHING: np.arange(len(table))}
    if 2 <= table["distortion"].nunique() <= MOST["distortion"]:
        groups |= {str(name): places for name, places in table.groupby("distortion").indices.items()}
    how = {"resamples": resamples, "confidence": confidence, "seed": seed}
    rows = {"plateau": find_plateaus(table, groups, high - low, **how), "ties": _find_ties(table)}
    parts = {name: table.iloc[places] for name, places in groups.items() if len(groups) == 1 or name != EVERYTHING}
    rows["order"] = [row for name, part in parts.items() for row in _find_no_order(name, part, high - low, **how)]
    if not uncalibrated:
        rows |= {"compression": _find_compression(table, **how), "outside": _find_outside(table, low, high)}
    nothing = {"group": EVERYTHING, "n": 0, "of": len(table), "words": ""}
    listed = [
        {"check": check} | row | {"found": row is not nothing}
        for check, findings in rows.items()
        for row in findings or [nothing]
    ]
    return pd.DataFrame(listed).reindex(columns=COLUMNS)


def find_plateaus(
    table: pd.DataFrame, groups: dict[str, np.ndarray], scale: float, resamples: int, confidence: float, seed: int
) -> list[dict[str, Any]]:
    """The fullest window of each group that is a plateau; that of all images only if no part of them has one.

    `groups` are places of images in the table, by name.
    """
    prediction, mos = table["prediction"].to_numpy(), table["mos"].to_numpy(dtype=float)
    least = {name: max(CROWDED, CROWD * len(places)) for name, places in groups.items()}
    windows = {name: groups[name][_fullest(prediction[p], mos[p], scale, least[name])] for name, p in groups.items()}
    windows = {name: places for name, places in windows.items() if len(places)}
    line = np.poly1d(np.polyfit(mos, prediction, 1))(mos) if windows else mos
    generator, fuller, inside = np.random.default_rng(seed), dict.fromkeys(windows, 0), dict.fromkeys(windows, 0)
    for _ in range(resamples if windows else 0):
        drawn = line + generator.permutation(prediction - line)
        for name, window in windows.items():
            values, low = drawn[groups[name]], prediction[window].min()
            fuller[name] += len(_fullest(values, mos[groups[name]], scale, len(window))) > 0
            inside[name] += int(np.sum((values >= low) & (values <= low + WINDOW * scale)))
    corrected = bootstrap.holm([(1 + count) / (1 + resamples) for count in fuller.values()])
    found = []
    for (name, window), p_value in zip(windows.items(), corrected, strict=True):
        expected = inside[name] / resamples
        if p_value < 1 - confidence and len(window) > 2 * expected:
            row = _concerned(name, table.iloc[window], len(groups[name])) | {"p_value": float(p_value)}
            spans = {what: f"{row[f'{what}low']:.3g} to {row[f'{what}high']:.3g}" for what in ("", "mos_")}
            words = f"predicted as {spans['']}, rated {spans['mos_']} ({expected:.1f} expected)"
            found.append(row | {"words": words})
    return [row for row in found if row["group"] != EVERYTHING] or found


def _fullest(prediction: np.ndarray, mos: np.ndarray, scale: float, least: float) -> np.ndarray:
    """Numbers of the images in the fullest window whose MOS differ widely; none where it has fewer than `least`."""
    order = np.argsort(prediction, kind="stable")
    ordered = prediction[order]
    counts = np.searchsorted(ordered, ordered + WINDOW * scale, side="right") - np.arange(len(ordered))
    for start in np.argsort(-counts, kind="stable")[: np.sum(counts >= least)]:
        inside = order[start : start + counts[start]]
        if _differ(mos[inside], scale):
            return inside
    return order[:0]


def _differ(mos: np.ndarray, scale: float) -> bool:
    ordered, last = np.sort(mos), len(mos) - 1  # ten times as quick as quantiles
    return bool(ordered[round(0.9 * last)] - ordered[round(0.1 * last)] >= SPREAD * scale)


def _concerned(name: str, part: pd.DataFrame, of: int) -> dict[str, Any]:
    row = {"group": name, "n": len(part), "of": of}
    row |= {"low": part["prediction"].min(), "high": part["prediction"].max()}
    return row | {"mos_low": part["mos"].min(), "mos_high": part["mos"].max()}


def _find_ties(table: pd.DataFrame) -> list[dict[str, Any]]:
    tied = table[table["prediction"].duplicated(keep=False)]
    if len(tied) < max(2, TIED * len(table)):
        return []
    words = f"predicted alike to the last digit ({tied['prediction'].nunique()} values)"
    return [_concerned(EVERYTHING, tied, len(table)) | {"words": words}]


def _find_no_order(name: str, part: pd.DataFrame, scale: float, **how: Any) -> list[dict[str, Any]]:
    mos = part["mos"].to_numpy(dtype=float)
    if len(part) < FEWEST or not _differ(mos, scale):
        return []
    found = agreement(part["prediction"].to_numpy(), mos, *how.values(), part["reference"], names=["srcc"])
    if found["srcc_low"] > 0:
        return []
    row = _concerned(name, part, len(part)) | {"low": found["srcc_low"], "high": found["srcc_high"]}
    ends = f"{mos.min():.3g} to {mos.max():.3g}"
    interval = f"{found['srcc']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    return [row | {"words": f"in no clear order: SRCC {interval}, rated {ends}"}]


def slope(prediction: np.ndarray, mos: np.ndarray) -> float:
    """Slope of the line through MOS against predictions: above 1 where differences are larger than predicted."""
    spread = np.var(prediction)
    return float(np.mean((prediction - prediction.mean()) * (mos - mos.mean())) / spread) if spread else 0.0


def _find_compression(table: pd.DataFrame, resamples: int, confidence: float, seed: int) -> list[dict[str, Any]]:
    pair = table["prediction"].to_numpy(), table["mos"].to_numpy(dtype=float)
    if np.ptp(pair[0]) == 0:
        return []  # they tie
    low, high = bootstrap.bootstrap_interval(slope, *pair, resamples, confidence, seed, table["reference"])
    if low <= TOO_CLOSE and high >= TOO_FAR:
        return []
    what = "close together" if low > TOO_CLOSE else "far apart"
    ratio = pair[0].std() / pair[1].std()
    words = f"too {what}: slope {slope(*pair):.2f} [{low:.2f}, {high:.2f}], SD ratio {ratio:.2f}"
    return [_concerned(EVERYTHING, table, len(table)) | {"low": low, "high": high, "words": words}]


def _find_outside(table: pd.DataFrame, low: float, high: float) -> list[dict[str, Any]]:
    beyond = np.maximum(low - table["prediction"], table["prediction"] - high)
    outside = table[beyond > WINDOW * (high - low)]
    if outside.empty:
        return []
    farthest = table["prediction"][beyond.idxmax()]
    words = f"predicted outside of {low:g} to {high:g}, the farthest as {farthest:.4g}"
    return [_concerned(EVERYTHING, outside, len(table)) | {"words": words}]
