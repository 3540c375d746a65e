"""The house: nine packages on seven floors, imports that run downwards, and how much code a step reaches."""

import ast
import json
from functools import cache
from pathlib import Path

import pytest

from iqa.study import paths

PACKAGE = paths.ROOT / "iqa"
FLOORS = {
    "app": 7,
    "report": 6,
    "analysis": 5,
    "training": 4,
    "model": 3,
    "data": 2,
    "show": 2,
    "study": 1,
    "metrics": 1,
}


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imports(code: str) -> set[str]:
    """Modules of `iqa` that code imports, at any depth but for types alone, with the packages on the way to them."""
    found = set()
    pending: list[ast.AST] = [ast.parse(code)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        pending.extend(ast.iter_child_nodes(node))
    names = {".".join(name.split(".")[:depth]) for name in found for depth in range(1, name.count(".") + 2)}
    return names & MODULES.keys()


@cache
def imports_of(module: str) -> frozenset[str]:
    return frozenset(imports(MODULES[module].read_text(encoding="utf-8")) - {module})


def reached(code: str) -> set[str]:
    found: set[str] = set()
    pending = imports(code)
    while pending:
        module = pending.pop()
        if module not in found:
            found.add(module)
            pending |= imports_of(module)
    return found


def lines(modules: set[str]) -> int:
    return sum(len(MODULES[module].read_text(encoding="utf-8").splitlines()) for module in modules)


def notebook_code(name: str) -> str:
    cells = json.loads((paths.NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return "\n".join(line for line in code.splitlines() if not line.startswith("%"))


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def arrows() -> set[tuple[str, str]]:
    pairs = {(room(module), room(other)) for module in MODULES for other in imports_of(module)}
    return {(start, end) for start, end in pairs if start and end and start != end}


def test_every_room_has_a_floor():
    assert {room(module) for module in MODULES} - {""} == FLOORS.keys()
    assert {folder.name for folder in (paths.ROOT / "tests").iterdir() if folder.is_dir()} >= FLOORS.keys()


def test_imports_run_downwards():
    upwards = {(start, end) for start, end in arrows() if FLOORS[end] >= FLOORS[start]}
    assert not upwards


def test_packages_have_few_arrows_between_them():
    assert len(arrows()) <= 40


def test_modules_import_each_other_in_no_circle():
    for module in MODULES:
        inside = {other for other in imports_of(module) if other.count(".") > 1}
        around = set().union(*(reached(f"import {other}") for other in inside)) if inside else set()
        assert module.count(".") < 2 or module not in around, module


def test_figures_and_tables_are_shown_by_notebooks_report_and_app_alone():
    assert {start for start, end in arrows() if end == "show"} <= {"report", "app"}


def test_a_training_knows_databases_but_not_how_they_are_read():
    read = reached("import iqa.training.fit")
    assert "iqa.data.database" in read
    assert not read & {"iqa.data.readers", "iqa.data.prepare", "iqa.data.releases", "iqa.data.audit"}


@pytest.mark.parametrize(
    ("code", "most"),
    [
        ("import iqa.training.fit", 3_660),
        (notebook_code("01_data_prep.ipynb"), 5_200),
        (notebook_code("03_ablation.ipynb"), 4_770),
    ],
    ids=["fit", "01_data_prep", "03_ablation"],
)
def test_a_step_reaches_little_code(code, most):
    assert lines(reached(code)) <= most
