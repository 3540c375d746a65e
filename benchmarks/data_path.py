"""Training patches per second: from the cache, and by decoding the image anew for every patch.

    .venv/bin/python -m benchmarks.data_path

Photographs of 1024x768 as JPEG, 20 crops of 224x224 per image, in random order over the images, in batches of 32 as
`iqa.training.fit` makes them: the same code cuts the same crops, and only the source of the image's pixels differs.
At 1024x768 the original HyperIQA loader's steps per patch are to open and convert the image; for KonIQ-10k it also
squeezes it to 512x384 (bilinear). All files are in memory (the page cache) in both cases. Patches are checked to be
equal bit by bit between workers, and between the cache and a decoded image that is resized like those of the cache
(Lanczos).

Two workers are two threads, or two worker processes of a `DataLoader`. `faster` compares the clock with as many
workers, `faster_per_core` the processor time per patch (of threads; that of worker processes is not measured).
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch and NumPy are imported: a worker is one thread

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.common import alternate, report
from iqa.data.cache import open_stores
from iqa.data.pixels import Size, decode, resize
from iqa.data.synthetic import PHOTOGRAPHS, photograph
from iqa.study import paths
from iqa.study.hashes import content_hashes
from iqa.training.batches import EpochOrder, Item, Patches
from iqa.training.params import TrainParams

IMAGES, CROPS, BATCH, ROUNDS = 60, 20, 32, 3
BATCHES = {"decoding": 2, "cache": 128}  # per measurement
HEIGHT, WIDTH = 384, 512
WORKERS = ("1 thread", "2 threads", "2 processes")


@dataclass
class Images:
    """What `Patches` asks of a database, with pixels from anywhere."""

    get: Callable[[int], np.ndarray]
    table: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"mos": np.zeros(IMAGES)}))

    def pixels(self, index: int, input: str) -> np.ndarray:
        return self.get(index)

    def normalise(self, scores: np.ndarray) -> np.ndarray:
        return scores


def write_photographs(folder: Path) -> list[str]:
    """Sections of bundled photographs, enlarged, with the noise of a camera; returns the files' names."""
    rng = np.random.default_rng(0)
    photographs = [photograph(name) for name in PHOTOGRAPHS]
    names = [f"{number}.jpg" for number in range(IMAGES)]
    for number, name in enumerate(names):
        whole = photographs[number % len(photographs)]
        side = rng.uniform(0.5, 1)
        width, height = round(whole.width * side), round(whole.height * side)
        left, top = (int(rng.integers(free + 1)) for free in (whole.width - width, whole.height - height))
        section = ImageOps.fit(whole.crop((left, top, left + width, top + height)), (1024, 768), Image.BICUBIC)
        noisy = np.asarray(section) + rng.normal(0, 2, (768, 1024, 3)).astype(np.float32)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / name, quality=90)
    return names


def batches(images: Images, items: list[Item], workers: str) -> Callable[[], Iterator[Tensor]]:
    """A function that makes the patches of all items, in batches, with the named workers."""
    run = {"database": "made", "backbone": "resnet50", "lr": 0.0, "train_patches": CROPS, "batch_size": BATCH}
    patches = Patches(images, TrainParams(**run))
    parts = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]

    def make(part: list[Item]) -> Tensor:
        return patches.__getitems__(part)[0]

    if workers == "1 thread":
        return lambda: map(make, parts)
    if workers == "2 threads":
        threads = ThreadPoolExecutor(2)
        return lambda: threads.map(make, parts)
    loader = DataLoader(patches, batch_sampler=parts, num_workers=2, collate_fn=itemgetter(0), persistent_workers=True)
    return lambda: iter(loader)


def make_all(images: Images, items: list[Item], workers: str) -> Callable[[], int]:
    """A case to time: make the patches of all items, and count them."""
    make = batches(images, items, workers)
    return lambda: sum(map(len, make()))


def ways(folder: Path, names: list[str]) -> tuple[dict[tuple[str, str], Images], Images]:
    """Pixels by size and source, and those that a decoded image has when it is resized as the cache does it."""
    files, hashes = [folder / name for name in names], content_hashes(folder, names)
    small = Size(HEIGHT, WIDTH)
    full_store, small_store = (open_stores(folder, names, hashes, size, ["rgb"], 2)["rgb"] for size in (Size(), small))

    def opened(index: int) -> Image.Image:
        with Image.open(files[index]) as image:
            return image.convert("RGB")

    sources = {
        ("1024x768", "decoding"): lambda index: np.asarray(opened(index)),
        ("1024x768", "cache"): full_store.__getitem__,
        ("512x384", "decoding"): lambda index: np.asarray(opened(index).resize((WIDTH, HEIGHT), Image.BILINEAR)),
        ("512x384", "cache"): small_store.__getitem__,
    }
    exact = Images(lambda index: np.asarray(resize(decode(files[index]), small)))
    return {way: Images(get) for way, get in sources.items()}, exact


def check(images: dict[tuple[str, str], Images], exact: Images, items: list[Item]) -> None:
    """Patches are bit-identical for any workers, and those of the cache are those of the decoded image.

    Raises:
        AssertionError: they are not.
    """
    first = {way: torch.cat(list(batches(found, items, "1 thread")())) for way, found in images.items()}
    for (way, found), workers in product(images.items(), WORKERS[1:]):
        assert torch.equal(torch.cat(list(batches(found, items, workers)())), first[way]), (way, workers)
    assert torch.equal(first["1024x768", "decoding"], first["1024x768", "cache"])
    assert torch.equal(torch.cat(list(batches(exact, items, "1 thread")())), first["512x384", "cache"])
    print(f"{len(items)} patches: bit-identical between workers, and between the cache and a decoded image")


def measure(images: dict[tuple[str, str], Images], items: list[Item]) -> pd.DataFrame:
    """Patches per second of each way with each kind of workers, and how much faster the cache is."""
    cases = list(product(images, WORKERS))
    makers = {str(case): make_all(images[case[0]], items[: BATCHES[case[0][1]] * BATCH], case[1]) for case in cases}
    table = alternate(makers, ROUNDS).drop(columns="case")
    table.insert(0, "workers", [workers for _, workers in cases])
    table.insert(0, "source", [source for (_, source), _ in cases])
    table.insert(0, "size", [size for (size, _), _ in cases])
    table.loc[table["workers"] == "2 processes", "cpu_ms"] = np.nan
    key = ["size", "workers"]
    cached = table[table["source"] == "cache"].set_index(key)
    decoded = table[table["source"] == "decoding"].set_index(key)
    ratios = pd.DataFrame(
        {
            "faster": cached["per_second"] / decoded["per_second"],
            "faster_per_core": decoded["cpu_ms"] / cached["cpu_ms"],
        }
    )
    return table.join(ratios.assign(source="cache").set_index("source", append=True), on=[*key, "source"])


def main() -> None:
    torch.set_num_threads(1)
    order = EpochOrder(np.arange(IMAGES), CROPS, seed=0)
    items: list[Item] = []
    for epoch in range(1 + max(BATCHES.values()) * BATCH // len(order)):
        order.set_epoch(epoch)
        items += order
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths.CACHE = folder / "cache"
        names = write_photographs(folder)
        kilobytes = sum((folder / name).stat().st_size for name in names) / len(names) / 1000
        images, exact = ways(folder, names)
        check(images, exact, items[: 2 * BATCH])
        table = measure(images, items)
    print(f"Patches per second, median of {ROUNDS} rounds; {IMAGES} JPEGs of 1024x768, {kilobytes:.0f} KB each")
    settings = {"images": IMAGES, "jpeg_kilobytes": kilobytes, "crops": CROPS, "crop": 224, "batch": BATCH}
    report("data_path", settings | {"rounds": ROUNDS, "batches": BATCHES}, table)


if __name__ == "__main__":
    main()
