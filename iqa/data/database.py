"""A database as training and evaluation read it: its labels, joined with its cached pixels."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from iqa.data import DataError
from iqa.data.sizes import Size

if TYPE_CHECKING:
    from iqa.data.cache import Store


TWINS = ["image_a", "image_b", "split_a", "split_b", "psnr"]


@dataclass(kw_only=True)
class Labels:
    """A database as its release describes it.

    The columns of `table`, one row per image: `image` (path inside `folder`, with forward slashes), `mos` and `mos_std`
    (on the database's own scale; `mos_std` is NaN where unknown), `split` (train, val or test), `reference` (which
    content is shown; the image itself where each has its own), `distortion`, `level` (NaN where unknown), for synthetic
    databases `quality` (the score without the observers' noise), and, where an image has a twin in another split
    (`iqa.data.twins`), `twin` (the name of the first; empty for the others).
    """

    name: str  # in the study
    title: str  # for tables and figures
    table: pd.DataFrame
    folder: Path  # of the images
    low: float  # range of the scores
    high: float
    higher_is_better: bool  # direction of the scores
    synthetic: bool  # no person has rated the images
    release_images: int | None  # in the whole release; None: no fixed number
    release_references: int | None = None  # contents of the whole release; None: not known
    release_splits: dict[str, int] | None = None  # images per official split; None: another split is used
    citation: str  # this and the next three as in `iqa.data.releases.Release`
    licence: str
    source: str
    notes: str = ""
    split_rule: str = ""  # how the split came about, a sentence
    drawn: bool = False  # a seed decides the split or a part of it
    skipped: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=["image", "why"]))  # `missing: skip`
    warnings: list[str] = field(default_factory=list)  # what was noticed in reading, sentences


@dataclass(kw_only=True)
class Database(Labels):
    """A database that is ready for use: its labels, and its cached pixels in the order of `table`."""

    stores: "dict[str, Store]"  # the cached pixels, one store per kind of input
    fingerprint: str  # hash of labels, image files and stored size
    size: Size = field(default_factory=Size)  # to which the images were brought
    thumbnails: "Store | None" = None  # in the order of `table`
    twins: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=TWINS))  # pairs; `TWINS`, psnr in dB

    def __len__(self) -> int:
        return len(self.table)

    def pixels(self, index: int, input: str = "rgb") -> np.ndarray:
        """One image as a view of the cache: (height, width, 3), uint8; `input` is `rgb` or `mscn`.

        Raises:
            DataError: this kind of input was not cached.
        """
        if input not in self.stores:
            raise DataError(
                f"database '{self.name}' holds no '{input}' input, only {', '.join(self.stores)}; add it to `inputs` "
                f"in its parameter file under data_prep"
            )
        return self.stores[input][index]

    def indices(self, split: str) -> np.ndarray:
        """Numbers of the images of a split (`train`, `val` or `test`), ascending."""
        return np.flatnonzero(self.table["split"] == split)

    def normalise(self, score: np.ndarray | float) -> np.ndarray:
        """Scores of the database's own scale on the scale of training: 0 is the worst quality, 1 the best."""
        value = (np.asarray(score, dtype=float) - self.low) / (self.high - self.low)
        return value if self.higher_is_better else 1 - value

    def denormalise(self, value: np.ndarray | float) -> np.ndarray:
        """The inverse of `normalise`; values outside 0..1 are not cut."""
        value = np.asarray(value, dtype=float)
        return self.low + (value if self.higher_is_better else 1 - value) * (self.high - self.low)

    def ceiling_srcc(self) -> float | None:
        """SRCC of the noise-free quality with the MOS on the test split; `None` where that quality is not known."""
        test = self.table[self.table["split"] == "test"]
        if "quality" not in test or test.empty:
            return None
        return float(test["quality"].corr(test["mos"], method="spearman"))

    def image_path(self, index: int) -> Path:
        """The source file of an image."""
        return self.folder / self.table["image"].iloc[index]

    @property
    def bytes(self) -> int:
        """Size of the cached pixels in bytes, over all kinds of input."""
        return sum(store.bytes for store in self.stores.values())
