"""Which differences a comparison of trainings would have found, and what it would take to find a given one.

The difference of two means over seeds has two kinds of noise: `images`, the standard error from the choice of test
contents, which is about normal, and `seeds`, that from the choice of seeds, which is estimated with few degrees of
freedom and so follows Student's t.
"""

from bisect import bisect_left
from collections.abc import Callable

import numpy as np
from scipy import stats

POWER = 0.8  # the probability with which a difference is to be found, as is customary
MOST = 1_000_000  # seeds or contents beyond which nothing is looked for


def detectable(
    images: float, seeds: float, freedom: float, level: float, power: float | np.ndarray = POWER
) -> float | np.ndarray:
    """The true difference that a two-sided test at `level` finds with a probability of `power`.

    It is the sum of two quantiles of the noise: where the test decides, and how far below the truth a difference is
    measured with the probability 1 - `power`. A quantile of both kinds of noise together is taken as the root of the
    summed squares of theirs, which is exact where one kind prevails, and some per cent too large or small in between.

    Args:
        images: standard error from the choice of test contents.
        seeds: standard error from the choice of seeds.
        freedom: degrees of freedom of its estimate.

    Source: Cohen, "Statistical Power Analysis for the Behavioral Sciences", 2nd edition, 1988, chapter 2.
    """

    def quantile(share: float | np.ndarray) -> float | np.ndarray:
        normal, student = stats.norm.ppf(share) * images, stats.t.ppf(share, freedom) * seeds
        return np.sign(normal + student) * np.hypot(normal, student)

    return quantile(1 - level / 2) + quantile(power)


def seeds_needed(difference: float, images: float, noise: float, groups: int, level: float) -> float:
    """Seeds for each of all `groups` with which a difference would be found; infinite where the images forbid it.

    Args:
        noise: standard deviation of one training over seeds.
    """

    def limit(seeds: int) -> float | np.ndarray:
        return detectable(images, noise * np.sqrt(2 / seeds), groups * (seeds - 1), level)

    return _fewest(difference, limit)


def contents_needed(
    difference: float, images: float, contents: int, seeds: float, freedom: float, level: float
) -> float:
    """Test contents with which a difference would be found; infinite where the noise of the seeds forbids it.

    Args:
        images, contents: the standard error from the choice of so many contents.
    """
    return _fewest(difference, lambda count: detectable(images * np.sqrt(contents / count), seeds, freedom, level))


def _fewest(difference: float, limit: Callable[[int], float | np.ndarray]) -> float:
    """The smallest number from 2 on with which a difference is detectable, as `limit` falls with it."""
    place = bisect_left(range(2, MOST), True, key=lambda count: bool(limit(count) <= abs(difference)))
    return float("inf") if place == MOST - 2 else float(place + 2)
