"""From the colours of an image's own profile (Display P3, Adobe RGB, a printer's CMYK) to sRGB."""

import sys
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

SRGB = ImageCms.createProfile("sRGB")
MODES = {"GRAY": "L", "RGB ": "RGB", "CMYK": "CMYK"}  # of images, by a profile's kind of colours
GREY = ("1", "L", "LA", "La")
SAME = 2  # of 255; a profile that changes no colour by more is sRGB, of which there are many spellings
STEPS = 18  # colours per channel that tell it

_named: set[int] = set()  # unusable profiles of which a person was told


def to_srgb(image: Image.Image, name: str) -> Image.Image:
    """An 8-bit image in sRGB, by its colour profile; the image itself where it has none or is in sRGB already.

    A profile that cannot be used is ignored: the image's numbers are taken as sRGB, and a line says so, once for all
    images with this profile. Colours outside sRGB are cut (relative colorimetric intent, with black point
    compensation).

    Args:
        name: of the image, for that line.
    """
    if "icc_profile" not in image.info:
        return image
    profile = image.info["icc_profile"]
    try:
        mode, transform = _transform(profile)
        if transform is None:
            return image
        if image.mode != mode and (mode == "CMYK" or image.mode == "CMYK" or (mode == "L" and image.mode not in GREY)):
            raise ValueError(f"it is for {mode}, the pixels are {image.mode}")
        alpha = None
        flat = image
        if image.has_transparency_data:
            flat = image.convert("RGBA")
            alpha = flat.getchannel("A")
        converted = transform.apply(flat.convert(mode))
    except Exception as error:  # whatever LittleCMS meets
        if hash(profile) not in _named:
            _named.add(hash(profile))
            problem = f"its colour profile cannot be used ({str(error) or type(error).__name__:.80})"
            print(f"{name}: {problem}; its colours are taken as sRGB", file=sys.stderr, flush=True)
        return image
    if alpha:
        converted.putalpha(alpha)
    return converted


@lru_cache(maxsize=64)
def _transform(profile: bytes | None) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """The mode of the images that a profile is for, and their way to sRGB; None where that changes nothing."""
    if not profile:
        raise ValueError("it is damaged")
    opened = ImageCms.ImageCmsProfile(BytesIO(profile))
    mode = MODES[opened.profile.xcolor_space]
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    transform = ImageCms.buildTransform(opened, SRGB, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, flags)
    levels = np.linspace(0, 255, STEPS).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(STEPS, -1, 3)
    if mode == "RGB":
        changed = np.asarray(transform.apply(Image.fromarray(colours))).astype(int) - colours
        transform = None if np.abs(changed).max() <= SAME else transform
    return mode, transform
