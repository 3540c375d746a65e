"""Runs the code of one section of a notebook, so that tests check the computation that a reader sees."""

import json
import re
from typing import Any

from iqa.analysis.gathering import Gathered
from iqa.analysis.params import AnalysisParams
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


def look_inside(heading: str, models: dict[str, Gathered], **values: Any) -> dict[str, Any]:
    """What the cells under a heading of `06_analysis` make of models, the first of which is the report's."""
    params = AnalysisParams(**{"database": "demo", "resamples": 100, "components": 5} | values)
    options = {"resamples": params.resamples, "confidence": params.confidence, "seed": params.seed}
    names = {"gathered": models, "subject": next(iter(models.values())), "waiting": {}}
    return run_section("06_analysis.ipynb", heading, params=params, options=options, **names)
