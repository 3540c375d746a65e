"""Runs the code of one section of a notebook, so that tests check the computation that a reader sees."""

import json
import re
from typing import Any

from iqa.study import paths


def run_section(notebook: str, heading: str, **names: Any) -> dict[str, Any]:
    """Run the imports of a notebook and the cells under a heading `## ...`, but for those that save or draw.

    Args:
        names: what cells before the section define.

    Returns:
        All names that the section leaves.
    """
    cells = json.loads((paths.NOTEBOOKS / notebook).read_text(encoding="utf-8"))["cells"]
    sources = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    imports = next(source for kind, source in sources if kind == "code")
    starts = [number for number, (kind, source) in enumerate(sources) if kind == "markdown" and "## " in source]
    start = next(number for number in starts if sources[number][1].startswith(f"## {heading}\n"))
    section = sources[start : next(number for number in starts if number > start)]
    code = [source for kind, source in section if kind == "code" and not re.search(r"\b(show|out)\.", source)]
    for source in [imports.replace("%matplotlib inline", ""), *code]:
        exec(compile(source, f"{notebook}, {heading}", "exec"), names)
    return names
