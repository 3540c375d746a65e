"""Hand-written tables are read in full or refused, with the line that is wrong."""

import re

import pytest

from iqa.analysis import published
from iqa.report.claims import Claims
from iqa.study import paths
from iqa.study.csv_texts import TableError, read_texts

GOOD = {  # what a file of the columns a and b holds, where b is a number
    b"a,b\nx,1.50\n": [["x", "1.50"]],
    b'a,b\r\n"x, ""y""\nz",\r\n\r\n': [['x, "y"\nz', ""]],
    b"\xef\xbb\xbfb,a\n1e-3 2,x\n": [["x", "1e-3 2"]],
    b"a,b\n": [],
    b"a,b\nNA,-1\n": [["NA", "-1"]],
}
BAD = {
    b"": "is empty; its first line names the columns a, b",
    b"\n\n": "is empty",
    b'a,b\n"x,1\ny,2\n': r"line \d: unexpected end of data; close each quote",
    b'a,b\n"x"y,1\n': "line 2: ',' expected after '\"'; close each quote",
    b"a,b\nx,1\ny,2,3\n": "line 3: 3 cells, but 2 columns; quote a cell that holds a comma",
    b"a,b\nx\n": "line 2: 1 cells, but 2 columns",
    b"a,c\nx,1\n": r"lacks the columns b; they are a, b, and the file has \['a', 'c'\]",
    b"a,b,c\nx,1,2\n": "lacks the columns none; they are a, b, and the file has",
    b"a,a,b\nx,1,2\n": "lacks the columns none; they are a, b",
    b"a;b\nx;1\n": "lacks the columns a, b",
    b"a,b\nx,much\n": "line 2, column 'b': 'much' is no number; correct it",
    b"a,b\nx,nan\n": "line 2, column 'b': 'nan' is no number",
    b"a,b\nx,1e999\n": "is no number",
    b"a,b\nx," + b"9" * 5000 + b"x\n": "is no number",
    b"a,b\n\xe9,1\n": "not UTF-8 text; save the file as UTF-8",
    "a,b\nx,1\n".encode("utf-16"): "not UTF-8 text",
}


@pytest.mark.parametrize(("content", "rows"), GOOD.items(), ids=lambda value: repr(value)[:30])
def test_a_table_is_read_as_it_was_written(tmp_path, content, rows):
    (tmp_path / "t.csv").write_bytes(content)
    assert read_texts(tmp_path / "t.csv", ["a", "b"], numbers=["b"]).to_numpy().tolist() == rows


@pytest.mark.parametrize(("content", "message"), BAD.items(), ids=lambda value: repr(value)[:30])
def test_a_table_that_cannot_be_read_in_full_is_refused_with_file_and_line(tmp_path, content, message):
    file = tmp_path / "t.csv"
    file.write_bytes(content)
    with pytest.raises(TableError, match=f"{re.escape(str(file))}.*({message})") as found:
        read_texts(file, ["a", "b"], numbers=["b"])
    assert len(str(found.value).replace(str(file), "")) < 300


def test_a_table_that_is_not_there_is_named(tmp_path):
    for place in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(TableError, match=f"{re.escape(str(place))}: cannot be read"):
            read_texts(place, ["a"])


@pytest.mark.parametrize("name", ["claims.csv", "published.csv"])
@pytest.mark.parametrize("change", ["quote", "cells", "column", "empty", "number"])
def test_the_tables_of_the_report_are_refused_with_their_line(tmp_path, monkeypatch, name, change):
    read = {"claims.csv": Claims, "published.csv": published.read_published}[name]
    header, first, *rest = (paths.REPORT / name).read_text().splitlines()
    read()
    column = {"claims.csv": "C01,S000,x,x,training,many,,", "published.csv": "m,b,K,K,high,0.9,p,s,"}[name]
    lines = {
        "quote": [header, f'"{first}', *rest],
        "cells": [header, f"{first},more", *rest],
        "column": [header.replace("source", "origin"), first, *rest],
        "empty": [],
        "number": [header, column, *rest],
    }[change]
    (tmp_path / name).write_text("\n".join(lines))
    monkeypatch.setattr(paths, "REPORT", tmp_path)
    with pytest.raises(TableError, match=rf"{name}(, line \d+|: lacks the columns source|: is empty)"):
        read()
