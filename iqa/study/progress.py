"""Progress as its reader wants it: a live bar for a person, single lines for the log of a pipeline."""

import os
from collections.abc import Iterable

from tqdm.auto import tqdm


def in_batch() -> bool:
    """Whether a pipeline runs this; it sets `IQA_BATCH`."""
    return "IQA_BATCH" in os.environ


def bar(items: Iterable | None = None, *, total: int, desc: str, unit: str) -> tqdm:
    """A tqdm bar, a widget in JupyterLab; in batch a line that says what begins."""
    if in_batch():
        print(f"{desc}: {total} {unit}s", flush=True)
    return tqdm(items, total=total, desc=desc, unit=unit, mininterval=1, disable=in_batch())
