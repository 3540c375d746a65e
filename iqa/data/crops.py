"""Where crops lie. A crop follows from numbers that name it, never from who asks for it or in which order.

Positions come from the counter-based generator Philox (Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3"): the key holds seed and epoch, the counter holds the image, and a patch is a place in that short stream.
So the same crop is found with any number of workers, any batch size, and after a resumed training.
"""

import hashlib
import math

import numpy as np

WORD = 2**64
BLOCK = 4  # numbers that Philox gives for one value of its counter
TRAIN, TEST, JITTER = 0, 1, 2


def _uniform(seed: int, epoch: int, image: int, use: int, shape: tuple[int, int], first: int = 0) -> np.ndarray:
    """Rows `first`, `first + 1`, ... of numbers in [0, 1) that depend on the other arguments alone.

    A row is the same whatever the number of rows, and costs the same wherever it is.
    """
    rows, columns = shape
    block, before = divmod(first * columns, BLOCK)
    key = np.array([seed % WORD, epoch], dtype=np.uint64)
    counter = np.array([block, image, use, 0], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
    return generator.random(before + rows * columns)[before:].reshape(shape)


def _check(height: int, width: int, crop: int) -> None:
    if crop < 1 or crop > min(height, width):
        raise ValueError(
            f"a crop of {crop}x{crop} pixels does not fit into an image of {height}x{width} (height x width)"
        )


def crop_positions(
    seed: int, epoch: int, image: int, patches: int, height: int, width: int, crop: int, first: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random square crops of one image for one epoch of training.

    Args:
        seed: the run's seed.
        epoch: 0, 1, ...
        image: index of the image in its database.
        patches: number of crops.
        height, width: size of the image in pixels.
        crop: side of the crop in pixels.
        first: number of the first crop.

    Returns:
        top, left: integer arrays (patches,), every position equally likely.
        flip: integer array (patches,), 1 where the crop is mirrored left to right, half of the time.

    Raises:
        ValueError: the crop is larger than the image.

    >>> top, left, flip = crop_positions(seed=1, epoch=0, image=7, patches=3, height=192, width=256, crop=96)
    >>> last = crop_positions(seed=1, epoch=0, image=7, patches=1, height=192, width=256, crop=96, first=2)
    >>> bool(last[0][0] == top[2])
    True
    """
    _check(height, width, crop)
    uniform = _uniform(seed, epoch, image, TRAIN, (patches, 3), first)
    top, left, flip = (uniform * (height - crop + 1, width - crop + 1, 2)).astype(np.int64).T
    return top, left, flip


def jitter_factors(seed: int, epoch: int, image: int, patches: int, strength: float, first: int = 0) -> np.ndarray:
    """Factors (patches, 3) of brightness, contrast and saturation, uniform in [1 - strength, 1 + strength]."""
    return 1 + strength * (2 * _uniform(seed, epoch, image, JITTER, (patches, 3), first) - 1)


def _sha256(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def content_key(pixels: np.ndarray) -> int:
    """A number below 2^64 that follows from an image's pixels (height, width, channels) alone: its name for crops."""
    shape = ",".join(map(str, pixels.shape)).encode()
    return int.from_bytes(_sha256(shape, np.ascontiguousarray(pixels).data)[:8], "little")


def test_positions(
    mode: str, patches: int, height: int, width: int, crop: int, seed: int = 0, image: int = 0
) -> np.ndarray:
    """Square crops of one image for evaluation.

    Args:
        mode: `center`: one crop; `random`: `patches` crops that seed and image decide; `grid`: about `patches` crops
            on a regular grid whose first and last rows and columns touch the edges (at least 2x2 where there is room).
        patches, height, width, crop, seed: as in `crop_positions`.
        image: the image's `content_key`, so that the same image gives the same crops wherever it is.

    Returns:
        Integer array (n, 2) of (top, left).

    Raises:
        ValueError: the crop is larger than the image, or an unknown mode.

    >>> test_positions("grid", patches=4, height=192, width=256, crop=96).tolist()
    [[0, 0], [0, 160], [96, 0], [96, 160]]
    """
    _check(height, width, crop)
    free = np.array([height - crop, width - crop])
    if mode == "center":
        return free[None] // 2
    if mode == "random":
        return (_uniform(seed, 0, image, TEST, (patches, 2)) * (free + 1)).astype(np.int64)
    if mode == "grid":
        rows = max(2, round(math.sqrt(patches * height / width))) if free[0] else 1
        columns = max(2, round(patches / rows)) if free[1] else 1
        tops, lefts = (
            np.unique(np.linspace(0, f, n).round().astype(np.int64)) for f, n in zip(free, (rows, columns), strict=True)
        )
        return np.stack(np.meshgrid(tops, lefts, indexing="ij"), axis=-1).reshape(-1, 2)
    raise ValueError(f"mode '{mode}' is none of center, random, grid")


test_positions.__test__ = False  # a function of the package whose name looks like a test's to pytest
