"""Look inside trained models: generated weights, attention over the scales, errors, and the ceiling of rating noise.

`gather` scores the test images of a database once and keeps what led to the scores; everything else is arithmetic on
that. Intervals are percentile bootstraps over contents (`iqa.metrics.draws`), so that images of one content count as
one draw.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.metrics import silhouette_samples
from sklearn.model_selection import GroupKFold, StratifiedKFold

from iqa import metrics
from iqa.data import DataError
from iqa.data.crops import test_positions
from iqa.data.databases import Database
from iqa.evaluation import MOST
from iqa.inference import patch_batches, to_pixels
from iqa.inside import look_inside
from iqa.prediction import Predictor
from iqa.progress import bar

FOLDS = 5  # of the linear probes
ALPHAS = np.logspace(-6, 3, 10)  # ridge penalties to choose from, for coordinates of total variance 1
QUALITY_CLASSES = 3  # equally large groups of MOS, for the silhouette
FEWEST = 5  # images below which a group has no row
EVEN = 0.95  # of the highest entropy; weights above it are called even
HOLDS, FAILS, OPEN = "holds", "does not hold", "not distinguishable"


@dataclass(frozen=True)
class Gathered:
    """What a model made of n images.

    Args:
        table: the database's rows with `prediction` and `residual` (prediction - MOS) on the database's scale, `good`
            (the MOS on 0..1, 1 is best), `height` and `width` of the stored image in pixels.
        weights: (n, w), float32, generated for each image's target network; the mean over its patches.
        scales: (n, 4), how much each scale counts, finest first; None where the fusion does not weigh the scales.
    """

    table: pd.DataFrame
    weights: np.ndarray
    scales: np.ndarray | None


def gather(model: Predictor, database: Database, split: str = "test") -> Gathered:
    """Scores of a split as `iqa.inference.score` gives them, and what led to them, in one pass of full batches.

    Patches are those of the model's own test split (`Predictor.options`).
    """
    indices = database.indices(split)
    precision = model.options["precision"]
    batches = patch_batches(database, indices, **{k: v for k, v in model.options.items() if k != "precision"})
    device = model.network.mean.device
    lower = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")
    total, count = np.zeros(len(indices)), np.zeros(len(indices))
    weights, scales = np.zeros((0, 0), np.float32), None
    with bar(total=len(indices), desc=f"looking into {model.name}", unit="image") as done:
        for rows, pixels in batches:
            with lower:
                inside = look_inside(model.network, pixels.to(device))
            np.add.at(total, rows, inside.scores.cpu().numpy())
            np.add.at(count, rows, 1)
            generated = inside.generated.float().cpu().numpy()
            weights = weights if weights.size else np.zeros((len(indices), generated.shape[1]), np.float32)
            np.add.at(weights, rows, generated)
            if inside.scale_weights is not None:
                scales = np.zeros((len(indices), inside.scale_weights.shape[1])) if scales is None else scales
                np.add.at(scales, rows, inside.scale_weights.float().cpu().numpy())
            done.update(np.count_nonzero(count) - done.n)
    table = database.table.iloc[indices].reset_index(drop=True)
    prediction = database.denormalise(total / count)
    sizes = np.array([database.pixels(index, model.options["input"]).shape[:2] for index in indices])
    table = table.assign(prediction=prediction, residual=prediction - table["mos"])
    table = table.assign(good=database.normalise(table["mos"]), height=sizes[:, 0], width=sizes[:, 1])
    weights /= count[:, None].astype(np.float32)
    return Gathered(table, weights, None if scales is None else scales / count[:, None])


# weight space


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
    interval = metrics.bootstrap_interval(metrics.srcc, held_out, mos, resamples, confidence, seed, contents)
    return _result(metrics.srcc(held_out, mos), interval, 0.0, len(mos))


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
    interval = _mean_interval(right, contents, resamples, confidence, seed)
    return _result(right.mean(), interval, counts.max() / counts.sum(), len(classes)) | {"classes": len(counts)}


def silhouette(
    space: np.ndarray, classes: np.ndarray, contents: np.ndarray, resamples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """Mean silhouette of classes, with Euclidean distances between all generated weights; chance: 0."""
    count = len(set(classes))
    if not 2 <= count < len(classes) or not space.any():
        return {"reason": f"{count} class{'es' * (count != 1)} of {len(classes)} images"}
    each = silhouette_samples(space, classes)
    interval = _mean_interval(each, contents, resamples, confidence, seed)
    return _result(each.mean(), interval, 0.0, len(classes)) | {"classes": count}


def _result(value: float, interval: tuple[float, float], chance: float, n: int) -> dict[str, Any]:
    low, high = interval
    verdict = "above chance" if low > chance else "below chance" if high < chance else OPEN
    return {"n": n, "value": float(value), "low": low, "high": high, "chance": chance, "verdict": verdict}


def _mean_interval(
    values: np.ndarray, groups: np.ndarray, resamples: int, confidence: float, seed: int
) -> tuple[float, float]:
    """Interval of the mean of one value per image."""
    return metrics.percentiles(_means(values[:, None], groups, resamples, seed)[:, 0], confidence)


def _means(values: np.ndarray, groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Resampled means (resamples, k) of k values per image (n, k)."""
    drawn = metrics.draws(len(values), resamples, seed, groups)
    return np.concatenate([counts @ values / counts.sum(axis=1, keepdims=True) for counts in drawn])


# attention


def band(values: pd.Series | np.ndarray, count: int) -> np.ndarray:
    """Number (n,) of the band of each value, 0 the lowest: about equally many images each, equal values in one."""
    values = np.asarray(values, dtype=float)
    inner = np.unique(np.quantile(values, np.arange(1, count) / count))
    return np.unique(np.searchsorted(inner, values, side="right"), return_inverse=True)[1]


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
                low, high = _mean_interval(values[own], contents, resamples, confidence, seed)
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
        deep = _means(quantities["deep"][best, None], contents[best], resamples, seed)[:, 0]
        even = _means(quantities["entropy"][worst, None], contents[worst], resamples, seed)[:, 0]
        parts = [
            ("deep weight against quality", "rises", *_slope(good, quantities["deep"], contents, resamples, seed), 0.0),
            ("deep weight of the best band", "above 1/2", quantities["deep"][best].mean(), deep, 0.5),
            ("entropy against quality", "falls", *_slope(good, quantities["entropy"], contents, resamples, seed), 0.0),
            ("entropy of the worst band", f"at least {EVEN:g}", quantities["entropy"][worst].mean(), even, EVEN),
        ]
        verdicts = []
        for part, stated, value, resampled, bound in parts:
            sign = -1 if stated == "falls" else 1
            low, high = metrics.percentiles(resampled, confidence)
            ends = sorted((sign * (low - bound), sign * (high - bound)))
            verdicts.append(HOLDS if ends[0] > 0 else FAILS if ends[1] < 0 else OPEN)
            p_value = None if bound == EVEN else metrics.p_value(resampled - bound)
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

    return float(slope(moments.mean(axis=0)[None])[0]), slope(_means(moments, groups, resamples, seed))


# errors


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
        drawn = _means(both, part["reference"].to_numpy(), resamples, seed)
        row = {"by": by, "value": value, "n": len(part)}
        for name, mean, resampled in zip(("bias", "mae"), both.mean(axis=0), drawn.T, strict=True):
            low, high = metrics.percentiles(resampled, confidence)
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


# the ceiling


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
            values = getattr(metrics, name)(np.broadcast_to(true, drawn.shape), drawn)
            low, high = metrics.percentiles(values, confidence)
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
        statistic = getattr(metrics, name)
        low, high = metrics.bootstrap_interval(statistic, scores, mos, resamples, confidence, seed, contents)
        found |= {name: statistic(scores, mos), f"{name}_low": low, f"{name}_high": high}
    return found


# maps of single images


@dataclass(frozen=True)
class Maps:
    """An image with what a model makes of its places.

    Args:
        title: its name, why it is shown, and its scores.
        image: (H, W, 3), uint8, or the part of it that the maps are of.
        maps: (h, w) each, to be stretched over the image.
        titles: of the maps.
    """

    title: str
    image: np.ndarray
    maps: list[np.ndarray]
    titles: list[str]


def quality_rows(model: Predictor, files: list[Path], rows: pd.DataFrame) -> list[Maps]:
    """The quality map of each image, turned where lower scores are better, so that high is good.

    Args:
        files: of the images.
        rows: one per image, as `chosen` returns them.
    """
    found = []
    for file, row in zip(files, rows.to_dict("records"), strict=True):
        scores = model.quality_map(file)
        quality = scores.per_pixel() * (1 if model.scale.higher_is_better else -1)
        low, high = scores.scores.min(), scores.scores.max()
        text = f"{len(scores.scores)} crops of {scores.window[0]} x {scores.window[1]}: {low:.3g} to {high:.3g}"
        found.append(Maps(_titled(row), model.rgb(file), [quality], [text]))
    return found


def feature_rows(model: Predictor, files: list[Path], rows: pd.DataFrame) -> list[Maps]:
    """The mean activation of each level of the backbone, finest first.

    Of the whole image for a model that is tested on whole images, otherwise of the centre crop, as a backbone may not
    take other sizes. Arguments as of `quality_rows`.
    """
    found = []
    for file, row in zip(files, rows.to_dict("records"), strict=True):
        image = model.rgb(file)
        pixels = model.pixels(image)
        if model.options["crops"] != "whole":
            (top, left), *_ = test_positions("center", 1, *pixels.shape[:2], model.crop, 0, 0)
            here = np.s_[top : top + model.crop, left : left + model.crop]
            pixels, image = pixels[here], image[here]
        maps = [
            each[0].float().mean(dim=0).cpu().numpy() for each in look_inside(model.network, to_pixels([pixels])).maps
        ]
        titles = [f"level {number}: {' x '.join(map(str, each.shape))}" for number, each in enumerate(maps, 1)]
        found.append(Maps(_titled(row), image, maps, titles))
    return found


def _titled(row: dict[str, Any]) -> str:
    return f"{row['image']} ({row['why']}): MOS {row['mos']:.3g}, predicted {row['prediction']:.3g}"


# what the run as a whole tells


def models_table(gathered: dict[str, Gathered], models: dict[str, Predictor], waiting: dict[str, str]) -> pd.DataFrame:
    """One row per model: `model`, `fusion`, `weights` (generated per image), `crops`, `n`, `srcc`, `status`, `command`.

    Args:
        waiting: models that are not trained, by name: how to make them.
    """
    rows = []
    for name, found in gathered.items():
        about = {"fusion": models[name].network.params.fusion, "weights": found.weights.shape[1]}
        about |= {"crops": models[name].options["crops"], "n": len(found.table)}
        srcc = metrics.srcc(found.table["prediction"], found.table["mos"])
        rows.append({"model": name, **about, "srcc": srcc, "status": "finished"})
    rows += [{"model": name, "status": "not run", "command": command} for name, command in waiting.items()]
    columns = ["model", "fusion", "weights", "crops", "n", "srcc", "status", "command"]
    return pd.DataFrame(rows).reindex(columns=columns)


def summary(
    database: Database,
    gathered: dict[str, Gathered],
    left_out: dict[str, str],
    pictured: pd.DataFrame,
    waiting: dict[str, str],
) -> dict[str, Any]:
    """What `analysis.json` holds besides the tables: what was looked at, and what could not be."""
    table = next(iter(gathered.values())).table
    return {
        "database": database.name,
        "title": database.title,
        "synthetic": database.synthetic,
        "n": len(table),
        "contents": int(table["reference"].nunique()),
        "models": list(gathered),
        "attends": [name for name, found in gathered.items() if found.scales is not None],
        "waiting": waiting,
        "left_out": left_out,
        "pictured": pictured[["image", "why"]].to_dict("records"),
    }
