"""Tables and figures of `04_complexity`."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from iqa.show.common import LOOKS, wrapped
from iqa.show.style import BLUE, INK, WIDTH, in_style
from iqa.show.tables import COUNTERS, interval_or_none, missing, published_text, records, table_of, text_or_none


def complexity_table(complexity: pd.DataFrame) -> pd.DataFrame:
    """Parameters and multiply-accumulates (MACs) of each run's model by the counters that were used."""
    counters = [name for name in COUNTERS if f"macs_{name}" in complexity]
    return table_of(
        {
            "Run": row["run"],
            "Backbone": row["backbone"],
            "Fusion": row["fusion"],
            "Parameters (M)": row["parameters"],
            "Trainable (M)": row["trainable_parameters"],
            "Backbone (M)": row["backbone_parameters"],
            "Heads (M)": row["head_parameters"],
            "Weights made": row["generated_weights"],
            **{f"GMACs, {name}": row[f"macs_{name}"] for name in counters},
        }
        for row in records(complexity)
    )


def complexity_counts_table(frame: pd.DataFrame) -> pd.DataFrame:
    """`complexity` on a page that tells backbone and fusion elsewhere."""
    return complexity_table(frame).drop(columns=["Backbone", "Fusion"])


def counters_table(counters: pd.DataFrame, run: str | None = None) -> pd.DataFrame:
    """MACs by kind of operation and counter, and their sum, of all runs or of one, from `counters.csv`."""
    return table_of(
        {
            **({"Run": row["run"]} if run is None else {}),
            "Operation": row["kind"],
            **{f"MACs, {counter}": row[f"macs_{counter}"] for counter in COUNTERS},
            "Missed by": text_or_none(row["missed_by"]),
        }
        for row in records(counters)
        if run in (None, row["run"])
    )


def parts_table(parts: pd.DataFrame) -> pd.DataFrame:
    """Parameters and MACs of each part of each model, from `parts.csv`."""
    return table_of(
        {
            "Run": row["run"],
            "Part": row["title"],
            "Parameters": row["parameters"],
            "Trainable": row["trainable_parameters"],
            "MACs, estimated": row["macs_estimated"],
            "MACs, torch": row["macs_torch"],
        }
        for row in records(parts)
    )


def latency_table(latency: pd.DataFrame) -> pd.DataFrame:
    """Time of one image, from `latency.csv`; where it could not be measured, the reason."""
    rows = [row for _, own in _by_setting(latency) for row in own if row["batch_size"] == 1]
    reasons = any(text_or_none(row["reason"]) for row in rows)
    return table_of(
        {
            **_setting(row),
            "Median (ms)": row["median_ms"],
            "Mean (ms)": row["mean_ms"],
            "SD (ms)": row["std_ms"],
            "Min (ms)": row["min_ms"],
            "Max (ms)": row["max_ms"],
            "p95 (ms)": row["p95_ms"],
            "Passes": row["passes"],
            **({"Reason": text_or_none(row["reason"])} if reasons else {}),
        }
        for row in rows
    )


def throughput_table(latency: pd.DataFrame) -> pd.DataFrame:
    """The most images per second, the largest batch that ran and what stopped a larger one, from `latency.csv`."""
    rows = []
    for _, own in _by_setting(latency):
        ran = [row for row in own if not missing(row["images_per_second"])]
        quickest = max(ran, key=lambda row: row["images_per_second"], default={})
        largest = ran[-1] if ran else {}
        failed = [row for row in own if text_or_none(row["reason"])]
        stopped = f"batch of {failed[0]['batch_size']:.0f}: {failed[0]['reason']}" if failed else None
        rows.append(
            {
                **_setting(own[0]),
                "Images/s": quickest.get("images_per_second"),
                "Quickest batch": quickest.get("batch_size"),
                "Largest batch": largest.get("batch_size"),
                "Memory (MiB)": largest.get("peak_bytes"),
                "Stopped by": stopped,
            }
        )
    return table_of(rows)


def memory_table(memory: pd.DataFrame) -> pd.DataFrame:
    """Peak memory of scoring and of training, from `memory.csv`."""
    rows = records(memory)
    reasons = any(text_or_none(row["reason"]) for row in rows)
    return table_of(
        {
            "Run": row["run"],
            "Device": row["device"],
            "Precision": row["precision"],
            "Batch": row["batch_size"],
            "Scoring (MiB)": row["inference_bytes"],
            "Training (MiB)": row["training_bytes"],
            **({"Reason": text_or_none(row["reason"])} if reasons else {}),
        }
        for row in rows
    )


def overview_table(overview: pd.DataFrame) -> pd.DataFrame:
    """Cost beside agreement of each run, measured and published, from `overview.csv`.

    All columns, as a file holds them; on a page they are two, `overview_costs` and `overview_agreement`.
    """
    rows = records(overview)
    devices = {row["device"] for row in rows}
    on_test = any(row["chosen_on"] == "TEST" for row in rows)
    published = any(not missing(row["published_srcc"]) for row in rows)
    return table_of(
        {
            "Run": row["run"],
            "Backbone": row["backbone"],
            "Fusion": row["fusion"],
            "Parameters (M)": row["parameters"],
            "GMACs": row["macs_torch"],
            **({"Device": row["device"]} if len(devices) > 1 else {}),
            "Latency (ms)": row["latency_ms"],
            "Images/s": row["images_per_second"],
            **{
                name.upper(): interval_or_none(row[name], row[f"{name}_low"], row[f"{name}_high"]) or row["status"]
                for name in ("srcc", "plcc")
            },
            **({"Chosen on": row["chosen_on"]} if on_test else {}),
            **{f"Published {name.upper()}": published_text(row[f"published_{name}"]) for name in _if(published)},
            **({"Published protocol": text_or_none(row["published_protocol"])} if published else {}),
        }
        for row in rows
    )


OVERVIEW_COSTS = ["Backbone", "Fusion", "Parameters (M)", "GMACs", "Latency (ms)", "Images/s"]


def overview_costs_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of `overview` that tell what a model is and costs, and the SRCC that it reaches."""
    table = overview_table(frame)
    return table[[name for name in table if name in ("Run", "Device", "SRCC", *OVERVIEW_COSTS)]]


def overview_agreement_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The other columns of `overview`, one row per run: agreement, measured and published."""
    table = overview_table(frame).drop(columns=OVERVIEW_COSTS)
    return table.drop(columns="Device", errors="ignore").drop_duplicates("Run").reset_index(drop=True)


def _if(published: bool) -> tuple[str, ...]:
    return ("srcc", "plcc") if published else ()


def where_measured(latency: pd.DataFrame) -> list[str]:
    """Each device with its hardware and software in words, from `latency.csv`."""
    rows = records(latency)
    return list(dict.fromkeys(f"{row['device']}: {row['hardware']}; {row['software']}" for row in rows))


def _by_setting(latency: pd.DataFrame) -> Iterable[tuple[Any, list[dict[str, Any]]]]:
    """The rows of each run, device, precision and compilation."""
    keys = ["run", "device", "precision", "compiled"]
    return [(key, records(own)) for key, own in latency.groupby(keys, sort=False)]


def _setting(row: dict[str, Any]) -> dict[str, Any]:
    return {"Run": row["run"], "Device": row["device"], "Precision": setting_words(row)}


def setting_words(row: dict[str, Any]) -> str:
    """Precision, and whether it is compiled, of a row of `latency.csv`."""
    return row["precision"] + (", compiled" if row["compiled"] else "")


@in_style
def latency(latency: pd.DataFrame) -> Figure:
    """Time of one image of each model: median, and from the smallest to the 95th percentile; a panel per device.

    Args:
        latency: one row per run, device, precision, compilation and batch size, as `iqa.analysis.speed.speeds` returns
            it with a column `run`.
    """
    runs, settings = list(latency["run"].unique()), _settings(latency)
    names = [wrapped(run, 26) for run in runs]
    height = 0.14 * len(settings) + 0.16
    size = (WIDTH, 0.9 + height * len(runs) + 0.2 * -(-len(settings) // 3))
    figure = Figure(figsize=size, layout="constrained")
    devices = list(latency["device"].unique())
    axes = figure.subplots(1, len(devices), sharey=True, squeeze=False)[0]
    for ax, device in zip(axes, devices, strict=True):
        for place, (setting, look) in enumerate(zip(settings, LOOKS, strict=False)):
            own = latency[(latency["device"] == device) & (latency["batch_size"] == 1) & _is(latency, setting)]
            y = [runs.index(run) + (place - (len(settings) - 1) / 2) * 0.8 / len(settings) for run in own["run"]]
            ax.hlines(y, own["min_ms"], own["p95_ms"], color=look["color"], linewidth=4, alpha=0.35)
            point = {"color": look["color"], "marker": look["marker"], "markersize": 5, "linestyle": "none"}
            ax.plot(own["median_ms"], y, label=setting_words(dict(zip(SETTING, setting, strict=True))), **point)
            for height, reason in zip(y, own["reason"], strict=True):
                if isinstance(reason, str) and reason:
                    at = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 7, "color": "#5B6472"}
                    ax.text(0.02, height, reason.split(":")[0], **at)
        ax.set_xlim(left=0)
        ax.set_title(wrapped(_hardware(latency, device), 68 // len(devices)))
        ax.set_xlabel("ms per image")
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(runs)), names)
    axes[0].set_ylim(len(runs) - 0.5, -0.5)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@in_style
def throughput(latency: pd.DataFrame) -> Figure:
    """Images per second against the batch size: a panel per device and setting, a line per model.

    A cross over the batch size that did not fit marks where a line ends for want of memory or time.

    Args:
        latency: as for `latency`.
    """
    runs, settings, devices = list(latency["run"].unique()), _settings(latency), list(latency["device"].unique())
    columns = 3 if max(map(len, runs)) <= 22 else 2
    size = (WIDTH, 0.5 + 2.2 * len(devices) + 0.18 * -(-len(runs) // columns))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(devices), len(settings), sharex=True, sharey="row", squeeze=False)
    for axes, device in zip(grid, devices, strict=True):
        for ax, setting in zip(axes, settings, strict=True):
            here = latency[(latency["device"] == device) & _is(latency, setting)]
            for place, run in enumerate(runs):
                own, look = here[here["run"] == run], line_look(place)
                speed = own["images_per_second"]
                ax.plot(own["batch_size"], speed, label=run, markersize=4, **look)
                failed = own[speed.isna()]
                if len(failed) and speed.notna().any():
                    ax.plot(failed["batch_size"], speed.dropna().iloc[-1:], "x", color=look["color"], markersize=6)
            ax.set_xscale("log", base=2)
            sizes = sorted(latency["batch_size"].unique())
            sizes = sizes[:: -(-len(sizes) * len(settings) // 16)]  # about 16 labels fit side by side
            ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
            ax.set_xticks([], minor=True)
            title = setting_words(dict(zip(SETTING, setting, strict=True)))
            ax.set_title(wrapped(title, 72 // len(settings)))
        axes[0].set_ylabel(f"images per second\n{wrapped(_hardware(latency, device), 36)}")
        speeds = latency.loc[latency["device"] == device, "images_per_second"]
        if speeds.max() > 10 * speeds.min():
            _logarithmic(axes[0], "y")
        else:
            axes[0].set_ylim(bottom=0)
    for ax in grid[-1]:
        ax.set_xlabel("images per batch")
    legend = {"loc": "outside lower left", "ncols": columns, "handlelength": 3.5}
    figure.legend(*grid[0][0].get_legend_handles_labels(), **legend)
    return figure


SETTING = ("precision", "compiled")


def _settings(latency: pd.DataFrame) -> list[tuple[str, bool]]:
    return list(dict.fromkeys(zip(latency["precision"], latency["compiled"].astype(bool), strict=True)))


def _is(latency: pd.DataFrame, setting: tuple[str, bool]) -> pd.Series:
    return (latency["precision"] == setting[0]) & (latency["compiled"].astype(bool) == setting[1])


def _hardware(latency: pd.DataFrame, device: str) -> str:
    return str(latency.loc[latency["device"] == device, "hardware"].iloc[0])


def line_look(place: int) -> dict[str, Any]:
    """One of 36 different looks: after the sixth, colours come again with another line and marker."""
    again = place // len(LOOKS)
    line, marker = (LOOKS[(place + step * again) % len(LOOKS)] for step in (1, 2))
    return LOOKS[place % len(LOOKS)] | {"linestyle": line["linestyle"], "marker": marker["marker"]}


@in_style
def tradeoff(overview: pd.DataFrame) -> Figure:
    """SRCC against MACs and against the time of one image; the area of a bubble is the number of parameters.

    A filled bubble is measured, a hollow one published (of several sources, the first); models are numbered. What has
    neither is named in the list without a bubble.

    Args:
        overview: as `iqa.analysis.tradeoff.overview` returns it; where there are several devices, the last one's time
            counts.
    """
    rows = overview.drop_duplicates("run", keep="last").reset_index(drop=True)
    lines = -(-len(rows) // 2)
    figure = Figure(figsize=(WIDTH, 3.1 + 0.17 * lines), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    published = [_first_number(value) for value in rows["published_srcc"]]
    device = rows["hardware"].dropna()
    titles = ("GMACs per image", f"ms per image on {device.iloc[-1] if len(device) else 'this machine'}")
    for ax, values, title in zip(panels, (rows["macs_torch"] / 1e9, rows["latency_ms"]), titles, strict=True):
        known = values.notna() & (rows["srcc"].notna() | pd.Series(published).notna())
        for place in np.flatnonzero(known):
            area = 28 + 420 * rows["parameters"][place] / rows["parameters"].max()
            marks = [(rows["srcc"][place], BLUE, "white"), (published[place], "none", INK)]
            for srcc, face, ink in marks:
                if np.isfinite(srcc):
                    alpha = 0.75 if face != "none" else 1.0
                    ax.scatter(values[place], srcc, s=area, facecolor=face, edgecolor=BLUE, alpha=alpha, zorder=3)
                    inside = area > 90
                    at = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": 7, "zorder": 4}
                    colour = ink if inside else INK
                    ax.annotate(place + 1, (values[place], srcc), (0, 0 if inside else 7), color=colour, **at)
        ax.set_xlabel(wrapped(title, 52))
        ax.xaxis.get_major_locator().set_params(nbins=5)
        ax.margins(0.14)
        if known.any():
            spread = values[known]
            if spread.max() > 10 * spread.min():
                _logarithmic(ax, "x")
            elif len(spread) == 1:
                ax.set_xlim(0, 2 * spread.iloc[0])
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
    texts = [
        f"{place} {row['run']}, {row['parameters'] / 1e6:.3g}M parameters{', not run' * (row['status'] == 'not run')}"
        for place, row in enumerate(rows.to_dict("records"), 1)
    ]
    return [Line2D([], [], linestyle="none", label=text) for text in texts]


def _first_number(value: Any) -> float:
    """A number, the first one of a text `(1) 0.9 (2) 0.8`, or NaN."""
    if not isinstance(value, str):
        return float(value)
    found = re.search(r"\d+\.\d+", value)
    return float(found[0]) if found else float("nan")
