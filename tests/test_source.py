"""Which code counts when a notebook has changed."""

import json

import pytest

from iqa import source


def names(code):
    return {file.relative_to(source.PACKAGE).as_posix() for file in source.reached(code)}


def notebook(tmp_path, code, prose="", outputs=(), parameters="epochs = 1"):
    code_cell = {"cell_type": "code", "outputs": list(outputs), "execution_count": 3}
    cells = [
        {"cell_type": "markdown", "source": [prose], "metadata": {}},
        code_cell | {"source": [parameters], "metadata": {"tags": ["parameters"]}},
        code_cell | {"source": code.splitlines(keepends=True), "metadata": {}},
    ]
    file = tmp_path / "notebook.ipynb"
    file.write_text(json.dumps({"cells": cells}))
    return source.notebook_hash(file)


def test_modules_are_reached_through_modules():
    assert {"model/__init__.py", "model/hyperiqa.py", "model/backbone.py", "config.py"} <= names(
        "from iqa.model import HyperIQA"
    )


def test_imports_inside_functions_count():
    assert "metrics.py" in names("def f():\n    from iqa import metrics")


def test_modules_that_are_not_reached_do_not_count():
    reached = names("from iqa import metrics")
    assert reached == {"__init__.py", "metrics.py"}


def test_other_packages_do_not_count():
    assert names("import numpy as np\nfrom torch import nn") == set()


def test_lines_for_ipython_alone_are_passed_over():
    assert "metrics.py" in names("%matplotlib inline\n!ls\nfrom iqa import metrics")


def test_values_typed_into_the_parameters_cell_do_not_count(tmp_path):
    assert notebook(tmp_path, "a = 1") == notebook(tmp_path, "a = 1", parameters="epochs = 3")


def test_code_counts_and_prose_and_outputs_do_not(tmp_path):
    first = notebook(tmp_path, "a = 1\nb = 2")
    assert first == notebook(tmp_path, "a = 1\nb = 2", prose="Why.", outputs=[{"output_type": "stream", "text": "x"}])
    assert first != notebook(tmp_path, "a = 1\nb = 3")


@pytest.mark.parametrize("text", ["value = 2\n", "value = 1\nfrom iqa.fake import deeper\n"])
def test_a_changed_module_changes_the_hash(tmp_path, monkeypatch, text):
    package = tmp_path / "iqa"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "fake.py").write_text("value = 1\n")
    monkeypatch.setattr(source, "PACKAGE", package)
    before = source.modules_hash("iqa.fake")
    (package / "fake.py").write_text(text)
    assert source.modules_hash("iqa.fake") != before


def test_the_facts_beside_a_module_count():
    facts = source.PACKAGE / "data" / "releases.csv"
    assert facts.is_file() and facts.with_suffix(".py") in source.reached("from iqa.data import prepare")


def test_a_changed_csv_file_beside_a_module_changes_the_hash(tmp_path, monkeypatch):
    for name, text in {"__init__.py": "", "fake.py": "value = 1\n", "fake.csv": "a\n1\n", "other.csv": ""}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(source, "PACKAGE", tmp_path.rename(tmp_path.with_name("iqa")))
    before = source.modules_hash("iqa.fake")
    (source.PACKAGE / "other.csv").write_text("a\n")
    assert source.modules_hash("iqa.fake") == before
    (source.PACKAGE / "fake.csv").write_text("a\n2\n")
    assert source.modules_hash("iqa.fake") != before
