"""Score the images of a database with a trained model, the same way every time."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from iqa.data.crops import content_key, test_positions
from iqa.data.database import Database
from iqa.model import HyperIQA


def choose_device(name: str) -> torch.device:
    """`auto` is the first CUDA device where there is one, else the CPU; any other name is torch's."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@torch.inference_mode()
def score(
    model: HyperIQA,
    database: Database,
    indices: np.ndarray,
    *,
    input: str,
    crops: str,
    patches: int,
    crop: int,
    batch_size: int,
    seed: int = 0,
    precision: str = "32-true",
) -> np.ndarray:
    """Mean score (n,) of each image's patches on the normalised scale (0..1, 1 is best).

    The patches of all images fill the batches together; which patches an image gives depends on the image, the
    crop mode and the seed alone, never on its batch. Whole images are batched with those of the same size.

    Args:
        indices: rows of `database.table`.
        input: kind of pixels, `rgb` or `mscn`.
        crops: `whole`, `center`, `random` or `grid`, see `iqa.data.crops.test_positions`.
        patches: crops per image (`random`, `grid`).
        crop: side of a crop in pixels.
        precision: `32-true` or `bf16-mixed`.
    """
    device = model.mean.device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")
    total, count = np.zeros(len(indices)), np.zeros(len(indices))
    training = model.training
    model.eval()
    how = {"input": input, "crops": crops, "patches": patches, "crop": crop, "batch_size": batch_size, "seed": seed}
    for rows, pixels in patch_batches(database, indices, **how):
        with autocast:
            scores = model(pixels.to(device, non_blocking=True)).float().cpu().numpy()
        np.add.at(total, rows, scores)
        np.add.at(count, rows, 1)
    model.train(training)
    return total / count


def patch_batches(
    database: Database,
    indices: np.ndarray,
    *,
    input: str,
    crops: str,
    patches: int,
    crop: int,
    batch_size: int,
    seed: int,
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Full batches of the patches of all images, those of one size together; arguments as of `score`.

    Yields:
        Which of `indices` each patch belongs to (B,), as a position in it; pixels (B, 3, H, W), uint8.
    """
    by_size: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
    for row, index in enumerate(indices):
        pixels = database.pixels(index, input)
        height, width = pixels.shape[:2]
        if crops == "whole":
            by_size[height, width].append((row, 0, 0))
        else:
            key = content_key(pixels) if crops == "random" else 0
            for top, left in test_positions(crops, patches, height, width, crop, seed, key):
                by_size[crop, crop].append((row, int(top), int(left)))
    for (height, width), places in by_size.items():
        for start in range(0, len(places), batch_size):
            batch = places[start : start + batch_size]
            windows = [
                database.pixels(indices[row], input)[top : top + height, left : left + width]
                for row, top, left in batch
            ]
            yield np.array([row for row, _, _ in batch]), to_pixels(windows)


def to_pixels(windows: Sequence[np.ndarray]) -> Tensor:
    """uint8 pixels (B, 3, H, W), channels last in memory, of windows (H, W, 3) of one size."""
    return torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2)


def predict(network: HyperIQA, database: Database, indices: np.ndarray, **options: Any) -> pd.DataFrame:
    """The database's rows with a column `prediction` on the database's own scale and direction.

    `options` are what `score` takes; `iqa.prediction.Predictor.options` holds those of a trained model.
    """
    table = database.table.iloc[indices].reset_index(drop=True)
    table["prediction"] = database.denormalise(score(network, database, indices, **options))
    return table
