"""From an image file to the pixels that a model reads: decoding, resizing, and the kinds of input.

Kinds of input: `rgb`, the image itself, and `mscn`, the locally normalised image. Each turns 8-bit RGB pixels of shape
(height, width, 3) into others of the same shape and type.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from scipy.ndimage import uniform_filter

from iqa.data import DataError
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


@dataclass(frozen=True)
class Size:
    """To which size images are brought: height and width in pixels, or both `None` for the image's own size.

    With `keep_aspect` the image is scaled so that it just covers height x width, and stays larger on one side;
    without, it is squeezed to exactly height x width.
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

    The EXIF orientation is applied; other EXIF tags are not read. Grey, palette, CMYK and other colour modes are
    converted; transparent pixels are laid over white, as a page shows them; 16-bit grey (0..65535) is divided by 257.
    Colour profiles are not applied. Of several frames the first is taken.

    Raises:
        DataError: the file cannot be decoded, is truncated, or holds floating-point pixels.
    """
    try:
        with Image.open(path) as image:
            image.load()  # a PNG file may note its orientation behind its pixels
            turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
        if image.mode == "F":
            raise ValueError("its pixels are floating-point numbers without a known range")
    except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
        shown = paths.shown(path)
        remedy = "fetch the file again, or remove its row from the labels"
        raise DataError(f"{shown}: cannot be decoded ({error}); {remedy}") from None
    image = image if turn is None else image.transpose(turn)
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def resize(image: Image.Image, size: Size) -> Image.Image:
    """The image at its stored size (Lanczos, which averages when it shrinks); unchanged if it has that size."""
    height, width = size.of(image.height, image.width)
    return image if (height, width) == (image.height, image.width) else image.resize((width, height), Image.LANCZOS)


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
    mean = uniform_filter(intensity, **window)
    variance = uniform_filter(intensity**2, **window) - mean**2
    value = (intensity - mean) / (np.sqrt(variance.clip(min=0)) + 0.04)
    return (value * 40 + 128).round().clip(0, 255).astype(np.uint8)
