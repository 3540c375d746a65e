"""Images decoded once and resized once, kept as raw 8-bit pixels in one memory-mapped file per kind of input.

Kinds of input: `rgb`, the image itself, and `mscn`, the locally normalised image. A store is a folder that is named
by its content (the images' hashes, the size, the code that makes the pixels) and holds

    pixels.bin      all images one after the other, each height x width x 3, uint8
    index.csv       per image: name, offset in pixels.bin, height, width, SHA-256 of the source file
    manifest.json   what the store was made from and with, and the SHA-256 of the two files above

It is filled under another name and renamed when complete: a killed build leaves no store, and of two builds at the
same time one wins.
"""

import errno
import inspect
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import PIL
from PIL import Image, ImageOps
from scipy.ndimage import uniform_filter

from iqa import paths, progress
from iqa.data import DataError
from iqa.source import digest, file_hash

CHUNK = 16  # images per task of a thread
ROTATED = (5, 6, 7, 8)  # EXIF orientations that swap height and width
UNTRUSTED_NS = 2 * 10**9  # a file changed this recently may change again within the clock's resolution


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
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
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
    """
    memory = paths.CACHE / "hashes" / f"{digest(str(folder.resolve()))}.json"
    known = json.loads(memory.read_text()) if memory.is_file() else {}
    hashes, learned, now = [], {}, time.time_ns()
    for name in names:
        path = folder / name
        status = path.stat()
        size, changed, sha = known.get(name, (None, None, None))
        if (size, changed) != (status.st_size, status.st_mtime_ns):
            sha = file_hash(path)
            if status.st_mtime_ns < now - UNTRUSTED_NS:
                learned[name] = (status.st_size, status.st_mtime_ns, sha)
        hashes.append(sha)
    if learned:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False) as file:
            json.dump(known | learned, file)
        Path(file.name).replace(memory)
    return hashes


@contextmanager
def publish(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `folder` in one step when the block ends without an error.

    Raises:
        DataError: the disk is full.
    """
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        temporary.chmod(0o755)
        yield temporary
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process has published the same content first
                raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(folder) from error
        raise
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _disk_full(folder: Path, needed: int | None = None) -> DataError:
    free = shutil.disk_usage(folder.parent).free
    wanted = "" if needed is None else f", {needed / 1e9:.2f} GB are needed"
    return DataError(
        f"{paths.shown(folder)}: the disk is full ({free / 1e9:.2f} GB free{wanted}); free some space, set a smaller "
        "`height` and `width`, or move the cache with the environment variable IQA_CACHE"
    )


class Store:
    """An opened store: `store[index]` is one image as a view (height, width, 3), uint8, of the mapped file.

    Raises:
        DataError: the files of the folder do not belong together.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self.index = pd.read_csv(folder / "index.csv")
        self._places = self.index[["offset", "height", "width"]].to_numpy()
        pixels = folder / "pixels.bin"
        if pixels.stat().st_size != self.manifest["bytes"] or len(self.index) != self.manifest["images"]:
            raise DataError(f"{paths.shown(folder)}: does not match its manifest; delete the folder, it is made again")
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
    """The stores of some images, one per kind of input; those that do not exist are built, with a progress bar.

    Args:
        name: how the stores' folders start.
        folder, images: the images' folder and their names in it.
        hashes: SHA-256 of each image file.
        size: the stored size.
        kinds: `rgb`, `mscn` or both.
        jobs: number of threads for building; the stores do not depend on it.

    Raises:
        DataError: an image cannot be decoded, or the disk is full.
    """
    key = digest(list(images), list(hashes), vars(size), code_version())
    folders = {kind: paths.CACHE / f"{name}-{key}-{kind}" for kind in kinds}
    missing = {kind: place for kind, place in folders.items() if not place.is_dir()}
    if missing:
        _build(missing, folder, images, hashes, size, jobs)
    return {kind: Store(place) for kind, place in folders.items()}


def _build(
    folders: dict[str, Path], source: Path, names: Sequence[str], hashes: Sequence[str], size: Size, jobs: int
) -> None:
    images = [source / name for name in names]
    originals = [_original_size(image) for image in images]
    stored = [size.of(*original) for original in originals]
    ends = np.cumsum([height * width * 3 for height, width in stored])
    offsets = [0, *ends[:-1].tolist()]
    total = int(ends[-1])
    index = pd.DataFrame(stored, columns=["height", "width"])
    index.insert(0, "image", names)
    index.insert(1, "offset", offsets)
    index["sha256"] = hashes
    enlarged = sum(new[0] > old[0] or new[1] > old[1] for new, old in zip(stored, originals, strict=True))
    with ExitStack() as stack:
        temporary = {kind: stack.enter_context(publish(folder)) for kind, folder in folders.items()}
        for folder in folders.values():
            if shutil.disk_usage(folder.parent).free < total * len(folders):
                raise _disk_full(folder, total * len(folders))
        files = {kind: folder / "pixels.bin" for kind, folder in temporary.items()}
        for file in files.values():
            file.touch()
        starts = range(0, len(images), CHUNK)
        tasks = (
            joblib.delayed(_fill)(images[start : start + CHUNK], offsets[start : start + CHUNK], size, files)
            for start in starts
        )
        with progress.bar(total=len(images), desc="caching", unit="image") as bar:
            for done in joblib.Parallel(n_jobs=jobs, backend="threading", return_as="generator_unordered")(tasks):
                bar.update(done)
        for kind, folder in temporary.items():
            index.to_csv(folder / "index.csv", index=False)
            manifest = {
                "kind": kind,
                "images": len(images),
                "bytes": total,
                "enlarged": enlarged,
                "size": vars(size),
                "code": code_version(),
                "sha256": {file: file_hash(folder / file) for file in ("pixels.bin", "index.csv")},
            }
            (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def _original_size(path: Path) -> tuple[int, int]:
    """Height and width that `decode` will return, from the file's header alone."""
    try:
        with Image.open(path) as image:
            rotated = image.getexif().get(0x0112) in ROTATED
            return (image.width, image.height) if rotated else (image.height, image.width)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _undecodable(path, error) from None


def _fill(images: list[Path], offsets: list[int], size: Size, files: dict[str, Path]) -> int:
    """Decode some images and write their pixels to their places; returns how many."""
    for path, offset in zip(images, offsets, strict=True):
        rgb = np.asarray(resize(decode(path), size))
        for kind, file in files.items():
            with file.open("r+b") as stream:
                stream.seek(offset)
                stream.write(PIXELS[kind](rgb).tobytes())
    return len(images)
