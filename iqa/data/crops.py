"""Positions of crops. A crop depends on the numbers that identify it, never on the process or order that asks for it.

Positions come from the counter-based generator Philox (Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3"): the key holds seed and epoch, the counter holds the image, and a patch is a place in that short stream.
So crops are the same with any number of workers, any batch size, and after a resumed training.
"""

import hashlib
import math

import numpy as np

from iqa.study.registry import Registry

# Which crops of an image are scored: functions of the image's height and width, the side of a crop, and the arguments
# of `positions` that `options` names. They return tops and lefts (n, 2); `title` is for tables.
CROPS = Registry("crops", options=())
WORD = 2**64
BLOCK = 4  # numbers that Philox gives for one value of its counter
TRAIN, TEST, JITTER = 0, 1, 2
NEAR = 5  # crops that a grid may have more or fewer than it should


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
    """Random square crops of one image for one epoch of training: numbers `first`, `first + 1`, ... of its stream.

    Args:
        seed, epoch, image: the run's seed, the epoch (0, 1, ...), and the image's index in its database.
        patches: number of crops.
        height, width, crop: size of the image and side of a crop, in pixels.

    Returns:
        Integer arrays (patches,): top, left (every position equally likely), and flip (1 where the crop is to be
        mirrored left to right, half of the time).

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


def content_key(pixels: np.ndarray) -> int:
    """A number below 2^64 that depends on an image's pixels (height, width, channels) alone: its key for crops."""
    sha256 = hashlib.sha256(",".join(map(str, pixels.shape)).encode())
    sha256.update(np.ascontiguousarray(pixels).data)
    return int.from_bytes(sha256.digest()[:8], "little")


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
    """Crops that depend on seed and image, which is its `content_key`: they are the same wherever the image lies."""
    free = np.array([height - crop, width - crop])
    return (_uniform(seed, 0, image, TEST, (patches, 2)) * (free + 1)).astype(np.int64)


@CROPS.add("grid", title="grid of {patches} crops", options=("patches",))
def grid(height: int, width: int, crop: int, patches: int) -> np.ndarray:
    """About `patches` crops, at most `NEAR` more or fewer, on a grid that touches the edges.

    It has at least 2x2 crops where there is room, and all places where there are fewer than `patches`. An image and the
    same image turned have equally many.
    """
    sides = height - crop + 1, width - crop + 1  # places down and across
    down, across = _grid_counts(patches, min(height, width) / max(height, width), min(sides), max(sides))
    rows, columns = (down, across) if height <= width else (across, down)
    return _lattice(_even(height - crop, rows), _even(width - crop, columns))


def _grid_counts(patches: int, aspect: float, short: int, long: int) -> tuple[int, int]:
    """How many crops a grid has along the shorter side and along the longer one, which have `short` and `long` places.

    `aspect` is that of the sides: where possible, steps are about as wide along both.
    """
    most = min(max(2, patches), short)
    counts = [(count, min(max(2, round(patches / count)), long)) for count in range(min(2, short), most + 1)]
    off = [abs(down * across - patches) for down, across in counts]
    near = [count for count, by in zip(counts, off, strict=True) if by <= max(NEAR, min(off))]
    even = round(math.sqrt(patches * aspect))
    return min(near, key=lambda count: abs(count[0] - even))


@CROPS.add("dense", title="dense grid of crops", options=("stride",))
def dense(height: int, width: int, crop: int, stride: int | None) -> np.ndarray:
    """A grid that touches the edges, `stride` pixels (by default a quarter of the crop) or a little less apart."""
    stride = max(1, crop // 4) if stride is None else stride
    if not 1 <= stride <= crop:
        raise ValueError(f"a stride of {stride} pixels is not between 1 and the crop's {crop}")
    return _lattice(*(_even(last, -(-last // stride) + 1) for last in (height - crop, width - crop)))


@CROPS.add("uniform", title="{patches} crops from the top left", options=("patches",))
def uniform(height: int, width: int, crop: int, patches: int) -> np.ndarray:
    """The crops that IQA-PyTorch scores, row by row; they leave out the right and bottom edges.

    With n the whole part of the root of `patches`, steps are the n-th part of the free height and width, rounded down.
    Where `patches` is no square, there is one more row and column, and the first `patches` crops are taken.
    """
    steps = math.isqrt(patches)
    places = np.arange(steps + (steps**2 < patches))
    return _lattice(places * ((height - crop) // steps), places * ((width - crop) // steps))[:patches]


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
    """The square crops of one image that are scored: an integer array (n, 2) of (top, left).

    Args:
        crops: one of `CROPS`.
        height, width, crop: as in `crop_positions`.
        patches: number of crops (`random`, `uniform`), or about how many (`grid`).
        seed, image: decide the crops (`random`); `image` is the image's `content_key`.
        stride: pixels from crop to crop, at most `crop` (`dense`); a quarter of the crop when not given.

    Raises:
        ValueError: the crop is larger than the image, an unknown name, or a stride that leaves gaps.

    >>> positions("grid", height=192, width=256, crop=96, patches=4).tolist()
    [[0, 0], [0, 160], [96, 0], [96, 160]]
    """
    mode, given = CROPS[crops], {"patches": patches, "seed": seed, "image": image, "stride": stride}
    if mode is not whole:
        _check(height, width, crop)
    return mode(height, width, crop, **{key: given[key] for key in mode.options})
