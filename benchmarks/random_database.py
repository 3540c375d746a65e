"""A database of random images in memory, of the sizes that the studies have; what they show does not change a time."""

from pathlib import Path

import numpy as np
import pandas as pd

from iqa.data.database import Database

SIZES = {"koniq10k": (384, 512), "demo": (192, 256)}  # height and width of the stored images of a study


def random_database(splits: list[str], height: int, width: int, input: str) -> Database:
    """One image for each of the named splits, with random pixels and random scores from 0 to 100."""
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
