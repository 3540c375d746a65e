"""Tables: frame or record in, frame out. No function opens a file.

A table keeps its numbers as they come; they are rounded when the table is shown (`rounded`, or the report), each
column as `FORMATS` says. A missing value is shown as a dash. A table that is shown becomes a file's text by `markdown`
or `latex`.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

DASH, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
ARROW = "\N{RIGHTWARDS ARROW}"
DEFAULT_FORMAT = ".3f"
COUNT = ",.0f"
P_VALUE = "p"
COUNTERS = ("estimated", "torch", "ptflops", "thop")  # of MACs
FORMATS = {
    "Images": COUNT,
    **dict.fromkeys(
        ("In the release", "Contents", "Sizes", "Enlarged", "Copies across splits", "Copies within one"), COUNT
    ),
    "Rating SD": ".2f",
    "Train": COUNT,
    "Validation": COUNT,
    "Test": COUNT,
    "Worst": "g",
    "Best": "g",
    "MOS": ".2f",
    "MOS SD": ".2f",
    "p (Holm)": P_VALUE,
    "p": P_VALUE,
    **dict.fromkeys(("Classes", "Component"), COUNT),
    **dict.fromkeys(("Explained", "Cumulative"), ".1%"),
    **dict.fromkeys(("Prediction", "Error", "Bias", "Mean absolute error"), ".3g"),
    "Level": "g",
    **dict.fromkeys((*(f"Scale {number}" for number in range(1, 5)), "Entropy"), ".2f"),
    "Seeds": COUNT,
    "Statements": COUNT,
    "Seed": ".0f",
    "Parameters": COUNT,
    "Share": ".1%",
    "Parameters (M)": ".2fM",
    "Backbone (M)": ".2fM",
    "Heads (M)": ".2fM",
    "Weights made": COUNT,
    "Trainable (M)": ".2fM",
    "Trainable": COUNT,
    **dict.fromkeys(("GMACs", *(f"GMACs, {name}" for name in COUNTERS)), ".4gG"),
    **{f"MACs, {name}": COUNT for name in COUNTERS},
    **dict.fromkeys(("Batch", "Passes", "Quickest batch", "Largest batch"), COUNT),
    **dict.fromkeys(("Median (ms)", "Mean (ms)", "SD (ms)", "Min (ms)", "Max (ms)", "p95 (ms)"), ".1f"),
    "Latency (ms)": ".1f",
    "Images/s": ",.1f",
    **dict.fromkeys(("Memory (MiB)", "Scoring (MiB)", "Training (MiB)"), ",.1fB"),
    "Seconds": ",.1f",
}
SCALES = {"M": 1e6, "G": 1e9, "B": 2**20}
NUMBER = re.compile(rf"[<{MINUS}+-]?\d[\d,]*(\.\d+)?(e[+{MINUS}-]?\d+)?%?")
MARKDOWN_MARKS = re.compile(r"[\\|*_`$~]|<(?=[A-Za-z/!?])")
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": "$|$",
    DASH: "--",
    MINUS: "$-$",
    TIMES: r"$\times$",
    ARROW: r"$\rightarrow$",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}
WIDE = 28  # characters of the longest cell from which on a LaTeX column of text has lines of its own


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
    """A number as it is printed; a last letter M, G or B divides by 10^6, 10^9 or 2^20 first (`.2fM`).

    The format `p` is that of p-values: three decimals, and `<0.001` for what is less.
    """
    if form == P_VALUE:
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


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text, for a notebook."""
    return pd.DataFrame(
        {name: [cell(value, FORMATS.get(name, DEFAULT_FORMAT)) for value in table[name]] for name in table}
    )


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its numbers in full, an interval in three columns, for a CSV file."""
    columns: dict[str, list[Any]] = {}
    for name in table:
        intervals = [value for value in table[name] if isinstance(value, Interval)]
        columns[name] = [value.value if isinstance(value, Interval) else value for value in table[name]]
        for end in ("low", "high") if intervals else ():
            columns[f"{name}, {end}"] = [getattr(value, end, None) for value in table[name]]
    return pd.DataFrame(columns)


def markdown(shown: pd.DataFrame) -> str:
    """A table that is shown (`rounded`) as a Markdown pipe table; columns of numbers are set right."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(MARKDOWN_MARKS.sub(r"\\\g<0>", _one_line(cell)) for cell in cells) + " |"

    rules = "| " + " | ".join("--:" if _of_numbers(shown[name]) else ":--" for name in shown) + " |"
    return "\n".join([line(shown), rules, *map(line, shown.itertuples(index=False))]) + "\n"


def latex(shown: pd.DataFrame, label: str, caption: str) -> str:
    r"""A table that is shown (`rounded`) as a LaTeX `table`; the document needs `\usepackage{booktabs}`.

    Columns of numbers are set right. Texts and intervals are set left; a column of long texts breaks its lines.

    Args:
        label: what `\ref` names, as it is.
        caption: plain text; it stands above the table.
    """
    columns = "".join(_latex_column(shown[name], len(shown.columns)) for name in shown)
    head, *rows = (_latex_row(row) for row in (shown, *shown.itertuples(index=False)))
    lines = [
        r"\begin{table}",
        rf"\caption{{{_latex_text(caption)}}}",
        rf"\label{{{label}}}",
        r"\centering\small",
        rf"\begin{{tabular}}{{{columns}}}",
        *(r"\toprule", head, r"\midrule", *rows, r"\bottomrule"),
        *(r"\end{tabular}", r"\end{table}"),
    ]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Iterable[str]) -> str:
    text = " & ".join(map(_latex_text, cells))
    return ("{}" if text.startswith(("[", "*")) else "") + text + r" \\"  # an argument of the line before, else


def _latex_text(text: object) -> str:
    return "".join(LATEX.get(mark, mark) for mark in _one_line(text))


def _latex_column(column: pd.Series, count: int) -> str:
    if _of_numbers(column):
        return "r"
    long = any(len(cell) > WIDE for cell in column)
    return rf"p{{{min(0.9, 1.4 / count):.2f}\linewidth}}" if long else "l"


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _of_numbers(column: pd.Series) -> bool:
    """Whether a column of a shown table holds numbers and dashes only, a number at least."""
    cells = [cell for cell in column if cell != DASH]
    return bool(cells) and all(NUMBER.fullmatch(cell) for cell in cells)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, their cells the objects that they are (`DataFrame.to_dict` makes them plain floats)."""
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.itertuples(index=False, name=None)]


def published_text(value: Any) -> Any:
    """A published number, or the text of several with each rounded as a number is."""
    if not isinstance(value, str):
        return value
    return re.sub(r"\d+\.\d+", lambda found: number(float(found[0])), value) or None


def shape(sizes: Iterable[float]) -> str:
    """Sizes with a multiplication sign between them: 256 x 56 x 56."""
    return TIMES.join(f"{size:.0f}" for size in sizes)


def text_or_none(value: Any) -> str | None:
    """A text that is not empty, or None."""
    return None if missing(value) else str(value) or None


def with_intervals(row: dict[str, Any], *names: str) -> dict[str, Any]:
    titles = {"srcc": "SRCC", "plcc": "PLCC", "plcc_fitted": "PLCC, fitted", "krcc": "KRCC", "rmse": "RMSE"}
    return {titles[name]: interval_or_none(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in names}


def interval_or_none(value: float, low: float, high: float) -> Interval | None:
    return None if missing(value) else Interval(value, low, high)


def table_of(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """A frame whose cells stay the objects that they are."""
    return pd.DataFrame(list(rows), dtype=object)
