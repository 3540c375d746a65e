"""Quality maps and feature maps of single images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from iqa.data import crops
from iqa.model.hyperiqa import look_inside
from iqa.model.predictor import Predictor
from iqa.model.scoring import to_pixels


@dataclass(frozen=True)
class Maps:
    """An image with what a model makes of its places.

    Args:
        title: its name, why it is shown, and its scores.
        image: (H, W, 3), uint8, or the part of it that the maps are of.
        maps: (h, w) each, to be stretched over the image.
        titles: of the maps.
    """

    title: str
    image: np.ndarray
    maps: list[np.ndarray]
    titles: list[str]


def quality_rows(model: Predictor, files: list[Path], rows: pd.DataFrame) -> list[Maps]:
    """The quality map of each image, turned where lower scores are better, so that high is good.

    Args:
        files: of the images.
        rows: one per image, as `chosen` returns them.
    """
    found = []
    for file, row in zip(files, rows.to_dict("records"), strict=True):
        scores = model.quality_map(file)
        quality = scores.per_pixel() * (1 if model.scale.higher_is_better else -1)
        low, high = scores.scores.min(), scores.scores.max()
        text = f"{len(scores.scores)} crops of {scores.window[0]} x {scores.window[1]}: {low:.3g} to {high:.3g}"
        found.append(Maps(_titled(row), model.rgb(file), [quality], [text]))
    return found


def feature_rows(model: Predictor, files: list[Path], rows: pd.DataFrame) -> list[Maps]:
    """The mean activation of each level of the backbone, finest first.

    Of the whole image for a model that is tested on whole images, otherwise of the centre crop, as a backbone may not
    take other sizes. Arguments as of `quality_rows`.
    """
    found = []
    for file, row in zip(files, rows.to_dict("records"), strict=True):
        image = model.rgb(file)
        pixels = model.pixels(image)
        if model.options["crops"] != crops.whole.name:
            (top, left), *_ = crops.positions(crops.center.name, *pixels.shape[:2], model.crop)
            here = np.s_[top : top + model.crop, left : left + model.crop]
            pixels, image = pixels[here], image[here]
        maps = [
            each[0].float().mean(dim=0).cpu().numpy() for each in look_inside(model.network, to_pixels([pixels])).maps
        ]
        titles = [f"level {number}: {' x '.join(map(str, each.shape))}" for number, each in enumerate(maps, 1)]
        found.append(Maps(_titled(row), image, maps, titles))
    return found


def _titled(row: dict[str, Any]) -> str:
    return f"{row['image']} ({row['why']}): MOS {row['mos']:.3g}, predicted {row['prediction']:.3g}"
