"""Simple models beside a trained one, on the same images: a network has to be better than what costs seconds.

A baseline turns an image into features, and a regressor of scikit-learn is fitted to those of the training images of
the trained model's database. Its constants are those with the least squared error in cross-validation over the contents
of these images. Validation images, which may be few, are not used.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.special import gamma
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from torch import Tensor, nn

from iqa.analysis import evaluation
from iqa.data.database import Database
from iqa.data.pixels import rgb
from iqa.data.prepare import in_size
from iqa.data.sizes import Size
from iqa.metrics import bootstrap, coefficients
from iqa.metrics.verdicts import BETTER, OPEN, WORSE
from iqa.model.backbone import BackboneError
from iqa.model.hyperiqa import HyperIQA
from iqa.model.params import change_rule
from iqa.model.pooling import means
from iqa.model.predictor import Predictor
from iqa.model.scoring import patch_positions, score_patches
from iqa.model.tensors import CheckpointError
from iqa.study.progress import bar
from iqa.study.registry import Registry
from iqa.training.params import TrainParams

# Classes that are made of a trained model, the parameters of its training, and the rule by which it scores. Each has
# `features`, `regressor` with the `grid` of its constants, and a `note`; `title` and `words` are for the report.
BASELINES = Registry("baseline")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue in the grey image (ITU-R BT.601)
STATISTICS = 36
FOLDS = 5  # of the training images' contents, by which the constants are chosen
SHAPES = np.arange(0.2, 10.0005, 0.001)  # of generalised Gaussians
RATIOS = gamma(2 / SHAPES) ** 2 / (gamma(1 / SHAPES) * gamma(3 / SHAPES))  # E|x|^2 / E x^2 of each, rising
RANDOM = "The training starts from random weights, so these are random features."
COLUMNS = [  # of `baselines.csv`
    *("model", "label", "kind", *evaluation.COLUMNS[1:]),
    *("delta", "delta_low", "delta_high", "p_value", "p_holm", "verdict"),
]


class BaselineError(ValueError):
    """An image of which a baseline has no features; the message names the image and its database."""


def mscn(grey: np.ndarray) -> np.ndarray:
    """Locally normalised grey image (H, W) of one on 0..255: `(I - mu) / (sigma + 1)`, floating point.

    `mu` and `sigma` are those of a 7x7 Gaussian window of deviation 7/6, with the edges repeated. For networks there is
    another form, `iqa.data.pixels.mscn`.

    Source: Mittal, Moorthy & Bovik 2012, equations 1 to 3.
    """
    window = {"sigma": 7 / 6, "radius": 3, "mode": "nearest"}
    mean = gaussian_filter(grey, **window)
    variance = gaussian_filter(grey * grey, **window) - mean * mean
    return (grey - mean) / (np.sqrt(variance.clip(min=0)) + 1)


def fit_gaussian(values: np.ndarray) -> list[float]:
    """Shape and variance of the generalised Gaussian with mean zero that has the moments of some values.

    The shape, in 0.2..10, is 1 for a Laplace and 2 for a normal distribution; NaN where all values are zero.

    Source: Sharifi & Leon-Garcia 1995, "Estimation of shape parameter for generalized Gaussian distributions".
    """
    variance = np.mean(values * values)
    return [np.interp(np.mean(np.abs(values)) ** 2 / variance, RATIOS, SHAPES), variance]


def fit_asymmetric(values: np.ndarray) -> list[float]:
    """Shape, mean, left and right variance of the asymmetric generalised Gaussian with the moments of some values.

    NaN where no value is below or above zero.

    Source: Lasmar, Stitou & Berthoumieu 2009, "Multiscale skewed heavy tailed model for texture analysis"; Mittal,
    Moorthy & Bovik 2012, equations 8 to 15.
    """
    values = values.ravel()
    below = np.minimum(values, 0)
    squares, squares_below = values @ values, below @ below
    left = squares_below / np.count_nonzero(values < 0)
    right = (squares - squares_below) / np.count_nonzero(values > 0)
    skew = np.sqrt(left / right)
    ratio = (values.sum() - 2 * below.sum()) ** 2 / (squares * values.size)
    ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = np.interp(ratio, RATIOS, SHAPES)
    scale = gamma(2 / shape) / np.sqrt(gamma(1 / shape) * gamma(3 / shape))
    return [shape, (np.sqrt(right) - np.sqrt(left)) * scale, left, right]


def scene_statistics(image: np.ndarray) -> np.ndarray:
    """The 36 natural-scene statistics of BRISQUE (36,), of an image (H, W, 3), uint8, at its own and at half its size.

    Of each size: shape and variance of its MSCN values; then shape, mean, left and right variance of the products of
    neighbours to the right, below, below right and below left. NaN for an image of one colour.

    Source: Mittal, Moorthy & Bovik 2012, "No-reference image quality assessment in the spatial domain".
    """
    if (image == image[0, 0]).all():  # else what rounding leaves would be taken for a texture
        return np.full(STATISTICS, np.nan)
    grey, found = image @ LUMA, []
    half = Image.fromarray(grey).resize((grey.shape[1] // 2, grey.shape[0] // 2), Image.Resampling.BICUBIC)
    with np.errstate(invalid="ignore", divide="ignore"):
        for scale in (grey, np.asarray(half)):
            x = mscn(scale)
            neighbours = (x[:, :-1], x[:, 1:]), (x[:-1], x[1:]), (x[:-1, :-1], x[1:, 1:]), (x[:-1, 1:], x[1:, :-1])
            found += fit_gaussian(x)
            for one, other in neighbours:
                found += fit_asymmetric(one * other)
    return np.array(found, dtype=float)


@BASELINES.add(
    "nss_svr",
    title="NSS + SVR",
    words="the 36 natural-scene statistics of BRISQUE [@mittal2012brisque] of the grey image at its stored and at half "
    "its size, with a support vector regression [@smola2004svr]",
)
class StatisticsRegression:
    """Natural-scene statistics and a support vector regression with a radial kernel."""

    regressor = SVR
    grid: ClassVar[dict[str, list[float]]] = {
        "svr__C": [0.1, 1, 10],
        "svr__gamma": [0.01, 0.03, 0.1],
        "svr__epsilon": [0.02, 0.1],
    }

    def __init__(self, model: Predictor, training: TrainParams, rule: dict[str, Any]):
        self.input, self.note = rgb.name, ""

    def features(self, images: Iterable[np.ndarray]) -> list[np.ndarray]:
        """(36,) of each image (H, W, 3), uint8."""
        return Parallel(torch.get_num_threads(), prefer="threads")(delayed(scene_statistics)(each) for each in images)


class Pooled(nn.Module):
    """The mean and the standard deviation over space of the four maps of a network's backbone, as one vector."""

    def __init__(self, network: HyperIQA):
        super().__init__()
        self.network = network

    @property
    def mean(self) -> Tensor:
        """Of the network, on the device where it is."""
        return self.network.mean

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 2 (C_1 + ... + C_4)) of pixels (B, 3, H, W)."""
        maps = self.network.backbone(self.network.normalise(pixels))
        return torch.cat([means(maps), *(level.std(dim=(2, 3), correction=0) for level in maps)], dim=1)


@BASELINES.add(
    "ridge",
    title="Pooled maps + ridge",
    words="the mean and the standard deviation of the four maps of the backbone as the training starts from it, over "
    "the same crops that the model scores, with a ridge regression [@hoerl1970ridge]",
)
class PooledRegression:
    """Maps of the backbone before training, pooled, and a ridge regression."""

    regressor = Ridge
    grid: ClassVar[dict[str, list[float]]] = {"ridge__alpha": np.logspace(-1, 5, 13).tolist()}

    def __init__(self, model: Predictor, training: TrainParams, rule: dict[str, Any]):
        self.input = rule["input"]
        self.options = {key: rule[key] for key in ("crop", "crops", "patches", "seed")}
        self.forward = {key: rule[key] for key in ("batch_size", "precision")}
        self.note = "" if training.pretrained or training.weights else RANDOM
        with torch.random.fork_rng():
            torch.manual_seed(training.seed)  # as in the training, whose random weights these are
            network = HyperIQA(training.architecture(), training.pretrained, training.weights)
        self.pooled = Pooled(network).to(model.network.mean.device, memory_format=torch.channels_last)

    def features(self, images: Iterable[np.ndarray]) -> list[np.ndarray]:
        """(2 (C_1 + ... + C_4),) of each image (H, W, 3): the mean over its crops."""
        return [self._of_image(pixels) for pixels in images]

    def _of_image(self, pixels: np.ndarray) -> np.ndarray:
        corners, window = patch_positions(pixels, **self.options)
        places = {window: [(0, top, left) for top, left in corners.tolist()]}
        batches = score_patches(self.pooled, lambda _: pixels, places, **self.forward)
        return np.concatenate([values["scores"] for _, values in batches]).mean(axis=0)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A baseline that was fitted."""

    name: str
    baseline: Any
    regressor: Pipeline
    size: Size | None  # of the images; None: as each database is stored
    chosen: dict[str, float]  # the constants that the cross-validation chose
    seconds: float  # that the fit took

    def predict(self, database: Database) -> pd.DataFrame:
        """The rows of a database's test split with `prediction`, on the database's own scale."""
        table = database.table.iloc[database.indices("test")].reset_index(drop=True)
        features = _features(self.name, self.baseline, database, "test", self.size)
        return table.assign(prediction=database.denormalise(self.regressor.predict(features)))


def fit(
    name: str, model: Predictor, training: TrainParams, database: Database, preparation: str = "model", **changes: Any
) -> Fitted:
    """A baseline, fitted to the training images of a database; cross-validation over their contents chooses in `grid`.

    Args:
        name: one of `BASELINES`.
        model: the trained model, whose size, input and crops the baseline shares.
        training: its parameters.
        database: that the model was trained on.
        preparation, changes: as in `iqa.analysis.evaluation.score`.

    Raises:
        BaselineError: an image has no features.
        BackboneError, CheckpointError: the weights from which the training starts are not here.
    """
    start = time.perf_counter()
    baseline = BASELINES[name](model, training, change_rule(model.options, **changes))
    size = model.size if preparation == "model" else None
    rows = database.indices("train")
    features = _features(name, baseline, database, "train", size)
    quality = database.normalise(database.table["mos"].to_numpy(dtype=float)[rows])
    contents = database.table["reference"].to_numpy()[rows]
    held_out = GroupKFold(min(FOLDS, len(set(contents))))
    options = {"scoring": "neg_mean_squared_error", "error_score": "raise"}
    regressor = make_pipeline(StandardScaler(), baseline.regressor())
    search = GridSearchCV(regressor, baseline.grid, cv=held_out, **options).fit(features, quality, groups=contents)
    chosen = {key.split("__")[1]: value for key, value in search.best_params_.items()}
    return Fitted(name, baseline, search.best_estimator_, size, chosen, time.perf_counter() - start)


def fit_all(names: Iterable[str], *arguments: Any, **options: Any) -> tuple[dict[str, Fitted], dict[str, str]]:
    """Baselines that were fitted, and why the others were not run, by name; arguments as of `fit`."""
    fitted, lacking = {}, {}
    for name in names:
        try:
            fitted[name] = fit(name, *arguments, **options)
        except (BackboneError, CheckpointError) as error:
            lacking[name] = str(error)
    return fitted, lacking


def _features(name: str, baseline: Any, database: Database, split: str, size: Size | None) -> np.ndarray:
    """Features (n, f) of the images of a split."""
    part = in_size(database, split, size or database.size, baseline.input)
    rows = part.indices(split)
    shown = bar(rows, total=len(rows), desc=f"reading '{database.name}' for {name}", unit="image")
    features = np.stack(baseline.features(part.pixels(row, baseline.input) for row in shown))
    for place in np.flatnonzero(~np.isfinite(features).all(axis=1)):
        image = part.table["image"].iloc[rows[place]]
        raise BaselineError(
            f"baseline '{name}': image '{image}' of database '{database.name}' has no finite features, as one of a "
            "single colour; correct the image, or leave this baseline out of `baselines`"
        )
    return features


def predict_all(
    fitted: Mapping[str, Fitted], databases: Mapping[str, Database]
) -> tuple[dict[tuple[str, str], pd.DataFrame], dict[tuple[str, str], float]]:
    """What each baseline predicts of the test images of each database, and in how many seconds, by both names."""
    predictions, seconds = {}, {}
    for pair in product(fitted, databases):
        start = time.perf_counter()
        predictions[pair] = fitted[pair[0]].predict(databases[pair[1]])
        seconds[pair] = time.perf_counter() - start
    return predictions, seconds


def compare(
    predictions: Mapping[tuple[str, str], pd.DataFrame],
    first: str,
    about: Mapping[str, Mapping[str, Any]],
    databases: Mapping[str, Database],
    known: Iterable[Mapping[str, Any]] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """How well several models agree with the MOS, and how far each is from the first one on the same images.

    Args:
        predictions: by model and database, what `evaluation.score` and `Fitted.predict` return.
        first: the model that the others are compared with.
        about: of each model `label`, `kind` (model, checkpoint, baseline), `trained_on`, and `uncalibrated`.
        databases: by name.
        known: rows of `cross.csv`, which are not computed again.
        resamples, seed: of the bootstrap, whose samples of contents are the same for two models.

    Returns:
        One row per pair: `COLUMNS`. `delta` is the SRCC less that of the first model, `p_holm` its p-value, corrected
        for the number of models on the database, and `verdict` what follows: better or worse than the first model.
    """
    measured = {(row["model"], row["database"]): row for row in known}
    rows = []
    for (model, name), found in predictions.items():
        database, options = databases[name], {"resamples": resamples, "seed": seed}
        row = {"model": model, "database": name, "title": database.title, "available": True}
        row |= {"ceiling_srcc": database.ceiling_srcc(), "copies": measured.get((first, name), {}).get("copies")}
        uncalibrated = about[model]["uncalibrated"]
        row |= measured.get((model, name)) or evaluation.evaluate(found, **options, uncalibrated=uncalibrated)
        delta = {"verdict": "reference"} if model == first else _difference(found, predictions[first, name], **options)
        rows.append(row | about[model] | delta)
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    for _, part in table.groupby("database"):
        table.loc[part.index, "p_holm"] = bootstrap.holm(part["p_value"].astype(float))
    distinct = table["p_holm"] < 1 - table["confidence"].astype(float)
    words = np.where(distinct, np.where(table["delta"] > 0, BETTER, WORSE), OPEN)
    return table.assign(verdict=table["verdict"].fillna(pd.Series(words, table.index)))


def _difference(found: pd.DataFrame, first: pd.DataFrame, resamples: int, seed: int) -> dict[str, float]:
    """How much higher the SRCC of some predictions is than that of others of the same images."""
    if list(found["image"]) != list(first["image"]):
        raise ValueError("the models to compare have scored different images")
    scores, options = (found["prediction"], first["prediction"], first["mos"]), {"resamples": resamples, "seed": seed}
    result = bootstrap.paired_difference(coefficients.srcc, *scores, **options, groups=first["reference"])
    return dict(zip(("delta", "delta_low", "delta_high", "p_value"), result, strict=True))


def not_run(lacking: Mapping[str, str], titles: Mapping[str, str]) -> pd.DataFrame:
    """A row for each baseline that was not run, and each database: why not; `titles` of the databases by name."""
    rows = [
        {"model": name, "label": BASELINES[name].title, "kind": "baseline", "database": database, "title": title}
        | {"available": False, "reason": f"not run: {why}", "verdict": "not run"}
        for name, why in lacking.items()
        for database, title in titles.items()
    ]
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def describe(fitted: Mapping[str, Fitted], lacking: Mapping[str, str], first: str, database: str | None) -> dict:
    """What `baselines.json` holds: the model and the database of the fits, and each baseline in words.

    A baseline has `name`, `title`, `words`, `note`, the `chosen` constants, and `lacking`: why it was not run.
    """
    rows = []
    for name in [*fitted, *lacking]:
        entry = {"name": name, "title": BASELINES[name].title, "words": BASELINES[name].words}
        found = {"note": fitted[name].baseline.note, "chosen": fitted[name].chosen} if name in fitted else {}
        rows.append(entry | {"note": "", "chosen": {}, "lacking": lacking.get(name)} | found)
    return {"model": first, "database": database, "baselines": rows}
