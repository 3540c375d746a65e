"""Quality maps and feature maps of single images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iqa.data import crops
from iqa.model.hyperiqa import look_inside
from iqa.model.predictor import Predictor
from iqa.model.scoring import to_pixels


@dataclass(frozen=True)
class Maps:
    """An image and maps of it.

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


def quality_map(model: Predictor, file: Path, row: dict[str, Any]) -> Maps:
    """The quality map of an image, turned where lower scores are better, so that high is good.

    Args:
        row: `image`, `why`, `mos` and `prediction`, as `iqa.analysis.residuals.chosen` returns them.
    """
    scores = model.quality_map(file)
    quality = scores.per_pixel() * (1 if model.scale.higher_is_better else -1)
    low, high = scores.scores.min(), scores.scores.max()
    text = f"{len(scores.scores)} crops of {scores.window[0]} x {scores.window[1]}: {low:.3g} to {high:.3g}"
    return Maps(_title(row), model.rgb(file), [quality], [text])


def feature_maps(model: Predictor, file: Path, row: dict[str, Any]) -> Maps:
    """The mean activation of each level of the backbone, finest first. Arguments as of `quality_map`.

    Of the whole image for a model that is tested on whole images, otherwise of the centre crop, as a backbone may not
    take other sizes.
    """
    image = model.rgb(file)
    pixels = model.pixels(image)
    if model.options["crops"] != crops.whole.name:
        (top, left), *_ = crops.positions(crops.center.name, *pixels.shape[:2], model.crop)
        centre = np.s_[top : top + model.crop, left : left + model.crop]
        pixels, image = pixels[centre], image[centre]
    levels = look_inside(model.network, to_pixels([pixels])).maps
    means = [level[0].float().mean(dim=0).cpu().numpy() for level in levels]
    titles = [f"level {number}: {' x '.join(map(str, mean.shape))}" for number, mean in enumerate(means, 1)]
    return Maps(_title(row), image, means, titles)


def _title(row: dict[str, Any]) -> str:
    return f"{row['image']} ({row['why']}): MOS {row['mos']:.3g}, predicted {row['prediction']:.3g}"
