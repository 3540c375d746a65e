"""Tables and figures of `02_train`."""

from collections.abc import Iterable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from iqa.show import diagram
from iqa.show.common import draw_scatter
from iqa.show.data_prep import SPLIT_COLOURS
from iqa.show.diagram import filled
from iqa.show.style import GREY, WIDTH, in_style
from iqa.show.tables import ARROW, TIMES, shape, table_of, with_intervals


def main_result_table(metrics: dict[str, Any], audit: dict[str, Any]) -> pd.DataFrame:
    """Agreement with the MOS on the test split: one row from `metrics.json`, and the database's ceiling."""
    return table_of([{"Database": audit["title"], **_agreement(metrics), "Ceiling": audit["ceiling_srcc"]}])


def architecture_table(description: dict[str, Any]) -> pd.DataFrame:
    """The parts of a model in the order of the data flow, and their sum, from `architecture.json`.

    Outputs are channels x height x width. The weights that the hyper network generates are no parameters; they stand
    in its output.
    """
    generated = f"{description['generated_weights']:,.0f} weights"
    details = {
        "backbone": f"levels of an image of {shape(description['input'])}",
        "fusion": filled(description, "fusion", "words"),
        "semantic": f"1{TIMES}1 convolutions {_chain(description['semantic_widths'])}",
        "hyper": f"3{TIMES}3 convolutions and linear maps to the target network's weights and biases",
        "local": filled(description, "local", "words"),
        "target": f"{_chain(description['target_widths'])}, with the {generated} generated for each image",
    }
    outputs = {"backbone": None, "hyper": generated, "target": "score"}
    rows = []
    for part in description["parts"]:
        name, count = part["name"], part["parameters"]
        output = outputs.get(name, shape(part["output"]))
        rows.append((part["title"], details[name], output, count, count / description["parameters"]))
        if name == "backbone":
            rows += [_level(number, level) for number, level in enumerate(description["levels"], 1)]
    rows.append(("total", None, None, description["parameters"], 1.0))
    columns = ("Part", "Detail", "Output", "Parameters", "Share")
    return table_of(dict(zip(columns, row, strict=True)) for row in rows)


def _level(number: int, level: dict[str, Any]) -> tuple:
    size = shape([level["channels"], level["height"], level["width"]])
    return f"level {number}", f"stride {level['stride']:.0f}", size, None, None


def _chain(widths: Iterable[float]) -> str:
    """Widths with an arrow between them."""
    return f" {ARROW} ".join(f"{width:.0f}" for width in widths)


def _agreement(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "Images": row["n"],
        **with_intervals(row, "srcc", "plcc"),
        "PLCC, fitted": row["plcc_fitted"],
        "KRCC": row["krcc"],
        "RMSE": row["rmse"],
    }


@in_style
def training_curves(history: pd.DataFrame, best_epoch: int | None = None) -> Figure:
    """Loss, SRCC and PLCC against the epoch on training and validation images, with the best epoch marked.

    Args:
        history: one row per epoch, with columns `epoch`, `train_loss`, `val_loss`, `train_srcc`, `val_srcc`,
            `train_plcc` and `val_plcc`.
        best_epoch: the epoch whose weights were kept; that of the highest `val_srcc` when not given.
    """
    if best_epoch is None:
        best_epoch = int(history.loc[history["val_srcc"].idxmax(), "epoch"])
    figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
    for ax, key in zip(figure.subplots(1, 3), ("loss", "srcc", "plcc"), strict=True):
        lines = {"train": {"linestyle": "--", "marker": "."}, "val": {"marker": "o", "markersize": 3.5}}
        for split, line in lines.items():
            ax.plot(history["epoch"], history[f"{split}_{key}"], color=SPLIT_COLOURS[split], label=split, **line)
        ax.axvline(best_epoch, color=GREY, linewidth=1, linestyle=":", label=f"best: {best_epoch}")
        ax.set_title(key if key == "loss" else key.upper())
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        if key != "loss":
            ax.set_ylim(top=1)
        ax.legend(loc="upper right" if key == "loss" else "lower right")
    return figure


@in_style
def prediction_scatter(predictions: pd.DataFrame, low: float, high: float, title: str | None = None) -> Figure:
    """Predicted against mean opinion score, one point per image, with the identity line.

    Predictions are drawn as they are, not rescaled or fitted; both axes have the same scale, and they grow
    where a prediction lies outside the score range (which is shaded).

    Args:
        predictions: one row per image, with columns `mos` and `prediction` on the database's own scale.
        low: lower end of the database's score range.
        high: upper end of the range.
        title: printed above the axes.
    """
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    draw_scatter(figure.subplots(), predictions, low, high, title)
    return figure


@in_style
def architecture(description: dict[str, Any]) -> Figure:
    """Data flow of one model, with the shapes, widths and parameters of its description.

    Args:
        description: the model's `architecture.json`, as `iqa.model.hyperiqa.describe` returns it.
    """
    return _diagrams([(description, description["name"], {})])


@in_style
def before_after(before: dict[str, Any], after: dict[str, Any]) -> Figure:
    """Data flow of two models, one above the other; the parts that differ have thick frames and stronger colours.

    The second states how many parameters it has more or less, as a whole and in each part that differs. Two equal
    descriptions are drawn once.

    Args:
        before: description of the model to compare with, as `iqa.model.hyperiqa.describe` returns it.
        after: description of the model that is shown.
    """
    if before == after:
        return _diagrams([(after, after["name"], {})])
    changes = diagram.difference(before, after)
    return _diagrams(
        [
            (before, f"before: {before['name']}", dict.fromkeys(changes, 0)),
            (after, f"after: {after['name']}", changes),
        ]
    )


def _diagrams(rows: list[tuple[dict[str, Any], str, dict[str, int]]]) -> Figure:
    """A figure of diagrams one above the other, each a description, its title and its changes."""
    width, height = diagram.SIZE
    figure = Figure(figsize=(WIDTH, len(rows) * WIDTH * height / width))
    for place, row in enumerate(rows):
        diagram.draw(figure.add_axes((0, 1 - (place + 1) / len(rows), 1, 1 / len(rows))), *row)
    return figure
