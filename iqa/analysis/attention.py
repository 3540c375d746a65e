"""How much each scale counts in attention fusion, against the quality."""

from typing import Any

import numpy as np

from iqa.analysis.gathering import Gathered, band, mean_interval, resampled_means
from iqa.metrics import bootstrap
from iqa.metrics.verdicts import FAILS, HOLDS, OPEN

EVEN = 0.95  # of the highest entropy; weights above it are called even
BANDS = ["model", "band", "n", "from", "to", "mos", "quantity", "mean", "low", "high"]  # columns of `bands.csv`
CLAIM = ["model", "part", "stated", "value", "low", "high", "p_value", "verdict"]  # columns of `attention.csv`


def entropy(scales: np.ndarray) -> np.ndarray:
    """(n,): entropy of the weights of the scales (n, k), 1 where all count the same and 0 where one alone counts."""
    safe = np.clip(scales, 1e-12, None)
    return -np.sum(scales * np.log(safe), axis=1) / np.log(scales.shape[1])


def quantities(scales: np.ndarray) -> dict[str, np.ndarray]:
    """From weights (n, 4): `scale 1` (finest) to `scale 4`, `deep` (scales 3 and 4 together), `entropy`; (n,) each."""
    single = {f"scale {number}": values for number, values in enumerate(scales.T, 1)}
    return single | {"deep": scales[:, 2:].sum(axis=1), "entropy": entropy(scales)}


def attention_bands(
    gathered: Gathered, bands: int, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> list[dict[str, Any]]:
    """Mean of each of the `quantities` in bands of MOS.

    Returns:
        Rows `band` (1 is the worst), `n`, `from` and `to` (MOS of its worst and best image), `mos` (mean), `quantity`,
        `mean`, `low`, `high`.
    """
    of_image, table, rows = band(gathered.table["good"], bands), gathered.table, []
    for number in range(of_image.max() + 1):
        inside = of_image == number
        part = table[inside].sort_values("good")
        about = {"band": number + 1, "n": len(part), "from": part["mos"].iloc[0], "to": part["mos"].iloc[-1]}
        about["mos"] = part["mos"].mean()
        contents = table["reference"].to_numpy()[inside]
        for quantity, values in quantities(gathered.scales).items():
            low, high = mean_interval(values[inside], contents, resamples, confidence, seed)
            rows.append(about | {"quantity": quantity, "mean": values[inside].mean(), "low": low, "high": high})
    return rows


def attention_tests(
    gathered: Gathered, bands: int, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> list[dict[str, Any]]:
    """The claim that deep scales count for good images and all scales evenly for bad ones, in parts and as a whole.

    A slope is that of the regression line over all images, as the change from the worst to the best end of the score
    range. The claim holds if all parts do, so no correction for four tests is due.

    Returns:
        Rows `part`, `stated`, `value`, `low`, `high`, `p_value` (two-sided, bootstrap; none for the evenness, which is
        compared with a bound), `verdict`. The last row is the claim as a whole.
    """
    values, good = quantities(gathered.scales), gathered.table["good"].to_numpy()
    contents, of_image = gathered.table["reference"].to_numpy(), band(gathered.table["good"], bands)
    best, worst = of_image == of_image.max(), of_image == 0
    deep = resampled_means(values["deep"][best, None], contents[best], resamples, seed)[:, 0]
    even = resampled_means(values["entropy"][worst, None], contents[worst], resamples, seed)[:, 0]
    parts = [
        ("deep weight against quality", "rises", *slope(good, values["deep"], contents, resamples, seed), 0.0),
        ("deep weight of the best band", "above 1/2", values["deep"][best].mean(), deep, 0.5),
        ("entropy against quality", "falls", *slope(good, values["entropy"], contents, resamples, seed), 0.0),
        ("entropy of the worst band", f"at least {EVEN:g}", values["entropy"][worst].mean(), even, EVEN),
    ]
    rows: list[dict[str, Any]] = []
    for part, stated, value, resampled, bound in parts:
        low, high = bootstrap.percentiles(resampled, confidence)
        ends = (bound - high, bound - low) if stated == "falls" else (low - bound, high - bound)
        verdict = HOLDS if ends[0] > 0 else FAILS if ends[1] < 0 else OPEN
        p_value = None if bound == EVEN else bootstrap.p_value(resampled - bound)
        about = {"part": part, "stated": stated, "value": float(value), "low": low, "high": high}
        rows.append(about | {"p_value": p_value, "verdict": verdict})
    verdicts = [row["verdict"] for row in rows]
    whole = next((verdict for verdict in (FAILS, OPEN) if verdict in verdicts), HOLDS)
    return [*rows, {"part": "the claim as a whole", "stated": "all parts", "verdict": whole}]


def slope(x: np.ndarray, y: np.ndarray, groups: np.ndarray, resamples: int, seed: int) -> tuple[float, np.ndarray]:
    """Slope of the regression line of y on x, and its resampled values (resamples,)."""
    x = x - x.mean()
    moments = np.stack([x, y, x * y, x * x], axis=1)

    def of_means(means: np.ndarray) -> np.ndarray:
        of_x, of_y, product, square = means.T
        spread = square - of_x**2
        return np.where(spread > 0, (product - of_x * of_y) / np.where(spread > 0, spread, 1), 0.0)

    return float(of_means(moments.mean(axis=0)[None])[0]), of_means(resampled_means(moments, groups, resamples, seed))
