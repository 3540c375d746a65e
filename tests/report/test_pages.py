"""Executed notebooks as pages."""

import re
import shutil

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from iqa.report import pages
from iqa.report.beside import read_notebook, write_page
from iqa.study import paths
from iqa.study.results import write_record

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def notebook(title: str = "02 · Training", question: str = "How <well>?") -> nbformat.NotebookNode:
    told = [new_output("stream", name="stdout", text=f"epoch {number}\n") for number in (1, 2)]
    drawn = new_output("display_data", {"image/png": PIXEL})
    table = new_output("display_data", {"text/html": "<table class='dataframe'><tr><td>0.9</td></tr></table>"})
    cells = [new_markdown_cell(f"# {title}\n\n**Question.** {question}\n\n**Reads** nothing.")]
    return new_notebook(cells=[*cells, new_code_cell("print(1 < 2)", outputs=[*told, drawn, table])])


def test_a_page_shows_what_the_notebook_shows_and_needs_nothing_else(tmp_path):
    nbformat.write(notebook(), tmp_path / "notebook.ipynb")
    body = read_notebook(tmp_path / "notebook.ipynb", "iqa run mine/train/a_s1")
    write_page(tmp_path / "page.html", "mine/train/a_s1", body)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<title>mine/train/a_s1</title>" in page and "epoch 1\nepoch 2\n" in page  # one block of text
    assert f"data:image/png;base64,{PIXEL}" in page.replace("\n", "") and "<td>0.9</td>" in page
    assert "prefers-color-scheme: dark" in page
    assert "<script" not in page and not re.search(r"(src|href)=\"(?!data:|#)|url\((?!data:)|@import", page)


def test_a_gallery_lists_the_runs_of_a_study_and_how_to_make_those_that_are_missing(tmp_path, monkeypatch):
    sources = paths.REPORT
    for name in ("PARAMS", "RESULTS", "REPORT", "NOTEBOOKS"):
        monkeypatch.setattr(paths, name, tmp_path / name)
    for folder in (tmp_path / "PARAMS/mine/train", tmp_path / "RESULTS/mine/train/a_s1", paths.REPORT, paths.NOTEBOOKS):
        folder.mkdir(parents=True)
    for name in ("style.css", "notebook.html.j2"):
        shutil.copy(sources / name, paths.REPORT)
    (tmp_path / "PARAMS/mine/train/a.yaml").write_text("seeds: [1, 2]\n")
    nbformat.write(notebook(), paths.NOTEBOOKS / "02_train.ipynb")
    nbformat.write(notebook("03 · Ablation"), paths.NOTEBOOKS / "03_ablation.ipynb")
    nbformat.write(notebook(), tmp_path / "RESULTS/mine/train/a_s1/notebook.ipynb")
    record = {"started": "2026-11-26T10:00:00", "seconds": 61.2, "outputs": {}}
    write_record(tmp_path / "RESULTS/mine/train/a_s1/record.json", record)
    index = pages.gallery("mine")
    text = index.read_text(encoding="utf-8")
    assert '<a href="train-a_s1.html">a_s1</a> (2026-11-26, 61 s)' in text and "How &lt;well&gt;?" in text
    assert "a_s2 (not run: <code>iqa run mine/train/a_s2</code>)" in text
    assert "Ablation" not in text  # the study has none
    assert [file.name for file in sorted(index.parent.iterdir())] == ["index.html", "train-a_s1.html"]
