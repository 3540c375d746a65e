"""From an image file to the pixels that a model reads: decoding, resizing, and the kinds of input.

Kinds of input: `rgb`, the image itself, and `mscn`, the locally normalised image. Each turns 8-bit RGB pixels of shape
(height, width, 3) into others of the same shape and type.
"""

import importlib
import re
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from PIL import ExifTags, Image, UnidentifiedImageError

from iqa.data import DataError
from iqa.data.colours import to_srgb
from iqa.data.metadata import orientation, strip
from iqa.data.sizes import Colours, Size
from iqa.study import paths
from iqa.study.registry import Registry

PIXELS = Registry("input")
REACH = 3  # pixels of the window of MSCN on each side of its middle
AT_ONCE, LEAST_ROWS = 2**19, 32  # pixels and rows of an image that become MSCN at once, which bounds the memory
TURNS = {  # what turns an image upright, by its EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FILTERS = {"lanczos": Image.Resampling.LANCZOS, "bilinear": Image.Resampling.BILINEAR}
LARGEST = 2 * 89_478_485  # pixels; the size from which Pillow refuses to decode an image
PLUG_INS = {  # of formats that Pillow cannot read itself: how their files begin, the plug-in's module and package
    "HEIC": (rb"(?s)....ftyp(hei|hev|mif1|msf1)", "pillow_heif", "pillow-heif"),
    "JPEG XL": (rb"\xff\x0a|\0\0\0\x0cJXL ", "pillow_jxl", "pillow-jxl-plugin"),
}


class Undecodable(DataError):
    """An image file that cannot be decoded, and the `reason`."""

    def __init__(self, file: Path, reason: str):
        remedy = "fetch the file again, or remove its row from the labels"
        super().__init__(f"{paths.shown(file)}: cannot be decoded ({reason}); {remedy}")
        self.reason = reason


def decode(path: Path, colours: Colours = "stored") -> Image.Image:
    """The image of a file as 8-bit RGB.

    The EXIF orientation is applied; other metadata are not read, and never stop an image. Grey, palette, CMYK and other
    colour modes are converted; transparent pixels are laid over white, as a page shows them; 16-bit grey (0..65535) is
    divided by 257. Of several frames the first is taken. With the colours `srgb`, a colour profile is applied
    (`iqa.data.colours.to_srgb`).

    Raises:
        Undecodable: the file cannot be decoded, is truncated, or holds floating-point pixels.
    """
    try:
        with path.open("rb") as file:
            _load_plug_in(file.read(16))
        image, turn = _open(path)
        if image.mode == "F":
            raise ValueError("its pixels are floating-point numbers without a known range")
        image = image if turn is None else image.transpose(turn)
        if image.mode.startswith("I"):
            grey = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
            grey.info = {key: value for key, value in image.info.items() if key != "transparency"}
            image = grey
        if colours == "srgb":
            image = to_srgb(image, paths.shown(path))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        return image.convert("RGB")
    except Exception as error:  # the decoders of some formats raise anything
        raise Undecodable(path, _reason(path, error)) from None


def _open(path: Path) -> tuple[Image.Image, Image.Transpose | None]:
    """The image of a file and how it is to be turned; read without the metadata where these stop Pillow."""
    try:
        return _load(path)
    except Image.DecompressionBombError:
        raise
    except Exception as error:  # Pillow's parsers of metadata raise anything, too
        lean = strip(path.read_bytes())
        if lean is None:
            raise
        try:
            return _load(BytesIO(lean[0]), lean[1])
        except Exception:
            raise error from None


def _load(source: Path | BytesIO, info: dict[str, Any] | None = None) -> tuple[Image.Image, Image.Transpose | None]:
    with Image.open(source) as image:
        image.load()  # a PNG file may note its orientation behind its pixels
        image.info |= info or {}
        noted = orientation(image.info.get("exif") or b"")
        if noted is None:
            with suppress(Exception):  # damaged EXIF data
                noted = image.getexif().get(ExifTags.Base.Orientation)
    return image, TURNS.get(noted)


def _load_plug_in(start: bytes) -> None:
    """Load the plug-in that reads a file which begins so, if there is one."""
    for name, (pattern, module, package) in PLUG_INS.items():
        if re.match(pattern, start) and not _register(module):
            raise ValueError(f"{name} needs the plug-in {package}; install it, or iqa[formats]")


@cache
def _register(module: str) -> bool:
    try:
        plug_in = importlib.import_module(module)
    except ImportError:
        return False
    getattr(plug_in, "register_heif_opener", bool)()  # other plug-ins register themselves
    return True


def _reason(path: Path, error: Exception) -> str:
    """Why a file cannot be decoded, in one line."""
    if isinstance(error, UnidentifiedImageError):
        return "this is no image that can be decoded" if path.stat().st_size else "the file is empty"
    if isinstance(error, Image.DecompressionBombError):
        pixels, limit = (f"{int(number):,}" for number in re.findall(r"\d+", str(error))[:2])
        return f"it has {pixels} pixels, of which at most {limit} are read"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:200]


def resize(image: Image.Image, size: Size) -> Image.Image:
    """The image at its stored size; unchanged if it has that size.

    Raises:
        DataError: it would have to be enlarged beyond `LARGEST`; the message does not name it.
    """
    height, width = size.of(image.height, image.width)
    if (height, width) == (image.height, image.width):
        return image
    if height * width > max(LARGEST, image.height * image.width):
        enlarged = f"{image.height}x{image.width} pixels would have to be enlarged to {height}x{width}"
        raise DataError(f"its {enlarged} (height x width)")
    return image.resize((width, height), FILTERS[size.filter])


@PIXELS.add("rgb")
def rgb(image: np.ndarray) -> np.ndarray:
    """The image itself."""
    return image


@PIXELS.add("mscn")
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
    height, width = image.shape[:2]
    # sums of a window are exact for 8 bits, so that strips change no bit; those of other numbers are rounded
    rows = max(LEAST_ROWS, AT_ONCE // width) if image.dtype == np.uint8 else height
    found = np.empty(image.shape, np.uint8)
    for top in range(0, height, rows):
        first = max(0, top - REACH)
        found[top : top + rows] = _mscn(image[first : top + rows + REACH])[top - first :][:rows]
    return found


def _mscn(image: np.ndarray) -> np.ndarray:
    intensity = image.astype(np.float32) / (255 if image.dtype == np.uint8 else 1)
    window = {"size": (2 * REACH + 1, 2 * REACH + 1, 1), "mode": "mirror"}
    mean = scipy.ndimage.uniform_filter(intensity, **window)
    variance = scipy.ndimage.uniform_filter(intensity**2, **window) - mean**2
    value = (intensity - mean) / (np.sqrt(variance.clip(min=0)) + 0.04)
    return (value * 40 + 128).round().clip(0, 255).astype(np.uint8)
