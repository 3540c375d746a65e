"""Tables of `07_claims` and `08_report`."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from iqa.show.tables import Table, missing, records, renamed, table_of

PUBLISHED = {"Method": "method", "Backbone": "backbone", "Trained on": "trained_on", "Tested on": "tested_on"}
PUBLISHED |= {"SRCC": "srcc", "PLCC": "plcc", "Protocol": "protocol", "Source": "source"}
DECIDING = ("python", "torch", "timm", "lightning", "numpy")  # packages whose version may change the numbers
ENVIRONMENT_NAMES = {"cpu": "processor", "memory_gb": "memory (GiB)", "gpu": "GPU"}


class Noted(str):
    """A text that leads to where it comes from.

    Attributes:
        note: the end of the text that stands for `files`, which are named from the project's folder.
        section: the section of the run's executed notebook to which the text leads.
    """

    note: str
    files: list[str]
    section: str

    def __new__(cls, text: str, note: str = "", files: Iterable[str] = (), section: str = "") -> "Noted":
        self = super().__new__(cls, text)
        self.note, self.files, self.section = note, list(files), section
        return self


def published_table(published: pd.DataFrame) -> pd.DataFrame:
    """Published methods and measured ones, from `published.csv` of the report's run."""
    codes = _protocols(published)
    return renamed(published.assign(protocol=published["protocol"].map(codes)), PUBLISHED)


def protocols_table(published: pd.DataFrame) -> pd.DataFrame:
    """By which protocols published and measured results were made, with the codes of `published_table`."""
    return table_of({"Protocol": code, "What it is": words} for words, code in _protocols(published).items())


def _protocols(published: pd.DataFrame) -> dict[str, str]:
    """A code for each protocol, in order of appearance."""
    return {words: f"P{place}" for place, words in enumerate(published["protocol"].dropna().unique(), 1)}


def claims_table(claims: pd.DataFrame) -> pd.DataFrame:
    """Statements of the documents with what was found, from `claims.csv`."""
    return table_of(
        {
            "Id": Noted(row["id"], section=row["cell"]),
            "Documents": row["source"].replace(" ", ", "),
            "Statement": row["claim"],
            "Stated": row["stated"],
            "Found": _found(row),
            "Verdict": row["verdict"],
        }
        for row in records(claims)
    )


def _found(row: dict[str, Any]) -> Noted:
    note, files = f"[{row['basis']}]", [] if missing(row.get("sources")) else row["sources"].split("; ")
    return Noted(f"{row['found']} {note}", note, files)


def verdicts_table(claims: pd.DataFrame) -> pd.DataFrame:
    """How many statements have each verdict, and which, from `claims.csv`."""
    return table_of(
        {"Verdict": verdict, "Statements:,.0f": len(part), "Which": ", ".join(part["id"])}
        for verdict, part in claims.groupby("verdict", sort=False)
    )


def provenance_table(runs: list[dict[str, Any]]) -> pd.DataFrame:
    """When, where, from which code and from which data each run was made, from the records.

    Where any run was accepted, a column gives the day; the Summary gives the reasons.
    """
    accepted = any(record.get("accepted") for record in runs)
    return table_of(
        {
            "Step": record["step"],
            "Run": record["run"],
            "Started (UTC)": record["started"][:16].replace("T", " "),
            "Seconds:,.1f": record["seconds"],
            "Machine": record.get("machine"),  # records of older code name none
            "Seed:.0f": record["seed"],
            "Commit": revision(record),
            "Data": ", ".join(f"{name} {value[:8]}" for name, value in record["data"].items()),
        }
        | ({"Accepted on": record["accepted"][-1]["on"][:10] if record.get("accepted") else None} if accepted else {})
        for record in runs
    )


def last_reason(record: dict[str, Any]) -> str | None:
    """Why the results of a run were last accepted; None if they never were."""
    return record["accepted"][-1]["because"] if record.get("accepted") else None


def environment_table(runs: list[dict[str, Any]]) -> pd.DataFrame:
    """Packages and hardware of the runs, from the records; where they differ between runs, every value that occurs."""
    found = _values({**record["hardware"], **record["versions"]} for record in runs)
    return table_of(
        {"What": ENVIRONMENT_NAMES.get(name, name), "Value": "; ".join(values)} for name, values in found.items()
    )


def differing(runs: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """In what the places and packages of runs differ: the values, in order of appearance, of each that has several."""
    places = (
        {"machine": record.get("machine", "not named"), "processor": record["hardware"]["cpu"]}
        | {"GPU": record["hardware"]["gpu"]}
        | {name: record["versions"].get(name) for name in DECIDING}
        for record in runs
    )
    return {name: values for name, values in _values(places).items() if len(values) > 1}


def _values(facts: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """The different values of each fact as texts, in order of appearance."""
    found: dict[str, dict[str, None]] = {}
    for each in facts:
        for name, value in each.items():
            text = f"{value:g}" if isinstance(value, float) else str(value or "none")
            found.setdefault(name, {})[text] = None
    return {name: list(values) for name, values in found.items()}


def revision(record: dict[str, Any]) -> str:
    """A record's commit, shortened, and whether the checkout differed from it."""
    if record["commit"] is None:
        return "unknown"
    return record["commit"][:7] + (" + changes" if record["dirty"] else "")


TABLES = (
    Table("published", "Published methods and this study", published_table, ("report/published.csv",)),
    Table("protocols", "Protocols of published methods and this study", protocols_table, ("report/published.csv",)),
    Table("claims", "Claims and what holds", claims_table, ("claims/claims.csv",)),
    Table("verdicts", "Verdicts on claims", verdicts_table, ("claims/claims.csv",)),
    Table("provenance", "Runs", provenance_table, ("report/records",)),
    Table("environment", "Hardware and versions", environment_table, ("report/records",)),
)
