"""Tables: frame or record in, frame out. No function opens a file.

A table keeps its numbers as they come; they are rounded when the table is shown (`rounded`, or the report), each
column as `FORMATS` says. A missing value is shown as a dash.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

DASH, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
DEFAULT_FORMAT = ".3f"
COUNT = ",.0f"
FORMATS = {
    "Images": COUNT,
    "Train": COUNT,
    "Validation": COUNT,
    "Test": COUNT,
    "Worst": "g",
    "Best": "g",
    "MOS": ".2f",
    "MOS SD": ".2f",
    "Seeds": COUNT,
    "Seed": ".0f",
    "Parameters (M)": ".2fM",
    "Backbone (M)": ".2fM",
    "Heads (M)": ".2fM",
    "Weights made": COUNT,
    "GMACs, torch": ".3gG",
    "GMACs, ptflops": ".3gG",
    "GMACs, thop": ".3gG",
    "Batch": COUNT,
    "Median (ms)": ".1f",
    "Mean (ms)": ".1f",
    "SD (ms)": ".1f",
    "p95 (ms)": ".1f",
    "Images/s": ",.1f",
    "Seconds": ",.1f",
}
SCALES = {"M": 1e6, "G": 1e9}


@dataclass(frozen=True)
class Interval:
    """A value with the low and high end of its interval, shown as `0.899 [0.880, 0.915]`."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return cell(self)


def missing(value: Any) -> bool:
    """Whether a value is not there: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def number(value: float, form: str = DEFAULT_FORMAT) -> str:
    """A number as it is printed; a last letter M or G in the format divides by 10^6 or 10^9 first (`.2fM`)."""
    return format(value / SCALES.get(form[-1], 1), form.rstrip("MG")).replace("-", MINUS)


def cell(value: Any, form: str = DEFAULT_FORMAT) -> str:
    """One value of a table as it is printed: a number, an `Interval`, a text, or a dash where it is missing."""
    if missing(value):
        return DASH
    if isinstance(value, Interval):
        low, high = cell(value.low, form), cell(value.high, form)
        return f"{cell(value.value, form)} [{low}, {high}]"
    return str(value) if isinstance(value, str | bool) else number(value, form)


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text, for a notebook."""
    return pd.DataFrame(
        {name: [cell(value, FORMATS.get(name, DEFAULT_FORMAT)) for value in table[name]] for name in table}
    )


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, their cells the objects that they are (`DataFrame.to_dict` makes them plain floats)."""
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.itertuples(index=False, name=None)]


def databases(audits: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """What each database holds, one row per `audit.json`."""
    return _table(
        {
            "Database": audit["title"],
            "Images": audit["n"],
            "Train": audit["splits"].get("train", {}).get("n"),
            "Validation": audit["splits"].get("val", {}).get("n"),
            "Test": audit["splits"].get("test", {}).get("n"),
            "Worst": audit["low"] if audit["higher_is_better"] else audit["high"],
            "Best": audit["high"] if audit["higher_is_better"] else audit["low"],
            "MOS": audit["mos"]["mean"],
            "MOS SD": audit["mos"]["std"],
            "Ceiling": audit["ceiling_srcc"],
        }
        for audit in audits
    )


def main_result(metrics: dict[str, Any], audit: dict[str, Any]) -> pd.DataFrame:
    """Agreement with the MOS on the test split: one row from `metrics.json`, and the database's ceiling."""
    return _table([{"Database": audit["title"], **_agreement(metrics), "Ceiling": audit["ceiling_srcc"]}])


def ablation(ablation: pd.DataFrame) -> pd.DataFrame:
    """Groups of runs against the reference, with intervals, from `ablation.csv`."""
    return _table(
        {
            "Differs in": "reference" if row["verdict"] == "reference" else row["differs"],
            "Seeds": row["seeds"],
            "SRCC": Interval(row["srcc_mean"], row["srcc_low"], row["srcc_high"]),
            "SD of seeds": row["srcc_std"],
            "PLCC": row["plcc_mean"],
            "SRCC difference": _interval_or_none(row["delta"], row["delta_low"], row["delta_high"]),
            "Verdict": row["verdict"],
        }
        for row in records(ablation)
    )


def complexity(complexity: pd.DataFrame) -> pd.DataFrame:
    """Parameters and multiply-accumulates (MACs) of each run's model, from `complexity.csv`."""
    return _table(
        {
            "Run": row["run"],
            "Backbone": row["backbone"],
            "Fusion": row["fusion"],
            "Parameters (M)": row["parameters"],
            "Backbone (M)": row["backbone_parameters"],
            "Heads (M)": row["head_parameters"],
            "Weights made": row["generated_weights"],
            "GMACs, torch": row["macs_torch"],
            "GMACs, ptflops": row["macs_ptflops"],
            "GMACs, thop": row["macs_thop"],
        }
        for row in records(complexity)
    )


def latency(latency: pd.DataFrame) -> pd.DataFrame:
    """Time per batch and throughput, from `latency.csv`."""
    return _table(
        {
            "Run": row["run"],
            "Device": row["device"],
            "Batch": row["batch_size"],
            "Median (ms)": row["median_ms"],
            "Mean (ms)": row["mean_ms"],
            "SD (ms)": row["std_ms"],
            "p95 (ms)": row["p95_ms"],
            "Images/s": row["images_per_second"],
        }
        for row in records(latency)
    )


def cross_database(cross: pd.DataFrame) -> pd.DataFrame:
    """Agreement on databases that were not trained on, from `cross.csv`; dashes where one is not available."""
    return _table(
        {"Database": row["title"], **_agreement(row), "Ceiling": row["ceiling_srcc"]} for row in records(cross)
    )


def provenance(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """When, from which code and from which data each run was made, one row per `record.json`."""
    return _table(
        {
            "Step": record["step"],
            "Run": record["run"],
            "Started (UTC)": record["started"][:16].replace("T", " "),
            "Seconds": record["seconds"],
            "Seed": record["seed"],
            "Commit": revision(record),
            "Data": ", ".join(f"{name} {value[:8]}" for name, value in record["data"].items()) or None,
        }
        for record in records
    )


def environment(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Packages and hardware of the runs; where they differ between runs, every value that occurs."""
    found: dict[str, list[str]] = {}
    for record in records:
        for name, value in {**record["hardware"], **record["versions"]}.items():
            text = "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
            values = found.setdefault(name, [])
            values += [text] if text not in values else []
    return _table(
        {"What": ENVIRONMENT_NAMES.get(name, name), "Value": "; ".join(values)} for name, values in found.items()
    )


ENVIRONMENT_NAMES = {"cpu": "processor", "memory_gb": "memory (GiB)", "gpu": "GPU"}


def revision(record: dict[str, Any]) -> str:
    """A record's commit, shortened, and whether the checkout differed from it."""
    if record["commit"] is None:
        return "unknown"
    return record["commit"][:7] + (" + changes" if record["dirty"] else "")


def _agreement(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "Images": row["n"],
        "SRCC": _interval_or_none(row["srcc"], row["srcc_low"], row["srcc_high"]),
        "PLCC": _interval_or_none(row["plcc"], row["plcc_low"], row["plcc_high"]),
        "PLCC, fitted": row["plcc_fitted"],
        "KRCC": row["krcc"],
        "RMSE": row["rmse"],
    }


def _interval_or_none(value: float, low: float, high: float) -> Interval | None:
    return None if missing(value) else Interval(value, low, high)


def _table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """A frame whose cells stay the objects that they are."""
    return pd.DataFrame(list(rows), dtype=object)
