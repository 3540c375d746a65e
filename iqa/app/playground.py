"""What the interactive notebook computes and shows, without its widgets (`iqa.app.widgets`).

predictor = iqa.load_model("demo/main_s1")
image = distort(photograph("chelsea").image, [("gaussian_blur", 2.5)])
assess(predictor, image, crops="grid", patches=25).score
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
from iqa.analysis.evaluation import evaluate
from iqa.data import synthetic
from iqa.data.database import Database
from iqa.data.pixels import decode
from iqa.metrics import bootstrap, coefficients
from iqa.model.predictor import PatchScores, Predictor, Scale, Unreadable
from iqa.model.scoring import predict
from iqa.show.analysis import NARROWEST
from iqa.show.style import BLUE
from iqa.study import paths
from iqa.study.results import finished, read_json, read_table
from iqa.training.params import TrainParams

DISTORTIONS = tuple(synthetic.DISTORTIONS)
PHOTOGRAPHS = (*synthetic.HELD_OUT_PHOTOGRAPHS, *synthetic.VAL_PHOTOGRAPHS, *synthetic.TRAIN_PHOTOGRAPHS)
MAP_CROPS = 48  # crops of a quality map at most, so that it is there at once
SCALES = ("1/4", "1/8", "1/16", "1/32")  # of the image's size, the backbone's maps
Steps = list[tuple[str, float]]  # distortions by name with their levels (0 to 5), applied one after the other

# --- images -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Subject:
    """An image to look at.

    Args:
        name: what it is called on the page.
        image: RGB.
        about: where it comes from, a sentence or less.
    """

    name: str
    image: Image.Image
    about: str = ""


def photograph(name: str) -> Subject:
    """One of `PHOTOGRAPHS` without any distortion, at the size of the demo's images."""
    image = synthetic.photograph_contents(synthetic.photograph(name))[0]
    seen = "new to" if name in synthetic.HELD_OUT_PHOTOGRAPHS else "known to"
    return Subject(name, image, f"undistorted, {seen} the demo's models")


def of_database(database: Database, index: int) -> Subject:
    """An image of a database, with what is known of it."""
    row = database.table.iloc[index]
    level = "" if pd.isna(row["level"]) else f" {row['level']:g}"
    kind = "" if pd.isna(row["distortion"]) else f", {row['distortion']}{level}"
    score = "MOS" if database.higher_is_better else "DMOS"
    return Subject(row["image"], decode(database.image_path(index)), f"{score} {row['mos']:.4g}{kind}")


def of_file(path: str | Path, longest: int | None = None) -> Subject:
    """An image of a file; `~`, variables and relative paths as in parameter files.

    Args:
        longest: pixels; an image whose longer side is longer is shrunk to it.

    Raises:
        Unreadable: there is no such file, or it cannot be decoded.
    """
    file = paths.resolve(path)
    if not file.is_file():
        raise Unreadable(paths.shown(file), "there is no such file; give the path of an image, or drop one in")
    return _shrunk(file, paths.shown(file), longest)


def of_upload(name: str, content: bytes, longest: int | None = None) -> Subject:
    """An image of the content of a file that was dropped in; otherwise as `of_file`."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "dropped")
        file.write_bytes(content)
        return _shrunk(file, name, longest)


def _shrunk(file: Path, shown: str, longest: int | None) -> Subject:
    try:
        image = decode(file)
    except Exception:  # the decoders of some formats raise anything
        raise Unreadable(shown, "this is no image that can be decoded; save it as PNG or JPEG") from None
    width, height = image.size
    about = f"{width}x{height} pixels"
    if longest and max(image.size) > longest:
        image.thumbnail((longest, longest), Image.LANCZOS)
        about += f", shrunk to {image.width}x{image.height}"
    return Subject(Path(shown).name, image, about)


def distort(image: Image.Image, steps: Steps, seed: int = 0) -> Image.Image:
    """The image after the demo's distortions; level 0 is none. The noise is the same at every level and in every call.

    Args:
        seed: decides the noise.
    """
    for place, (name, level) in enumerate(steps):
        if level > 0:
            image = synthetic.distort(image, name, level, np.random.default_rng([seed, place]))
    return image


# --- scores -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Assessment:
    """What a model says of an image.

    Args:
        patches: the scores of the patches that make the score.
        local: scores of a dense grid of crops, the quality map; None where it was not asked for.
        scale_weights: (4,), how much each scale counts, finest first, the mean over the patches; None where the
            model's fusion does not weigh the scales.
        scale: of the scores.
        seconds: that it took.
    """

    patches: PatchScores
    local: PatchScores | None
    scale_weights: np.ndarray | None
    scale: Scale
    seconds: float

    @property
    def score(self) -> float:
        return self.patches.score

    @property
    def spread(self) -> float:
        """Standard deviation over the patches."""
        return self.patches.spread


def assess(
    predictor: Predictor,
    image: Image.Image | np.ndarray,
    crops: str = "grid",
    patches: int = 25,
    seed: int = 0,
    with_map: bool = True,
) -> Assessment:
    """Score, spread over patches, quality map and attention weights of an image.

    Args:
        image: RGB; pixels (H, W, 3) are uint8.
        crops, patches, seed: which patches are scored, see `iqa.data.crops.positions`. The score is that of
            `Predictor.score` with the same values, to the bit.
        with_map: False saves the time of the quality map.

    Raises:
        Unreadable: the image is too narrow to be enlarged to a crop.
    """
    started = time.perf_counter()
    found = predictor.patch_scores(image, crops=crops, patches=patches, seed=seed, look=True)
    local = predictor.quality_map(image, map_stride(predictor.crop, found.height, found.width)) if with_map else None
    weights = None if found.scales is None else found.scales.mean(axis=0)
    return Assessment(found, local, weights, predictor.scale, time.perf_counter() - started)


def map_stride(crop: int, height: int, width: int) -> int:
    """Pixels between crops of the quality map: a quarter of a crop, or more where that makes over `MAP_CROPS` crops."""
    for stride in (crop // 4, crop // 3, crop // 2):
        rows, columns = (-(-(length - crop) // max(1, stride)) + 1 for length in (height, width))
        if rows * columns <= MAP_CROPS:
            return max(1, stride)
    return crop


# --- what is shown ----------------------------------------------------------------------------------------------------


def png(image: Image.Image | np.ndarray) -> bytes:
    """A picture's PNG file, written quickly."""
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def map_limits(local: PatchScores, scale: Scale, own: bool) -> tuple[float, float]:
    """The scores that the darkest and the brightest colour stand for: the scale's ends, or those of the map itself."""
    if not own:
        return scale.low, scale.high
    quality = local.per_pixel()
    low, high = float(quality.min()), float(quality.max())
    wider = max(0.0, NARROWEST * (scale.high - scale.low) - (high - low)) / 2  # a flat map has no contrast to show
    return low - wider, high + wider


def map_picture(local: PatchScores, scale: Scale, own: bool = False) -> np.ndarray:
    """(height, width, 3), uint8: the quality map in colours, bright is good; `own` as in `map_limits`."""
    low, high = map_limits(local, scale, own)
    value = ((local.per_pixel() - low) / (high - low)).clip(0, 1)
    colours = mpl.colormaps["viridis"](value if scale.higher_is_better else 1 - value, bytes=True)
    return colours[..., :3]


def colour_bar(local: PatchScores, scale: Scale, own: bool = False) -> str:
    """The colours of `map_picture` with the scores at their ends, as HTML; worst on the left."""
    ends = map_limits(local, scale, own)
    worst, best = ends if scale.higher_is_better else ends[::-1]
    stops = ", ".join(mpl.colors.to_hex(mpl.colormaps["viridis"](place / 8)) for place in range(9))
    bar = f'<div style="flex: 1; height: 9px; background: linear-gradient(to right, {stops})"></div>'
    return (
        f'<div style="display: flex; gap: 6px; align-items: center; font-size: 12px; line-height: 16px">'
        f"{worst:.3g}{bar}{best:.3g}</div>"
    )


def numbers(found: dict[str, tuple[Assessment, Assessment]]) -> str:
    """The numbers of each model as an HTML table.

    Args:
        found: what a model says of the image as it is shown and of the undistorted one, by the model's name.
    """
    heads = ("model", "score", "spread", "undistorted", "change", "scale", "attention to scales", "time")
    rows = []
    for name, (now, before) in found.items():
        many = len(now.patches.scores)
        cells = [
            f"<b>{html.escape(name)}</b>",
            f'<b style="font-size: 18px">{now.score:.4g}</b>',
            f"± {now.spread:.2g} ({many} {'patch' if many == 1 else 'patches'})",
            f"{before.score:.4g}",
            f"{now.score - before.score:+.3g}",
            f"{now.scale.low:g} to {now.scale.high:g}{'' if now.scale.higher_is_better else ', low is good'}",
            weight_bars(now.scale_weights),
            f"{1000 * now.seconds:.0f} ms",
        ]
        rows.append(cells)
    return _html_table(heads, rows)


def _html_table(heads: tuple[str, ...], rows: list[list[str]]) -> str:
    style = 'style="text-align: left; padding: 2px 14px 2px 0; white-space: nowrap"'
    lines = ["".join(f"<th {style}>{text}</th>" for text in heads)]
    lines += ["".join(f"<td {style}>{cell}</td>" for cell in cells) for cells in rows]
    return f'<table style="line-height: 20px">{"".join(f"<tr>{line}</tr>" for line in lines)}</table>'


def weight_bars(weights: np.ndarray | None) -> str:
    """The attention weights of the scales, finest first, as small bars in HTML."""
    if weights is None:
        return "none in this fusion"
    bars = [
        f'<div title="{name}: {weight:.3f}" style="text-align: center; font-size: 10px; line-height: 12px">'
        f"{weight:.2f}"
        f'<div style="height: {max(1, round(24 * weight))}px; width: 26px; margin: 0 auto; background: {BLUE}"></div>'
        f"{name}</div>"
        for name, weight in zip(SCALES, weights, strict=True)
    ]
    return f'<div style="display: flex; gap: 6px; align-items: flex-end">{"".join(bars)}</div>'


# --- models and their predictions -------------------------------------------------------------------------------------


def trained_models() -> dict[str, Path]:
    """The best model of each training run of all studies, `study/run`, those of finished runs first."""
    files = {f"{file.parts[-4]}/{file.parts[-2]}": file for file in sorted(paths.RESULTS.glob("*/train/*/best.pt"))}
    done = {name for name, file in files.items() if finished(file.parts[-4], "train", file.parts[-2])}
    return {name: files[name] for name in sorted(files, key=lambda name: (name not in done, name))}


def predictions(model: str, database: str) -> pd.DataFrame | None:
    """Saved predictions of a training run's model on a database of its study, None where there are none.

    Those of the test split that the run itself was tested on, or those of an evaluation (`05_cross_dataset`).

    Args:
        model: `study/run`.
        database: its name in the study.
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
        order: one of `ORDERS`; too high and too low are meant of the quality.
        higher_is_better: direction of the scale.
    """
    error = table["prediction"] - table["mos"]
    key = ORDERS[order](error if higher_is_better else -error)
    return table.assign(error=error).loc[key.sort_values(kind="stable").index].reset_index(drop=True)


def thumbnail(file: Path, side: int = 160) -> bytes:
    """A small picture of an image file, as JPEG."""
    image = decode(file)
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return stream.getvalue()


# --- training ---------------------------------------------------------------------------------------------------------


def dynamics(histories: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Histories of single trainings, by their labels, as `iqa.show.ablation.compare_trainings` takes them."""
    parts = [
        pd.DataFrame({"label": label, "quantity": quantity, "epoch": history["epoch"], "mean": history[quantity]})
        for label, history in histories.items()
        for quantity in QUANTITIES
    ]
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(min=frame["mean"], max=frame["mean"])


def test_predictions(predictor: Predictor, database: Database) -> pd.DataFrame:
    """The test split with a column `prediction`, scored as the model's own training run scores it."""
    return predict(predictor.network, database, database.indices("test"), **predictor.options)


test_predictions.__test__ = False  # a function of the package whose name looks like a test's to pytest


def agreement(tables: dict[str, pd.DataFrame], resamples: int = 1000) -> tuple[pd.DataFrame, str]:
    """SRCC and PLCC of predictions of the same images, with 95% intervals over the contents, and a verdict.

    Args:
        tables: predictions by label, the last one the reference.

    Returns:
        One row per label: `label`, `n`, `srcc`, `srcc_low`, `srcc_high`, `plcc`, `plcc_low`, `plcc_high`; and, of
        two tables of the same images, a sentence on whether their SRCC differ.
    """
    rows = []
    for label, table in tables.items():
        found = evaluate(table, resamples)
        keys = ("n", "srcc", "srcc_low", "srcc_high", "plcc", "plcc_low", "plcc_high")
        rows.append({"label": label} | {key: found[key] for key in keys})
    return pd.DataFrame(rows), _verdict(tables, resamples)


def _verdict(tables: dict[str, pd.DataFrame], resamples: int) -> str:
    if len(tables) != 2:
        return ""
    a, b = tables.values()
    if list(a["image"]) != list(b["image"]):
        return "The two were tested on different images, so that their numbers do not compare."
    pair = a["prediction"], b["prediction"], b["mos"]
    found = bootstrap.paired_difference(coefficients.srcc, *pair, resamples, groups=b["reference"])
    apart = found.low > 0 or found.high < 0
    return (
        f"Difference in SRCC: {found.difference:+.3f}, 95% interval {found.low:+.3f} to {found.high:+.3f}: "
        + ("more than other test images would change it." if apart else "not distinguishable on these images.")
        + " One seed each: another seed would change both."
    )


def train_params(values: dict[str, Any], start: TrainParams, run: str) -> TrainParams:
    """Typed parameters of a training: those of `start`, changed by the values of widgets.

    Raises:
        ParameterError: a value is not allowed; says which and why.
    """
    return TrainParams.build(start.model_dump() | values | {"run": run}, "training parameters")


def agreement_table(table: pd.DataFrame, database: Database) -> str:
    """The rows of `agreement` as an HTML table."""
    heads = (f"test images of {html.escape(database.title)}", "n", "SRCC (95% interval)", "PLCC (95% interval)")
    rows = []
    for row in table.itertuples():
        intervals = [
            f"{getattr(row, key):.3f} ({getattr(row, f'{key}_low'):.3f} to {getattr(row, f'{key}_high'):.3f})"
            for key in ("srcc", "plcc")
        ]
        rows.append([html.escape(row.label), str(row.n), *intervals])
    return _html_table(heads, rows)
