"""Images decoded once and resized once, kept as raw 8-bit pixels in one memory-mapped file per kind of input.

Kinds of input: `rgb`, the image itself, and `mscn`, the locally normalised image. A store is a folder that is named
by its settings (the size, the code that makes the pixels) and its content (the images' names and hashes), and holds

    pixels.bin      all images one after the other, each height x width x 3, uint8
    checksums.bin   per image 32 bytes: SHA-256 of its pixels, or zeros as long as they are not there
    index.csv       per image: name, offset in pixels.bin, height, width, SHA-256 of the source file, enlarged (0 or 1)
    manifest.json   what the store was made from and with, and the SHA-256 of checksums.bin and index.csv

A store is filled under the name `<store>.unfinished`, without a manifest, and renamed when complete. What a killed
build leaves is continued by the next one. An image whose pixels, of the same source file and settings, are in another
store or in another unfinished one is copied from there: a changed image costs decoding that image. In both cases
pixels that do not match their checksum are made again. Finished stores are never changed and never deleted, because
another study or an earlier commit may use them; `make clean` deletes them all.

One process at a time fills stores of a database: it locks `<database>.lock`, and the system takes the lock back when
the process ends in whatever way. A second one waits, and then opens what the first has made.
"""

import errno
import fcntl
import hashlib
import inspect
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import PIL
from PIL import Image, ImageOps
from scipy.ndimage import uniform_filter

from iqa import paths, progress
from iqa.data import DataError
from iqa.study.code import digest, file_hash

BROKEN_SHOWN = 20  # broken images that an error names
CHUNK = 16  # images per task of a thread
CHECKSUM = 32  # bytes of a SHA-256
UNFINISHED = ".unfinished"
MANY = 200  # from this many images on, the time is estimated and hashing shows its progress
SAMPLE = 4  # images per thread that are timed for the estimate
ROTATED = (5, 6, 7, 8)  # EXIF orientations that swap height and width
PNG_NOTES = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # the parts of a PNG file that can hold an orientation
UNTRUSTED_NS = 2 * 10**9  # a file changed this recently may change again within the clock's resolution

Place = tuple[Path, int, bytes]  # file, offset in it, checksum of the pixels there


@dataclass(frozen=True)
class Size:
    """To which size images are brought.

    Args:
        height, width: in pixels, both `None` for the image's own size.
        keep_aspect: scale the image so that it just covers height x width (it stays larger on one side), instead of
            squeezing it to exactly height x width.
    """

    height: int | None = None
    width: int | None = None
    keep_aspect: bool = True

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image of this height and width is brought to."""
        if self.height is None or self.width is None:
            return height, width
        if not self.keep_aspect:
            return self.height, self.width
        scale = max(self.height / height, self.width / width)
        return max(self.height, round(height * scale)), max(self.width, round(width * scale))


def decode(path: Path) -> Image.Image:
    """The image of a file as 8-bit RGB.

    The EXIF orientation is applied. Grey, palette, CMYK and other colour modes are converted; transparent pixels are
    laid over white, as a page shows them; 16-bit grey (0..65535) is divided by 257. Colour profiles are not applied.
    Of several frames the first is taken.

    Raises:
        DataError: the file cannot be decoded, is truncated, or holds floating-point pixels.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            image.load()
    except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
        raise _undecodable(path, error) from None
    if image.mode == "F":
        raise _undecodable(path, "its pixels are floating-point numbers without a known range")
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _undecodable(path: Path, reason: object) -> DataError:
    return DataError(
        f"{paths.shown(path)}: cannot be decoded ({reason}); fetch the file again, or remove its row from the labels"
    )


def resize(image: Image.Image, size: Size) -> Image.Image:
    """The image at its stored size (Lanczos, which averages where it shrinks); unchanged where it has that size."""
    height, width = size.of(image.height, image.width)
    return image if (height, width) == (image.height, image.width) else image.resize((width, height), Image.LANCZOS)


def mscn(image: np.ndarray) -> np.ndarray:
    """Locally normalised image: mean subtracted and contrast normalised (MSCN) in a window of 7x7 pixels.

    Per colour channel `(I - mu) / (sigma + 0.04)` with `mu` and `sigma` the mean and standard deviation of the window
    (mirrored at the edges), on intensities in [0, 1]; stored as `40 * value + 128`, rounded and cut to 0..255.
    Mittal, Moorthy & Bovik 2012, "No-reference image quality assessment in the spatial domain", equations 1 to 3,
    with a box in place of the Gaussian window, and their constant 1 (on 0..255) raised to about 10.

    Args:
        image: (height, width, 3), uint8 0..255 or floating point 0..1, at least 4 pixels high and wide.

    Returns:
        (height, width, 3), uint8, 128 where nothing differs from its surroundings.

    >>> int(mscn(np.full((8, 8, 3), 200, np.uint8)).max())
    128
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"mscn takes an image of shape (height, width, 3), not {image.shape}")
    intensity = image.astype(np.float32) / (255 if image.dtype == np.uint8 else 1)
    window = {"size": (7, 7, 1), "mode": "mirror"}
    mean = uniform_filter(intensity, **window)
    variance = uniform_filter(intensity**2, **window) - mean**2
    value = (intensity - mean) / (np.sqrt(variance.clip(min=0)) + 0.04)
    return (value * 40 + 128).round().clip(0, 255).astype(np.uint8)


PIXELS = {"rgb": lambda image: image, "mscn": mscn}


def code_version() -> str:
    """A hash that changes when the code or the library that decides the stored pixels changes."""
    return digest(PIL.__version__, *(inspect.getsource(part) for part in (Size, decode, resize, mscn)))


def content_hashes(folder: Path, names: Sequence[str]) -> list[str]:
    """SHA-256 of each file of a folder. Hashes are remembered by size and time of change, as git's index does.

    So an unchanged folder costs one `stat` per file. A file changed within the last two seconds is not remembered.

    Raises:
        DataError: the disk is full.
    """
    memory = paths.CACHE / "hashes" / f"{digest(str(folder.resolve()))}.json"
    known = json.loads(memory.read_text()) if memory.is_file() else {}
    now = time.time_ns()
    states = {name: [status.st_size, status.st_mtime_ns] for name in names for status in [(folder / name).stat()]}
    changed = [name for name, state in states.items() if name not in known or known[name][:2] != state]
    shown = progress.bar(changed, total=len(changed), desc="hashing", unit="image") if len(changed) >= MANY else changed
    new = {name: [*states[name], file_hash(folder / name)] for name in shown}
    learned = {name: entry for name, entry in new.items() if entry[1] < now - UNTRUSTED_NS}
    if learned:
        with _full_disk_explained(memory.parent):
            memory.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False) as file:
                json.dump(known | learned, file)
            Path(file.name).replace(memory)
    return [(new if name in new else known)[name][2] for name in names]


@contextmanager
def publish(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `folder` in one step when the block ends without an error.

    Raises:
        DataError: the disk is full.
    """
    with _full_disk_explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            temporary.chmod(0o755)
            yield temporary
            try:
                temporary.rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process has published the same content first
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _full_disk_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(folder) from error
        raise


def _disk_full(folder: Path, needed: int | None = None) -> DataError:
    free = shutil.disk_usage(folder.parent).free
    wanted = "" if needed is None else f", {_amount(needed)} are needed"
    return DataError(
        f"{paths.shown(folder)}: the disk is full ({_amount(free)} free{wanted}); free some space, set a smaller "
        "`height` and `width`, or move the cache with the environment variable IQA_CACHE; images that are already "
        "cached are kept"
    )


def _amount(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


class Store:
    """An opened store: `store[index]` is one image as a view (height, width, 3), uint8, of the mapped file.

    Raises:
        DataError: the files of the folder do not belong together.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        pixels = folder / "pixels.bin"
        try:
            self.manifest = json.loads((folder / "manifest.json").read_text())
            whole = pixels.stat().st_size == self.manifest["bytes"]
            whole = whole and all(file_hash(folder / file) == sha for file, sha in self.manifest["sha256"].items())
        except FileNotFoundError:
            whole = False
        if not whole:
            raise DataError(f"{paths.shown(folder)}: does not match its manifest; delete the folder, it is made again")
        self.index = _read_index(folder)
        self._places = self.index[["offset", "height", "width"]].to_numpy()
        self._pixels = np.asarray(np.memmap(pixels, dtype=np.uint8, mode="r"))

    def __getitem__(self, index: int) -> np.ndarray:
        offset, height, width = self._places[index]
        return self._pixels[offset : offset + height * width * 3].reshape(height, width, 3)

    def __len__(self) -> int:
        return len(self.index)

    def __reduce__(self) -> tuple:
        return Store, (self.folder,)  # another process maps the file again instead of receiving its pixels


def open_stores(
    name: str, folder: Path, images: Sequence[str], hashes: Sequence[str], size: Size, kinds: Sequence[str], jobs: int
) -> dict[str, Store]:
    """The stores of some images, one per kind of input; what is not there yet is made, with a progress bar.

    Before that a line says how many images and bytes it will be, how much space is free and, for 200 images or more,
    about how long it will take.

    Args:
        name: how the stores' folders start.
        folder, images: the images' folder and their names in it.
        hashes: SHA-256 of each image file.
        size: the stored size.
        kinds: `rgb`, `mscn` or both.
        jobs: number of threads for building; the stores do not depend on it.

    Raises:
        DataError: an image cannot be decoded, the disk is full, or the cache lies where files cannot be locked.
    """
    settings, content = digest(vars(size), code_version()), digest(list(images), list(hashes))
    places = {kind: paths.CACHE / f"{name}-{kind}-{settings}-{content}" for kind in PIXELS}
    if not all(places[kind].is_dir() for kind in kinds):
        with _full_disk_explained(places["rgb"]), _lock(paths.CACHE / f"{name}.lock"):
            missing = {kind: place for kind, place in places.items() if kind in kinds and not place.is_dir()}
            if missing:
                files = [folder / image for image in images]
                _build(missing, places["rgb"], files, _plan(files, images, hashes, size, jobs), size, jobs)
    return {kind: Store(places[kind]) for kind in kinds}


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    """Keep other processes out of the block; wait for one that is in it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{paths.shown(file)}: waiting for another process that fills this cache", flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            raise DataError(
                f"{paths.shown(file)}: cannot be locked ({error}); move the cache to a disk where files can be locked, "
                "with the environment variable IQA_CACHE"
            ) from None
        yield


def _plan(files: Sequence[Path], names: Sequence[str], hashes: Sequence[str], size: Size, jobs: int) -> pd.DataFrame:
    """The index of a store: where each image will lie."""
    originals = joblib.Parallel(n_jobs=jobs, backend="threading")(map(joblib.delayed(_size_or_error), files))
    _raise_all([found for found in originals if isinstance(found, DataError)])
    stored = [size.of(*original) for original in originals]
    ends = np.cumsum([height * width * 3 for height, width in stored])
    enlarged = [int(new[0] > old[0] or new[1] > old[1]) for new, old in zip(stored, originals, strict=True)]
    index = pd.DataFrame(stored, columns=["height", "width"])
    index.insert(0, "image", names)
    index.insert(1, "offset", [0, *ends[:-1].tolist()])
    return index.assign(sha256=hashes, enlarged=enlarged)


def _size_or_error(path: Path) -> tuple[int, int] | DataError:
    try:
        return _original_size(path)
    except DataError as error:
        return error


def _raise_all(errors: list[DataError]) -> None:
    """One error that tells of all images that cannot be used, so that they can be mended at once."""
    if errors:
        shown = "\n".join(str(error) for error in errors[:BROKEN_SHOWN])
        more = f"\n... ({len(errors)} in all)" if len(errors) > BROKEN_SHOWN else ""
        raise DataError(shown + more)


def _original_size(path: Path) -> tuple[int, int]:
    """Height and width that `decode` will return, without decoding the pixels where that can be avoided."""
    try:
        with Image.open(path) as image:
            rotated = _may_be_rotated(path, image) and image.getexif().get(0x0112) in ROTATED
            return (image.width, image.height) if rotated else (image.height, image.width)
    except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
        raise _undecodable(path, error) from None


def _may_be_rotated(path: Path, image: Image.Image) -> bool:
    """False for a PNG without any note; asked for its orientation, Pillow would decode it to look behind the pixels."""
    if image.format != "PNG":
        return True
    data = path.read_bytes()
    return any(note in data for note in PNG_NOTES)


def _make(kind: str, files: Sequence[Path], size: Size, rgb: Store | None, number: int) -> np.ndarray:
    """The pixels of an image to be stored, from its file or from its stored `rgb` pixels."""
    return PIXELS[kind](np.asarray(resize(decode(files[number]), size)) if rgb is None else rgb[number])


def _build(
    missing: dict[str, Path], rgb: Path, files: Sequence[Path], index: pd.DataFrame, size: Size, jobs: int
) -> None:
    """Make the missing stores, one kind after the other; `rgb` is where that kind's store is or will be."""
    kept = {kind: _kept(_family(folder)) for kind, folder in missing.items()}
    needed = {kind: _needed(_unfinished(folder), index, kept[kind]) for kind, folder in missing.items()}
    free = shutil.disk_usage(rgb.parent).free
    if sum(needed.values()) > free:
        raise _disk_full(rgb, sum(needed.values()))
    for kind, folder in missing.items():
        unfinished = _unfinished(folder)
        if not unfinished.is_dir():
            _lay_out(unfinished, index)
        space = f"{_amount(needed[kind])} of {_amount(free)} free"
        make = partial(_make, kind, files, size, Store(rgb) if rgb.is_dir() else None)
        broken: list[DataError] = []
        _fill_all(kind, space, index, kept[kind], partial(_fill, unfinished, index, kept[kind], make, broken), jobs)
        _raise_all(broken)
        _finish(folder, kind, index, size)


def _unfinished(folder: Path) -> Path:
    return folder.with_name(folder.name + UNFINISHED)


def _family(folder: Path) -> list[Path]:
    """All stores with the settings of this one, finished or not; what is left of this one itself comes last."""
    alike = folder.parent.glob(f"{folder.name.rpartition('-')[0]}-*")
    return sorted(alike, key=lambda other: (other == _unfinished(folder), other))


def _kept(folders: list[Path]) -> dict[str, Place]:
    """Where the pixels of a source file (its SHA-256) already lie, and their checksum; the last folder counts."""
    places = {}
    for folder in folders:
        index, checksums = _read_index(folder), (folder / "checksums.bin").read_bytes()
        for number, (sha, offset) in enumerate(zip(index["sha256"], index["offset"], strict=True)):
            checksum = checksums[CHECKSUM * number : CHECKSUM * (number + 1)]
            if any(checksum):
                places[sha] = (folder / "pixels.bin", offset, checksum)
    return places


def _read_index(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "index.csv", dtype={"image": str, "sha256": str}, keep_default_na=False)


def _needed(unfinished: Path, index: pd.DataFrame, kept: dict[str, Place]) -> int:
    """Bytes that are still to be written."""
    file = unfinished / "pixels.bin"
    absent = [kept.get(row.sha256, ())[:2] != (file, row.offset) for row in index.itertuples()]
    return int((index["height"] * index["width"] * 3)[absent].sum())


def _lay_out(unfinished: Path, index: pd.DataFrame) -> None:
    with publish(unfinished) as temporary:
        index.to_csv(temporary / "index.csv", index=False)
        (temporary / "checksums.bin").write_bytes(bytes(CHECKSUM * len(index)))
        with (temporary / "pixels.bin").open("wb") as file:
            file.truncate(_total(index))
        _sync(temporary)


def _total(index: pd.DataFrame) -> int:
    return int((index["height"] * index["width"] * 3).sum())


def _fill_all(
    kind: str, space: str, index: pd.DataFrame, kept: dict[str, Place], fill: Callable[[list[int]], int], jobs: int
) -> None:
    """Fill a store. Of many new images a few are made first and timed: what the rest will take goes by them."""
    new = np.flatnonzero(~index["sha256"].isin(kept))
    old = f" ({len(index) - len(new):,} kept from before)" if len(new) < len(index) else ""
    sample = new[:: max(1, len(new) // (SAMPLE * jobs))][: SAMPLE * jobs] if len(new) >= MANY else new[:0]
    start = time.perf_counter()
    done = sum(_in_threads(fill, sample, 1, jobs))
    duration = ""
    if done:
        seconds = (time.perf_counter() - start) * (len(new) - done) / done
        about = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
        duration = f", about {about} with {jobs} thread{'s' * (jobs > 1)}"
    print(f"caching {kind}: {len(index):,} images{old}, {space}{duration}", flush=True)
    with progress.bar(total=len(index), desc=f"caching {kind}", unit="image") as bar:
        bar.update(done)
        for count in _in_threads(fill, np.delete(np.arange(len(index)), sample), CHUNK, jobs):
            bar.update(count)


def _in_threads(fill: Callable[[list[int]], int], numbers: np.ndarray, chunk: int, jobs: int) -> Iterator[int]:
    """Threads are enough: Pillow and the hash release Python's lock, and no pixels travel between processes."""
    chunks = (numbers[start : start + chunk].tolist() for start in range(0, len(numbers), chunk))
    return joblib.Parallel(n_jobs=jobs, backend="threading", return_as="generator_unordered")(
        map(joblib.delayed(fill), chunks)
    )


def _fill(
    folder: Path,
    index: pd.DataFrame,
    kept: dict[str, Place],
    make: Callable[[int], np.ndarray],
    broken: list[DataError],
    numbers: list[int],
) -> int:
    """Write the pixels and checksums of some images, those that are kept elsewhere from there; returns how many.

    What is wrong with images that cannot be decoded is added to `broken`.
    """
    file = folder / "pixels.bin"
    with file.open("r+b") as pixels, (folder / "checksums.bin").open("r+b") as checksums:
        for row in index.iloc[numbers].itertuples():
            place = kept.get(row.sha256)
            data = None if place is None else _checked(place, row.height * row.width * 3)
            if data is not None and place[:2] == (file, row.offset):
                continue
            if data is None:
                try:
                    data = make(row.Index)
                except DataError as error:
                    broken.append(error)
                    continue
                if data.shape != (row.height, row.width, 3):
                    raise DataError(f"{row.image}: the file has changed while it was read; start again")
            pixels.seek(row.offset)
            pixels.write(data)
            checksums.seek(CHECKSUM * row.Index)
            checksums.write(hashlib.sha256(data).digest())
    return len(numbers)


def _checked(place: Place, length: int) -> bytes | None:
    """Stored pixels, if they match their checksum."""
    file, offset, checksum = place
    with file.open("rb") as stream:
        stream.seek(offset)
        data = stream.read(length)
    return data if hashlib.sha256(data).digest() == checksum else None


def _finish(folder: Path, kind: str, index: pd.DataFrame, size: Size) -> None:
    unfinished = _unfinished(folder)
    manifest = {
        "kind": kind,
        "images": len(index),
        "bytes": _total(index),
        "enlarged": int(index["enlarged"].sum()),
        "size": vars(size),
        "code": code_version(),
        "sha256": {file: file_hash(unfinished / file) for file in ("checksums.bin", "index.csv")},
    }
    (unfinished / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    _sync(unfinished)
    unfinished.rename(folder)
    for other in _family(folder):
        if other.name.endswith(UNFINISHED) and set(_kept([other])) <= set(index["sha256"]):
            shutil.rmtree(other)  # all that it held is in the new store


def _sync(folder: Path) -> None:
    """Wait until the files of a folder are on the disk, so that no name outlives a power cut without its content."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
