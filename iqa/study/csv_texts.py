"""Tables that people write by hand, as CSV: read in full or refused, with the line that is wrong."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from iqa.study import paths
from iqa.study.echo import listed, quoted


class TableError(ValueError):
    """A table that cannot be used; the message names the file, the line and the remedy."""


def read_texts(file: Path, columns: Sequence[str], numbers: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV file (UTF-8, with a header) as texts, so that figures keep the digits that were written.

    Args:
        columns: that the file has, in any order; an empty cell is an empty text.
        numbers: those that hold a finite number, or several with spaces between them, or nothing.

    Raises:
        TableError: the file cannot be read, lacks a column or has another, a row has more or fewer cells than there are
            columns, a quote is not closed, or a cell holds no number.
    """
    shown = paths.shown(file)
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines, strict=True)
            rows = [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError:
        raise TableError(f"{shown}: not UTF-8 text; save the file as UTF-8") from None
    except OSError as error:
        raise TableError(f"{shown}: cannot be read ({error.strerror}); put the file there") from None
    except csv.Error as error:
        raise TableError(f"{shown}, line {reader.line_num}: {error}; close each quote") from None
    if not rows:
        raise TableError(f"{shown}: is empty; its first line names the columns {', '.join(columns)}")
    (_, header), *rows = rows
    if sorted(header) != sorted(columns):
        lacking = listed(name for name in columns if name not in header)
        raise TableError(
            f"{shown}: lacks the columns {lacking}; they are {', '.join(columns)}, and the file has {quoted(header)}"
        )
    for line, row in rows:
        if len(row) != len(header):
            raise TableError(
                f"{shown}, line {line}: {len(row)} cells, but {len(header)} columns; quote a cell that holds a comma"
            )
        for column in numbers:
            for word in row[header.index(column)].split():
                if not is_number(word):
                    place = f"{shown}, line {line}, column '{column}'"
                    raise TableError(f"{place}: {quoted(word)} is no number; correct it")
    return pd.DataFrame([row for _, row in rows], columns=header, dtype=str)[list(columns)]


def is_number(text: str) -> bool:
    """Whether a text is a finite number."""
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False
