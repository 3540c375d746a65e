"""Runs the code of one section of a notebook, so that tests check the computation that a reader sees."""

import json
from typing import Any

from iqa.study import paths


def run_section(notebook: str, heading: str, **names: Any) -> dict[str, Any]:
    """Run the imports of a notebook and the code cells under a heading `## ...`, with `names` given.

    Returns:
        All names that the section leaves.
    """
    cells = json.loads((paths.NOTEBOOKS / notebook).read_text(encoding="utf-8"))["cells"]
    sources = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    imports = next(source for kind, source in sources if kind == "code")
    starts = [number for number, (kind, source) in enumerate(sources) if kind == "markdown" and "## " in source]
    start = next(number for number in starts if sources[number][1].startswith(f"## {heading}\n"))
    section = sources[start : next(number for number in starts if number > start)]
    for source in [imports.replace("%matplotlib inline", ""), *(code for kind, code in section if kind == "code")]:
        exec(compile(source, f"{notebook}, {heading}", "exec"), names)
    return names
