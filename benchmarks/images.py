"""Images to measure with: a database of random ones in memory, and files of photographs."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import ExifTags, Image, ImageOps

from iqa.data.database import Database
from iqa.data.synthetic import PHOTOGRAPHS, photograph

SIZES = {"koniq10k": (384, 512), "demo": (192, 256)}  # height and width of the stored images of a study


def random_database(splits: list[str], height: int, width: int, input: str) -> Database:
    """One image for each of the named splits, with random pixels, which change no time, and scores from 0 to 100."""
    images = len(splits)
    rng = np.random.default_rng(0)
    names = [f"{number}.jpg" for number in range(images)]
    table = pd.DataFrame({"image": names, "mos": rng.uniform(0, 100, images), "split": splits, "reference": names})
    return Database(
        name="random",
        title="Random",
        table=table,
        folder=Path(),
        low=0.0,
        high=100.0,
        higher_is_better=True,
        synthetic=True,
        release_images=None,
        citation="",
        licence="",
        source="",
        stores={input: list(rng.integers(0, 256, (images, height, width, 3), np.uint8))},
        fingerprint="random",
    )


def write_photographs(folder: Path, images: int, width: int = 1024, height: int = 768) -> list[Path]:
    """JPEGs of sections of bundled photographs, enlarged, with a camera's noise; every second is to be turned."""
    rng = np.random.default_rng(0)
    photographs = [photograph(name) for name in PHOTOGRAPHS]
    noise = 2 * rng.standard_normal((height, width, 3), dtype=np.float32)
    files = [folder / f"{number}.jpg" for number in range(images)]
    for number, file in enumerate(files):
        whole = photographs[number % len(photographs)]
        side = rng.uniform(0.5, 1)
        sides = round(whole.width * side), round(whole.height * side)
        left, top = (int(rng.integers(free + 1)) for free in (whole.width - sides[0], whole.height - sides[1]))
        section = whole.crop((left, top, left + sides[0], top + sides[1]))
        noisy = noise + ImageOps.fit(section, (width, height), Image.Resampling.BICUBIC)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6 if number % 2 else 1
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=90, exif=exif)
    return files
