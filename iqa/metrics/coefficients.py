"""Agreement between predicted scores and mean opinion scores (MOS): the coefficients of the field.

Every statistic takes predictions and MOS as arrays of equal shape, scores along the last axis. Two vectors of
n scores give a float; arrays of shape (..., n) give one value per row.

A constant input has no order and no trend, so a correlation with it is defined as 0.0, not NaN: a model that collapsed
to one score has SRCC = PLCC = KRCC = 0.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

Statistic = Callable[[np.ndarray, np.ndarray], float | np.ndarray]


def srcc(prediction: ArrayLike, mos: ArrayLike) -> float | np.ndarray:
    """Spearman's rank correlation, in [-1, 1]: the PLCC of the ranks, ties sharing their mean rank.

    >>> round(srcc([1, 2, 3, 4], [10, 20, 40, 30]), 3)
    0.8
    """
    prediction, mos = checked_pair(prediction, mos)
    return _plain(_pearson(stats.rankdata(prediction, axis=-1), stats.rankdata(mos, axis=-1)))


def plcc(prediction: ArrayLike, mos: ArrayLike) -> float | np.ndarray:
    """Pearson's linear correlation of the raw predictions, in [-1, 1].

    >>> round(plcc([0, 1, 2], [1, 1, 4]), 3)
    0.866
    """
    return _plain(_pearson(*checked_pair(prediction, mos)))


def krcc(prediction: ArrayLike, mos: ArrayLike) -> float | np.ndarray:
    """Kendall's rank correlation with correction for ties (tau-b), in [-1, 1].

    >>> round(krcc([1, 2, 3], [1, 3, 2]), 3)
    0.333
    """
    prediction, mos = checked_pair(prediction, mos)
    return _plain(_over_rows(lambda one, other: stats.kendalltau(one, other).statistic, prediction, mos))


def rmse(prediction: ArrayLike, mos: ArrayLike) -> float | np.ndarray:
    """Root mean squared error, >= 0, in units of the MOS.

    >>> rmse([1, 2], [4, 5])
    3.0
    """
    prediction, mos = checked_pair(prediction, mos)
    return _plain(np.sqrt(np.mean((prediction - mos) ** 2, axis=-1)))


def bias(prediction: ArrayLike, mos: ArrayLike) -> float | np.ndarray:
    """Mean error of the predictions, `mean_i (p_i - m_i)`, in units of the MOS: above 0 where they are too high.

    >>> bias([1, 2], [4, 5])
    -3.0
    """
    prediction, mos = checked_pair(prediction, mos)
    return _plain(np.mean(prediction - mos, axis=-1))


def logistic(x: ArrayLike, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    """The 4-parameter logistic of VQEG: `b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|))`.

    It rises from `b2` to `b1` (falls if `b1 < b2`), is half-way at `b3`, and `|b4|` is its width.
    """
    return b2 + (b1 - b2) * special.expit((np.asarray(x, dtype=float) - b3) / abs(b4))


def logistic_fit(prediction: ArrayLike, mos: ArrayLike) -> np.ndarray:
    """Least-squares parameters `(b1, b2, b3, b4)` of `logistic` from predictions to MOS, with b4 > 0.

    The model is linear in b1 and b2, so the search is over b3 and b4 only, for the curve that correlates best with the
    MOS; b1 and b2 follow by regression (variable projection, Golub & Pereyra 1973). It starts at the usual
    b3 = mean(prediction) with b4 = std(prediction) / 4, and a second time with a curve that is nearly straight, so that
    the fit is never worse than a straight line. Units of the inputs do not matter.

    Source: Video Quality Experts Group, "Final report from the Video Quality Experts Group on the validation of
    objective models of video quality assessment" (FR-TV phase I), 2000.

    Raises:
        ValueError: fewer than 5 scores, or a constant input, which leaves the parameters undetermined.
    """
    prediction, mos = checked_pair(prediction, mos)
    if prediction.ndim != 1 or prediction.size < 5:
        raise ValueError(
            f"a logistic of 4 parameters needs a vector of at least 5 scores, not shape {prediction.shape}"
        )
    for name, scores in (("prediction", prediction), ("mos", mos)):
        if np.ptp(scores) == 0:
            raise ValueError(f"a logistic cannot be fitted: {name} is constant ({scores[0]:g})")
    mean, std = prediction.mean(), prediction.std()
    x = (prediction - mean) / std

    def misfit(place_and_log_width: np.ndarray) -> float:
        place, log_width = place_and_log_width
        return 1 - abs(_pearson(logistic(x, 1, 0, place, np.exp(log_width)), mos))

    place, log_width = search_curve(misfit, [(0.0, np.log(width)) for width in (0.25, 50.0)], x)
    b3, b4 = place * std + mean, np.exp(log_width) * std
    curve = logistic(prediction, 1, 0, b3, b4)
    slope = np.mean((curve - curve.mean()) * (mos - mos.mean())) / curve.var()
    b2 = mos.mean() - slope * curve.mean()
    return np.array([b2 + slope, b2, b3, b4])


def search_curve(misfit: Callable[[ArrayLike], float], starts: Iterable[ArrayLike], x: np.ndarray) -> np.ndarray:
    """Centre and logarithm of the width of the logistic with the least misfit to standardised predictions `x`.

    A search ends after 5,000 steps at the latest: where predictions are few, or nearly equal, the misfit may fall
    for ever, towards a step that no logistic is.
    """
    how = {"method": "Nelder-Mead", "bounds": [(x.min() - 3, x.max() + 3), (np.log(0.02), np.log(100))]}
    how["options"] = {"xatol": 1e-6, "fatol": 1e-12, "maxiter": 5000, "maxfev": 5000}
    return min((optimize.minimize(misfit, start, **how) for start in starts), key=lambda search: search.fun).x


def plcc_fitted(prediction: ArrayLike, mos: ArrayLike) -> float | np.ndarray:
    """PLCC after `logistic_fit`, in [0, 1]: the fit absorbs the sign, which SRCC shows.

    A constant input gives 0.0, as for the other correlations. Errors are those of `logistic_fit`.
    """
    prediction, mos = checked_pair(prediction, mos)
    return _plain(_over_rows(_fitted, prediction, mos))


def summary(prediction: ArrayLike, mos: ArrayLike) -> dict[str, float | int]:
    """All statistics of one database: n, srcc, plcc, plcc_fitted, krcc, rmse and bias (in units of the MOS).

    Raises:
        ValueError: unequal or too short vectors, values that are not finite, or MOS that are all the same.
    """
    prediction, mos = checked_pair(prediction, mos)
    if np.ptp(mos) == 0:
        raise ValueError(f"all {mos.size} MOS are {mos[0]:g}: there is nothing to agree with")
    statistics = (srcc, plcc, plcc_fitted, krcc, rmse, bias)
    return {"n": mos.size} | {statistic.__name__: statistic(prediction, mos) for statistic in statistics}


def checked_pair(prediction: ArrayLike, mos: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both inputs as float64 arrays.

    Raises:
        ValueError: their shapes differ, they hold fewer than 2 scores, or a score is not finite.
    """
    prediction, mos = np.asarray(prediction, dtype=float), np.asarray(mos, dtype=float)
    if prediction.shape != mos.shape:
        raise ValueError(f"prediction and mos differ in shape: {prediction.shape} and {mos.shape}")
    if mos.ndim == 0 or mos.shape[-1] < 2:
        raise ValueError(f"agreement needs at least 2 scores, not shape {mos.shape}")
    for name, scores in (("prediction", prediction), ("mos", mos)):
        if not np.isfinite(scores).all():
            place = tuple(int(axis) for axis in np.argwhere(~np.isfinite(scores))[0])
            raise ValueError(f"{name}[{', '.join(map(str, place))}] is {scores[place]}; scores must be finite numbers")
    return prediction, mos


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's correlation along the last axis; 0 where either side is constant."""
    a, b = _directed(a), _directed(b)
    return np.clip(np.sum(a * b, axis=-1), -1.0, 1.0)


def _directed(scores: np.ndarray) -> np.ndarray:
    """Scores centred and scaled to length 1 along the last axis; zeros where they are constant."""
    spread = np.ptp(scores, axis=-1, keepdims=True)
    constant = spread == 0
    # dividing by the range first keeps the squares of very large and very small scores in range
    centred = (scores - scores.mean(axis=-1, keepdims=True)) / np.where(constant, 1.0, spread)
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, length))


def _fitted(prediction: np.ndarray, mos: np.ndarray) -> np.ndarray:
    return _pearson(logistic(prediction, *logistic_fit(prediction, mos)), mos)


def _over_rows(function: Statistic, prediction: np.ndarray, mos: np.ndarray) -> float | np.ndarray:
    """A statistic of vectors, applied to each row of arrays; 0 where a vector is constant."""
    if mos.ndim > 1:
        return np.array([_over_rows(function, *row) for row in zip(prediction, mos, strict=True)])
    return function(prediction, mos) if np.ptp(prediction) and np.ptp(mos) else 0.0


def _plain(value: float | np.ndarray) -> float | np.ndarray:
    return float(value) if np.ndim(value) == 0 else value
