"""Tables and figures of `06_analysis`."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iqa.show import common
from iqa.show.common import LOOKS, wrapped
from iqa.show.cross_dataset import sanity_table
from iqa.show.style import BLUE, GREY, INK, ORANGE, WIDTH, in_style
from iqa.show.tables import Interval, Table, ends, missing, records, renamed, table_of

if TYPE_CHECKING:
    from iqa.analysis.maps import Maps
    from iqa.model.predictor import PatchScores, Scale

NARROWEST = 0.1  # of the scale's range; the least that the colours of a quality map span
KINDS = 6  # classes that are told apart by marker; of more, the rarer ones share the last
SHARPEST = 2048  # pixels of the longer side of a quality map that are drawn at most
SIDE = 320  # pixels of the longer side of images on a page of cases
VALUE = ("value", "low", "high")


def analysed_table(models: pd.DataFrame) -> pd.DataFrame:
    """The models that were looked into, from `models.csv`; one that is not trained has its command."""
    columns = {"Model": "model", "Fusion": "fusion", "Weights made:,.0f": "weights", "Scored": "crops"}
    columns |= {"Images:,.0f": "n", "SRCC": "srcc", "Status": _status}
    return renamed(models, columns)


def _status(row: dict[str, Any]) -> str:
    return row["status"] if missing(row["command"]) else f"{row['status']}: {row['command']}"


def separation_table(separation: pd.DataFrame) -> pd.DataFrame:
    """How well generated weights tell quality, content and distortion apart, from `separation.csv`.

    What is not available for one reason has one row at the end, whichever the models and measures.
    """
    columns = {"Model": "model", "Of": "of", "Measure": "measure", "Classes:,.0f": "classes", "Images:,.0f": "n"}
    columns |= {"Value": VALUE, "Chance": "chance", "Verdict": "verdict"}
    lacking = separation[separation["value"].isna()]
    rows = [
        {"model": ", ".join(part["model"].unique()), "of": of, "verdict": f"not available: {reason}"}
        for (of, reason), part in lacking.groupby(["of", "reason"], sort=False)
    ]
    together = pd.DataFrame(rows, columns=separation.columns, dtype=object)
    known = separation[separation["value"].notna()].astype(object)
    return renamed(pd.concat([known, together]), columns)


def variance_table(variance: pd.DataFrame) -> pd.DataFrame:
    """Share of the variance of each principal component of the generated weights, from `variance.csv`."""
    columns = {"Model": "model", "Component:,.0f": "component", "Explained:.1%": "explained"}
    return renamed(variance, columns | {"Cumulative:.1%": "cumulative"})


def content_table(content: pd.DataFrame) -> pd.DataFrame:
    """Agreement with the MOS by whose weights an image is scored with, from `content.csv`."""
    kinds = {"own": "its own", "shuffled": "of another image", "mean": "mean of all images"}
    columns = {"Model": "model", "Weights": lambda row: kinds.get(row["weights"]), "SRCC": ends("srcc")}
    columns |= {"SRCC difference": ends("d_srcc"), "PLCC": ends("plcc"), "PLCC difference": ends("d_plcc")}
    columns |= {"SRCC with the other's MOS": ends("lender_srcc")}
    columns |= {"Verdict": lambda row: row["verdict"] if missing(row["reason"]) else f"not available: {row['reason']}"}
    return renamed(content, columns)


def attention_bands_table(bands: pd.DataFrame) -> pd.DataFrame:
    """Mean weight of each scale and the entropy of the weights in bands of MOS, from `bands.csv`."""
    rows: dict[tuple, dict] = {}
    for row in records(bands):
        about = {"Model": row["model"], "MOS of band": f"{row['from']:.4g} to {row['to']:.4g}", "Images:,.0f": row["n"]}
        band = rows.setdefault((row["model"], row["band"]), about)
        if row["quantity"] != "deep":
            band[f"{row['quantity'].capitalize()}:.2f"] = Interval(row["mean"], row["low"], row["high"])
    return table_of(rows.values())


def attention_tests_table(tests: pd.DataFrame) -> pd.DataFrame:
    """The statement on attention weights in parts and as a whole, from `attention.csv`."""
    columns = {"Model": "model", "Part": "part", "Stated": "stated", "Found": VALUE, "p:p": "p_value"}
    return renamed(tests, columns | {"Verdict": "verdict"})


def errors_table(errors: pd.DataFrame) -> pd.DataFrame:
    """Bias and mean absolute error of all images and of groups of them, from `errors.csv`."""
    form = decimals(errors["mae"])
    columns = {"By": "by", "Group": "value", "Images:,.0f": "n", f"Bias:{form}": ends("bias")}
    return renamed(errors, columns | {f"Mean absolute error:{form}": ends("mae"), "Predicted": "verdict"})


def decimals(values: Iterable[float]) -> str:
    """The format of a column whose largest number has three digits, and each other as many after the point."""
    largest = max((abs(value) for value in values if not missing(value)), default=0)
    return f".{max(0, 2 - math.floor(math.log10(largest)))}f" if largest else ".0f"


def cases_table(cases: pd.DataFrame) -> pd.DataFrame:
    """The images with the largest and smallest errors, from `cases.csv`, without what the database does not tell."""
    columns = {"Kind": "kind", "Image": "image", "MOS:.2f": "mos", "Rating SD:.2f": "mos_std"}
    columns |= {"Prediction:.2f": "prediction", "Error:.2f": "residual", "Distortion": "distortion", "Level:g": "level"}
    return renamed(cases, {title: name for title, name in columns.items() if not all(map(missing, cases[name]))})


def ceiling_table(ceiling: pd.DataFrame) -> pd.DataFrame:
    """What the model reaches beside what the rating noise allows, from `ceiling.csv`."""
    names = {"model": "the model", "simulated": "ceiling, simulated", "known": "ceiling, known quality"}
    columns = {"Agreement of": "what", "Images:,.0f": "n", "SRCC": ends("srcc"), "PLCC": ends("plcc")}
    columns |= {"Reliability": "reliability", "Reason": "reason"}
    return renamed(ceiling.assign(what=ceiling["what"].map(names)), columns)


def span_of_map(quality: np.ndarray, scale: "Scale") -> tuple[float, float]:
    """Lowest and highest score that have a colour: those of a map; of a flat one, which has no contrast, wider ones."""
    low, high = float(quality.min()), float(quality.max())
    wider = max(0.0, NARROWEST * (scale.high - scale.low) - (high - low)) / 2
    return low - wider, high + wider


@in_style
def quality_map(image: np.ndarray, scores: "PatchScores", scale: "Scale") -> Figure:
    """An image beside its quality map: bright is good. The colours span the map's scores, as the bar shows.

    `image` is (height, width, 3), uint8, as it is scored (`iqa.model.predictor.Predictor.rgb`); `scores` are its scores
    (`Predictor.quality_map`).
    """
    step = -(-max(scores.height, scores.width) // SHARPEST)
    quality = scores.per_pixel(step)
    low, high = span_of_map(quality, scale)
    height = min(max(WIDTH / 2 * scores.height / scores.width, 1.5), 8.0)
    figure, [(left, right)] = common.draw_figure(height + 1.1, 1, 2)
    left.imshow(image[::step, ::step])
    left.set_title("image")
    colours = "viridis" if scale.higher_is_better else "viridis_r"
    shown = right.imshow(quality, cmap=colours, vmin=low, vmax=high)
    right.set_title(f"score {scores.score:.4g}, {len(scores.scores):,} crops")
    for ax in (left, right):
        ax.axis("off")
    figure.colorbar(shown, ax=(left, right), location="bottom", fraction=0.1, aspect=50, label=f"score, {scale}")
    return figure


@in_style
def weight_space(points: pd.DataFrame, variance: pd.DataFrame) -> Figure:
    """Generated weights in their first two principal components: a column per model, the same units and axes.

    Above coloured by quality (bright: good), below by distortion, or by content where no distortion is known. `points`
    and `variance` are as `iqa.analysis.weights.weight_space` returns them.
    """
    models = list(points["model"].unique())
    by, classes = _kinds(points)
    kinds = list(classes.value_counts(sort=False).index)
    rows = 2 if kinds else 1
    limits = [1.08 * points[name].abs().max() or 1.0 for name in ("pc1", "pc2")]
    height = 2.1 * rows + (0.7 if rows > 1 else 0.2)
    figure, grid = common.draw_figure(height, rows, len(models), sharex=True, sharey=True)
    mark = {"s": 13, "linewidths": 0}
    for column, model in zip(grid.T, models, strict=True):
        part, shares = points[points["model"] == model], variance[variance["model"] == model]["explained"].to_numpy()
        shown = column[0].scatter(part["pc1"], part["pc2"], c=part["good"], cmap="viridis", vmin=0, vmax=1, **mark)
        for kind, look in zip(kinds, LOOKS, strict=False):
            same = part[classes[part.index] == kind]
            look = {"color": look["color"], "marker": look["marker"], "alpha": 0.7, "label": kind}
            column[1].scatter(same["pc1"], same["pc2"], **look, **mark)
        column[0].set_title(wrapped(model, 60 // len(models)))
        column[-1].set_xlabel(f"component 1 ({shares[0]:.0%})")
        for ax in column:
            ax.set(xlim=(-limits[0], limits[0]), ylim=(-limits[1], limits[1]))
            ax.set_ylabel(f"component 2 ({shares[1]:.0%})")
    figure.colorbar(shown, ax=grid[0], fraction=0.03, label="quality (1 is best)")
    if kinds:
        common.add_legend(figure, grid[1, 0], 3, title=f"below: {by}", title_fontsize=8, markerscale=1.6)
    return figure


def _kinds(points: pd.DataFrame) -> tuple[str, pd.Series]:
    """What classes there are, and that of each row: the most frequent distortions, or else contents that repeat."""
    for column, title in (("distortion", "distortion"), ("reference", "content")):
        values = points[column]
        counts = values[points["model"] == points["model"].iloc[0]].value_counts()
        if (counts > 1).sum() > 1:
            frequent = list(counts.index[: KINDS if len(counts) <= KINDS else KINDS - 1])
            return title, values.where(values.isin(frequent), f"{len(counts) - len(frequent)} others")
    return "", pd.Series(dtype=object)


@in_style
def content(content: pd.DataFrame) -> Figure:
    """SRCC of each model with an image's own weights, those of another image and their mean, from `content.csv`."""
    rows = content[content["srcc"].notna()]
    if rows.empty:
        return common.nothing("no model of this analysis generates weights for each image")
    looks = dict(zip(("own", "shuffled", "mean"), LOOKS, strict=False))
    labels = {"own": "its own weights", "shuffled": "those of another image", "mean": "the mean of all images' weights"}
    models = list(rows["model"].unique())
    figure, [[ax]] = common.draw_figure(0.9 + 0.5 * len(models))
    for place, (kind, look) in enumerate(looks.items()):
        part = rows[rows["weights"] == kind]
        at = part["model"].map(models.index) + common.stagger(place, len(looks))
        mark = look | {"linestyle": "none", "capsize": 2, "markersize": 5, "label": labels[kind]}
        ax.errorbar(part["srcc"], at, xerr=common.error_bars(part, "srcc"), **mark)
    common.name_rows(ax, models)
    ax.set_xlabel("SRCC with the MOS, with interval")
    common.add_legend(figure, ax, 3)
    return figure


@in_style
def attention(bands: pd.DataFrame) -> Figure:
    """Mean weight of each scale against the quality, in bands of MOS with intervals; dotted: even weights.

    `bands` is as `iqa.analysis.attention.attention_bands` returns it.
    """
    models = list(bands["model"].unique())
    if not models:
        return common.nothing("no model of this analysis weighs the scales")
    figure, [axes] = common.draw_figure(2.9, 1, len(models), WIDTH if len(models) > 1 else 0.66 * WIDTH, sharey=True)
    for ax, model in zip(axes, models, strict=True):
        of_model = bands[bands["model"] == model]
        scales = sorted(name for name in of_model["quantity"].unique() if name.startswith("scale "))
        ax.axhline(1 / len(scales), color=GREY, linestyle=":", linewidth=1, label="even")
        for look, scale in zip(LOOKS[1:], scales, strict=False):
            part = of_model[of_model["quantity"] == scale]
            note = {scales[0]: " (finest)", scales[-1]: " (coarsest)"}.get(scale, "")
            bars = common.error_bars(part, "mean", "low", "high")
            ax.errorbar(part["band"], part["mean"], yerr=bars, capsize=2, markersize=4.5, label=scale + note, **look)
        first = of_model[of_model["quantity"] == scales[0]]
        names = [f"{low:.3g}\nto {high:.3g}" for low, high in zip(first["from"], first["to"], strict=True)]
        ax.set_xticks(first["band"], names)
        ax.set_ylim(0, max(0.5, 1.05 * of_model.loc[of_model["quantity"].isin(scales), "high"].max()))
        ax.set_xlabel("MOS of the band, worst to best")
        ax.set_title(wrapped(model, 60 // len(models)))
    axes[0].set_ylabel("mean weight of the scale")
    common.add_legend(figure, axes[0], 5)
    return figure


@in_style
def errors(table: pd.DataFrame, groups: pd.DataFrame) -> Figure:
    """Residuals against MOS and, where it is known, rating deviation; bias of each kind of image with its interval.

    `table` is that of `iqa.analysis.gathering.Gathered`, and `groups` what `iqa.analysis.residuals.errors` returns.
    """
    rows = groups[~groups["by"].isin(["MOS", "rating deviation", "all"])]
    against = [("mos", "MOS", "mean opinion score")]
    if table["mos_std"].notna().any():
        against.append(("mos_std", "rating deviation", "standard deviation of the ratings"))
    heights = [2.7, 0.16 * len(rows) + 0.5] if len(rows) else [2.7]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), len(against), height_ratios=heights)
    first = None
    for place, (column, by, label) in enumerate(against):
        ax = figure.add_subplot(grid[0, place], sharey=first)
        first = first or ax
        _residuals(ax, table, groups, column, by, label)
    first.set_ylabel("prediction less MOS")
    if len(rows):
        ax = figure.add_subplot(grid[1, :])
        ax.axvline(0, color=INK, linewidth=1, linestyle="--")
        mark = {"color": BLUE, "marker": "o", "markersize": 4, "linestyle": "none", "capsize": 2}
        ax.errorbar(rows["bias"], range(len(rows)), xerr=common.error_bars(rows, "bias"), **mark)
        common.name_rows(ax, [wrapped(name, 34) for name in rows["by"] + " " + rows["value"].astype(str)])
        ax.set_xlabel("mean of prediction less MOS, with interval")
    return figure


def _residuals(ax: Axes, table: pd.DataFrame, groups: pd.DataFrame, column: str, by: str, label: str) -> None:
    """Residuals against a column, with the mean of each band."""
    known = table[table[column].notna()]
    ax.set_xlabel(label)
    ax.scatter(known[column], known["residual"], s=7, alpha=0.4, color=BLUE, linewidths=0)
    ax.axhline(0, color=INK, linewidth=1, linestyle="--")
    bands = groups[groups["by"] == by]
    if len(bands):
        middles = bands["value"].str.split(" to ", expand=True).astype(float).mean(axis=1)
        mark = {"color": ORANGE, "marker": "D", "markersize": 5, "linestyle": "none", "capsize": 3}
        mark |= {"yerr": common.error_bars(bands, "bias"), "label": "mean of a band, with interval"}
        ax.errorbar(middles, bands["bias"], **mark)
        ax.legend(loc="best")


def cases(images: Sequence[np.ndarray], rows: pd.DataFrame) -> Figure:
    """A page of images, (H, W, 3), uint8, with their `mos` and `prediction`, a row for each image in the same order."""
    labels = [f"MOS {row['mos']:.3g}, predicted {row['prediction']:.3g}" for row in rows.to_dict("records")]
    return common.sample_images([_smaller(image) for image in images], labels, columns=4)


def _smaller(image: np.ndarray) -> np.ndarray:
    """Every k-th pixel, so that the longer side has at most `SIDE`, for a page of small pictures."""
    step = -(-max(image.shape[:2]) // SIDE)
    return image[::step, ::step]


@in_style
def maps(rows: list["Maps"], label: str) -> Figure:
    """Images, each with its maps laid over it: bright is high, the colours of each map span its own values.

    `rows` have equally many maps (`iqa.analysis.maps.quality_rows`, `feature_rows`); `label` says what colours mean.
    """
    columns = 1 + len(rows[0].maps)
    width = min(WIDTH, 2.3 * columns)
    aspect = float(np.mean([row.image.shape[0] / row.image.shape[1] for row in rows]))
    figure, grid = common.draw_figure(len(rows) * (width / columns * aspect + 0.45) + 0.25, len(rows), columns, width)
    for axes, row in zip(grid, rows, strict=True):
        grey = _smaller(row.image).mean(axis=2)
        extent = (0, row.image.shape[1], row.image.shape[0], 0)
        axes[0].imshow(_smaller(row.image), extent=extent)
        titles = [wrapped(text, int(16 * width / columns)) for text in (row.title, *row.titles)]
        for ax, values in zip(axes[1:], row.maps, strict=True):
            ax.imshow(grey, cmap="gray", extent=extent)
            ax.imshow(values, cmap="viridis", alpha=0.65, extent=extent, interpolation="bilinear")
        for ax, title in zip(axes, titles, strict=True):
            common.caption_image(ax, title)
    figure.supxlabel(label, fontsize=8)
    return figure


TABLES = (
    Table("inside", "Models that were looked into", analysed_table, ("analysis/models.csv",)),
    Table("weight_space", "What generated weights tell", separation_table, ("analysis/separation.csv",)),
    Table("components", "Principal components of generated weights", variance_table, ("analysis/variance.csv",)),
    Table("content", "Weights of other images", content_table, ("analysis/content.csv",)),
    Table("attention_bands", "Attention weights in bands of MOS", attention_bands_table, ("analysis/bands.csv",)),
    Table("attention", "The statement on attention weights", attention_tests_table, ("analysis/attention.csv",)),
    Table("errors", "Errors by kind of image", errors_table, ("analysis/errors.csv",)),
    Table("sanity", "Checks of predictions", sanity_table, ("analysis/sanity.csv",)),
    Table("cases", "Images with the largest and smallest errors", cases_table, ("analysis/cases.csv",)),
    Table("ceiling", "Agreement and the ceiling of rating noise", ceiling_table, ("analysis/ceiling.csv",)),
)
