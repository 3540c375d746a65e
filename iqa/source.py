"""Hashes of what results are made from: plain values, files, and the code that a notebook or a module runs.

The code is the notebook's code cells and the modules of this package that it reaches, each with a CSV file of its name
where there is one. Its hash decides whether a run is up to date, so prose, outputs and modules that are not reached do
not count.
"""

import ast
import hashlib
import json
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).parent


def digest(*values: object) -> str:
    """A short hash of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def notebook_hash(notebook: Path) -> str:
    """Hash of a notebook's code cells and of every module of `iqa` that they import, directly or not.

    The parameters cell does not count: a run is given all of its values, so those typed there play no part.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    counted = (c for c in cells if c["cell_type"] == "code" and "parameters" not in c["metadata"].get("tags", []))
    code = "\n\n".join("".join(cell["source"]) for cell in counted)
    return _code_hash(code, reached(code))


def modules_hash(*names: str) -> str:
    """Hash of modules of `iqa`, given by name, and of every module of `iqa` that they import."""
    return _code_hash("", reached("\n".join(f"import {name}" for name in names)))


def reached(code: str) -> list[Path]:
    """Files of the modules of `iqa` that the code imports, and that those import, sorted."""
    found: set[Path] = set()
    pending = list(_imports(_python(code)))
    while pending:
        for file in _files(pending.pop()):
            if file not in found:
                found.add(file)
                pending.extend(_imports(file.read_text(encoding="utf-8")))
    return sorted(found)


def _python(code: str) -> str:
    """Notebook code without the lines that only IPython understands."""
    return "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))


@lru_cache
def _imports(code: str) -> tuple[str, ...]:
    """Every dotted name that may be a module, at any depth of the code."""
    names = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def _files(name: str) -> list[Path]:
    """Files that importing `name` runs: each package on the way, then the module."""
    first, *rest = name.split(".")
    if first != PACKAGE.name:
        return []
    files, place = [PACKAGE / "__init__.py"], PACKAGE
    for part in rest:
        place = place / part
        files += [file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()]
    return files


def _code_hash(code: str, files: list[Path]) -> str:
    digest = hashlib.sha256(code.encode())
    for file in (part for module in files for part in (module, module.with_suffix(".csv")) if part.is_file()):
        digest.update(f"\0{file.relative_to(PACKAGE).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
