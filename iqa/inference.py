"""Score the images of a database with a trained model, the same way every time."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from iqa import metrics, paths
from iqa.config import TrainParams
from iqa.data.crops import content_key, test_positions
from iqa.data.databases import Database
from iqa.model import HyperIQA
from iqa.results import result_file


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

    device = model.mean.device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")
    total, count = np.zeros(len(indices)), np.zeros(len(indices))
    training = model.training
    model.eval()
    for (height, width), places in by_size.items():
        for start in range(0, len(places), batch_size):
            batch = places[start : start + batch_size]
            windows = [
                database.pixels(indices[row], input)[top : top + height, left : left + width]
                for row, top, left in batch
            ]
            with autocast:
                scores = model(to_pixels(windows).to(device, non_blocking=True)).float().cpu().numpy()
            for (row, _, _), value in zip(batch, scores, strict=True):
                total[row] += value
                count[row] += 1
    model.train(training)
    return total / count


def to_pixels(windows: list[np.ndarray]) -> Tensor:
    """uint8 pixels (B, 3, H, W), channels last in memory, of windows (H, W, 3) of one size."""
    return torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2)


def predict(
    model: HyperIQA, database: Database, indices: np.ndarray, params: TrainParams, **changes: Any
) -> pd.DataFrame:
    """The database's rows with a column `prediction` on the database's own scale and direction.

    `params` are those of the training run; `changes` replaces some of what `score` takes.
    """
    options = {
        "input": params.input,
        "crops": params.test_crops,
        "patches": params.test_patches,
        "crop": params.crop,
        "batch_size": params.batch_size,
        "seed": params.seed,
        "precision": params.precision,
    }
    table = database.table.iloc[indices].reset_index(drop=True)
    table["prediction"] = database.denormalise(score(model, database, indices, **options | changes))
    return table


def evaluate(
    predictions: pd.DataFrame, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """Agreement of `prediction` with `mos`: n, SRCC, PLCC, PLCC after the logistic fit, KRCC, RMSE.

    SRCC and PLCC come with bootstrap intervals over the contents (`reference`) of the images.
    """
    pair = predictions["prediction"].to_numpy(), predictions["mos"].to_numpy()
    result = metrics.summary(*pair) | {"confidence": confidence}
    for name in ("srcc", "plcc"):
        low, high = metrics.bootstrap_interval(
            getattr(metrics, name), *pair, resamples, confidence, seed, groups=predictions["reference"]
        )
        result |= {f"{name}_low": low, f"{name}_high": high}
    return result


def load_run(study: str, run: str, device: str = "auto") -> tuple[HyperIQA, TrainParams]:
    """The best model of a finished training run, ready to score, and the run's parameters."""
    model, saved = load_model(result_file(study, "train", run, "best.pt"))
    return model.to(choose_device(device)), TrainParams.build(saved["params"], f"train/{run}/best.pt")


def load_model(file: str | Path) -> tuple[HyperIQA, dict[str, Any]]:
    """The model of a `best.pt` file, in evaluation mode, and what was saved beside its weights.

    Raises:
        ValueError: the file is not one of this project's, or its weights do not fit.
    """
    saved = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(saved, dict) or "state_dict" not in saved or "params" not in saved:
        raise ValueError(f"{paths.shown(file)} is not a model saved by a training run (no 'params' and 'state_dict')")
    params = TrainParams.build(saved["params"], str(paths.shown(file)))
    model = HyperIQA(params.architecture())
    try:
        model.load_state_dict(saved["state_dict"])
    except RuntimeError as error:
        raise ValueError(f"{paths.shown(file)}: {error}") from None
    return model.eval().to(memory_format=torch.channels_last), saved
