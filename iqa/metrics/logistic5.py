"""The logistic with 5 parameters, after which much of the literature takes the PLCC."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from iqa.metrics.coefficients import checked_pair, plcc, search_curve


def logistic5(x: ArrayLike, b1: float, b2: float, b3: float, b4: float, b5: float) -> np.ndarray:
    """The 5-parameter logistic of Sheikh et al.: `b1 * (1/2 - 1 / (1 + exp(b2 * (x - b3)))) + b4 * x + b5`.

    A logistic of height `b1` and centre `b3` on top of a straight line; it need not rise everywhere.
    """
    x = np.asarray(x, dtype=float)
    return b1 * (special.expit(b2 * (x - b3)) - 0.5) + b4 * x + b5


def logistic5_fit(prediction: ArrayLike, mos: ArrayLike) -> np.ndarray:
    """Least-squares parameters `(b1, b2, b3, b4, b5)` of `logistic5` from predictions to MOS, with b2 > 0.

    As in `iqa.metrics.coefficients.logistic_fit`, the search is over the centre and the width (1 / b2) alone, as the
    rest is linear; it starts at the best points of a grid. A straight line is one of the curves, so that no fit is
    worse. Units do not matter.

    Source: Sheikh, Sabir & Bovik, "A statistical evaluation of recent full reference image quality assessment
    algorithms", IEEE Trans. Image Processing 15, 2006.

    Raises:
        ValueError: fewer than 6 scores, or a constant input, which leaves the parameters undetermined.
    """
    prediction, mos = checked_pair(prediction, mos)
    if mos.ndim != 1 or mos.size < 6 or np.ptp(prediction) == 0 or np.ptp(mos) == 0:
        raise ValueError(f"a logistic of 5 parameters needs 6 scores that are not all the same, not shape {mos.shape}")
    mean, std = prediction.mean(), prediction.std()
    x, y = (prediction - mean) / std, (mos - mos.mean()) / mos.std()

    def linear(point: ArrayLike) -> tuple[np.ndarray, float]:
        """The linear parameters (b1, b4, b5) for a centre and a log-width, and the mean squared error."""
        centre, log_width = point
        terms = np.column_stack([special.expit((x - centre) / np.exp(log_width)) - 0.5, x, np.ones_like(x)])
        factors = np.linalg.lstsq(terms, y)[0]
        return factors, float(np.mean((y - terms @ factors) ** 2))

    def misfit(point: ArrayLike) -> float:
        return linear(point)[1]

    centres, widths = np.quantile(x, np.linspace(0.02, 0.98, 13)), np.geomspace(0.05, 50, 7)
    starts = sorted(((centre, np.log(width)) for centre in centres for width in widths), key=misfit)[:3]
    centre, log_width = search_curve(misfit, starts, x)
    b1, slope, level = linear((centre, log_width))[0] * mos.std()
    width = np.exp(log_width) * std
    return np.array([b1, 1 / width, centre * std + mean, slope / std, level + mos.mean() - slope * mean / std])


def plcc_fitted5(prediction: ArrayLike, mos: ArrayLike) -> float:
    """PLCC of two vectors after `logistic5_fit`, in [0, 1]; 0.0 where one is constant."""
    prediction, mos = checked_pair(prediction, mos)
    if np.ptp(prediction) == 0 or np.ptp(mos) == 0:
        return 0.0
    return plcc(logistic5(prediction, *logistic5_fit(prediction, mos)), mos)
