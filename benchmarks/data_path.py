"""What a training patch costs: from the cache, and by decoding the image anew for every patch.

    .venv/bin/python -m benchmarks.data_path [--images 60] [--batches 6] [--rounds 5]

Photographs of 1024x768 as JPEG, 20 crops of 224x224 per image, in random order over the images, in batches of 32 as
`iqa.training.fit` makes them: the same code cuts the same crops, and only the source of the image's pixels differs.
At 1024x768 the original HyperIQA loader's steps per patch are to open and convert the image; for KonIQ-10k it also
squeezes it to 512x384 (bilinear). All files are in memory (the page cache) in both cases. Patches are checked to be
equal bit by bit between the cache and a decoded image that is resized like those of the cache (Lanczos).
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from benchmarks.common import arguments, in_turn, report, row, spent
from benchmarks.images import write_photographs
from iqa.data.cache import open_stores
from iqa.data.pixels import Size, decode, resize
from iqa.study import paths
from iqa.study.hashes import content_hashes
from iqa.training.batches import EpochOrder, Item, Patches
from iqa.training.params import TrainParams

CROPS, BATCH = 20, 32
SQUEEZED = Size(384, 512)
QUICKER = 20  # batches from the cache for one by decoding


@dataclass
class Images:
    """What `Patches` asks of a database, with pixels from anywhere."""

    get: Callable[[int], np.ndarray]
    table: pd.DataFrame

    def pixels(self, index: int, input: str) -> np.ndarray:
        return self.get(index)

    def normalise(self, scores: np.ndarray) -> np.ndarray:
        return scores


def patches(get: Callable[[int], np.ndarray], images: int, items: list[Item]) -> list[Tensor]:
    """The patches of all items, in batches."""
    run = {"database": "made", "backbone": "resnet50", "lr": 0.0, "train_patches": CROPS, "batch_size": BATCH}
    cut = Patches(Images(get, pd.DataFrame({"mos": np.zeros(images)})), TrainParams(**run))
    return [cut.__getitems__(items[start : start + BATCH])[0] for start in range(0, len(items), BATCH)]


def main() -> None:
    """Check, measure, print and write the table."""
    options = arguments(__doc__, images=60, batches=6, rounds=5)
    torch.set_num_threads(1)
    count = options.batches * BATCH
    order, items = EpochOrder(np.arange(options.images), CROPS, seed=0), []
    for epoch in range(1 + QUICKER * count // len(order)):
        order.set_epoch(epoch)
        items += order
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        paths.CACHE = Path(temporary) / "cache"
        files = write_photographs(Path(temporary), options.images)
        names = [file.name for file in files]
        hashes = content_hashes(Path(temporary), names)

        def opened(index: int) -> Image.Image:
            with Image.open(files[index]) as image:
                return image.convert("RGB")

        for size, anew in (
            (Size(), lambda index: np.asarray(opened(index))),
            (SQUEEZED, lambda index: np.asarray(opened(index).resize((512, 384), Image.Resampling.BILINEAR))),
        ):
            cached = open_stores(Path(temporary), names, hashes, size, ["rgb"], 1)["rgb"].__getitem__
            exact = patches(
                lambda index, size=size: np.asarray(resize(decode(files[index]), size)), len(files), items[:64]
            )
            assert all(map(torch.equal, patches(cached, len(files), items[:64]), exact))
            cases = {"cache": (cached, QUICKER * count), "anew": (anew, count)}
            costs = {
                name: lambda get=get, n=n: 1000 * spent(lambda: patches(get, len(files), items[:n])) / n
                for name, (get, n) in cases.items()
            }
            found = in_turn(costs, options.rounds)
            what = f"a patch of images of {'512x384' if size is SQUEEZED else '1024x768'}"
            rows.append(row(what, found["cache"], "CPU ms", "decoded anew", found["anew"], "ratio < 0.1"))
    report("data_path", options, rows, crops=CROPS, batch=BATCH)


if __name__ == "__main__":
    main()
