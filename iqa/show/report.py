"""Tables of `07_claims` and `08_report`."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from iqa.show.tables import records, table_of


def published_table(published: pd.DataFrame) -> pd.DataFrame:
    """Published methods and measured ones, from `published.csv` of the report's run."""
    names = {"method": "Method", "backbone": "Backbone", "trained_on": "Trained on", "tested_on": "Tested on"}
    names |= {"srcc": "SRCC", "plcc": "PLCC", "protocol": "Protocol", "source": "Source"}
    return table_of({title: row[name] for name, title in names.items()} for row in records(published))


def claims_table(claims: pd.DataFrame) -> pd.DataFrame:
    """Statements of the documents with what was found, from `claims.csv`."""
    return table_of(
        {
            "Statement": f"{row['id']} ({row['source'].replace(' ', ', ')}): {row['claim']}",
            "Stated": row["stated"],
            "Found": f"{row['found']} [{row['basis']}]",
            "Verdict": row["verdict"],
        }
        for row in records(claims)
    )


def verdicts_table(claims: pd.DataFrame) -> pd.DataFrame:
    """How many statements have each verdict, and which, from `claims.csv`."""
    return table_of(
        {"Verdict": verdict, "Statements": len(part), "Which": ", ".join(part["id"])}
        for verdict, part in claims.groupby("verdict", sort=False)
    )


def provenance_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """When, where, from which code and from which data each run was made, one row per `record.json`."""
    return table_of(
        {
            "Step": record["step"],
            "Run": record["run"],
            "Started (UTC)": record["started"][:16].replace("T", " "),
            "Seconds": record["seconds"],
            "Machine": record.get("machine"),  # records of older code name none
            "Seed": record["seed"],
            "Commit": revision(record),
            "Data": ", ".join(f"{name} {value[:8]}" for name, value in record["data"].items()) or None,
        }
        for record in records
    )


def environment_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Packages and hardware of the runs; where they differ between runs, every value that occurs."""
    found: dict[str, list[str]] = {}
    for record in records:
        for name, value in {**record["hardware"], **record["versions"]}.items():
            text = "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
            values = found.setdefault(name, [])
            values += [text] if text not in values else []
    return table_of(
        {"What": ENVIRONMENT_NAMES.get(name, name), "Value": "; ".join(values)} for name, values in found.items()
    )


def differing(records: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """In what the places and packages of runs differ: the values, in order of appearance, of each that has several."""
    found: dict[str, list[str]] = {}
    for record in records:
        place = {"machine": record.get("machine", "not named"), "processor": record["hardware"]["cpu"]}
        place |= {"GPU": record["hardware"]["gpu"]} | {name: record["versions"].get(name) for name in DECIDING}
        for name, value in place.items():
            values = found.setdefault(name, [])
            values += [str(value or "none")] if str(value or "none") not in values else []
    return {name: values for name, values in found.items() if len(values) > 1}


DECIDING = ("python", "torch", "timm", "lightning", "numpy")  # packages whose version may change the numbers
ENVIRONMENT_NAMES = {"cpu": "processor", "memory_gb": "memory (GiB)", "gpu": "GPU"}


def revision(record: dict[str, Any]) -> str:
    """A record's commit, shortened, and whether the checkout differed from it."""
    if record["commit"] is None:
        return "unknown"
    return record["commit"][:7] + (" + changes" if record["dirty"] else "")
