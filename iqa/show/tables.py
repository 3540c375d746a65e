"""Tables: a data frame or a record in, a data frame out. No function opens a file.

A table keeps its numbers in full. Its columns have formats (`table_of`), by which the numbers are rounded when it is
shown: by `rounded` in a notebook, by `markdown` in the report and in files. A missing value is shown as a dash.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

DASH, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
ARROW = "\N{RIGHTWARDS ARROW}"
DEFAULT_FORMAT = ".3f"
COUNTERS = ("estimated", "torch", "ptflops", "thop")  # of MACs
SCALES = {"M": 1e6, "G": 1e9, "B": 2**20}
MARKDOWN_MARKS = re.compile(r"""[\\`*_{}\[\]<>$@#|~^"']|&(?=[#\w])|-(?=-)|\.(?=\.)""")
# control characters, halves of characters, and marks that turn the direction of writing
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
WIDEST = 30  # characters of a cell beyond which LaTeX may break its lines
pd.set_option("display.max_colwidth", None)  # notebooks show sentences in full


class Table(NamedTuple):
    """A table of the report.

    Args:
        name, title: what it is called by `iqa table`, and in words.
        make: the function that makes it.
        files: what `make` is called with, as `<step>/<file>`: a CSV file as a frame, a JSON file as a dictionary; of
            `data_prep` those of all databases, by name. `report/records` are the records of all runs, and
            `report/experiments` the parameters of all trainings.
    """

    name: str
    title: str
    make: Callable[..., pd.DataFrame]
    files: tuple[str, ...]


PUBLISHED = ".4g"  # format of published coefficients, most of which have four decimals


@dataclass(frozen=True)
class Interval:
    """A value with the low and high end of its interval, shown as `0.899 [0.880, 0.915]`."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return cell(self)


def missing(value: Any) -> bool:
    """Whether a value is not there: None, NaN or an empty text."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def number(value: float, form: str = DEFAULT_FORMAT) -> str:
    """A number as it is printed; a last letter M, G or B divides by 10^6, 10^9 or 2^20 first (`.2fM`).

    The format `p` is that of p-values: three decimals, and `<0.001` for what is less.
    """
    if form == "p":
        return "<0.001" if value < 0.001 else format(value, ".3f")
    return format(value / SCALES.get(form[-1], 1), form.rstrip("MGB")).replace("-", MINUS)


def cell(value: Any, form: str = DEFAULT_FORMAT) -> str:
    """One value of a table as it is printed: a number, an `Interval`, a text, or a dash where it is missing."""
    if missing(value):
        return DASH
    if isinstance(value, Interval):
        low, high = cell(value.low, form), cell(value.high, form)
        return f"{cell(value.value, form)} [{low}, {high}]"
    return str(value) if isinstance(value, str | bool) else number(value, form)


def escape(text: str) -> str:
    """A text on one line, with every mark escaped that Markdown would read."""
    return MARKDOWN_MARKS.sub(r"\\\g<0>", one_line(text))


def one_line(text: str) -> str:
    """A text on one line, with a mark in place of each control character."""
    return UNSEEN.sub("\N{REPLACEMENT CHARACTER}", re.sub(r"\s+", " ", text))


def markdown_cell(value: Any, form: str = DEFAULT_FORMAT) -> str:
    """One value of a table in Markdown."""
    return escape(value) if isinstance(value, str) and value else cell(value, form)


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text, for a notebook."""
    return pd.DataFrame({name: [cell(value, form) for value in table[name]] for name, form in _formats(table)})


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its numbers in full, an interval in three columns, for a CSV file."""
    columns: dict[str, list[Any]] = {}
    for name in table:
        intervals = [value for value in table[name] if isinstance(value, Interval)]
        columns[name] = [value.value if isinstance(value, Interval) else value for value in table[name]]
        for end in ("low", "high") if intervals else ():
            columns[f"{name}, {end}"] = [getattr(value, end, None) for value in table[name]]
    return pd.DataFrame(columns)


def markdown(table: pd.DataFrame, write: Callable[[Any, str], str] = markdown_cell) -> str:
    """The table as a Markdown pipe table; columns of numbers are set right.

    Args:
        write: makes Markdown of a value with a format.
    """
    columns = (
        [escape(name), _rule(table[name], form), *(write(value, form) for value in table[name])]
        for name, form in _formats(table)
    )
    return "".join(f"| {' | '.join(row)} |\n" for row in zip(*columns, strict=True))


def _rule(column: pd.Series, form: str) -> str:
    """What stands under a column's title: its alignment and, by its length, how wide it is where lines are broken."""
    texts = [str(column.name), *(cell(value, form) for value in column)]
    word = max(len(word) for text in texts for word in text.split())
    rule = "-" * max(word, min(max(map(len, texts)), WIDEST))
    numeric = all(missing(value) or isinstance(value, float | int | Interval) for value in column)
    return f"{rule}:" if numeric else f":{rule}"


def _formats(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The columns of a table, each with its format."""
    return [(name, table.attrs.get("formats", {}).get(name, DEFAULT_FORMAT)) for name in table]


def table_of(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """A table whose cells stay the objects that they are.

    Args:
        rows: cells by the title of their column, after which the column's format may stand: `Images:,.0f`.
    """
    frame = pd.DataFrame(list(rows), dtype=object)
    titles = [str(name).partition(":") for name in frame]
    frame.columns = [title for title, _, _ in titles]
    frame.attrs["formats"] = {title: form for title, _, form in titles if form}
    return frame


Column = str | tuple[str, str, str] | Callable[[dict[str, Any]], Any]


def renamed(frame: pd.DataFrame, columns: dict[str, Column]) -> pd.DataFrame:
    """A table of a frame's rows.

    Args:
        columns: what stands under each title: a column of the frame, the three of an interval (`ends`), or a function
            of the row.
    """
    return table_of({title: pick(row, column) for title, column in columns.items()} for row in records(frame))


def pick(row: dict[str, Any], column: Column) -> Any:
    """A cell of a table from a row; of an interval None where its value is missing."""
    if callable(column):
        return column(row)
    return row[column] if isinstance(column, str) else interval_or_none(*(row[name] for name in column))


def ends(name: str) -> tuple[str, str, str]:
    """Columns of a value and of the ends of its interval."""
    return name, f"{name}_low", f"{name}_high"


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, their cells the objects that they are (`DataFrame.to_dict` makes them plain floats)."""
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.itertuples(index=False, name=None)]


def shape(sizes: Iterable[float]) -> str:
    """Sizes with a multiplication sign between them: 256 x 56 x 56."""
    return TIMES.join(f"{size:.0f}" for size in sizes)


def with_intervals(row: dict[str, Any], *names: str) -> dict[str, Any]:
    """Coefficients of a row with their intervals, by title."""
    titles = {"srcc": "SRCC", "plcc": "PLCC", "plcc_fitted": "PLCC, fitted", "krcc": "KRCC", "rmse": "RMSE"}
    titles["bias"] = "Bias"
    return {titles[name]: pick(row, ends(name)) for name in names}


def with_difference(row: dict[str, Any]) -> dict[str, Any]:
    """How far a row of `baselines.csv` is from the first model; dashes for one that was not compared."""
    delta = interval_or_none(*(row.get(name) for name in ends("delta")))
    return {"SRCC difference:+.3f": delta, "p (Holm):p": row.get("p_holm"), "Verdict": row.get("verdict")}


def interval_or_none(value: float | None, low: float | None, high: float | None) -> Interval | None:
    """An interval, or None where the value is missing."""
    return None if missing(value) else Interval(value, low, high)
