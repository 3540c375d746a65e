"""Images decoded once and resized once, kept as raw 8-bit pixels, one file per image and kind of input.

    pixels/<kind>-<settings>/<SHA-256 of the image file>

Beside the kinds of input there is a thumbnail of each image, by which copies of it are found (`iqa.data.twins`).
The settings are the stored size, its filter and colours, and the code that makes the pixels. A file holds a checksum of
all that follows; height, width, and 1 if the image was enlarged (otherwise 0); and height x width x 3 bytes. It is
written under a hidden name and renamed. So processes and studies share the files, a killed build goes on where it
ended, a changed image is one new file, and copies of an image are one file. Files are never changed and never deleted,
because another study or an earlier commit may use them; `make clean` deletes them all.

When a database is opened, each file that is new or changed since it was last read is compared with its checksum, and
made again if it does not match.
"""

import hashlib
import random
import resource
import struct
import time
from collections import ChainMap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import PIL
from PIL import Image

from iqa.data import DataError
from iqa.data.files import what_is_wrong
from iqa.data.pixels import LARGEST, PIXELS, decode, resize
from iqa.data.sizes import Size
from iqa.study import code, paths, progress
from iqa.study.code import digest, file_hash
from iqa.study.disk import amount, disk_full, free, write_whole
from iqa.study.echo import some
from iqa.study.hashes import remembered

BROKEN_SHOWN = 20  # broken images that an error names
CHECKSUM = 32  # bytes of a SHA-256
SHAPE = struct.Struct("<3I")  # height, width, enlarged
HEAD = CHECKSUM + SHAPE.size  # bytes before the pixels
MANY = 200  # from this many images on, the time is estimated
SAMPLE = 4  # images per thread that are timed for the estimate
OPEN, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # files that a process may have open; -1: without limit
THUMBNAILS = "thumbnail"  # what is cached beside the kinds of input
THUMBNAIL = 64  # height and width of a thumbnail
MAPPED = 2**14 if OPEN < 0 else min(OPEN // 2, 2**14)  # files that are kept mapped; each counts as open

Facts = tuple[int, int, int]  # height, width, enlarged


def pixel_code(kind: str) -> str:
    """A hash that changes when the Pillow version or the code that makes this kind of input does."""
    parts = ["iqa.data.sizes.Size", *(f"iqa.data.pixels.{name}" for name in ("decode", "resize", "PIXELS"))]
    parts += ["iqa.data.cache.thumbnail"] if kind == THUMBNAILS else []
    return digest(PIL.__version__, code.definitions(*parts, names=[kind]))


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """An image (height, width, 3), uint8, with its areas averaged to 64x64, whatever its shape."""
    return np.asarray(Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), Image.BOX))


KINDS = {**PIXELS, THUMBNAILS: thumbnail}


def contents_hash(fingerprint: str, *kinds: str) -> str:
    """A hash of all that scores and pixels of some kinds of input depend on: the fingerprint, and the code."""
    return digest(fingerprint, *map(pixel_code, kinds))


class Store:
    """The cached images of a database, of one kind: `store[index]` is a view (height, width, 3), uint8, of its file.

    Args:
        folder: of the files.
        index: one row per image: image (its name), sha256 (of its source file), height, width, enlarged (0 or 1).
    """

    def __init__(self, folder: Path, index: pd.DataFrame):
        self.folder = folder
        self.index = index
        self._files = list(zip(*(index[column].tolist() for column in ("sha256", "height", "width")), strict=True))

    def __getitem__(self, index: int) -> np.ndarray:
        name, height, width = self._files[index]
        return _mapped(f"{self.folder}/{name}", height, width)

    def __len__(self) -> int:
        return len(self._files)

    def take(self, rows: list[int]) -> "Store":
        """Some of the images; unlike a list of them, which keeps all their files open."""
        return Store(self.folder, self.index.iloc[rows])

    @property
    def bytes(self) -> int:
        """Size of the pixels; copies of an image count once."""
        return sum(height * width * 3 for _, height, width in set(self._files))


@lru_cache(maxsize=MAPPED)
def _mapped(file: str, height: int, width: int) -> np.ndarray:
    """The pixels of a cached file, mapped; of too many mapped files the least recently used is closed.

    Raises:
        DataError: the file was deleted or cut.
    """
    try:
        return np.asarray(np.memmap(file, np.uint8, "r", HEAD, (height, width, 3)))
    except (FileNotFoundError, ValueError):
        shown = paths.shown(file)
        raise DataError(f"{shown}: deleted or cut since the database was opened; open the database again") from None


def open_stores(
    folder: Path,
    images: Sequence[str],
    hashes: Sequence[str],
    size: Size,
    kinds: Sequence[str],
    jobs: int,
    skip: bool = False,
) -> dict[str, Store]:
    """The stores of some images, one per kind; what is missing or damaged is made, with a progress bar.

    A line says beforehand how many images and bytes that is, how much space is free and, for 200 images or more, about
    how long it will take.

    Args:
        folder, images: the images' folder and their names in it.
        hashes: SHA-256 of each image file.
        size: the stored size.
        kinds: `rgb`, `mscn` or both; and `thumbnail`.
        jobs: number of threads for building; the stores do not depend on it.
        skip: leave out images that cannot be decoded.

    Raises:
        DataError: images cannot be decoded (the error names them all), or the disk is full.
    """
    folders = {kind: paths.CACHE / "pixels" / f"{kind}-{digest(vars(size), pixel_code(kind))}" for kind in KINDS}
    sources = {sha: folder / image for sha, image in zip(hashes, images, strict=True)}
    intact = {kind: _intact(folders[kind], sources) for kind in kinds}
    missing = {sha: absent for sha in sources if (absent := [kind for kind in kinds if sha not in intact[kind]])}
    built = _build(folders, sources, missing, size, jobs, skip) if missing else {}
    facts = ChainMap(*(intact[kind] for kind in kinds if kind in PIXELS), built)
    index = pd.DataFrame({"image": list(images), "sha256": list(hashes)})
    index = index[[sha not in missing or sha in built for sha in hashes]].reset_index(drop=True)
    index[["height", "width", "enlarged"]] = np.array([facts[sha] for sha in index["sha256"]], int).reshape(-1, 3)
    small = index.assign(height=THUMBNAIL, width=THUMBNAIL)
    return {kind: Store(folders[kind], index if kind in PIXELS else small) for kind in kinds}


def _intact(folder: Path, sources: dict[str, Path]) -> dict[str, Facts]:
    """Those of some images that are cached, without files that do not match their checksums."""
    here = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    names = [sha for sha in sources if sha in here]
    read = remembered(folder, names, lambda file: (_read(file) or [None])[0], "checking")
    facts = dict(zip(names, read, strict=True))
    damaged = [f"{sha} ({sources[sha].name})" for sha in names if facts[sha] is None]
    if damaged:
        print(f"{paths.shown(folder)}: damaged, made again: {some(damaged)}", flush=True)
    return {sha: fact for sha, fact in facts.items() if fact is not None}


def _read(file: Path) -> tuple[Facts, np.ndarray] | None:
    """A cached image; `None` where it is not there or does not match its checksum."""
    data = file.read_bytes() if file.is_file() else b""
    if hashlib.sha256(memoryview(data)[CHECKSUM:]).digest() != data[:CHECKSUM]:
        return None
    height, width, enlarged = SHAPE.unpack_from(data, CHECKSUM)
    return (height, width, enlarged), np.frombuffer(data, np.uint8, offset=HEAD).reshape(height, width, 3)


def _build(
    folders: dict[str, Path], sources: dict[str, Path], missing: dict[str, list[str]], size: Size, jobs: int, skip: bool
) -> dict[str, Facts]:
    """Cache the missing kinds of images, in random order, so that several processes share the work.

    Returns:
        Facts of these images, without those that `skip` leaves out.
    """
    broken, facts = [], {}

    def make(sha: str) -> None:
        try:
            facts[sha], rgb = _read(folders["rgb"] / sha) or decoded(sources[sha], sha, size)
        except DataError as error:
            broken.append(str(error))
            return
        for kind in missing[sha]:
            if _read(folders[kind] / sha) is None:  # otherwise another process has made it just now
                made = KINDS[kind](rgb)
                content = SHAPE.pack(*made.shape[:2], facts[sha][2]) + made.tobytes()
                write_whole(folders[kind] / sha, hashlib.sha256(content).digest() + content)

    todo = random.Random().sample(list(missing), len(missing))  # leaves the random numbers of a training alone
    sample = todo[: SAMPLE * jobs] if len(todo) >= MANY else []
    with ThreadPoolExecutor(jobs) as pool:
        inputs = {sha: [kind for kind in missing[sha] if kind in PIXELS] for sha in todo}
        needed = sum(pool.map(lambda sha: _expected(sources[sha], size) * len(inputs[sha]), todo))
        if needed > (space := free(paths.CACHE)):
            raise disk_full(paths.CACHE, needed)
        start = time.perf_counter()
        list(pool.map(make, sample))
        kinds = " and ".join(kind for kind in PIXELS if any(kind in absent for absent in inputs.values()))
        line = f"caching {kinds or THUMBNAILS}: {len(todo):,} of {len(sources):,} images, "
        line += f"{amount(needed)} of {amount(space)} free"
        if sample:
            seconds = (time.perf_counter() - start) * (len(todo) / len(sample) - 1)
            about = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
            line += f", about {about} with {jobs} thread{'s' * (jobs > 1)}"
        print(line, flush=True)
        with progress.bar(total=len(todo), desc="caching", unit="image") as bar:
            bar.update(len(sample))
            for _ in pool.map(make, todo[len(sample) :]):
                bar.update()
    _mapped.cache_clear()  # a damaged file may still be mapped
    if broken and not skip:
        more = [f"... ({len(broken)} in all)"] if len(broken) > BROKEN_SHOWN else []
        raise DataError("\n".join(sorted(broken)[:BROKEN_SHOWN] + more))
    return facts


def _expected(source: Path, size: Size) -> int:
    """Bytes of an image at its stored size, by the header of its file; 0 where decoding will say what is wrong."""
    try:
        with Image.open(source) as image:
            height, width = size.of(image.height, image.width)
    except Exception:
        return 0
    return height * width * 3 if height * width <= LARGEST else 0


def decoded(source: Path, sha: str, size: Size) -> tuple[Facts, np.ndarray]:
    """An image at its stored size, from its file.

    Raises:
        DataError: the file cannot be decoded, or is not the one that was hashed.
    """
    if problem := what_is_wrong(source):
        raise DataError(f"{paths.shown(source)}: cannot be decoded (it {problem})")
    image = decode(source, size.colours)
    if file_hash(source) != sha:
        raise DataError(f"{paths.shown(source)}: has changed since it was hashed; `touch` it and start again")
    try:
        pixels = np.asarray(resize(image, size))
    except DataError as error:
        raise DataError(
            f"{paths.shown(source)}: {error}; set another size, or remove its row from the labels"
        ) from None
    height, width, _ = pixels.shape
    return (height, width, int(height > image.height or width > image.width)), pixels
