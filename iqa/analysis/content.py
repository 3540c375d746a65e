"""Do the generated weights matter? Images are scored with the weights that were generated for other images."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from iqa.data.database import Database
from iqa.data.prepare import in_size
from iqa.metrics import bootstrap, coefficients
from iqa.metrics.verdicts import BETTER, OPEN, WORSE
from iqa.model.heads import Layer, target_network
from iqa.model.predictor import Predictor
from iqa.model.scoring import patch_positions, score_patches

OWN, MEAN, SHUFFLED = "own", "mean", "shuffled"  # whose weights an image is scored with
NAMES = ("srcc", "plcc")
COLUMNS = ["model", "weights", "draws", "n"]  # of `content.csv`
COLUMNS += [f"{name}{end}" for name in ("srcc", "d_srcc", "plcc", "d_plcc") for end in ("", "_low", "_high")]
COLUMNS += ["verdict", "lender_srcc", "lender_srcc_low", "lender_srcc_high", "reason"]


def derange(count: int, draws: int, seed: int) -> np.ndarray:
    """Another image for each of `count` images, at random and each taken once (draws, count): no row has i at i.

    >>> derange(3, 2, seed=0).tolist()
    [[2, 0, 1], [1, 2, 0]]

    Raises:
        ValueError: there is no other image.
    """
    if count < 2:
        raise ValueError(f"{count} image has no other one whose weights it could be scored with")
    generator = np.random.default_rng(seed)
    partners = np.empty((draws, count), dtype=int)
    for row in partners:
        order = generator.permutation(count)
        row[order] = np.roll(order, 1)  # along one circle through all images
    return partners


def read_layers(flat: Tensor, widths: Sequence[int]) -> list[Layer]:
    """The layers of target networks of some widths, from input to score, of all their weights (B, n).

    The order is that of `iqa.model.hyperiqa.Inside.generated`.
    """
    shapes = [shape for inside, out in pairwise(widths) for shape in ((out, inside), (out, 1))]
    parts = flat.split([rows * columns for rows, columns in shapes], dim=1)
    tensors = [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]
    return list(zip(tensors[::2], tensors[1::2], strict=True))


@torch.inference_mode()
def swap_weights(model: Predictor, database: Database, mean: np.ndarray, draws: int, seed: int) -> pd.DataFrame:
    """Scores of the test split, on the database's scale, by the weights with which each image is scored.

    A patch of an image takes the weights of the patch with the same number of the other image (where that has fewer,
    numbers begin anew). Nothing else changes: maps, distortion path and patches are the image's own.

    Args:
        mean: (w,), weights that are the same for all images.

    Returns:
        Columns `own`, `mean` and, for each of `draws` random choices of another image, `shuffled 1`, ...
    """
    database = in_size(database, "test", model.size, model.input)
    indices = database.indices("test")
    options, network = dict(model.options), model.network
    intercept, slope = options.pop("calibration", (0.0, 1.0))
    kind, batch_size, precision = (options.pop(key) for key in ("input", "batch_size", "precision"))
    cut = [patch_positions(database.pixels(index, kind), **options) for index in indices]
    widths, scale = [*network.params.target_widths, 1], network.params.output_scale
    others = derange(len(indices), draws, seed)
    names = [OWN, MEAN, *(f"{SHUFFLED} {draw + 1}" for draw in range(draws))]
    totals = {name: np.zeros(len(indices)) for name in names}
    numbers = np.array([len(corners) for corners, _ in cut])

    def image(number: int) -> np.ndarray:
        return database.pixels(indices[number], kind)

    for patch in range(numbers.max()):
        places = defaultdict(list)
        for number, (corners, window) in enumerate(cut):
            places[window].append((number, *corners[patch % len(corners)].tolist()))
        parts = list(score_patches(network, image, places, batch_size, precision, look=True))
        order = np.argsort(np.concatenate([images for images, _ in parts]))
        found = {key: np.concatenate([values[key] for _, values in parts])[order] for key in ("local", "weights")}
        local, weights = (torch.from_numpy(values) for values in found.values())
        common = torch.from_numpy(mean).expand_as(weights)
        for name, taken in zip(totals, (weights, common, *(weights[other] for other in others)), strict=True):
            scores = target_network(local, read_layers(taken, widths)) / scale
            totals[name] += np.where(patch < numbers, scores.double().numpy(), 0.0)
    means = {name: intercept + slope * total / numbers for name, total in totals.items()}
    return pd.DataFrame({name: database.denormalise(value) for name, value in means.items()})


def compare(
    scores: pd.DataFrame, mos: np.ndarray, contents: np.ndarray, resamples: int, confidence: float, seed: int
) -> list[dict[str, Any]]:
    """SRCC and PLCC with each image's own weights, with those of others and with their mean: paired bootstraps.

    Of the draws the mean counts. `d_srcc` and `d_plcc` are the differences from an image's own weights, on the same
    resampled contents; `verdict` is that of SRCC. `lender_srcc` is the agreement with the MOS of the images whose
    weights were taken: high where the weights decide a score, and not what the target network reads.

    Args:
        scores: as of `swap_weights`, with the same `seed`.
    """
    columns = {kind: [name for name in scores if name.split()[0] == kind] for kind in (OWN, SHUFFLED, MEAN)}
    rows = {kind: {"weights": kind, "draws": len(names), "n": len(mos)} for kind, names in columns.items()}
    for name in NAMES:
        statistic, drawn = getattr(coefficients, name), {"resamples": resamples, "seed": seed, "groups": contents}
        values = {key: statistic(scores[key], mos) for key in scores}
        resampled = bootstrap.resample(statistic, [scores[key].to_numpy() for key in scores], mos, **drawn)
        sampled = dict(zip(scores, resampled, strict=True))
        for kind, names in columns.items():
            value, samples = np.mean([values[key] for key in names]), np.mean([sampled[key] for key in names], axis=0)
            rows[kind] |= {name: float(value)} | bootstrap.ends(name, samples, confidence)
            if kind != OWN:
                difference = bootstrap.ends(f"d_{name}", samples - sampled[OWN], confidence)
                rows[kind] |= {f"d_{name}": float(value - values[OWN])} | difference
    lent = []
    for name, other in zip(columns[SHUFFLED], derange(len(mos), len(columns[SHUFFLED]), seed), strict=True):
        drawn = {"resamples": resamples, "seed": seed, "groups": contents[other]}
        (samples,) = bootstrap.resample(coefficients.srcc, [scores[name].to_numpy()], mos[other], **drawn)
        lent.append((coefficients.srcc(scores[name], mos[other]), samples))
    value, samples = (np.mean(part, axis=0) for part in zip(*lent, strict=True))
    rows[SHUFFLED] |= {"lender_srcc": float(value)} | bootstrap.ends("lender_srcc", samples, confidence)
    for kind in (SHUFFLED, MEAN):
        low, high = rows[kind]["d_srcc_low"], rows[kind]["d_srcc_high"]
        rows[kind]["verdict"] = BETTER if low > 0 else WORSE if high < 0 else OPEN
    return list(rows.values())
