"""Where crops lie. A crop follows from numbers that name it, never from who asks for it or in which order.

Positions come from the counter-based generator Philox (Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3"): the key holds seed and epoch, the counter holds the image, and a patch is a place in that short stream.
So the same crop is found with any number of workers, any batch size, and after a resumed training.
"""

import hashlib
import math

import numpy as np

from iqa.study.registry import Registry

# What is scored of an image. Each is called with height and width of the image, the side of a crop and those of the
# `options` of `positions` that it is registered with, and returns tops and lefts (n, 2); `title` is for tables.
CROPS = Registry("crops", options=())
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


@CROPS.add("whole", title="whole image")
def whole(height: int, width: int, crop: int) -> np.ndarray:
    """The image itself, whatever the crop."""
    return np.zeros((1, 2), np.int64)


@CROPS.add("center", title="1 centre crop")
def center(height: int, width: int, crop: int) -> np.ndarray:
    """One crop in the middle."""
    return np.array([[height - crop, width - crop]]) // 2


@CROPS.add("random", title="{patches} random crops", options=("patches", "seed", "image"))
def random(height: int, width: int, crop: int, patches: int, seed: int, image: int) -> np.ndarray:
    """Crops that seed and image decide; `image` is its `content_key`, so that its crops are the same wherever it is."""
    free = np.array([height - crop, width - crop])
    return (_uniform(seed, 0, image, TEST, (patches, 2)) * (free + 1)).astype(np.int64)


@CROPS.add("grid", title="grid of {patches} crops", options=("patches",))
def grid(height: int, width: int, crop: int, patches: int) -> np.ndarray:
    """About `patches` crops on a grid that touches the edges (at least 2x2 where there is room)."""
    rows = max(2, round(math.sqrt(patches * height / width))) if height > crop else 1
    columns = max(2, round(patches / rows)) if width > crop else 1
    return _lattice(np.unique(_even(height - crop, rows)), np.unique(_even(width - crop, columns)))


@CROPS.add("dense", title="dense grid of crops", options=("stride",))
def dense(height: int, width: int, crop: int, stride: int | None) -> np.ndarray:
    """A grid that touches the edges, `stride` pixels (by default a quarter of the crop) or a little less apart."""
    stride = max(1, crop // 4) if stride is None else stride
    if not 1 <= stride <= crop:
        raise ValueError(f"a stride of {stride} pixels is not between 1 and the crop's {crop}")
    return _lattice(*(_even(last, -(-last // stride) + 1) for last in (height - crop, width - crop)))


def _even(last: int, count: int) -> np.ndarray:
    """`count` numbers from 0 to `last` in equal steps, but for rounding."""
    return np.linspace(0, last, count).round().astype(np.int64)


def _lattice(tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
    return np.stack(np.meshgrid(tops, lefts, indexing="ij"), axis=-1).reshape(-1, 2)


def positions(
    crops: str,
    height: int,
    width: int,
    crop: int,
    patches: int = 25,
    seed: int = 0,
    image: int = 0,
    stride: int | None = None,
) -> np.ndarray:
    """Square crops of one image whose score is wanted.

    Args:
        crops: one of `CROPS`.
        height, width, crop: as in `crop_positions`.
        patches: number of crops (`random`), or about how many (`grid`).
        seed: decides the crops (`random`), together with the image.
        image: the image's `content_key` (`random`).
        stride: pixels from crop to crop, at most `crop` (`dense`); a quarter of the crop when not given.

    Returns:
        Integer array (n, 2) of (top, left).

    Raises:
        ValueError: the crop is larger than the image, an unknown name, or a stride that leaves gaps.

    >>> positions("grid", height=192, width=256, crop=96, patches=4).tolist()
    [[0, 0], [0, 160], [96, 0], [96, 160]]
    """
    mode, given = CROPS[crops], {"patches": patches, "seed": seed, "image": image, "stride": stride}
    if mode is not whole:
        _check(height, width, crop)
    return mode(height, width, crop, **{key: given[key] for key in mode.options})
