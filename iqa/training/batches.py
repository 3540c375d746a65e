"""Batches of random training patches; seed and epoch alone decide their order and augmentation."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler
from torchvision.transforms.v2 import functional

from iqa.data.crops import crop_positions, jitter_factors
from iqa.data.database import Database
from iqa.model.scoring import choose_device, to_pixels
from iqa.training.params import TrainParams

Item = tuple[int, int, int]  # epoch, image, patch
Batch = tuple[Tensor, Tensor, Tensor]  # pixels (B, 3, crop, crop) uint8, targets (B,) on 0..1, images (B,)


def join(databases: Sequence[Database]) -> Database:
    """Several databases as one to train on, row below row, which the column `database` tells apart; one stays itself.

    Scores are normalised, each by the scale of its own database. Images and contents are named with their database.
    """
    first, *others = databases
    if not others:
        return first
    tables = [
        data.table.assign(
            database=data.name,
            mos=data.normalise(data.table["mos"].to_numpy()),
            **{key: data.name + "/" + data.table[key].astype(str) for key in ("image", "reference")},
        )
        for data in databases
    ]
    kinds = set(first.stores).intersection(*(data.stores for data in others))
    stores = {kind: ConcatDataset([data.stores[kind] for data in databases]) for kind in kinds}
    scale = {"low": 0.0, "high": 1.0, "higher_is_better": True}
    name = ", ".join(data.name for data in databases)
    return replace(first, name=name, table=pd.concat(tables, ignore_index=True), stores=stores, **scale)


def parts(database: Database) -> list[np.ndarray]:
    """Rows of the databases that were joined, by database; of any other database all rows."""
    if "database" not in database.table:
        return [np.arange(len(database))]
    return [np.flatnonzero(database.table["database"] == name) for name in database.table["database"].unique()]


class Patches(Dataset):
    """Training patches, fetched by the batch; images are rows of the database's table."""

    def __init__(self, database: Database, params: TrainParams):
        self.database = database
        self.params = params
        self.targets = database.normalise(database.table["mos"].to_numpy()).astype(np.float32)

    def __getitems__(self, items: list[Item]) -> Batch:
        windows, mirrored = zip(*(self._patch(*item) for item in items), strict=True)
        pixels = to_pixels(windows)
        for patch, mirror, item in zip(pixels, mirrored, items, strict=True):
            if mirror:  # in torch: four times as quick as a mirrored copy by numpy
                patch.copy_(patch.flip(2))
            if self.params.color_jitter:
                patch.copy_(self._jitter(patch, *item))
        images = np.array([image for _, image, _ in items])
        return pixels, torch.from_numpy(self.targets[images]), torch.from_numpy(images)

    def _patch(self, epoch: int, image: int, patch: int) -> tuple[np.ndarray, bool]:
        """A window of an image, and whether to mirror it."""
        pixels = self.database.pixels(image, self.params.input)
        crop = self.params.crop
        (top,), (left,), (flip,) = crop_positions(self.params.seed, epoch, image, 1, *pixels.shape[:2], crop, patch)
        return pixels[top : top + crop, left : left + crop], bool(flip)

    def _jitter(self, pixels: Tensor, epoch: int, image: int, patch: int) -> Tensor:
        """The patch (3, H, W) with another brightness, contrast and saturation, which alters its quality, too."""
        factors = jitter_factors(self.params.seed, epoch, image, 1, self.params.color_jitter, patch)
        brightness, contrast, saturation = factors[0].tolist()
        pixels = functional.adjust_contrast(functional.adjust_brightness(pixels, brightness), contrast)
        return functional.adjust_saturation(pixels, saturation)


class EpochOrder(Sampler):
    """Every patch of the given images once per epoch, in an order decided by seed and epoch alone.

    Of several groups of images each gives as many patches as the one with most: of its images further ones.

    Each of several processes takes its share of every batch, so together they see the batches that one would see. Where
    the last batch cannot be shared evenly, its first patches are taken twice.

    Args:
        images: rows of the database's table, or of groups of them.
        patches: of each image.
        share: this process and the number of processes.
        batch_size: of all processes together.
    """

    def __init__(
        self,
        images: np.ndarray | list[np.ndarray],
        patches: int,
        seed: int,
        share: tuple[int, int] = (0, 1),
        batch_size: int = 1,
    ):
        groups = images if isinstance(images, list) else [images]
        most = max(map(len, groups)) * patches
        self.items = [
            (int(image), patch)
            for group in groups
            for place, image in enumerate(group)
            for patch in range(len(range(place, most, len(group))))
        ]
        self.seed = seed
        self.rank, self.processes = share
        self.batch_size = batch_size
        self.epoch = 0
        self.done = 0  # batches of this epoch that are left out, as they were learned from before

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.done = self.done if epoch == self.epoch else 0
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.items) // self.processes)

    def __iter__(self) -> Iterator[Item]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.items))
        for start in range(self.done * self.batch_size, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            even = -(-len(batch) // self.processes) * self.processes
            for position in np.resize(batch, even)[self.rank :: self.processes]:
                yield (self.epoch, *self.items[position])


def train_loader(database: Database, params: TrainParams, share: tuple[int, int] = (0, 1)) -> DataLoader:
    """Batches of random patches of the training split; `share` as in `EpochOrder`.

    Of databases that were joined, each is in the batches as often as it has images, or all are alike (`mix`).
    """
    train = database.indices("train")
    images = [np.intersect1d(train, part) for part in parts(database)] if params.mix == "equal" else train
    order = EpochOrder(images, params.train_patches, params.seed, share, params.batch_size)
    return DataLoader(
        Patches(database, params),
        batch_size=params.batch_size // share[1],
        sampler=order,
        num_workers=params.workers,
        collate_fn=_unchanged,
        persistent_workers=params.workers > 0,
        pin_memory=choose_device(params.device).type == "cuda",
    )


def _unchanged(batch: Batch) -> Batch:
    return batch  # a function with a name, as worker processes cannot be sent a lambda
