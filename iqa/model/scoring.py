"""Patches in, scores out: the one way in which files, databases, the analysis and the playground are scored."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from iqa.data.crops import CROPS, content_key, positions, whole
from iqa.data.database import Database
from iqa.model.hyperiqa import HyperIQA, look_inside
from iqa.study.progress import bar

# pixels of a forward pass; on a CPU more would not fit into its caches (measured with ResNet-50 and MobileNetV2)
AT_ONCE = {"cpu": 8 * 224**2, "cuda": 64 * 224**2}
LOWER = {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}  # types of a forward pass, by precision
Window = tuple[int, int]  # height and width of a patch
Values = dict[str, np.ndarray]  # `scores` of patches or images and, if asked for, `weights`, `local` and `scales`


def choose_device(name: str) -> torch.device:
    """`auto` is the first CUDA device where there is one, else the CPU; any other name is torch's."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def to_pixels(windows: Sequence[np.ndarray]) -> Tensor:
    """uint8 pixels (B, 3, H, W), channels last in memory, of windows (H, W, 3) of one size."""
    return torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2)


def patch_positions(pixels: np.ndarray, crop: int, crops: str, **options: Any) -> tuple[np.ndarray, Window]:
    """Where the patches of an image lie.

    Args:
        pixels: (height, width, 3), the model's input.
        crop: side of a crop in pixels.
        crops: one of `iqa.data.crops.CROPS`; `whole`: the image is one patch.
        options: `patches`, `seed` and `stride`, see `iqa.data.crops.positions`.

    Returns:
        Top and left of each patch, an integer array (n, 2), and the height and width of a patch.
    """
    height, width = pixels.shape[:2]
    key = content_key(pixels) if "image" in CROPS[crops].options else 0
    window = (height, width) if crops == whole.name else (crop, crop)
    return positions(crops, height, width, crop, image=key, **options), window


@contextmanager
def exactly(network: HyperIQA) -> Iterator[None]:
    """Inside, the network computes the same bits in every call.

    On a GPU, without TF32 and other quick choices of cuDNN. On a CPU, for one thread and less than 16 patches, torch
    has convolutions of 1x1 of its own, which are slower than oneDNN's and round otherwise; it has none with a dilation,
    which means nothing for one pixel. With more threads, products of small matrices may round otherwise all the same.
    """
    convolutions = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
    on_cpu = network.mean.device.type == "cpu"
    single = [part for part in convolutions if on_cpu and part.kernel_size == (1, 1)]
    before = [part.dilation for part in single]
    for part in single:
        part.dilation = (2, 2)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        for part, dilation in zip(single, before, strict=True):
            part.dilation = dilation


@torch.inference_mode()
def score_patches(
    network: HyperIQA,
    image: Callable[[int], np.ndarray],
    places: dict[Window, list[tuple[int, int, int]]],
    batch_size: int | None = None,
    precision: str = "32-true",
    *,
    exact: bool = False,
    look: bool = False,
    label: str = "",
) -> Iterator[tuple[np.ndarray, Values]]:
    """Score patches batch by batch; patches of one size share batches, whatever images they are of.

    Args:
        network: in evaluation mode while a batch is scored.
        image: gives the pixels (H, W, 3) of an image by its number.
        places: image, top and left of each patch, by the size of the patches.
        batch_size: most patches per forward pass; by default what suits the device and the window.
        precision: `32-true`, `bf16-mixed` or `fp16-mixed`.
        exact: see `exactly`.
        look: also return the target network's `weights` (B, w) and input `local` (B, d), and `scales` (B, 4), if any.
        label: of a progress bar; empty for no bar.

    Yields:
        The image of each patch (B,), and its values; `scores` are on 0..1, 1 is best.
    """
    device = network.mean.device
    batches = []
    for (height, width), patches in places.items():
        size = batch_size or max(1, AT_ONCE.get(device.type, AT_ONCE["cuda"]) // (height * width))
        batches += [(height, width, patches[start : start + size]) for start in range(0, len(patches), size)]
    for height, width, batch in bar(batches, total=len(batches), desc=label, unit="batch") if label else batches:
        windows = [image(number)[top : top + height, left : left + width] for number, top, left in batch]
        pixels = to_pixels(windows).to(device, non_blocking=True)
        lower = torch.autocast(device.type, LOWER.get(precision), enabled=precision in LOWER)
        training = network.training
        network.eval()
        with lower, exactly(network) if exact else nullcontext():
            inside = look_inside(network, pixels) if look else None
            values = {"scores": (inside.scores if inside else network(pixels)).double()}
        network.train(training)
        if inside:
            values |= {"weights": inside.generated.float(), "local": inside.local.float()}
            values |= {} if inside.scale_weights is None else {"scales": inside.scale_weights.double()}
        yield np.array([number for number, _, _ in batch]), {key: value.cpu().numpy() for key, value in values.items()}


def mean_per_image(batches: Iterable[tuple[np.ndarray, Values]], images: int) -> Values:
    """Means (images, ...) over each image's patches of what `score_patches` yields."""
    totals, counts = {"scores": np.zeros(images)}, np.zeros(images)
    for numbers, values in batches:
        np.add.at(counts, numbers, 1)
        for key, value in values.items():
            if key not in totals:
                totals[key] = np.zeros((images, *value.shape[1:]), value.dtype)
            np.add.at(totals[key], numbers, value)
    for total in totals.values():
        np.divide(total.T, counts.astype(total.dtype), out=total.T)
    return totals


def score_all(
    network: HyperIQA,
    database: Database,
    indices: np.ndarray,
    *,
    input: str,
    crop: int,
    batch_size: int,
    precision: str = "32-true",
    look: bool = False,
    label: str = "",
    calibration: tuple[float, float] = (0.0, 1.0),
    **cut: Any,
) -> Values:
    """Means over the patches of each image (n, ...) of what `score_patches` yields.

    The patches of all images fill the batches together; which patches an image gives depends on the image, the
    crop mode and the seed alone, never on its batch.

    Args:
        indices: rows of `database.table`.
        input: kind of pixels, `rgb` or `mscn`.
        crop, cut: side of the crops, and `crops`, `patches` and `seed`, see `patch_positions`.
        batch_size, precision, look, label: as in `score_patches`.
        calibration: intercept and slope (> 0) of the line that the scores of the images are mapped by.
    """
    places = defaultdict(list)
    for number, index in enumerate(indices):
        corners, window = patch_positions(database.pixels(index, input), crop, **cut)
        places[window] += [(number, top, left) for top, left in corners.tolist()]

    def image(number: int) -> np.ndarray:
        return database.pixels(indices[number], input)

    batches = score_patches(network, image, places, batch_size, precision, look=look, label=label)
    means = mean_per_image(batches, len(indices))
    if calibration != (0.0, 1.0):
        intercept, slope = calibration
        means["scores"] = intercept + slope * means["scores"]
    return means


def score(network: HyperIQA, database: Database, indices: np.ndarray, **options: Any) -> np.ndarray:
    """Mean score (n,) of each image's patches on 0..1, 1 is best; arguments as of `score_all`."""
    return score_all(network, database, indices, **options)["scores"]


def predict(network: HyperIQA, database: Database, indices: np.ndarray, **options: Any) -> pd.DataFrame:
    """The database's rows with a column `prediction` on the database's own scale and direction.

    `options` are those of `score_all`; `iqa.model.predictor.Predictor.options` holds those of a trained model.
    """
    table = database.table.iloc[indices].reset_index(drop=True)
    table["prediction"] = database.denormalise(score(network, database, indices, **options))
    return table
