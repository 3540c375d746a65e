"""Small releases with the names, folders and label files of published databases, to try a study without their images.

No number that comes from them means anything. Their images are coloured rectangles, the blurrier the lower their score.
A stand-in is a function `(folder, images, rng)`; it writes a release of about as many images in the layout that the
reader of its name expects.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter
from scipy.io import savemat

from iqa.data.readers import LIVE_IMAGES
from iqa.data.releases import RELEASES
from iqa.study.registry import Registry

Rng = np.random.Generator
STAND_INS = Registry("stand-in")  # Callable[[Path, int, Rng], None], by the name of the reader
HEIGHT, WIDTH = 96, 128
BLUR = 4.0  # radius in pixels of the worst image's blur


def write_stand_in(reader: str, folder: Path, images: int) -> None:
    """Write a release for a reader into a folder.

    Args:
        reader: one of `STAND_INS`.
        images: about how many images, at least 20.
    """
    folder.mkdir(parents=True, exist_ok=True)
    STAND_INS[reader](folder, images, np.random.default_rng([0, images, *reader.encode()]))  # no image is in two


def _draw(folder: Path, names: Sequence[str], release: str, rng: Rng, decimals: int = 4) -> np.ndarray:
    """Write images of some names; their scores, which fill the range of a release, in a random order.

    A content is new with each name that does not share its start with the last.
    """
    facts = RELEASES[release]
    scores = rng.permutation(np.linspace(facts.low, facts.high, len(names))).round(decimals)
    content, drawn = None, None
    for name, score in zip(names, scores, strict=True):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        start = name.split("_")[0].split(".")[0] if facts.references else name
        if start != content:
            content, drawn = start, _rectangles(rng)
        _blurred(drawn, score, facts.low, facts.high, facts.higher_is_better).save(file)
    return scores


def _rectangles(rng: Rng) -> Image.Image:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for _ in range(60):
        top, left = rng.integers(0, (HEIGHT, WIDTH))
        height, width = rng.integers(4, 40, 2)
        pixels[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    return Image.fromarray(pixels)


def _blurred(image: Image.Image, score: float, low: float, high: float, higher_is_better: bool) -> Image.Image:
    badness = (high - score if higher_is_better else score - low) / (high - low)
    return image.filter(ImageFilter.GaussianBlur(BLUR * float(badness)))


@STAND_INS.add("koniq10k")
def write_koniq10k(folder: Path, images: int, rng: Rng) -> None:
    """The label file with the official split, and the smaller images."""
    names = [f"{number}.jpg" for number in range(images)]
    scores = _draw(folder / "512x384", names, "koniq10k", rng)
    sets = np.array(["training", "validation", "test"])[np.digitize(np.arange(images) / images, (0.6, 0.75))]
    table = {"image_name": names, "MOS": scores, "SD": 0.5, "set": sets}
    pd.DataFrame(table).to_csv(folder / "koniq10k_distributions_sets.csv", index=False)


@STAND_INS.add("spaq")
def write_spaq(folder: Path, images: int, rng: Rng) -> None:
    """A workbook of names and scores."""
    names = [f"{number:05d}.jpg" for number in range(images)]
    table = pd.DataFrame({"Image name": names, "MOS": _draw(folder / "TestImage", names, "spaq", rng)})
    table.to_excel(folder / "MOS and Image attribute scores.xlsx", index=False)


def _of_references(form: str, codes: Iterable[str], levels: int, images: int) -> list[str]:
    """Names of at least `images` images of ten contents: all codes and levels of each, as far as they are needed."""
    each = [(code, level) for level in range(1, levels + 1) for code in codes][: max(2, -(-images // 10))]
    return [form.format(content=number, code=code, level=level) for number in range(1, 11) for code, level in each]


@STAND_INS.add("kadid10k")
def write_kadid10k(folder: Path, images: int, rng: Rng) -> None:
    """Scores on 1 to 5 of distorted images of ten contents."""
    names = _of_references("I{content:02}_{code}_{level:02}.png", RELEASES["kadid10k"].distortions, 5, images)
    scores = _draw(folder / "images", names, "kadid10k", rng, decimals=2)
    references = [f"{name[:3]}.png" for name in names]
    table = {"dist_img": names, "ref_img": references, "dmos": scores, "var": 0.5}
    pd.DataFrame(table).to_csv(folder / "dmos.csv", index=False)


@STAND_INS.add("agiqa3k")
def write_agiqa3k(folder: Path, images: int, rng: Rng) -> None:
    """Generated images with a score and its deviation."""
    names = [f"sd_{number:03}.jpg" for number in range(images)]
    table = {"name": names, "mos_quality": _draw(folder / "images", names, "agiqa3k", rng), "std_quality": 0.5}
    pd.DataFrame(table).to_csv(folder / "data.csv", index=False)


@STAND_INS.add("livec")
def write_livec(folder: Path, images: int, rng: Rng) -> None:
    """Three MATLAB files of one length."""
    names = [f"{number}.bmp" for number in range(1, images + 1)]
    scores = _draw(folder / "Images", names, "livec", rng)
    (folder / "Data").mkdir()
    values = {"Images": np.array(names, object)[:, None], "MOS": scores[None], "StdDev": np.full((1, images), 15.0)}
    for key, value in values.items():
        savemat(folder / "Data" / f"All{key}_release.mat", {f"All{key}_release": value})


@STAND_INS.add("csiq")
def write_csiq(folder: Path, images: int, rng: Rng) -> None:
    """All images in one folder, with a text file."""
    codes = ["AWGN", "BLUR", "contrast", "fnoise", "JPEG", "jpeg2000"]
    names = _of_references("{content}.{code}.{level}.png", codes, 5, images)
    scores = _draw(folder / "dst_imgs_all", names, "csiq", rng)
    lines = [f"{name} {score}\n" for name, score in zip(names, scores, strict=True)]
    (folder / "csiq_label.txt").write_text("".join(lines), encoding="utf-8")


@STAND_INS.add("tid2013")
def write_tid2013(folder: Path, images: int, rng: Rng) -> None:
    """A text file of scores and names, and one of deviations."""
    names = _of_references("i{content:02}_{code}_{level}.bmp", RELEASES["tid2013"].distortions, 5, images)
    scores = _draw(folder / "distorted_images", names, "tid2013", rng)
    lines = [f"{score} {name}\n" for score, name in zip(scores, names, strict=True)]
    (folder / "mos_with_names.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "mos_std.txt").write_text("0.2\n" * len(names), encoding="utf-8")


@STAND_INS.add("live")
def write_live(folder: Path, images: int, rng: Rng) -> None:
    """The 982 entries of the release, of which all but the first of each distortion are marked as originals."""
    listed = [f"{place}/img{number}.bmp" for place, count in LIVE_IMAGES.items() for number in range(1, count + 1)]
    each = max(2, -(-images // len(LIVE_IMAGES)))
    there = np.array([int(name.split("img")[1].removesuffix(".bmp")) <= each for name in listed])
    scores = np.zeros(len(listed))
    scores[there] = _draw(folder, np.array(listed)[there].tolist(), "live", rng)
    contents = np.array([f"content{number % 10}.bmp" for number in range(len(listed))], object)
    savemat(folder / "refnames_all.mat", {"refnames_all": contents[None]})
    dmos = {"dmos_new": scores[None], "orgs": (~there[None]).astype(np.uint8), "dmos_std": np.full_like(scores, 5.0)}
    savemat(folder / "dmos_realigned.mat", dmos)


@STAND_INS.add("bid")
def write_bid(folder: Path, images: int, rng: Rng) -> None:
    """A workbook of numbers and grades, below a header."""
    numbers = range(1, images + 1)
    scores = _draw(folder / "ImageDatabase", [f"DatabaseImage{number:04}.JPG" for number in numbers], "bid", rng)
    table = pd.DataFrame({"Image number": numbers, "Average grade": scores})
    table.to_excel(folder / "DatabaseGrades.xlsx", index=False)


@STAND_INS.add("biq2021")
def write_biq2021(folder: Path, images: int, rng: Rng) -> None:
    """The official training and test lists."""
    names = [f"Img ({number}).jpg" for number in range(images)]
    table = pd.DataFrame({"Image Name": names, "MOS": _draw(folder / "Images", names, "biq2021", rng)})
    cut = round(images * 0.7)
    table[:cut].to_csv(folder / "Train (Images and MOS).csv", index=False)
    table[cut:].to_csv(folder / "Test (Images and MOS).csv", index=False)


def write_own(folder: Path, images: int, scale: tuple[float, float, bool], lists: dict[str, Path]) -> None:
    """Images of one's own, for the readers `csv` (`lists` has one file, `labels`) and `metas` (one file per split).

    Args:
        scale: low, high and whether higher is better.
        lists: the label files to write, by parameter.
    """
    rng = np.random.default_rng([images, *folder.name.encode()])
    scores = rng.permutation(np.linspace(*scale[:2], images)).round(4)
    names = [f"{number:04}.png" for number in range(images)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, score in zip(names, scores, strict=True):
        _blurred(_rectangles(rng), score, *scale).save(folder / name)
    for number, (key, file) in enumerate(lists.items()):
        file.parent.mkdir(parents=True, exist_ok=True)
        chosen = slice(number, None, len(lists))
        if key == "labels":
            pd.DataFrame({"image": names, "mos": scores}).to_csv(file, index=False)
        else:
            pairs = zip(names[chosen], scores[chosen].tolist(), strict=True)
            file.write_text(json.dumps([{"image": name, "score": score} for name, score in pairs]), encoding="utf-8")
