"""Tables and figures of `02_train`."""

from collections.abc import Iterable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from iqa.show import diagram
from iqa.show.common import LOOKS, draw_figure, epoch_axes
from iqa.show.cross_dataset import breakdown_table
from iqa.show.data_prep import SPLIT_COLOURS
from iqa.show.diagram import filled
from iqa.show.scatter import draw_scatter
from iqa.show.style import GREY, WIDTH, in_style
from iqa.show.tables import ARROW, TIMES, Table, ends, records, shape, table_of, with_difference, with_intervals

SIZES = ("channels", "height", "width")  # of a feature map


def main_result_table(
    metrics: dict[str, Any], params: dict[str, Any], baselines: pd.DataFrame, audits: dict[str, dict[str, Any]]
) -> pd.DataFrame:
    """Agreement with the MOS on the test split, and the ceiling of the run's database; below, models beside the run.

    From `metrics.json` and `params.json` of the run, and `baselines.csv`.
    """
    audit, run, database = audits[metrics["database"]], params["run"], metrics["database"]
    beside = [row for row in records(baselines) if row["database"] == database]
    rows = [{**metrics, "label": run, "verdict": next((r["verdict"] for r in beside if r["model"] == run), None)}]
    return table_of(
        {"Model": row["label"], "Database": audit["title"], "Images:,.0f": row["n"]}
        | with_intervals(row, "srcc", "plcc")
        | with_difference(row)
        | {"PLCC, fitted": row["plcc_fitted"], "KRCC": row["krcc"], "RMSE": row["rmse"]}
        | with_intervals(row, "bias")
        | {"Ceiling": None if "absent" in audit else audit["ceiling_srcc"]}
        for row in [*rows, *(row for row in beside if row["model"] != run)]
    )


def test_table(measured: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Agreement with the MOS of some test images each, by their title; from `iqa.analysis.evaluation.evaluate`."""
    names = ("srcc", "plcc", "plcc_fitted", "krcc", "rmse", "bias")
    blank = {key: None for name in names for key in ends(name)}
    return table_of(
        {"Test images": title, "Number:,.0f": row["n"]} | with_intervals(blank | row, *names)
        for title, row in measured.items()
    )


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

    Test images that were monitored have dotted lines, named by their database, or `TEST` where the epoch is chosen by
    them. `history` has a row per epoch, as `history.csv`; `best_epoch` is by default that of the highest `val_srcc`.
    """
    if best_epoch is None:
        best_epoch = int(history.loc[history["val_srcc"].idxmax(), "epoch"])
    figure, axes = draw_figure(2.4, 1, 3)
    looks = {"train": {"linestyle": "--", "marker": "."}, "val": {"marker": "o", "markersize": 3.5}}
    for ax, key in zip(axes[0], ("loss", "srcc", "plcc"), strict=True):
        for split, look in looks.items():
            ax.plot(history["epoch"], history[f"{split}_{key}"], color=SPLIT_COLOURS[split], label=split, **look)
        named = [name.removesuffix(f"_{key}") for name in history if name.endswith(f"_{key}") and key != "loss"]
        watched = [name for name in named if name not in looks]
        for name, look in zip(watched, [LOOKS[2], *LOOKS[4:]], strict=False):
            style = {"color": look["color"], "marker": look["marker"], "linestyle": ":", "markersize": 3.5}
            label = "TEST" if name == "test" else f"{name} (test)"
            ax.plot(history["epoch"], history[f"{name}_{key}"], label=label, **style)
        ax.axvline(best_epoch, color=GREY, linewidth=1, linestyle=":", label=f"best: {best_epoch}")
        epoch_axes(ax, key if key == "loss" else key.upper())
        ax.legend(loc="upper right" if key == "loss" else "best" if watched else "lower right")
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
    Table("parameters", "Parameters of the main experiment", parameters_table, ("report/experiments",)),
    Table("experiments", "Training experiments, and in what they differ", experiments_table, ("report/experiments",)),
    Table("architecture", "Parts of the model", architecture_table, ("train/architecture.json",)),
    Table(
        "main",
        "Agreement with the MOS on the test images",
        main_result_table,
        ("train/metrics.json", "train/params.json", "cross_dataset/baselines.csv", "data_prep/audit.json"),
    ),
    Table("breakdown", "Agreement per distortion and level", breakdown_table, ("train/breakdown.csv",)),
)
