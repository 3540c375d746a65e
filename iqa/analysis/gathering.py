"""What models make of the images of a database, computed once; bands of images, and means with intervals."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from iqa.data.database import Database
from iqa.data.prepare import in_size
from iqa.metrics import bootstrap
from iqa.model.predictor import Predictor
from iqa.model.scoring import score_all


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


def gather(model: Predictor, database: Database) -> Gathered:
    """Scores of the test split as `iqa.model.scoring.score` gives them, and what led to them, in one pass.

    Images are prepared as the model prepares files; patches follow its own rule (`Predictor.options`).
    """
    database = in_size(database, "test", model.size, model.input)
    indices = database.indices("test")
    scored = score_all(model.network, database, indices, **model.options, look=True, label=f"looking into {model.name}")
    table = database.table.iloc[indices].reset_index(drop=True)
    prediction = database.denormalise(scored["scores"])
    sizes = np.array([database.pixels(index, model.options["input"]).shape[:2] for index in indices])
    table = table.assign(prediction=prediction, residual=prediction - table["mos"])
    table = table.assign(good=database.normalise(table["mos"]), height=sizes[:, 0], width=sizes[:, 1])
    return Gathered(table, scored["weights"], scored.get("scales"))


def band(values: pd.Series | np.ndarray, count: int) -> np.ndarray:
    """Number (n,) of the band of each value, 0 the lowest: about equally many images each, equal values in one."""
    values = np.asarray(values, dtype=float)
    inner = np.unique(np.quantile(values, np.arange(1, count) / count))
    return np.unique(np.searchsorted(inner, values, side="right"), return_inverse=True)[1]


def mean_interval(
    values: np.ndarray, groups: np.ndarray, resamples: int, confidence: float, seed: int
) -> tuple[float, float]:
    """Interval of the mean of one value per image."""
    return bootstrap.percentiles(resampled_means(values[:, None], groups, resamples, seed)[:, 0], confidence)


def resampled_means(values: np.ndarray, groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Resampled means (resamples, k) of k values per image (n, k)."""
    drawn = bootstrap.draw_counts(len(values), resamples, seed, groups)
    return np.concatenate([counts @ values / counts.sum(axis=1, keepdims=True) for counts in drawn])
