"""Tables and figures of `02_train`."""

from collections.abc import Iterable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from iqa.show import diagram
from iqa.show.common import draw_figure, epoch_axes
from iqa.show.data_prep import SPLIT_COLOURS
from iqa.show.diagram import filled
from iqa.show.scatter import draw_scatter
from iqa.show.style import GREY, WIDTH, in_style
from iqa.show.tables import ARROW, TIMES, Table, shape, table_of, with_intervals

SIZES = ("channels", "height", "width")  # of a feature map


def main_result_table(metrics: dict[str, Any], audits: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Agreement with the MOS on the test split, from `metrics.json`, and the ceiling of the run's database."""
    audit = audits[metrics["database"]]
    further = {"PLCC, fitted": metrics["plcc_fitted"], "KRCC": metrics["krcc"], "RMSE": metrics["rmse"]}
    further |= with_intervals(metrics, "bias")
    about = {"Database": audit["title"], "Images:,.0f": metrics["n"], **with_intervals(metrics, "srcc", "plcc")}
    return table_of([about | further | {"Ceiling": audit["ceiling_srcc"]}])


def architecture_table(description: dict[str, Any]) -> pd.DataFrame:
    """The parts of a model in the order of the data flow, and their sum, from `architecture.json`.

    Outputs are channels x height x width. The weights that a hyper network generates are no parameters; they stand
    in its output.
    """
    generated = f"{description['generated_weights']:,.0f} weights"
    made = f"the {generated} generated for each image" if description["generated_weights"] else "learned weights"
    details = {
        "backbone": f"levels of an image of {shape(description['input'])}",
        "semantic": f"1{TIMES}1 convolutions {_chain(description['semantic_widths'])}",
        "hyper": f"3{TIMES}3 convolutions and linear maps to the target network's weights and biases",
        "target": f"{_chain(description['target_widths'])}, with {made}",
    }
    worded = (part["name"] for part in description["parts"] if "words" in part)
    details |= {name: filled(description, name, "words") for name in worded}
    outputs = {"backbone": None, "hyper": generated, "target": "score"}
    total = description["parameters"]
    rows = []
    for part in description["parts"]:
        name, count = part["name"], part["parameters"]
        rows.append((part["title"], details[name], outputs.get(name, shape(part["output"])), count, count / total))
        if name == "backbone":
            rows += [
                (f"level {n}", f"stride {level['stride']:.0f}", shape(level[key] for key in SIZES), None, None)
                for n, level in enumerate(description["levels"], 1)
            ]
    rows.append(("total", None, None, total, 1.0))
    columns = ("Part", "Detail", "Output", "Parameters:,.0f", "Share:.1%")
    return table_of(dict(zip(columns, row, strict=True)) for row in rows)


def _chain(widths: Iterable[float]) -> str:
    """Widths with an arrow between them."""
    return f" {ARROW} ".join(f"{width:.0f}" for width in widths)


@in_style
def training_curves(history: pd.DataFrame, best_epoch: int | None = None) -> Figure:
    """Loss, SRCC and PLCC against the epoch on training and validation images, with the best epoch marked.

    `history` has a row per epoch, as `history.csv`; `best_epoch` is that of the highest `val_srcc` when not given.
    """
    if best_epoch is None:
        best_epoch = int(history.loc[history["val_srcc"].idxmax(), "epoch"])
    figure, axes = draw_figure(2.4, 1, 3)
    looks = {"train": {"linestyle": "--", "marker": "."}, "val": {"marker": "o", "markersize": 3.5}}
    for ax, key in zip(axes[0], ("loss", "srcc", "plcc"), strict=True):
        for split, look in looks.items():
            ax.plot(history["epoch"], history[f"{split}_{key}"], color=SPLIT_COLOURS[split], label=split, **look)
        ax.axvline(best_epoch, color=GREY, linewidth=1, linestyle=":", label=f"best: {best_epoch}")
        epoch_axes(ax, key if key == "loss" else key.upper())
        ax.legend(loc="upper right" if key == "loss" else "lower right")
    return figure


@in_style
def prediction_scatter(predictions: pd.DataFrame, low: float, high: float, title: str | None = None) -> Figure:
    """Predicted against mean opinion score, one point per image, with the identity line.

    Predictions are neither rescaled nor fitted. Both axes have the same scale; they show the score range, shaded, and
    every prediction outside of it.

    Args:
        predictions: one row per image, with columns `mos` and `prediction` on the database's own scale.
        low, high: ends of that scale.
    """
    figure, [[ax]] = draw_figure(4.4, width=4.4)
    draw_scatter(ax, predictions, low, high, title)
    return figure


def architecture(description: dict[str, Any]) -> Figure:
    """Data flow of one model as its `architecture.json` describes it."""
    return before_after(description, description)


@in_style
def before_after(before: dict[str, Any], after: dict[str, Any]) -> Figure:
    """Data flow of two models, one above the other; the parts that differ have thick frames and stronger colours.

    The second states how many parameters it has more or less, as a whole and in each part that differs. Two equal
    descriptions, as `iqa.model.architecture.describe` returns them, are drawn once.
    """
    changes = diagram.difference(before, after)
    rows = [(before, f"before: {before['name']}", dict.fromkeys(changes, 0))]
    rows.append((after, f"after: {after['name']}", changes))
    if before == after:
        rows = [(after, after["name"], {})]
    width, height = diagram.SIZE
    figure = Figure(figsize=(WIDTH, len(rows) * WIDTH * height / width))
    for place, row in enumerate(rows, 1):
        diagram.draw(figure.add_axes((0, 1 - place / len(rows), 1, 1 / len(rows))), *row)
    return figure


def parameters_table(experiments: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Every value that decides the first of some training experiments, by groups of parameters.

    Args:
        experiments: by name, `parameters` (by group and name) and `seeds`.
    """
    groups = next(iter(experiments.values()))["parameters"]
    return table_of(
        {"Group": group, "Parameter": name, "Value": _literal(value)}
        for group, values in groups.items()
        for name, value in values.items()
    )


def experiments_table(experiments: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """What differs between each training experiment and the first; see `parameters_table`."""
    base = _flat(next(iter(experiments.values())))
    return table_of(
        {
            "Experiment": name,
            "Seeds": ", ".join(str(int(seed)) for seed in experiment["seeds"]),
            "Differs in": "; ".join(
                f"{key} {_literal(value)}" for key, value in _flat(experiment).items() if value != base[key]
            ),
        }
        for name, experiment in experiments.items()
    )


def _flat(experiment: dict[str, Any]) -> dict[str, Any]:
    return {key: value for values in experiment["parameters"].values() for key, value in values.items()}


def _literal(value: Any) -> str:
    """A value as a parameter file holds it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


TABLES = (
    Table(
        "parameters",
        "Parameters of the main experiment",
        parameters_table,
        ("experiments/all",),
    ),
    Table("experiments", "Training experiments, and in what they differ", experiments_table, ("experiments/all",)),
    Table("architecture", "Parts of the model", architecture_table, ("train/architecture.json",)),
    Table(
        "main",
        "Agreement with the MOS on the test images",
        main_result_table,
        ("train/metrics.json", "data_prep/audit.json"),
    ),
)
