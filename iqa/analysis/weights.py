"""The space of generated weights: principal components, and how well they tell quality and content apart."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.metrics import silhouette_samples
from sklearn.model_selection import GroupKFold, StratifiedKFold

from iqa.analysis.evaluation import MOST
from iqa.analysis.gathering import OPEN, Gathered, band, mean_interval
from iqa.metrics import bootstrap, coefficients

FOLDS = 5  # of the linear probes
ALPHAS = np.logspace(-6, 3, 10)  # ridge penalties to choose from, for coordinates of total variance 1
QUALITY_CLASSES = 3  # equally large groups of MOS, for the silhouette


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


def weight_space(gathered: dict[str, Gathered], components: int) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """Each model's images in the principal components of its own generated weights.

    Networks that were trained apart have no common coordinates, also where they generate equally many weights, so each
    has its own components. The sign of each is chosen so that its correlation with the quality is not negative.

    Returns:
        points: `model`, `image`, `mos`, `good`, `reference`, `distortion`, `pc1`, `pc2`.
        variance: `model`, `weights` (how many), `component` (from 1), `explained` and `cumulative` (shares).
        all coordinates (n, n) of each model.
    """
    points, variance, spaces = [], [], {}
    for name, found in gathered.items():
        coordinates, share = pca(found.weights)
        signs = np.where(coordinates.T @ (found.table["good"] - found.table["good"].mean()).to_numpy() < 0, -1, 1)
        spaces[name] = coordinates * signs
        columns = ["image", "mos", "good", "reference", "distortion"]
        points.append(found.table[columns].assign(pc1=spaces[name][:, 0], pc2=spaces[name][:, 1], model=name))
        kept = share[:components]
        rows = {"weights": found.weights.shape[1], "component": np.arange(1, len(kept) + 1), "explained": kept}
        variance.append(pd.DataFrame(rows).assign(cumulative=np.cumsum(kept), model=name))
    return _model_first(points), _model_first(variance), spaces


def _model_first(frames: list[pd.DataFrame]) -> pd.DataFrame:
    table = pd.concat(frames, ignore_index=True)
    return table[["model", *table.columns.drop("model")]]


def separation(
    gathered: dict[str, Gathered],
    spaces: dict[str, np.ndarray],
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """How well the generated weights tell quality, content and distortion apart: linear probes and silhouettes.

    A probe is a ridge regression on all generated weights, cross-validated in 5 folds: for the quality the SRCC of
    held-out predictions with the MOS, for classes the share that is right. Folds are by content, but where the
    content itself is to be told. The silhouette (Rousseeuw 1987, -1..1) of an image compares its distance to images of
    its class with that to the next class; the classes of quality are thirds of the MOS.

    Returns:
        `model`, `of` (quality, content, distortion), `measure` (probe SRCC, probe accuracy, silhouette), `classes`,
        `n`, `value`, `low`, `high`, `chance`, `verdict` (above chance, below chance, not distinguishable), and
        `reason` where there is no value.
    """
    rows = []
    for name, found in gathered.items():
        table, space = found.table, spaces[name]
        options = {"resamples": resamples, "confidence": confidence, "seed": seed}
        for of, measure, result in _separations(table, space, options):
            rows.append({"model": name, "of": of, "measure": measure} | result)
    columns = ["classes", "n", "value", "low", "high", "chance", "verdict", "reason"]
    return pd.DataFrame(rows).reindex(columns=["model", "of", "measure", *columns])


def _separations(table: pd.DataFrame, space: np.ndarray, options: dict) -> Iterable[tuple[str, str, dict]]:
    """What is measured, how, and the result, of one model."""
    contents = table["reference"].to_numpy()
    yield "quality", "probe SRCC", quality_probe(space, table["mos"].to_numpy(), contents, **options)
    thirds = band(table["good"], QUALITY_CLASSES)
    yield "quality", "silhouette", silhouette(space, thirds, contents, **options)
    for of, classes in (("content", table["reference"]), ("distortion", table["distortion"])):
        reason = _no_classes(of, classes, space)
        kept = classes.notna().to_numpy() & (classes.groupby(classes).transform("size") > 1).to_numpy(dtype=bool)
        for measure, function in (("probe accuracy", class_probe), ("silhouette", silhouette)):
            if reason:
                yield of, measure, {"reason": reason}
                continue
            extra = {"by_content": of != "content"} if function is class_probe else {}
            yield of, measure, function(space[kept], classes[kept].to_numpy(), contents[kept], **extra, **options)


def _no_classes(of: str, classes: pd.Series, space: np.ndarray) -> str | None:
    """Why classes cannot be told apart, None if they can."""
    if not space.any():
        return "all images are given the same weights"
    counts = classes.value_counts()
    if of == "content" and (counts > 1).sum() < 2:
        return "the database shows no content twice"
    if of == "distortion" and not 2 <= (counts > 1).sum() <= MOST["distortion"]:
        return f"the database tells {len(counts)} kind{'s' * (len(counts) != 1)} of distortion"
    return None


def quality_probe(
    space: np.ndarray, mos: np.ndarray, contents: np.ndarray, resamples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """SRCC of the MOS with held-out predictions of a ridge regression; no content is in two folds.

    The intercept of a fold is left out: it is the mean of the other folds, which alone would order the folds wrongly.
    """
    groups = len(set(contents))
    if not space.any() or groups < FOLDS or np.ptp(mos) == 0:
        reason = f"{groups} contents are too few for {FOLDS} folds" if groups < FOLDS else "nothing varies"
        return {"reason": reason}
    held_out = np.zeros(len(mos))
    for train, test in GroupKFold(FOLDS, shuffle=True, random_state=seed).split(space, groups=contents):
        probe = RidgeCV(ALPHAS).fit(space[train], mos[train])
        held_out[test] = space[test] @ probe.coef_
    interval = bootstrap.bootstrap_interval(coefficients.srcc, held_out, mos, resamples, confidence, seed, contents)
    return _result(coefficients.srcc(held_out, mos), interval, 0.0, len(mos))


def class_probe(
    space: np.ndarray,
    classes: np.ndarray,
    contents: np.ndarray,
    resamples: int,
    confidence: float,
    seed: int,
    by_content: bool = True,
) -> dict[str, Any]:
    """Share of images whose class a linear classifier tells from the others; chance: always the most frequent class.

    Args:
        by_content: whether no content may be in two folds; False where the contents are the classes.
    """
    counts = np.unique(classes, return_counts=True)[1]
    most = len(set(contents)) if by_content else int(counts.min())
    if most < 2:
        return {"reason": "one content only, so that there is nothing to hold out"}
    folds = min(FOLDS, most)
    kind = GroupKFold if by_content else StratifiedKFold
    splits = kind(folds, shuffle=True, random_state=seed).split(space, classes, contents if by_content else None)
    right = np.zeros(len(classes))
    for train, test in splits:
        if len(set(classes[train])) < 2:
            return {"reason": "the classes do not occur in all folds"}
        right[test] = RidgeClassifierCV(ALPHAS).fit(space[train], classes[train]).predict(space[test]) == classes[test]
    interval = mean_interval(right, contents, resamples, confidence, seed)
    return _result(right.mean(), interval, counts.max() / counts.sum(), len(classes)) | {"classes": len(counts)}


def silhouette(
    space: np.ndarray, classes: np.ndarray, contents: np.ndarray, resamples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """Mean silhouette of classes, with Euclidean distances between all generated weights; chance: 0."""
    count = len(set(classes))
    if not 2 <= count < len(classes) or not space.any():
        return {"reason": f"{count} class{'es' * (count != 1)} of {len(classes)} images"}
    each = silhouette_samples(space, classes)
    interval = mean_interval(each, contents, resamples, confidence, seed)
    return _result(each.mean(), interval, 0.0, len(classes)) | {"classes": count}


def _result(value: float, interval: tuple[float, float], chance: float, n: int) -> dict[str, Any]:
    low, high = interval
    verdict = "above chance" if low > chance else "below chance" if high < chance else OPEN
    return {"n": n, "value": float(value), "low": low, "high": high, "chance": chance, "verdict": verdict}
