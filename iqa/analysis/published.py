"""TODO."""

import pandas as pd

from iqa.study import paths

PUBLISHED = ["method", "backbone", "trained_on", "tested_on", "srcc", "plcc", "protocol", "source", "experiment"]
JOINED = ("srcc", "plcc", "protocol", "source")  # what of a published row stands beside a measured one


def published() -> pd.DataFrame:
    """Results that others have published, from `report/published.csv`: figures as text, with the digits of the source.

    Raises:
        ValueError: the file lacks a column.
    """
    file = paths.REPORT / "published.csv"
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    lacking = [column for column in PUBLISHED if column not in table]
    if lacking:
        raise ValueError(f"{paths.shown(file)}: lacks the columns {', '.join(lacking)}; it has {', '.join(table)}")
    return table


def with_published(table: pd.DataFrame, published: pd.DataFrame, trained_on: str, tested_on: str) -> pd.DataFrame:
    """The comparison with what others have published of each experiment on the same databases.

    Args:
        table: as `compare` returns it.
        published: as `published` returns it; a row belongs to the group that its column `experiment` names.
        trained_on: title of the database that the runs were trained on.
        tested_on: title of the database that they were tested on.

    Returns:
        The table with columns `published_srcc` and `published_plcc` (a number; where several sources give one, a text
        that numbers them), `published_protocol` and `published_source` (texts with the same numbers, or one text that
        holds for all). Empty or NaN where nothing is published.
    """
    same = published[(published["trained_on"] == trained_on) & (published["tested_on"] == tested_on)]
    found = [same[same["experiment"] == name] for name in table["group"]]
    columns = {f"published_{key}": [_joined(rows[key]) for rows in found] for key in JOINED}
    for key in ("published_srcc", "published_plcc"):
        columns[key] = [_number(text) for text in columns[key]]
    return table.assign(**columns)


def _joined(values: pd.Series) -> str:
    """One text of all values, numbered if there are different ones; a dash for one that is missing."""
    if len(set(values)) <= 1:
        return "".join(set(values))
    return " ".join(f"({place}) {value or '-'}" for place, value in enumerate(values, 1))


def _number(text: str) -> float | str:
    """The number that a text is, NaN if it is empty, or the text of several numbers."""
    return text if text.startswith("(") else float(text or "nan")
