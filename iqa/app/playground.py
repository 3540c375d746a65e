"""What the interactive notebook computes and shows; its widgets are in `iqa.app.widgets`.

predictor = iqa.load_model("demo/main_s1")
image = distort(photograph("chelsea").image, [("gaussian_blur", 2.5)])
assess(predictor, image).score
"""

import html
import io
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image

from iqa.analysis.comparison import QUANTITIES
from iqa.data import DataError, synthetic
from iqa.data.database import Database
from iqa.data.pixels import decode
from iqa.model.predictor import PatchScores, Predictor, Scale, Unreadable
from iqa.show import tables
from iqa.show.analysis import span_of_map
from iqa.show.style import BLUE
from iqa.study import paths
from iqa.study.results import finished, read_json, read_table

DISTORTIONS = tuple(synthetic.DISTORTIONS)
PHOTOGRAPHS = (*synthetic.HELD_OUT_PHOTOGRAPHS, *synthetic.VAL_PHOTOGRAPHS, *synthetic.TRAIN_PHOTOGRAPHS)
MAP_CROPS = 48  # the most crops of a quality map, so that it appears at once
SCALES = ("1/4", "1/8", "1/16", "1/32")  # sizes of the backbone's maps as parts of the image's size
Steps = list[tuple[str, float]]  # names of distortions with their levels (0 to 5), applied one after the other
SYNTHETIC = (  # label of a model that learnt from images which no person has rated
    ' <span class="iqa-synthetic" style="background: #B3261E; color: white; padding: 1px 5px; border-radius: 3px" '
    'title="no person has rated the images that it learnt from">synthetic</span>'
)
TABLE = """<style>
.iqa-table :is(td, th) {text-align: left; padding: 2px 14px 2px 0; white-space: nowrap}
[data-jp-theme-light="false"] .iqa-curves {filter: invert(0.93) hue-rotate(180deg)}
</style>"""

# --- images -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Subject:
    """An image to look at: its name on the page, its RGB pixels, and where it comes from in a few words."""

    name: str
    image: Image.Image
    about: str = ""


def photograph(name: str) -> Subject:
    """One of `PHOTOGRAPHS` without any distortion, at the size of the demo's images."""
    image = synthetic.photograph_contents(synthetic.photograph(name))[0]
    relation = "new" if name in synthetic.HELD_OUT_PHOTOGRAPHS else "known"
    return Subject(name, image, f"undistorted, {relation} to the demo's models")


def of_database(database: Database, index: int) -> Subject:
    """An image of a database by its row in the table, with its score and distortion."""
    row = database.table.iloc[index]
    level = "" if pd.isna(row["level"]) else f" {row['level']:g}"
    distortion = "" if pd.isna(row["distortion"]) else f", {row['distortion']}{level}"
    score = "MOS" if database.higher_is_better else "DMOS"
    return Subject(row["image"], decode(database.image_path(index)), f"{score} {row['mos']:.4g}{distortion}")


def of_file(path: str | Path, longest: int | None = None) -> Subject:
    """An image file; `~`, variables and relative paths are resolved as in parameter files.

    Args:
        longest: pixels; an image whose longer side exceeds it is shrunk to it.

    Raises:
        Unreadable: there is no such file, or it cannot be decoded.
    """
    file = paths.resolve(path)
    if not file.is_file():
        raise Unreadable(paths.shown(file), "there is no such file; give the path of an image, or drop one in")
    return _decode(file, paths.shown(file), longest)


def of_upload(name: str, content: bytes, longest: int | None = None) -> Subject:
    """The image in a file that was dropped in, from its content; otherwise as `of_file`."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "dropped")
        file.write_bytes(content)
        return _decode(file, name, longest)


def _decode(file: Path, shown: str, longest: int | None) -> Subject:
    try:
        image = decode(file)
    except DataError:
        raise Unreadable(shown, "this is no image that can be decoded; save it as PNG or JPEG") from None
    width, height = image.size
    about = f"{width}x{height} pixels"
    if longest and max(image.size) > longest:
        image.thumbnail((longest, longest), Image.LANCZOS)
        about += f", shrunk to {image.width}x{image.height}"
    return Subject(Path(shown).name, image, about)


def distort(image: Image.Image, steps: Steps, seed: int = 0) -> Image.Image:
    """The image after the demo's distortions; level 0 is none. The same seed gives the same noise at every level."""
    colours = {"icc_profile": image.info["icc_profile"]} if "icc_profile" in image.info else {}
    for place, (name, level) in enumerate(steps):
        if level > 0:
            image = synthetic.distort(image, name, level, np.random.default_rng([seed, place]))
            image.info |= colours
    return image


# --- scores -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Assessment:
    """A model's scores of an image.

    Args:
        patches: scores of the patches whose mean is the score.
        local: scores of a dense grid of crops, the quality map; None if it was not asked for.
        scale_weights: (4,), how much each scale counts, finest first, the mean over the patches; None if the model's
            fusion does not weigh the scales.
        scale: of the scores.
        synthetic: whether no person has rated the images that the model learnt from.
        seconds: how long it took.
    """

    patches: PatchScores
    local: PatchScores | None
    scale_weights: np.ndarray | None
    scale: Scale
    synthetic: bool
    seconds: float

    @property
    def score(self) -> float:
        return self.patches.score


def assess(predictor: Predictor, image: Image.Image | np.ndarray, with_map: bool = True, **how: Any) -> Assessment:
    """Score, spread over patches, quality map and attention weights of an image.

    Args:
        image: RGB; pixels (H, W, 3) are uint8.
        with_map: whether to make the quality map.
        how: which patches are scored, as for `Predictor.score`, whose score it is to the bit.

    Raises:
        Unreadable: the image is too narrow to be enlarged to a crop.
    """
    started = time.perf_counter()
    scored = predictor.patch_scores(image, look=True, **how)
    stride = map_stride(predictor.crop, scored.height, scored.width)
    local = predictor.quality_map(image, stride) if with_map else None
    weights = None if scored.scales is None else scored.scales.mean(axis=0)
    seconds = time.perf_counter() - started
    return Assessment(scored, local, weights, predictor.scale, predictor.synthetic, seconds)


def map_stride(crop: int, height: int, width: int) -> int:
    """Pixels between crops of the quality map: a quarter of a crop, or more if that makes over `MAP_CROPS` crops."""
    for stride in (crop // 4, crop // 3, crop // 2):
        rows, columns = (-(-(length - crop) // max(1, stride)) + 1 for length in (height, width))
        if rows * columns <= MAP_CROPS:
            return max(1, stride)
    return crop


# --- what is shown ----------------------------------------------------------------------------------------------------


def png(image: Image.Image | np.ndarray) -> bytes:
    """A picture as a PNG file, compressed little and quickly."""
    stream = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def map_limits(local: PatchScores, scale: Scale, stretch: bool) -> tuple[float, float]:
    """Lowest and highest score that have a colour: the ends of the scale, or with `stretch` those of the map."""
    return span_of_map(local.per_pixel(), scale) if stretch else (scale.low, scale.high)


def map_picture(local: PatchScores, scale: Scale, stretch: bool = False) -> np.ndarray:
    """(height, width, 3), uint8: the quality map in colours, bright is good; `stretch` as in `map_limits`."""
    low, high = map_limits(local, scale, stretch)
    value = ((local.per_pixel() - low) / (high - low)).clip(0, 1)
    colours = mpl.colormaps["viridis"](value if scale.higher_is_better else 1 - value, bytes=True)
    return colours[..., :3]


def colour_bar(local: PatchScores, scale: Scale, stretch: bool = False) -> str:
    """The colours of `map_picture` with the scores at their ends, as HTML; worst on the left."""
    ends = map_limits(local, scale, stretch)
    worst, best = ends if scale.higher_is_better else ends[::-1]
    stops = ", ".join(mpl.colors.to_hex(mpl.colormaps["viridis"](place / 8)) for place in range(9))
    bar = f'<div style="flex: 1; height: 9px; background: linear-gradient(to right, {stops})"></div>'
    return f'<div style="display: flex; gap: 6px; align-items: center">{worst:.3g}{bar}{best:.3g}</div>'


def numbers(scores: dict[str, tuple[Assessment, Assessment]]) -> str:
    """The scores of the image as it is shown and of the undistorted one, by the model's name, as an HTML table."""
    rows = []
    for name, (now, before) in scores.items():
        many, scale = len(now.patches.scores), now.scale
        row = {"model": f"<b>{html.escape(name)}</b>{SYNTHETIC * now.synthetic}"}
        row["score"] = f'<b style="font-size: 18px">{now.score:.4g}</b>'
        row["spread"] = f"± {now.patches.spread:.2g} ({many} patch{'es' * (many > 1)})"
        row |= {"undistorted": f"{before.score:.4g}", "change": f"{now.score - before.score:+.3g}"}
        ends = "uncalibrated" if scale.uncalibrated else f"{scale.low:g} to {scale.high:g}"
        row["scale"] = f"{ends}{'' if scale.higher_is_better else ', low is good'}"
        row |= {"attention to scales": weight_bars(now.scale_weights), "time": f"{1000 * now.seconds:.0f} ms"}
        rows.append(row)
    return _html_table(pd.DataFrame(rows), escape=False)


def _html_table(table: pd.DataFrame, escape: bool = True) -> str:
    return TABLE + table.to_html(classes="iqa-table", index=False, border=0, escape=escape)


def weight_bars(weights: np.ndarray | None) -> str:
    """The attention weights of the scales, finest first, as small bars in HTML."""
    if weights is None:
        return "none in this fusion"
    style = "display: flex; gap: 6px; align-items: flex-end; text-align: center; font-size: 10px; line-height: 12px"
    bars = [
        f'<div title="{name}: {weight:.3f}">{weight:.2f}'
        f'<div style="height: {max(1, round(24 * weight))}px; width: 26px; background: {BLUE}"></div>{name}</div>'
        for name, weight in zip(SCALES, weights, strict=True)
    ]
    return f'<div style="{style}">{"".join(bars)}</div>'


# --- models and their predictions -------------------------------------------------------------------------------------


def trained_models() -> dict[str, Path]:
    """The best model of each training run of all studies by `study/run`, those of finished runs first."""
    runs = [(file.parts[-4], file.parts[-2], file) for file in sorted(paths.RESULTS.glob("*/train/*/best.pt"))]
    runs.sort(key=lambda run: not finished(run[0], "train", run[1]))
    return {f"{study}/{run}": file for study, run, file in runs}


def predictions(model: str, database: str) -> pd.DataFrame | None:
    """Saved predictions of the model `study/run` on a database of its study, None if there are none.

    They are those of the run's own test, or those of an evaluation (`05_cross_dataset`).
    """
    study, run = model.split("/")
    if finished(study, "train", run) and read_json(study, "train", run, "metrics")["database"] == database:
        return read_table(study, "train", run, "predictions")
    for folder in sorted((paths.RESULTS / study / "cross_dataset").glob("*/")):
        if finished(study, "cross_dataset", folder.name):
            table = read_table(study, "cross_dataset", folder.name, "predictions")
            table = table[(table["model"] == run) & (table["database"] == database)]
            if len(table):
                return table.reset_index(drop=True)
    return None


ORDERS = {
    "largest error first": lambda error: -error.abs(),
    "smallest error first": lambda error: error.abs(),
    "rated too high first": lambda error: -error,
    "rated too low first": lambda error: error,
}


def by_error(table: pd.DataFrame, order: str, higher_is_better: bool = True) -> pd.DataFrame:
    """Predictions with a column `error` (prediction minus MOS), sorted.

    Args:
        table: columns `prediction` and `mos`, on one scale.
        order: one of `ORDERS`; too high means a quality that is rated too high, whatever the scale's direction.
    """
    error = table["prediction"] - table["mos"]
    key = ORDERS[order](error if higher_is_better else -error)
    return table.assign(error=error).loc[key.sort_values(kind="stable").index].reset_index(drop=True)


def thumbnail(file: Path) -> bytes:
    """A small picture of an image file, as PNG."""
    image = decode(file)
    image.thumbnail((160, 160))
    return png(image)


# --- training ---------------------------------------------------------------------------------------------------------


def dynamics(histories: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Histories of single trainings, by their labels, as `iqa.show.ablation.compare_trainings` takes them."""
    joined = pd.concat([history.assign(label=label) for label, history in histories.items()])
    frame = joined.melt(["label", "epoch"], list(QUANTITIES), "quantity", "mean")
    return frame.assign(min=frame["mean"], max=frame["mean"])


def compare(predictions: dict[str, pd.DataFrame], database: Database) -> pd.DataFrame:
    """Predictions of the same images, by label, beside the last of them: see `iqa.analysis.baselines.compare`."""
    from iqa.analysis import baselines  # scikit-learn takes long to load

    about = {label: {"label": label, "uncalibrated": ""} for label in predictions}
    pairs = {(label, database.name): table for label, table in predictions.items()}
    return baselines.compare(pairs, [*predictions][-1], about, {database.name: database})


def comparison_table(compared: pd.DataFrame) -> str:
    """The rows of `compare` as an HTML table."""
    rows = (
        {"Model": row["label"], "Test images of": row["title"], "Number:,.0f": row["n"]}
        | tables.with_intervals(row, "srcc", "plcc")
        | tables.with_difference(row)
        for row in tables.records(compared)
    )
    return _html_table(tables.rounded(tables.table_of(rows)))
