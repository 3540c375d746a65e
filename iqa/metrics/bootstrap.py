"""Bootstrap intervals, paired tests, and Holm's correction."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from iqa.metrics.coefficients import Statistic, bias, checked_pair, krcc, plcc, rmse, srcc

CHUNK = 1_000_000  # scores resampled at a time: bounds the memory
BLOCK = 1_000  # images compared with all others at a time (Kendall)
PAIRED = 2_500  # images up to which comparing all pairs is quicker than sorting each resampled vector (Kendall)


class Comparison(NamedTuple):
    """How much better one model is than another: the difference, its interval, and a two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float


def bootstrap_interval(
    statistic: Statistic,
    prediction: ArrayLike,
    mos: ArrayLike,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> tuple[float, float]:
    """Percentile interval `(low, high)` of a statistic, such as `srcc`, over images resampled with replacement.

    It says how far the statistic would vary over other images of the same kind, not over training seeds. `groups`
    names the content (reference) of each image: images of one content are drawn together, as they are not independent.

    Source: Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    (values,) = resample(statistic, [prediction], mos, resamples, seed, groups)
    return percentiles(values, confidence)


def paired_difference(
    statistic: Statistic,
    prediction_a: ArrayLike,
    prediction_b: ArrayLike,
    mos: ArrayLike,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> Comparison:
    """How much `statistic` of model a exceeds that of model b on the same images: a paired bootstrap.

    Both models see the same resampled images, so what is hard for both cancels. The p-value is that of `p_value`;
    `groups` is as in `bootstrap_interval`.

    Source: Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 15.
    """
    prediction_a, mos = checked_pair(prediction_a, mos)
    prediction_b, mos = checked_pair(prediction_b, mos)
    a, b = resample(statistic, [prediction_a, prediction_b], mos, resamples, seed, groups)
    differences = a - b
    observed = float(statistic(prediction_a, mos) - statistic(prediction_b, mos))
    return Comparison(observed, *percentiles(differences, confidence), p_value(differences))


def p_value(differences: np.ndarray) -> float:
    """Two-sided p-value of resampled differences: twice the smaller share on either side of zero, at most 1.

    The observed sample counts once, so that n resamples give at least 2 / (n + 1).
    """
    rarer_side = min(np.sum(differences <= 0), np.sum(differences >= 0))
    return float(min(1.0, 2 * (rarer_side + 1) / (differences.size + 1)))


def equivalence_p_value(differences: np.ndarray, margin: float) -> float:
    """P-value of two one-sided tests on resampled differences, small where both -margin and margin are excluded.

    It is the larger of the shares beyond either end; the observed sample counts once, as in `p_value`.

    Source: Schuirmann, "A comparison of the two one-sided tests procedure and the power approach for assessing the
    equivalence of average bioavailability", J. Pharmacokinetics and Biopharmaceutics 15, 1987.
    """
    beyond = max(np.sum(differences <= -margin), np.sum(differences >= margin))
    return float((beyond + 1) / (differences.size + 1))


def draw_counts(images: int, resamples: int, seed: int = 0, groups: ArrayLike | None = None) -> Iterator[np.ndarray]:
    """Bootstrap samples: blocks of rows (n, images) of how often each image was drawn, `resamples` rows in all.

    Without `groups`, or where each image has its own, a row draws as many images as there are, with replacement.
    Otherwise it draws as many groups as there are; each image counts as often as its group was drawn.
    """
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}")
    generator = np.random.default_rng(seed)
    names, of_image = np.unique(np.arange(images) if groups is None else groups, return_inverse=True)
    if of_image.size != images:
        raise ValueError(f"groups names the content of {of_image.size} images, not of {images}")
    if names.size == images:
        of_image = np.arange(images)
    rows = max(1, CHUNK // images)
    for start in range(0, resamples, rows):
        drawn = generator.integers(names.size, size=(min(rows, resamples - start), names.size))
        row = np.arange(len(drawn))[:, None] * names.size
        yield np.bincount((drawn + row).ravel(), minlength=drawn.size).reshape(drawn.shape)[:, of_image]


def resample(
    statistic: Statistic,
    predictions: list[ArrayLike],
    mos: ArrayLike,
    resamples: int = 1000,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> list[np.ndarray]:
    """For each vector of predictions, the statistic (`resamples`,) over the same draws of images."""
    pairs = [checked_pair(prediction, mos) for prediction in predictions]
    if np.ndim(mos) != 1:
        raise ValueError(f"the bootstrap resamples one vector of scores, not shape {np.shape(mos)}")
    of_counts = OF_COUNTS.get(statistic, _repeating(statistic))
    drawn = draw_counts(len(mos), resamples, seed, groups)
    values = [[of_counts(*pair, counts) for pair in pairs] for counts in drawn]
    return [np.concatenate(column) for column in zip(*values, strict=True)]


# A resampled vector repeats images, so its statistic can be computed from how often each was drawn (counts, (rows, n)).
# Nothing is sorted again, which makes the bootstrap of rank correlations some ten times as fast.


def _srcc_of_counts(prediction: np.ndarray, mos: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return _pearson_of_counts(_ranks_of_counts(prediction, counts), _ranks_of_counts(mos, counts), counts)


def _plcc_of_counts(prediction: np.ndarray, mos: np.ndarray, counts: np.ndarray) -> np.ndarray:
    prediction, mos = (scores / (np.ptp(scores) or 1.0) for scores in (prediction, mos))
    return _pearson_of_counts(prediction[None], mos[None], counts)


def _rmse_of_counts(prediction: np.ndarray, mos: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.sqrt(counts @ ((prediction - mos) ** 2) / counts.sum(axis=1))


def _bias_of_counts(prediction: np.ndarray, mos: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return counts @ (prediction - mos) / counts.sum(axis=1)


def _krcc_of_counts(prediction: np.ndarray, mos: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """tau-b: pairs in the same order minus those in opposite order, from the signs of all differences."""
    if mos.size > PAIRED:
        return _repeating(krcc)(prediction, mos, counts)
    weights = counts.astype(np.float32)  # products of whole numbers below 2^24: exact
    excess = np.zeros(len(counts))
    for start in range(0, mos.size, BLOCK):
        part = slice(start, start + BLOCK)
        signs = np.sign(prediction[part, None] - prediction) * np.sign(mos[part, None] - mos)
        excess += np.sum((weights @ signs.T.astype(np.float32)) * weights[:, part], axis=1, dtype=float)
    drawn = counts.sum(axis=1)
    pairs = drawn * (drawn - 1) / 2
    untied = [pairs - np.sum(t * (t - 1) / 2, axis=1) for t in (_ties(x, counts)[0] for x in (prediction, mos))]
    product = np.sqrt(untied[0]) * np.sqrt(untied[1])
    return np.where(product > 0, excess / 2 / np.where(product > 0, product, 1), 0.0)


OF_COUNTS = {srcc: _srcc_of_counts, plcc: _plcc_of_counts, krcc: _krcc_of_counts}
OF_COUNTS |= {rmse: _rmse_of_counts, bias: _bias_of_counts}


def _repeating(statistic: Statistic) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Any other statistic, on the images repeated as often as they were drawn."""

    def of_counts(prediction: np.ndarray, mos: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return np.array([statistic(np.repeat(prediction, row), np.repeat(mos, row)) for row in counts])

    return of_counts


def _ties(scores: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often each different score was drawn (rows, scores in rising order), and the place of each image's score."""
    _, first, place = np.unique(np.sort(scores), return_index=True, return_inverse=True)
    order = np.argsort(scores, kind="stable")
    of_image = np.empty_like(place)
    of_image[order] = place
    return np.add.reduceat(counts[:, order], first, axis=1), of_image


def _ranks_of_counts(scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Ranks (rows, n) of the images in each resampled vector, ties sharing their mean rank."""
    ties, of_image = _ties(scores, counts)
    return (np.cumsum(ties, axis=1) - (ties - 1) / 2)[:, of_image]


def _pearson_of_counts(a: np.ndarray, b: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Pearson's correlation with each image counted as often as it was drawn; 0 where a side is constant."""
    drawn = counts.sum(axis=1, keepdims=True)
    drawn_at_all = counts > 0
    constant = np.zeros(len(counts), dtype=bool)
    centred = []
    for side in (a, b):
        high = np.where(drawn_at_all, side, -np.inf).max(axis=1)
        constant |= high == np.where(drawn_at_all, side, np.inf).min(axis=1)
        centred.append(side - np.sum(counts * side, axis=1, keepdims=True) / drawn)
    left, right = centred
    lengths = np.sqrt(np.sum(counts * left**2, axis=1)) * np.sqrt(np.sum(counts * right**2, axis=1))
    product = np.sum(counts * left * right, axis=1)
    return np.where(constant, 0.0, np.clip(product / np.where(constant, 1.0, lengths), -1.0, 1.0))


def percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """The central interval `(low, high)` that holds the share `confidence` of resampled values."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def ends(name: str, values: np.ndarray, confidence: float) -> dict[str, float]:
    """The `percentiles` of a figure's resampled values, as its columns `<name>_low` and `<name>_high`."""
    low, high = percentiles(values, confidence)
    return {f"{name}_low": low, f"{name}_high": high}


def holm(p_values: ArrayLike) -> np.ndarray:
    """P-values corrected for their number by Holm's step-down rule; NaN stays NaN and does not count.

    The i-th smallest of m is multiplied by m - i + 1, raised to the largest corrected one before it, and cut at 1.
    Rejecting where the result is below alpha keeps the probability of any false rejection below alpha.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6, 1979.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=float)
    known = np.flatnonzero(~np.isnan(values))
    if values.ndim != 1 or np.any((values[known] < 0) | (values[known] > 1)):
        raise ValueError(f"expected a vector of p-values between 0 and 1, not {values}")
    order = known[np.argsort(values[known], kind="stable")]
    corrected = np.full(values.shape, np.nan)
    corrected[order] = np.minimum(1, np.maximum.accumulate(np.arange(order.size, 0, -1) * values[order]))
    return corrected
