"""Tables and figures of `04_complexity`."""

import re
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from iqa.show import common
from iqa.show.common import LOOKS, wrapped
from iqa.show.style import BLUE, INK, in_style
from iqa.show.tables import COUNTERS, PUBLISHED, Table, ends, missing, pick, records, renamed, table_of

COEFFICIENTS = ("srcc", "plcc")
SETTING = {"Run": "run", "Device": "device", "Precision": "setting"}


def complexity_table(complexity: pd.DataFrame) -> pd.DataFrame:
    """Parameters and multiply-accumulates (MACs) of each run's model by the counters that were used."""
    columns = {"Run": "run", "Backbone": "backbone", "Fusion": "fusion", "Parameters (M):.2fM": "parameters"}
    columns |= {"Trainable (M):.2fM": "trainable_parameters", "Backbone (M):.2fM": "backbone_parameters"}
    columns |= {"Heads (M):.2fM": "head_parameters", "Weights made:,.0f": "generated_weights"}
    counters = {f"GMACs, {name}:.4gG": f"macs_{name}" for name in COUNTERS if f"macs_{name}" in complexity}
    return renamed(complexity, columns | counters)


def counters_table(counters: pd.DataFrame) -> pd.DataFrame:
    """MACs by kind of operation and counter, and their sum, from `counters.csv`."""
    macs = {f"MACs, {name}:,.0f": f"macs_{name}" for name in COUNTERS}
    return renamed(counters, {"Run": "run", "Operation": "kind", **macs, "Missed by": "missed_by"})


def parts_table(parts: pd.DataFrame) -> pd.DataFrame:
    """Parameters and MACs of each part of each model, from `parts.csv`."""
    columns = {"Run": "run", "Part": "title", "Parameters:,.0f": "parameters", "Trainable:,.0f": "trainable_parameters"}
    return renamed(parts, columns | {f"MACs, {name}:,.0f": f"macs_{name}" for name in COUNTERS[:2]})


def latency_table(latency: pd.DataFrame) -> pd.DataFrame:
    """Time of one image, from `latency.csv`; where it could not be measured, the reason."""
    one = latency[latency["batch_size"] == 1]
    times = {"Median": "median", "Mean": "mean", "SD": "std", "Min": "min", "Max": "max", "p95": "p95"}
    columns = SETTING | {f"{title} (ms):.1f": f"{name}_ms" for title, name in times.items()} | {"Passes:,.0f": "passes"}
    return renamed(_with_setting(one), columns | _reason(one))


def throughput_table(latency: pd.DataFrame) -> pd.DataFrame:
    """The most images per second, the largest batch that ran and what stopped a larger one, from `latency.csv`."""
    rows = []
    for _, part in _with_setting(latency).groupby(list(SETTING.values()), sort=False):
        batches = records(part)
        ran = [row for row in batches if not missing(row["images_per_second"])]
        quickest = max(ran, key=lambda row: row["images_per_second"], default={})
        largest = ran[-1] if ran else {}
        failed = next((row for row in batches if not missing(row["reason"])), None)
        rows.append(
            {title: batches[0][name] for title, name in SETTING.items()}
            | {"Images/s:,.1f": quickest.get("images_per_second"), "Quickest batch:,.0f": quickest.get("batch_size")}
            | {"Largest batch:,.0f": largest.get("batch_size"), "Memory (MiB):,.1fB": largest.get("peak_bytes")}
            | {"Stopped by": failed and f"batch of {failed['batch_size']:.0f}: {failed['reason']}"}
        )
    return table_of(rows)


def _with_setting(latency: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column `setting`: the precision, and whether the model was compiled, in words."""
    return latency.assign(setting=latency["precision"] + np.where(latency["compiled"].astype(bool), ", compiled", ""))


def _reason(frame: pd.DataFrame) -> dict[str, str]:
    """A column for the reasons why something could not be measured, if there are any."""
    return {} if all(map(missing, frame["reason"])) else {"Reason": "reason"}


def memory_table(memory: pd.DataFrame) -> pd.DataFrame:
    """Peak memory of scoring and of training, from `memory.csv`."""
    columns = {"Run": "run", "Device": "device", "Precision": "precision", "Batch:,.0f": "batch_size"}
    columns |= {"Scoring (MiB):,.1fB": "inference_bytes", "Training (MiB):,.1fB": "training_bytes"}
    return renamed(memory, columns | _reason(memory))


def overview_table(overview: pd.DataFrame) -> pd.DataFrame:
    """Cost beside agreement of each run, measured and published, from `overview.csv`."""
    columns = {"Run": "run", "Backbone": "backbone", "Fusion": "fusion"}
    columns |= {"Parameters (M):.2fM": "parameters", "GMACs:.4gG": "macs_torch"}
    columns |= {"Device": "device"} if len(set(overview["device"])) > 1 else {}
    columns |= {"Latency (ms):.1f": "latency_ms", "Images/s:,.1f": "images_per_second"}
    columns |= {name.upper(): partial(_measured, name=name) for name in COEFFICIENTS}
    columns |= {"Chosen on": "chosen_on"} if (overview["chosen_on"] == "TEST").any() else {}
    if overview["published_srcc"].notna().any():
        columns |= {f"Published {name.upper()}:{PUBLISHED}": f"published_{name}" for name in ("srcc", "plcc")}
        columns |= {"Published protocol": "published_protocol"}
    return renamed(overview, columns)


def backbones_table(overview: pd.DataFrame, cross: pd.DataFrame) -> pd.DataFrame:
    """Each model's cost, and its agreement on every test set, from `overview.csv` and `cross.csv`.

    The cost stands in the first row of a model; test sets without a result share its last row. Results on other
    databases may be those of the run's experiment, over its seeds.
    """
    costs = {row["run"]: row for row in records(overview.drop_duplicates("run", keep="last"))}
    tested = {name: records(part) for name, part in cross.groupby("model", sort=False)}
    models = {run: run if run in tested else re.sub(r"_s\d+$", "", run) for run in costs}
    models |= {model: model for model in tested if model not in models.values()}
    rows = []
    for run, model in models.items():
        cost, sets = costs.get(run, {}), [row for row in tested.get(model, []) if row["title"] != row["trained_on"]]
        about = {"Run": run, "Backbone": cost.get("backbone"), "Parameters (M):.2fM": cost.get("parameters")}
        about |= {"GMACs:.4gG": cost.get("macs_torch"), "Latency (ms):.1f": cost.get("latency_ms")}
        found = {"the run's own": {name: _measured(cost, name) for name in COEFFICIENTS}} if cost else {}
        for row in sets:
            if row["available"]:
                found[row["title"]] = {name: pick(row, ends(name)) for name in COEFFICIENTS}
        for why in ("not run", "not available"):
            lacking = [row["title"] for row in sets if not row["available"] and _why(row) == why]
            found |= {", ".join(lacking): dict.fromkeys(COEFFICIENTS, why)} if lacking else {}
        for place, (title, values) in enumerate(found.items()):
            first = about if place == 0 else dict.fromkeys(about, "")
            rows.append(first | {"Test set": title} | {name.upper(): value for name, value in values.items()})
    return table_of(rows)


def _why(row: dict[str, Any]) -> str:
    return "not run" if str(row["reason"]).startswith("not run") else "not available"


def _measured(row: dict[str, Any], name: str) -> Any:
    """A coefficient with its interval, or why there is none."""
    return pick(row, ends(name)) or row["status"]


def where_measured(latency: pd.DataFrame) -> list[str]:
    """Each device with its hardware and software in words, from `latency.csv`."""
    rows = records(latency)
    return list(dict.fromkeys(f"{row['device']}: {row['hardware']}; {row['software']}" for row in rows))


@in_style
def latency(latency: pd.DataFrame) -> Figure:
    """Time of one image of each model: median, and from the smallest to the 95th percentile; a panel per device.

    `latency` has a row per run, device, precision, compilation and batch size, as `latency.csv`.
    """
    latency = _with_setting(latency)
    runs, settings, devices = (list(latency[name].unique()) for name in ("run", "setting", "device"))
    hardware = latency.groupby("device")["hardware"].first()
    rows = len(runs) * (0.14 * len(settings) + 0.16)
    figure, axes = common.draw_figure(0.9 + rows + 0.2 * -(-len(settings) // 3), 1, len(devices), sharey=True)
    for ax, device in zip(axes[0], devices, strict=True):
        for place, (setting, look) in enumerate(zip(settings, LOOKS, strict=False)):
            part = latency[
                (latency["device"] == device) & (latency["setting"] == setting) & (latency["batch_size"] == 1)
            ]
            y = [runs.index(run) + common.stagger(place, len(settings)) for run in part["run"]]
            ax.hlines(y, part["min_ms"], part["p95_ms"], color=look["color"], linewidth=4, alpha=0.35)
            point = {"color": look["color"], "marker": look["marker"], "markersize": 5, "linestyle": "none"}
            ax.plot(part["median_ms"], y, label=setting, **point)
            for height, reason in zip(y, part["reason"], strict=True):
                if not missing(reason):
                    common.note(ax, height, reason.split(":")[0])
        ax.set_xlim(left=0)
        ax.set_title(wrapped(hardware[device], 68 // len(devices)))
        ax.set_xlabel("ms per image")
        common.name_rows(ax, [wrapped(run, 26) for run in runs])
    common.add_legend(figure, axes[0, 0], 3)
    return figure


@in_style
def throughput(latency: pd.DataFrame) -> Figure:
    """Images per second against the batch size: a panel per device and setting, a line per model.

    A cross over the batch size that did not fit marks where a line ends for want of memory or time. `latency` is as
    for `latency`.
    """
    latency = _with_setting(latency)
    runs, settings, devices = (list(latency[name].unique()) for name in ("run", "setting", "device"))
    hardware = latency.groupby("device")["hardware"].first()
    columns = 3 if max(map(len, runs)) <= 22 else 2
    sizes = sorted(latency["batch_size"].unique())
    sizes = sizes[:: -(-len(sizes) * len(settings) // 16)]  # about 16 labels fit side by side
    height = 0.5 + 2.2 * len(devices) + 0.18 * -(-len(runs) // columns)
    figure, grid = common.draw_figure(height, len(devices), len(settings), sharex=True, sharey="row")
    for axes, device in zip(grid, devices, strict=True):
        for ax, setting in zip(axes, settings, strict=True):
            here = latency[(latency["device"] == device) & (latency["setting"] == setting)]
            for place, run in enumerate(runs):
                part, look = here[here["run"] == run], line_look(place)
                speed = part["images_per_second"]
                ax.plot(part["batch_size"], speed, label=run, markersize=4, **look)
                failed = part[speed.isna()]
                if len(failed) and speed.notna().any():
                    ax.plot(failed["batch_size"], speed.dropna().iloc[-1:], "x", color=look["color"], markersize=6)
            ax.set_xscale("log", base=2)
            ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
            ax.set_xticks([], minor=True)
            ax.set_title(wrapped(setting, 72 // len(settings)))
        axes[0].set_ylabel(f"images per second\n{wrapped(hardware[device], 36)}")
        speeds = latency.loc[latency["device"] == device, "images_per_second"]
        if speeds.max() > 10 * speeds.min():
            _logarithmic(axes[0], "y")
        else:
            axes[0].set_ylim(bottom=0)
    for ax in grid[-1]:
        ax.set_xlabel("images per batch")
    common.add_legend(figure, grid[0, 0], columns, "left", handlelength=3.5)
    return figure


def line_look(place: int) -> dict[str, Any]:
    """One of 36 different looks: after the sixth, colours come again with another line and marker."""
    again = place // len(LOOKS)
    line, marker = (LOOKS[(place + step * again) % len(LOOKS)] for step in (1, 2))
    return LOOKS[place % len(LOOKS)] | {"linestyle": line["linestyle"], "marker": marker["marker"]}


@in_style
def tradeoff(overview: pd.DataFrame) -> Figure:
    """SRCC against MACs and against the time of one image; the area of a bubble is the number of parameters.

    A filled bubble is measured and has its interval, a hollow one published (of several sources, the first); models are
    numbered. What has neither is named in the list without a bubble. `overview` is as
    `iqa.analysis.tradeoff.overview` returns it; of several devices, the last one's time counts.
    """
    rows = overview.drop_duplicates("run", keep="last").reset_index(drop=True)
    figure, [panels] = common.draw_figure(3.1 + 0.17 * -(-len(rows) // 2), 1, 2, sharey=True)
    published = [_first_number(value) for value in rows["published_srcc"]]
    device = rows["hardware"].dropna()
    titles = ("GMACs per image", f"ms per image on {device.iloc[-1] if len(device) else 'this machine'}")
    for ax, values, title in zip(panels, (rows["macs_torch"] / 1e9, rows["latency_ms"]), titles, strict=True):
        known = values.notna() & (rows["srcc"].notna() | pd.Series(published).notna())
        for place in np.flatnonzero(known):
            area = 28 + 420 * rows["parameters"][place] / rows["parameters"].max()
            inside = area > 90  # its number fits into the bubble
            marks = ((rows["srcc"][place], BLUE, "white", 0.75), (published[place], "none", INK, 1.0))
            for srcc, face, ink, alpha in marks:
                if np.isfinite(srcc):
                    ax.scatter(values[place], srcc, s=area, facecolor=face, edgecolor=BLUE, alpha=alpha, zorder=3)
                    if face == BLUE:
                        ends = common.error_bars(rows.iloc[[place]], "srcc")
                        ax.errorbar(values[place], srcc, yerr=ends, color=BLUE, capsize=3, linewidth=1.2, zorder=2)
                    at = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": 7, "zorder": 4}
                    at |= {"xytext": (0, 0 if inside else 7), "color": ink if inside else INK}
                    ax.annotate(place + 1, (values[place], srcc), **at)
        ax.set_xlabel(wrapped(title, 52))
        ax.xaxis.get_major_locator().set_params(nbins=5)
        ax.margins(0.14)
        if known.any():
            if values[known].max() > 10 * values[known].min():
                _logarithmic(ax, "x")
            elif known.sum() == 1:
                ax.set_xlim(0, 2 * values[known].iloc[0])
        else:
            ax.set(xticks=[], yticks=[])
            ax.text(0.5, 0.5, "no SRCC measured or published", transform=ax.transAxes, ha="center", va="center")
    panels[0].set_ylabel("SRCC")
    figure.legend(handles=_numbered(rows), loc="outside lower left", ncols=2, handlelength=0, handletextpad=0)
    panels[0].set_title("filled: measured, hollow: published")
    return figure


def _logarithmic(ax: Axes, name: str) -> None:
    """An axis in powers of ten with plain numbers at 1, 2, 5, 10, ..."""
    ax.set(**{f"{name}scale": "log"})
    axis = getattr(ax, f"{name}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _numbered(rows: pd.DataFrame) -> list[Line2D]:
    """Entries of a legend without marks: number, run, parameters, and whether it was run."""
    entries = []
    for place, row in enumerate(rows.to_dict("records"), 1):
        text = f"{place} {row['run']}, {row['parameters'] / 1e6:.3g}M parameters"
        text += ", not run" if row["status"] == "not run" else ""
        entries.append(Line2D([], [], linestyle="none", label=text))
    return entries


def _first_number(value: Any) -> float:
    """A number, the first one of a text `(1) 0.9 (2) 0.8`, or NaN."""
    found = re.findall(r"\d+\.\d+", value) if isinstance(value, str) else [value]
    return float(found[0]) if found else float("nan")


TABLES = (
    Table("complexity", "Parameters and MACs", complexity_table, ("complexity/complexity.csv",)),
    Table("overview", "Cost and agreement", overview_table, ("complexity/overview.csv",)),
    Table(
        "backbones",
        "Cost, and agreement on every test set",
        backbones_table,
        ("complexity/overview.csv", "cross_dataset/cross.csv"),
    ),
    Table("counters", "MACs by kind of operation", counters_table, ("complexity/counters.csv",)),
    Table("parts", "Parameters and MACs of the parts", parts_table, ("complexity/parts.csv",)),
    Table("latency", "Time of one image", latency_table, ("complexity/latency.csv",)),
    Table("throughput", "Throughput", throughput_table, ("complexity/latency.csv",)),
    Table("memory", "Peak memory", memory_table, ("complexity/memory.csv",)),
)
