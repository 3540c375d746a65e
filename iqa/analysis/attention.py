"""How much each scale counts in attention fusion, against the quality."""

import numpy as np
import pandas as pd

from iqa.analysis.gathering import OPEN, Gathered, band, mean_interval, resampled_means
from iqa.metrics import bootstrap

EVEN = 0.95  # of the highest entropy; weights above it are called even
HOLDS, FAILS = "holds", "does not hold"


def entropy(scales: np.ndarray) -> np.ndarray:
    """(n,): entropy of the weights of the scales, 1 where all count the same and 0 where one alone counts."""
    safe = np.clip(scales, 1e-12, None)
    return -np.sum(scales * np.log(safe), axis=1) / np.log(scales.shape[1])


def attention_bands(
    gathered: dict[str, Gathered], bands: int, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Mean weight of each scale, of the two coarser ones, and mean entropy, in bands of MOS from worst to best.

    Returns:
        `model`, `band` (1 is the worst), `n`, `from` and `to` (MOS of its worst and best image), `mos` (mean),
        `quantity` (scale 1, the finest, to scale 4; deep: scales 3 and 4; entropy), `mean`, `low`, `high`. No row for
        a model that does not weigh the scales.
    """
    rows = []
    for name, found in gathered.items():
        if found.scales is None:
            continue
        of_image, table = band(found.table["good"], bands), found.table
        quantities = _quantities(found.scales)
        for number in range(of_image.max() + 1):
            own = of_image == number
            part = table[own].sort_values("good")
            about = {"model": name, "band": number + 1, "n": len(part), "from": part["mos"].iloc[0]}
            about |= {"to": part["mos"].iloc[-1], "mos": part["mos"].mean()}
            contents = table["reference"].to_numpy()[own]
            for quantity, values in quantities.items():
                low, high = mean_interval(values[own], contents, resamples, confidence, seed)
                rows.append(about | {"quantity": quantity, "mean": values[own].mean(), "low": low, "high": high})
    columns = ["model", "band", "n", "from", "to", "mos", "quantity", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _quantities(scales: np.ndarray) -> dict[str, np.ndarray]:
    each = {f"scale {number}": values for number, values in enumerate(scales.T, 1)}
    return each | {"deep": scales[:, 2:].sum(axis=1), "entropy": entropy(scales)}


def attention_tests(
    gathered: dict[str, Gathered], bands: int, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """The claim that deep scales count for good images and all scales evenly for bad ones, in parts and as a whole.

    Deep are the two coarser scales. A slope is that of the regression line over all images, as the change from the
    worst to the best end of the score range. The claim holds if all parts do, so no correction for four tests is due.

    Returns:
        `model`, `part`, `stated`, `value`, `low`, `high`, `p_value` (two-sided, bootstrap; none for the evenness, which
        is compared with a bound), `verdict`. The last row of a model is the claim as a whole.
    """
    rows = []
    for name, found in gathered.items():
        if found.scales is None:
            continue
        quantities, good = _quantities(found.scales), found.table["good"].to_numpy()
        contents, of_image = found.table["reference"].to_numpy(), band(found.table["good"], bands)
        best, worst = of_image == of_image.max(), of_image == 0
        deep = resampled_means(quantities["deep"][best, None], contents[best], resamples, seed)[:, 0]
        even = resampled_means(quantities["entropy"][worst, None], contents[worst], resamples, seed)[:, 0]
        parts = [
            ("deep weight against quality", "rises", *_slope(good, quantities["deep"], contents, resamples, seed), 0.0),
            ("deep weight of the best band", "above 1/2", quantities["deep"][best].mean(), deep, 0.5),
            ("entropy against quality", "falls", *_slope(good, quantities["entropy"], contents, resamples, seed), 0.0),
            ("entropy of the worst band", f"at least {EVEN:g}", quantities["entropy"][worst].mean(), even, EVEN),
        ]
        verdicts = []
        for part, stated, value, resampled, bound in parts:
            sign = -1 if stated == "falls" else 1
            low, high = bootstrap.percentiles(resampled, confidence)
            ends = sorted((sign * (low - bound), sign * (high - bound)))
            verdicts.append(HOLDS if ends[0] > 0 else FAILS if ends[1] < 0 else OPEN)
            p_value = None if bound == EVEN else bootstrap.p_value(resampled - bound)
            about = {"model": name, "part": part, "stated": stated, "value": float(value), "low": low, "high": high}
            rows.append(about | {"p_value": p_value, "verdict": verdicts[-1]})
        whole = FAILS if FAILS in verdicts else OPEN if OPEN in verdicts else HOLDS
        rows.append({"model": name, "part": "the claim as a whole", "stated": "all parts", "verdict": whole})
    columns = ["model", "part", "stated", "value", "low", "high", "p_value", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def _slope(x: np.ndarray, y: np.ndarray, groups: np.ndarray, resamples: int, seed: int) -> tuple[float, np.ndarray]:
    """Slope of the regression line of y on x, and its resampled values."""
    x = x - x.mean()
    moments = np.stack([x, y, x * y, x * x], axis=1)

    def slope(means: np.ndarray) -> np.ndarray:
        of_x, of_y, product, square = means.T
        spread = square - of_x**2
        return np.where(spread > 0, (product - of_x * of_y) / np.where(spread > 0, spread, 1), 0.0)

    return float(slope(moments.mean(axis=0)[None])[0]), slope(resampled_means(moments, groups, resamples, seed))
