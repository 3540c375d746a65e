"""Twins: two images of different contents that are one photograph, saved again as it was, in another format or size.

Every image has a thumbnail in the cache. Two are compared first by their grey thumbnails, all with all, then by what
they show in colour, and last by the fine detail of the images themselves. On BIQ2021 (2,000 images) the thumbnails of
twins agree to 42 dB or more, those of all other pairs that look alike to 26 dB or less; JPEG of quality 30 and a
quarter of the size still pass all steps.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import scipy
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from iqa.data.cache import THUMBNAIL, Store
from iqa.study import code, paths
from iqa.study.disk import write_whole

GREY = 16  # side of the grey thumbnails
ALIKE = 0.95  # least correlation of grey thumbnails, and of thumbnails
CLOSE = 30.0  # least PSNR of thumbnails, dB
DETAIL = 0.2  # least correlation of fine detail; below 0.03 for images that have nothing in common
FINE = 256  # side at which detail is compared
WINDOW = 5  # side of a pixel's surroundings at that size
SMALLEST = 16  # height and width from which on images are compared; smaller ones are alike by chance
PLAIN = 45.0  # least PSNR of thumbnails of images without detail, dB
BLOCK = 1000  # images that are compared with all others at once
ENOUGH = 10  # twins of an image that are sought, unless others have none
MOST = 100.0  # the PSNR of equal images, dB
PAIRS = TypeAdapter(list[tuple[int, int, float]])

Pixels = Callable[[int], np.ndarray]  # an image by its number: (height, width, 3), uint8
Pair = tuple[int, int, float]  # numbers of two images, and their PSNR in dB


def code_of_twins() -> str:
    """A hash that changes when the code does that finds twins and keeps them together."""
    return code.digest(code.definitions("iqa.data.twins.find", "iqa.data.twins.join"))


def recall(key: str) -> list[Pair] | None:
    """Pairs that were remembered in the cache; `None` where there are none under this key."""
    try:
        return PAIRS.validate_json(_memory(key).read_bytes())
    except (OSError, ValidationError):  # what is damaged is found again
        return None


def remember(key: str, pairs: list[Pair]) -> None:
    """Keep pairs in the cache, under a hash of all that they depend on.

    Raises:
        DiskError: the disk is full.
    """
    write_whole(_memory(key), json.dumps(pairs).encode())


def _memory(key: str) -> Path:
    return paths.CACHE / "twins" / f"{key}.json"


def find(thumbnails: Store, pixels: Pixels, hashes: Sequence[str | None], groups: Sequence[str]) -> list[Pair]:
    """The pairs of twins among some images that are of different groups, by their numbers.

    An image with many twins is not paired with all of them, but every one of them with some other.

    Args:
        thumbnails: n, (64, 64, 3), uint8.
        pixels: gives the images that the thumbnails are of.
        hashes: n hashes of the images' files; `None` for those that are too small to be compared.
        groups: n contents; two images of one content are no twins.
    """
    equal = defaultdict(list)
    for number, sha in enumerate(hashes):
        if sha is not None:
            equal[sha].append(number)
    numbered = np.unique(groups, return_inverse=True)[1]
    pairs = [(*pair, MOST) for files in equal.values() for pair in _each(files) if np.ptp(numbered[[*pair]])]
    one_of_each = [files[0] for files in equal.values()]
    some = thumbnails.take(one_of_each)

    def shown(place: int) -> np.ndarray:
        return pixels(one_of_each[place])

    found = _compare(some, shown, some, shown, numbered[one_of_each])
    return sorted([*pairs, *((one_of_each[one], one_of_each[other], value) for one, other, value in found)])


def _each(files: list[int]) -> Iterable[tuple[int, int]]:
    return combinations(files, 2) if len(files) <= ENOUGH else product(files[:1], files[1:])


def find_between(first: Store, first_pixels: Pixels, second: Store, second_pixels: Pixels) -> list[Pair]:
    """The pairs of an image of one database and its twin in another; arguments as of `find`."""
    return list(_compare(first, first_pixels, second, second_pixels))


def join(groups: pd.Series, pairs: Sequence[tuple[str, str]]) -> pd.Series:
    """Groups where those of each pair are one: each that is joined with others has the name of the first of them."""
    names, numbers = np.unique(groups, return_inverse=True)
    ends = np.searchsorted(names, np.array(pairs, dtype=object).reshape(-1, 2))
    links = scipy.sparse.coo_array((np.ones(len(ends)), tuple(ends.T)), shape=(len(names), len(names)))
    _, joined = scipy.sparse.csgraph.connected_components(links, directed=False)
    first = {component: name for component, name in reversed(list(zip(joined, names, strict=True)))}
    return pd.Series([first[component] for component in joined[numbers]], groups.index)


def name(pairs: list[Pair], table: pd.DataFrame) -> pd.DataFrame:
    """Pairs with the names and splits of their images: the columns of `iqa.data.database.TWINS`."""
    numbers = pd.DataFrame(pairs, columns=["a", "b", "psnr"])
    sides = {
        f"{column}_{end}": table[column].take(numbers[end]).tolist() for column in ("image", "split") for end in "ab"
    }
    return pd.DataFrame(sides | {"psnr": numbers["psnr"]})


def mark(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The table, where there are twins in different splits with a column `twin`: the first twin in another split."""
    if (pairs["split_a"] == pairs["split_b"]).all():
        return table
    photograph = join(table["image"], list(zip(pairs["image_a"], pairs["image_b"], strict=True)))
    images = table[["image", "split"]].assign(photograph=photograph)
    both = images.merge(images.drop_duplicates(["photograph", "split"]), on="photograph", suffixes=("", "_twin"))
    apart = both[both["split"] != both["split_twin"]].drop_duplicates("image").set_index("image")
    return table.assign(twin=table["image"].map(apart["image_twin"]))


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two arrays of one shape on 0..255, at most 100."""
    error = float(np.mean((first.astype(np.float32) - second.astype(np.float32)) ** 2))
    return min(MOST, 10 * np.log10(255**2 / error)) if error else MOST


def _compare(
    first: Store, first_pixels: Pixels, second: Store, second_pixels: Pixels, groups: np.ndarray | None = None
) -> Iterator[Pair]:
    """Pairs of twins; with `groups` those of one set of images, the lower number first."""
    left, right = _grey(first), _grey(second)
    twins: Counter[tuple[str, int]] = Counter()  # that an image has so far
    for start in range(0, len(left), BLOCK):
        rows, columns = np.nonzero(left[start : start + BLOCK] @ right.T > ALIKE)
        rows += start
        if groups is not None:
            apart = (rows < columns) & (groups[rows] != groups[columns])
            rows, columns = rows[apart], columns[apart]
        for one, other in zip(rows.tolist(), columns.tolist(), strict=True):
            ends = [("first", one), ("first" if groups is not None else "second", other)]
            if twins[ends[0]] >= ENOUGH and twins[ends[1]]:
                continue
            close = psnr(first[one], second[other])
            if close < CLOSE or _correlation(_centred(first[one]), _centred(second[other])) < ALIKE:
                continue
            pair = _of_one_size(first_pixels(one), second_pixels(other))
            if _share_detail(*pair, close):
                twins.update(ends)
                yield one, other, round(psnr(*map(np.asarray, pair)), 2)


def _grey(thumbnails: Store) -> np.ndarray:
    """Rows of length one (n, 257): grey thumbnails without their mean. Plain ones have nothing but the last value."""
    count, side = len(thumbnails), THUMBNAIL // GREY
    grey = np.array([thumbnail.mean(axis=2, dtype=np.float32) for thumbnail in thumbnails], np.float32)
    grey = grey.reshape(count, GREY, side, GREY, side).mean(axis=(2, 4)).reshape(count, GREY**2)
    grey -= grey.mean(axis=1, keepdims=True)
    rows = np.concatenate([grey, np.ones((count, 1), np.float32)], axis=1)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _centred(pixels: np.ndarray) -> np.ndarray:
    return pixels - pixels.mean(axis=(0, 1), dtype=np.float32)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of values with mean zero; 1 where there are none but zeros."""
    scale = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float((first * second).sum()) / scale if scale else 1.0


def _of_one_size(first: np.ndarray, second: np.ndarray) -> list[Image.Image]:
    """Two images, the larger reduced to the smaller one's height and width."""
    height, width = np.minimum(first.shape[:2], second.shape[:2]).tolist()
    return [Image.fromarray(np.ascontiguousarray(each)).resize((width, height), Image.BOX) for each in (first, second)]


def _share_detail(first: Image.Image, second: Image.Image, close: float) -> bool:
    """Whether what differs from its surroundings is the same in two images, which chance does not make so."""
    side = min(FINE, first.width, first.height)
    details = []
    for image in (first, second):
        pixels = np.asarray(image.resize((side, side), Image.BOX), np.float32)
        around = scipy.ndimage.uniform_filter(pixels, (WINDOW, WINDOW, 1))
        inside = slice(WINDOW // 2, -(WINDOW // 2))  # where the window lies in the image
        details.append((pixels - around)[inside, inside])
    if min(detail.std() for detail in details) < 0.5:  # plain images
        return close >= PLAIN
    return _correlation(*details) >= DETAIL
