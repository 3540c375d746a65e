"""The form of the committed notebooks: what papermill, the pipeline and a reader rely on."""

import ast
import io
import re
import tokenize
from pathlib import Path

import nbformat
import pytest

from iqa.app import steps
from iqa.study import paths

FILES = sorted(paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
OUTSIDE_THE_PIPELINE = {"playground"}


def step_of(file: Path) -> str:
    """`02_train.ipynb` runs the step `train`."""
    return file.stem[3:]


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request) -> Path:
    return request.param


@pytest.fixture
def notebook(file) -> nbformat.NotebookNode:
    return nbformat.read(file, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", [])]


def test_every_step_has_exactly_one_notebook():
    found = [step_of(file) for file in FILES if step_of(file) not in OUTSIDE_THE_PIPELINE]
    assert sorted(found) == sorted(steps.STEPS)


def test_the_notebook_is_valid_and_committed_without_outputs(notebook):
    nbformat.validate(notebook)
    for cell in code_cells(notebook):
        assert cell.outputs == [], cell.source
        assert cell.execution_count is None, cell.source


def test_the_kernel_is_the_one_of_the_environment(notebook):
    assert notebook.metadata.kernelspec.name == "python3"


def test_the_notebook_begins_with_a_title(notebook):
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")


def test_the_parameters_cell_repeats_the_fields_and_defaults_of_its_step(file, notebook):
    if step_of(file) in OUTSIDE_THE_PIPELINE:
        pytest.skip("interactive, outside the pipeline")
    (cell,) = parameters_cells(notebook)
    values = {}
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.Assign | ast.AnnAssign), ast.unparse(statement)
        target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
        values[target.id] = ast.literal_eval(statement.value)
    cls = steps.STEPS[step_of(file)]
    defaults = dict.fromkeys(cls.model_fields) | cls.defaults()
    assert set(map(repr, values.items())) == set(map(repr, defaults.items()))  # repr tells 1 from 1.0 and True


def test_every_parameter_has_a_comment_with_its_meaning(notebook):
    for cell in parameters_cells(notebook):
        tokens = tokenize.generate_tokens(io.StringIO(cell.source).readline)
        commented = {token.start[0] for token in tokens if token.type == tokenize.COMMENT and len(token.string) > 3}
        for statement in ast.parse(cell.source).body:
            lines = range(statement.lineno, statement.end_lineno + 1)
            assert commented.intersection(lines), f"no comment beside: {ast.unparse(statement)}"


def test_cells_are_short(notebook):
    for cell in code_cells(notebook):
        if cell not in parameters_cells(notebook):
            assert len(cell.source.splitlines()) <= 14, cell.source


def test_classes_and_training_loops_live_in_the_package(notebook):
    for cell in code_cells(notebook):
        assert not re.search(r"^\s*class\s+\w+", cell.source, re.MULTILINE), cell.source
        assert ".backward(" not in cell.source, cell.source
