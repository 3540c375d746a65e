"""The words of verdicts, which tables, claims and the report share."""

from collections.abc import Mapping
from typing import Any

BETTER, WORSE = "better", "worse"
HOLDS, FAILS = "holds", "does not hold"
OPEN = "not distinguishable"  # an interval or a test that leaves both sides possible
EQUIVALENT = "equivalent"  # a test that leaves only differences within a margin possible


def qualify(comparison: Mapping[str, Any]) -> str:
    """The verdict of a comparison, and how large a difference it excludes.

    Args:
        comparison: a row of `ablation.csv`; one that older code wrote lacks `detectable` and `margin`.
    """
    word, seen, margin = comparison["verdict"], comparison.get("detectable"), comparison.get("margin")
    if word == OPEN and seen == seen and seen is not None:
        return f"{word} (differences above {seen:.3f} would have been seen)"
    return f"{word} (within \N{PLUS-MINUS SIGN}{margin:g})" if word == EQUIVALENT else word
