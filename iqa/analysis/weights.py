"""The space of generated weights: principal components, and how well they tell quality and content apart."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.metrics import silhouette_samples
from sklearn.model_selection import GroupKFold, StratifiedKFold

from iqa.analysis.evaluation import MOST
from iqa.analysis.gathering import band, mean_interval
from iqa.metrics import bootstrap, coefficients
from iqa.metrics.verdicts import OPEN

FOLDS = 5  # of the linear probes
ALPHAS = np.logspace(-6, 3, 10)  # ridge penalties to choose from, for coordinates of total variance 1
QUALITY_CLASSES = 3  # equally large groups of MOS, for the silhouette
EQUAL = "all images are given the same weights"
COLUMNS = ["model", "of", "measure", "classes", "n", "value", "low", "high", "chance", "verdict", "reason"]


def pca(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of n rows, through their n x n products (there are far fewer images than weights).

    Distances are in units of the root mean squared distance from the mean row, so that models with other numbers and
    sizes of weights can be drawn on the same axes.

    Returns:
        All coordinates (n, n) and the share of the variance of each (n,), falling; zeros where all rows are equal.
    """
    centred = weights - weights.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
    if values.sum() <= 1e-12 * np.sum(weights.astype(np.float64) ** 2):
        return np.zeros_like(vectors), np.zeros_like(values)
    share = values / values.sum()
    return vectors * np.sqrt(share * len(weights)), share


def turn(coordinates: np.ndarray, quality: pd.Series) -> np.ndarray:
    """Coordinates (n, k), each with the sign that makes its correlation with the quality (n,) positive or zero."""
    return coordinates * np.where(coordinates.T @ (quality - quality.mean()).to_numpy() < 0, -1, 1)


def classes_of(table: pd.DataFrame, of: str) -> tuple[pd.Series, str | None]:
    """The class of each image, and why there are none to tell apart, None if there are.

    Args:
        of: `quality` (thirds of the MOS), `content`, or `distortion`. Contents and distortions that are not known, or
            that occur once, are NaN.
    """
    if of == "quality":
        return pd.Series(band(table["good"], QUALITY_CLASSES), table.index), None
    classes = table["reference" if of == "content" else of]
    counts = classes.value_counts()
    several = int((counts > 1).sum())
    reason = None
    if of == "content" and several < 2:
        reason = "the database shows no content twice"
    if of == "distortion" and not 2 <= several <= MOST["distortion"]:
        reason = f"the database tells {len(counts)} kind{'s' * (len(counts) != 1)} of distortion"
    return classes.where(classes.map(counts) > 1), reason


def quality_probe(
    space: np.ndarray, mos: np.ndarray, contents: np.ndarray, resamples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """SRCC of the MOS with held-out predictions of a ridge regression; no content is in two folds.

    The intercept of a fold is left out: it is the mean of the other folds, which alone would order the folds wrongly.

    Returns:
        `n`, `value`, `low`, `high`, `chance`, `verdict` (above chance, below chance, not distinguishable); or `reason`.
    """
    groups = len(set(contents))
    if not space.any() or groups < FOLDS or np.ptp(mos) == 0:
        return {"reason": f"{groups} contents are too few for {FOLDS} folds" if groups < FOLDS else "nothing varies"}
    held_out = np.zeros(len(mos))
    for train, test in GroupKFold(FOLDS, shuffle=True, random_state=seed).split(space, groups=contents):
        probe = RidgeCV(ALPHAS).fit(space[train], mos[train])
        held_out[test] = space[test] @ probe.coef_
    interval = bootstrap.bootstrap_interval(coefficients.srcc, held_out, mos, resamples, confidence, seed, contents)
    return _result(coefficients.srcc(held_out, mos), interval, 0.0, len(mos))


def class_probe(
    space: np.ndarray,
    classes: pd.Series,
    contents: np.ndarray,
    resamples: int,
    confidence: float,
    seed: int,
    by_content: bool = True,
) -> dict[str, Any]:
    """Share of images whose class a linear classifier tells from the others; chance: always the most frequent class.

    Args:
        classes: NaN for images that do not count.
        by_content: whether no content may be in two folds; False where the contents are the classes.

    Returns:
        As `quality_probe`, and the number of `classes`.
    """
    space, named, contents = _with_class(space, classes, contents)
    counts = np.unique(named, return_counts=True)[1]
    most = len(set(contents)) if by_content else int(counts.min())
    if not space.any() or most < 2:
        return {"reason": "one content only, so that there is nothing to hold out" if space.any() else EQUAL}
    kind, groups = (GroupKFold, contents) if by_content else (StratifiedKFold, None)
    right = np.zeros(len(named))
    for train, test in kind(min(FOLDS, most), shuffle=True, random_state=seed).split(space, named, groups):
        if len(set(named[train])) < 2:
            return {"reason": "the classes do not occur in all folds"}
        right[test] = RidgeClassifierCV(ALPHAS).fit(space[train], named[train]).predict(space[test]) == named[test]
    interval = mean_interval(right, contents, resamples, confidence, seed)
    return _result(right.mean(), interval, counts.max() / counts.sum(), len(named)) | {"classes": len(counts)}


def silhouette(
    space: np.ndarray, classes: pd.Series, contents: np.ndarray, resamples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """Mean silhouette of classes, with Euclidean distances between all generated weights; chance: 0.

    The silhouette of an image, in [-1, 1], compares its distance to images of its class with that to the next class
    (Rousseeuw 1987). Arguments and result as of `class_probe`.
    """
    space, named, contents = _with_class(space, classes, contents)
    count = len(set(named))
    if not space.any() or not 2 <= count < len(named):
        return {"reason": f"{count} class{'es' * (count != 1)} of {len(named)} images" if space.any() else EQUAL}
    values = silhouette_samples(space, named)
    interval = mean_interval(values, contents, resamples, confidence, seed)
    return _result(values.mean(), interval, 0.0, len(named)) | {"classes": count}


def _with_class(space: np.ndarray, classes: pd.Series, contents: np.ndarray) -> tuple[np.ndarray, ...]:
    """Coordinates, classes and contents of the images that have a class."""
    known = classes.notna().to_numpy()
    return space[known], classes[known].to_numpy(), contents[known]


def _result(value: float, interval: tuple[float, float], chance: float, n: int) -> dict[str, Any]:
    low, high = interval
    verdict = "above chance" if low > chance else "below chance" if high < chance else OPEN
    return {"n": n, "value": float(value), "low": low, "high": high, "chance": chance, "verdict": verdict}
