"""The synthetic demo databases: images, distortions, and simulated ratings, all from a seed.

No person has rated these images. Contents are dead leaves (Lee, Mumford & Huang 2001, "Occlusion models for natural
images": overlapping opaque shapes with power-law radii, which share the main statistics of natural images) and colour
photographs from the packages of scikit-image, scikit-learn and Matplotlib, split by photograph. Distortions resemble
those of KADID-10k (Lin, Hosu & Saupe 2019), five levels each. The quality of a distorted image is its HaarPSI to the
undistorted one, as a rank among the training images; simulated observers rate it on a five-point scale.

Parts:
    main         to train, validate and test on; six distortions
    distortions  shifted set: new dead leaves; eight distortions, of which `main` has three
    photos       shifted set: photographs held out from training, each image with a blur and a noise or a compression

Every content has its own random stream, so the result does not depend on the number of threads.
"""

import colorsys
import io
import json
import math
import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd
import scipy
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from scipy.special import expit, logit

from iqa.data import DataError
from iqa.study import code, paths, progress
from iqa.study.code import digest, file_hash
from iqa.study.disk import publish
from iqa.study.hashes import content_hashes

HEIGHT, WIDTH = 192, 256
LEVELS = (1, 2, 3, 4, 5)
HASHES = "hashes.json"  # of a generated part: SHA-256 of `labels.csv`, and of each of the `images`
COLUMNS = ["image", "mos", "mos_std", "split", "reference", "distortion", "level", "quality"]
OBSERVERS = 30
OBSERVER_BIAS, RATING_NOISE = 0.06, 0.18  # standard deviations, on a quality scale of 0 to 1
PNG_FAST = 3  # zlib's strategy "run lengths only": half the time, no larger for these images
SUPERSAMPLING = 2  # dead leaves are drawn this many times larger, for smooth edges

# files inside installed packages; read from there, because the packages' own loaders may download them
PHOTOGRAPHS = {
    "coffee": ("skimage", "data/coffee.png"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "astronaut": ("skimage", "data/astronaut.png"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}
TEXTURES = (("skimage", "data/brick.png"), ("skimage", "data/grass.png"), ("skimage", "data/gravel.png"))
TRAIN_PHOTOGRAPHS = ("coffee", "china", "astronaut")
VAL_PHOTOGRAPHS = ("motorcycle",)
HELD_OUT_PHOTOGRAPHS = ("flower", "chelsea", "rocket", "hopper")

PARTS = {  # split, photographs that the contents are cut from (none: dead leaves), contents, images of each content
    "main": (
        ("train", TRAIN_PHOTOGRAPHS, 20, 24),
        ("train", (), 28, 24),
        ("val", VAL_PHOTOGRAPHS, 5, 18),
        ("val", (), 5, 18),
        ("test", HELD_OUT_PHOTOGRAPHS, 14, 18),
        ("test", (), 14, 18),
    ),
    "distortions": (("test", (), 24, 18),),
    "photos": (("test", HELD_OUT_PHOTOGRAPHS, 20, 18),),
}

# --- contents ---------------------------------------------------------------------------------------------------------


def bundled_image(package: str, file: str) -> Image.Image:
    """An image file inside an installed package, which is not imported.

    Raises:
        DataError: the package does not hold the file.
    """
    path = Path(find_spec(package).origin).parent / file
    if not path.is_file():
        raise DataError(f"{path}: package '{package}' no longer holds this image; install the locked version of it")
    return Image.open(path)


def photograph(name: str) -> Image.Image:
    """One of `PHOTOGRAPHS` as RGB."""
    return bundled_image(*PHOTOGRAPHS[name]).convert("RGB")


def photograph_contents(image: Image.Image) -> list[Image.Image]:
    """Contents of HEIGHT x WIDTH from a photograph: the whole scene, tiles at 4/5 of its size, and its four corners."""
    smaller = image.resize((round(image.width / 1.25), round(image.height / 1.25)), Image.LANCZOS)
    boxes = [(smaller, left, top) for top in _tiles(smaller.height, HEIGHT) for left in _tiles(smaller.width, WIDTH)]
    if image.width >= 2 * WIDTH and image.height >= 2 * HEIGHT:
        boxes += [(image, left, top) for top in (0, image.height - HEIGHT) for left in (0, image.width - WIDTH)]
    crops = [source.crop((left, top, left + WIDTH, top + HEIGHT)) for source, left, top in boxes]
    return [ImageOps.fit(image, (WIDTH, HEIGHT), Image.LANCZOS), *crops]


def _tiles(length: int, tile: int) -> list[int]:
    """Where as many tiles as fit without overlap start; a single one lies in the middle."""
    count, free = length // tile, length - tile
    return np.linspace(0, free, count).round().astype(int).tolist() if count > 1 else [free // 2]


def photograph_palettes(names: tuple[str, ...], colours: int = 400) -> list[np.ndarray]:
    """Colours of random pixels of each photograph: arrays (colours, 3), 0..255."""
    pixels = [np.asarray(photograph(name), dtype=np.float32).reshape(-1, 3) for name in names]
    return [rows[np.random.default_rng(place).integers(0, len(rows), colours)] for place, rows in enumerate(pixels)]


def dead_leaves(rng: np.random.Generator, palettes: list[np.ndarray]) -> Image.Image:
    """A dead-leaves image of HEIGHT x WIDTH: textured opaque shapes, soft shading, at times a shallow depth of field.

    Args:
        rng: decides everything.
        palettes: colours of photographs (arrays (n, 3), 0..255), used for two images of three.
    """
    height, width = SUPERSAMPLING * HEIGHT, SUPERSAMPLING * WIDTH
    leaves = int(math.exp(rng.uniform(math.log(60), math.log(600))))
    low, high = rng.uniform(4, 10) * SUPERSAMPLING, rng.uniform(0.3, 0.7) * height
    power = 1 - rng.uniform(1.8, 2.8)  # radii have the density r^(power - 1)
    radii = (low**power + rng.random(leaves) * (high**power - low**power)) ** (1 / power)
    if rng.random() < 0.5:
        radii = np.sort(radii)[::-1]  # small leaves in front, so that large ones do not hide everything
    leaf = _draw_leaves(rng, radii, height, width)
    colour = _leaf_colours(rng, leaves + 1, palettes)
    contrast = rng.uniform(0, 28, leaves + 1) * (rng.random(leaves + 1) < 0.7)
    bank = np.stack(_textures(rng, height, width))
    texture = np.take_along_axis(bank, rng.integers(0, len(bank), leaves + 1)[leaf][None], axis=0)[0]
    image = colour[leaf] + (contrast[leaf] * texture)[..., None]
    coarse = Image.fromarray(_coloured_noise(rng, height // 8, width // 8, 3.2).astype(np.float32))
    shading = np.asarray(coarse.resize((width, height), Image.BICUBIC)).clip(-2.5, 2.5)
    image = (image * (1 + 0.18 * shading)[..., None]).clip(0, 255)
    grey = image.mean(axis=-1)  # brightness and contrast are brought to what photographs have
    image = (image - grey.mean()) * (rng.uniform(42, 66) / max(grey.std(), 8)) + rng.uniform(90, 145)
    picture = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.2:
        background = picture.filter(ImageFilter.GaussianBlur(rng.uniform(1.5, 4.5) * SUPERSAMPLING))
        in_front = Image.fromarray(leaf > int(leaves * rng.uniform(0.3, 0.75)))
        picture = Image.composite(picture, background, in_front)
    return picture.resize((WIDTH, HEIGHT), Image.LANCZOS)


def _draw_leaves(rng: np.random.Generator, radii: np.ndarray, height: int, width: int) -> np.ndarray:
    """The number of the leaf that is seen at each pixel (height, width), 0 where there is none."""
    canvas = Image.new("I", (width, height), 0)
    draw = ImageDraw.Draw(canvas)
    shapes = ("disk", "rectangle", "polygon")
    common = rng.choice([*shapes, "mixed"])
    for number, radius in enumerate(radii, start=1):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        shape = rng.choice(shapes) if common == "mixed" else common
        if shape == "disk":
            flat = radius * rng.uniform(0.5, 1)
            draw.ellipse((x - radius, y - flat, x + radius, y + flat), fill=number)
            continue
        if shape == "rectangle":
            angles = np.array([0.5, math.pi - 0.5, math.pi + 0.5, -0.5])
        else:
            angles = np.sort(rng.uniform(0, 2 * math.pi, rng.integers(3, 8)))
        angles = angles + rng.uniform(0, 2 * math.pi)
        corners = zip(x + radius * np.cos(angles), y + radius * np.sin(angles), strict=True)
        draw.polygon([(float(a), float(b)) for a, b in corners], fill=number)
    return np.asarray(canvas)


def _leaf_colours(rng: np.random.Generator, count: int, palettes: list[np.ndarray]) -> np.ndarray:
    """Colours (count, 3), 0..255, from one photograph's palette or around a random hue."""
    if rng.random() < 2 / 3:
        palette = palettes[rng.integers(len(palettes))]
        return (palette[rng.integers(0, len(palette), count)] + rng.normal(0, 12, (count, 3))).clip(0, 255)
    hue = (rng.random() + rng.normal(0, rng.uniform(0.05, 0.5), count)) % 1
    saturation = rng.normal(rng.uniform(0.15, 0.6), 0.2, count).clip(0, 1)
    value = rng.normal(rng.uniform(0.35, 0.65), 0.25, count).clip(0.03, 1)
    return 255 * np.array([colorsys.hsv_to_rgb(*hsv) for hsv in zip(hue, saturation, value, strict=True)])


def _textures(rng: np.random.Generator, height: int, width: int) -> list[np.ndarray]:
    """Three photographed textures and three fields of coloured noise, (height, width), standardised and cut at 3."""
    bank = []
    for package, file in TEXTURES:
        texture = np.asarray(bundled_image(package, file).convert("L"), dtype=np.float32)
        shifted = np.roll(texture, rng.integers(0, texture.shape), axis=(0, 1))
        bank.append(np.resize(shifted[:height, :width], (height, width)))
        bank[-1] = (bank[-1] - texture.mean()) / texture.std()
    bank += [_coloured_noise(rng, height, width, rng.uniform(0.8, 2.4)) for _ in range(3)]
    return [texture.clip(-3, 3).astype(np.float32) for texture in bank]


def _coloured_noise(rng: np.random.Generator, height: int, width: int, slope: float) -> np.ndarray:
    """Noise whose power falls with frequency^-slope, mean 0, deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf  # no mean
    spectrum = (rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)) / frequency ** (slope / 2)
    noise = np.fft.irfft2(spectrum, s=(height, width))
    return noise / noise.std()


# --- distortions ------------------------------------------------------------------------------------------------------


def _from_unit(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray((pixels * 255).round().clip(0, 255).astype(np.uint8))


def _to_unit(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float64) / 255


def _encoded(image: Image.Image, format: str, **options) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return Image.open(stream).convert("RGB")


def _rescaled(image: Image.Image, factor: float, down: int, up: int) -> Image.Image:
    small = image.resize((round(image.width / factor), round(image.height / factor)), down)
    return small.resize(image.size, up)


def _normal(image: Image.Image, variance: float, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, math.sqrt(variance), (image.height, image.width, 3))


def lens_blur(image: Image.Image, radius: float, rng: np.random.Generator) -> Image.Image:
    """The image convolved with a disk, mirrored at its edges."""
    reach = math.ceil(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (radius + 0.5 - np.hypot(x, y)).clip(0, 1)[..., None]
    padded = np.pad(_to_unit(image), ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * np.fft.rfft2(disk / disk.sum(), s=padded.shape[:2], axes=(0, 1))
    return _from_unit(np.fft.irfft2(spectrum, s=padded.shape[:2], axes=(0, 1))[2 * reach :, 2 * reach :])


def impulse_noise(image: Image.Image, amount: float, rng: np.random.Generator) -> Image.Image:
    """The image with a fraction of its values set to 0 or 255."""
    pixels = np.array(image)
    hit = rng.random(pixels.shape) < amount
    pixels[hit] = 255 * rng.integers(0, 2, hit.sum())
    return Image.fromarray(pixels)


def banding(image: Image.Image, colours: float, rng: np.random.Generator) -> Image.Image:
    """The image in a few of its colours."""
    return image.quantize(round(colours), Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).convert("RGB")


def motion_blur(image: Image.Image, length: float, rng: np.random.Generator) -> Image.Image:
    """The image averaged along a line, vertical or horizontal by chance."""
    return _from_unit(scipy.ndimage.uniform_filter1d(_to_unit(image), max(1, round(length)), axis=int(rng.integers(2))))


DISTORTIONS = {  # functions of image, strength and random numbers
    "gaussian_blur": lambda image, sigma, rng: image.filter(ImageFilter.GaussianBlur(sigma)),
    "gaussian_noise": lambda image, variance, rng: _from_unit(_to_unit(image) + _normal(image, variance, rng)),
    "jpeg": lambda image, quality, rng: _encoded(image, "JPEG", quality=round(quality)),
    "impulse_noise": impulse_noise,
    "pixelation": lambda image, factor, rng: _rescaled(image, factor, Image.BOX, Image.NEAREST),
    "banding": banding,
    "lens_blur": lens_blur,
    "motion_blur": motion_blur,
    "rescaling": lambda image, factor, rng: _rescaled(image, factor, Image.BICUBIC, Image.BICUBIC),
    "jpeg2000": lambda image, rate, rng: _encoded(
        image, "JPEG2000", quality_mode="rates", quality_layers=[rate], irreversible=True
    ),
    "speckle": lambda image, variance, rng: _from_unit(_to_unit(image) * (1 + _normal(image, variance, rng))),
}
STRENGTHS = {  # at levels 0 to 5; level 0, next to nothing, serves fractional levels only
    "gaussian_blur": (0, 0.6, 1.0, 1.6, 2.5, 4.0),  # sigma in pixels
    "gaussian_noise": (0, 0.0008, 0.0025, 0.007, 0.018, 0.045),  # variance of intensities 0..1
    "jpeg": (95, 50, 28, 16, 9, 5),  # quality
    "impulse_noise": (0, 0.004, 0.012, 0.03, 0.07, 0.15),  # fraction of values
    "pixelation": (1, 1.6, 2.4, 3.6, 5.5, 8),  # side of a block in pixels
    "banding": (256, 64, 32, 16, 9, 5),  # number of colours
    "lens_blur": (0.1, 1.0, 1.7, 2.6, 4, 6),  # radius in pixels
    "motion_blur": (1, 3, 5, 8, 12, 18),  # length in pixels
    "rescaling": (1, 1.4, 2, 2.9, 4.3, 6.5),  # factor
    "jpeg2000": (5, 16, 32, 60, 110, 200),  # compression rate
    "speckle": (0, 0.006, 0.018, 0.05, 0.13, 0.35),  # variance relative to the intensity
}
SINGLE = {  # the distortions of a part whose images have one each
    "main": ("gaussian_blur", "gaussian_noise", "jpeg", "impulse_noise", "pixelation", "banding"),
    "distortions": (
        "gaussian_blur", "gaussian_noise", "jpeg", "lens_blur", "motion_blur", "rescaling", "jpeg2000", "speckle"
    ),
}  # fmt: skip
FIRST = ("gaussian_blur", "lens_blur", "motion_blur", "rescaling")  # what happens in front of a camera's sensor
SECOND = ("gaussian_noise", "speckle", "jpeg", "jpeg2000")  # and behind it


def distort(image: Image.Image, name: str, level: float, rng: np.random.Generator) -> Image.Image:
    """A distorted image; `level` is 0 to 5 and may be a fraction, `rng` decides the noise."""
    return DISTORTIONS[name](image, float(np.interp(level, range(6), STRENGTHS[name])), rng)


# --- quality ----------------------------------------------------------------------------------------------------------

YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], dtype=np.float32)


def haar_features(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What HaarPSI compares of an image (height, width, 3), 0..255, with even height and width.

    Returns:
        luma: Haar wavelet responses (3 scales, 2 orientations, height / 2, width / 2).
        chroma: smoothed (2, height / 2, width / 2).
    """
    pixels = image.astype(np.float32)
    rows = pixels[0::2] + pixels[1::2]
    halved = (rows[:, 0::2] + rows[:, 1::2]) / 4  # the authors' first step: a viewer does not see single pixels
    luma, *chroma = np.moveaxis(halved @ YIQ.T, -1, 0)
    responses = []
    for scale in (1, 2, 3):
        half = 2 ** (scale - 1)
        smooth, step = np.full(2 * half, 2.0**-scale), np.repeat([1.0, -1.0], half)
        responses.append([_filtered(luma, step, smooth), _filtered(luma, smooth, step)])
    pair = np.full(2, 0.5)
    return np.abs(responses), np.abs([_filtered(channel, pair, pair) for channel in chroma])


def _filtered(image: np.ndarray, vertical: np.ndarray, horizontal: np.ndarray) -> np.ndarray:
    """Separable correlation, as large as the image, zeros around it; even windows reach further down and right."""
    rows = scipy.ndimage.correlate1d(image, vertical, axis=0, mode="constant", origin=-1)
    return scipy.ndimage.correlate1d(rows, horizontal, axis=1, mode="constant", origin=-1)


def haarpsi(reference: tuple[np.ndarray, np.ndarray], distorted: tuple[np.ndarray, np.ndarray]) -> float:
    """Haar wavelet-based perceptual similarity index of two `haar_features`, in (0, 1], 1 for equal images.

    Reisenhofer, Bosse, Kutyniok & Wiegand 2018, "A Haar wavelet-based perceptual similarity index for image quality
    assessment", equations 8 to 12, with C = 30 and alpha = 4.2. Written here with numpy, because importing
    torch takes as long as scoring all images; a test compares it with `piq.haarpsi`.
    """
    c, alpha = 30, 4.2
    luma, chroma = ((2 * a * b + c) / (a**2 + b**2 + c) for a, b in zip(reference, distorted, strict=True))
    luma, chroma = luma[:2].mean(axis=0), chroma.mean(axis=0)  # (2 orientations, height, width), (height, width)
    weight = np.maximum(reference[0][2], distorted[0][2])
    weighted = (expit(alpha * luma) * weight).sum() + (expit(alpha * chroma) * weight.mean(axis=0)).sum()
    return float((logit(weighted / (weight.sum() + weight.mean(axis=0).sum())) / alpha) ** 2)


# HaarPSI of the training images of `main` with seed 0: its 0th, 5th, ... 100th percentile (a test checks them).
# The quality of an image, in all parts, is its rank among them.
HAARPSI_PERCENTILES = (
    0.1864, 0.3772, 0.4458, 0.4786, 0.5087, 0.5581, 0.5970, 0.6282, 0.6648, 0.6980, 0.7278,
    0.7581, 0.7940, 0.8276, 0.8491, 0.8713, 0.8956, 0.9208, 0.9425, 0.9556, 0.9982,
)  # fmt: skip


def rate(quality: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation, on 0..100, of five-point ratings by simulated observers with biases and errors."""
    bias = rng.normal(0, OBSERVER_BIAS, (1, OBSERVERS))
    noise = rng.normal(0, RATING_NOISE, (len(quality), OBSERVERS))
    points = (1 + 4 * (quality[:, None] + bias + noise)).round().clip(1, 5)
    return 25 * (points.mean(axis=1) - 1), 25 * points.std(axis=1, ddof=1)


# --- databases --------------------------------------------------------------------------------------------------------


class Content(NamedTuple):
    """One content to make."""

    reference: str
    image: Image.Image | None  # undistorted; None: dead leaves
    split: str
    images: int  # how many distorted images
    stream: np.random.SeedSequence  # from which all of them come


def plan(part: str, seed: int, scale: float) -> list[Content]:
    """The contents of a part. `scale` reduces their number, to at least two of each kind and split."""
    contents = []
    for number, (split, photographs, count, images) in enumerate(PARTS[part]):
        count = max(2, round(count * scale))
        named = [(f"leaves_{part}_{split}_{place:02d}", None) for place in range(count)]
        if photographs:  # the first content of each, the second of each, ...
            cut = {name: photograph_contents(photograph(name)) for name in photographs}
            places = sorted((place, rank) for rank, name in enumerate(cut) for place in range(len(cut[name])))
            named = [(f"{photographs[rank]}_{place}", cut[photographs[rank]][place]) for place, rank in places[:count]]
        streams = np.random.SeedSequence([seed, list(PARTS).index(part), number]).spawn(count)
        contents += [
            Content(reference, image, split, images, stream)
            for (reference, image), stream in zip(named, streams, strict=True)
        ]
    return contents


def _make_content(part: str, content: Content, palettes: list[np.ndarray], folder: Path) -> pd.DataFrame:
    """Write the distorted images of one content; their rows with the HaarPSI."""
    rng = np.random.default_rng(content.stream)
    image = content.image or dead_leaves(rng, palettes)
    reference = haar_features(np.asarray(image))
    rows = []
    for number, steps in enumerate(_recipes(part, content.images, rng)):
        distorted = image
        for name, level in steps:
            distorted = distort(distorted, name, level, rng)
        file = f"{content.reference}_{number:02d}.png"
        distorted.save(folder / file, compress_level=1, compress_type=PNG_FAST)
        names, levels = zip(*steps, strict=True)
        similarity = haarpsi(reference, haar_features(np.asarray(distorted)))
        rows.append((file, content.split, content.reference, "+".join(names), round(np.mean(levels), 3), similarity))
    return pd.DataFrame(rows, columns=["image", "split", "reference", "distortion", "level", "quality"])


def _recipes(part: str, count: int, rng: np.random.Generator) -> list[list[tuple[str, float]]]:
    """For each image of a content, the distortions to apply one after the other, with their levels."""
    if part == "photos":
        return [
            [(str(rng.choice(FIRST)), rng.uniform(0, 4.5)), (str(rng.choice(SECOND)), rng.uniform(0, 4.5))]
            for _ in range(count)
        ]
    single = [[(name, level)] for name in SINGLE[part] for level in LEVELS]
    return [single[place] for place in rng.permutation(len(single))[:count]]


def generate(part: str, seed: int, scale: float, folder: Path, jobs: int = 1) -> pd.DataFrame:
    """Write a part into a folder, as `images/*.png` and `labels.csv`. The same arguments give the same bytes.

    Args:
        part: `main`, `distortions` or `photos`.
        seed: decides contents, distortions and observers.
        scale: fraction of the contents.
        folder: an empty folder.
        jobs: number of threads; the result does not depend on it.

    Returns:
        The labels: `image, mos, mos_std, split, reference, distortion, level, quality`; MOS and quality are 0..100.
    """
    images = folder / "images"
    images.mkdir()
    contents = plan(part, seed, scale)
    palettes = photograph_palettes(TRAIN_PHOTOGRAPHS if part == "main" else HELD_OUT_PHOTOGRAPHS)
    tasks = (joblib.delayed(_make_content)(part, content, palettes, images) for content in contents)
    made = joblib.Parallel(n_jobs=jobs, backend="threading", return_as="generator")(tasks)
    bar = progress.bar(made, total=len(contents), desc=f"making {part}", unit="content")
    table = pd.concat(bar, ignore_index=True)
    table["quality"] = np.interp(table["quality"], HAARPSI_PERCENTILES, np.linspace(0, 1, len(HAARPSI_PERCENTILES)))
    by_level = table.sort_values("level", kind="stable").groupby(["reference", "distortion"])
    table["quality"] = by_level["quality"].cummin()  # at a higher level it is never higher
    rng = np.random.default_rng([seed, list(PARTS).index(part)])
    table["mos"], table["mos_std"] = rate(table["quality"].to_numpy(), rng)
    table["quality"] *= 100
    table = table[COLUMNS]
    table.to_csv(folder / "labels.csv", index=False, float_format="%.6f")
    return table


def identity(part: str, seed: int, scale: float) -> str:
    """A hash of everything that decides a generated part: its arguments, the code, and the libraries that it calls."""
    libraries = [version(name) for name in ("numpy", "scipy", "pillow")]
    return digest(part, seed, scale, code.definitions("iqa.data.synthetic.generate"), libraries)


def ensure(part: str, seed: int, scale: float, jobs: int | None = None) -> Path:
    """The folder of a generated part in the cache; it is made if it does not exist or was changed.

    Args:
        jobs: number of threads, by default one per core.
    """
    folder = paths.CACHE / f"generated-{part}-{identity(part, seed, scale)}"
    if folder.is_dir() and not _intact(folder):
        print(f"{paths.shown(folder)}: damaged or from an earlier version, made again", flush=True)
        shutil.rmtree(folder)
    if not folder.is_dir():
        with publish(folder) as temporary:
            generate(part, seed, scale, temporary, jobs or joblib.cpu_count())
            images = sorted(file.name for file in (temporary / "images").iterdir())
            hashes = {name: file_hash(temporary / "images" / name) for name in images}
            made = {"labels.csv": file_hash(temporary / "labels.csv"), "images": hashes}
            (temporary / HASHES).write_text(json.dumps(made))
    return folder


def _intact(folder: Path) -> bool:
    """Whether the files of a part are those that were made; an image is read only if it is new or changed."""
    try:
        made = json.loads((folder / HASHES).read_text())
        images = content_hashes(folder / "images", list(made["images"]))
        return images == list(made["images"].values()) and file_hash(folder / "labels.csv") == made["labels.csv"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False
