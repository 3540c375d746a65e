"""HyperIQA and its successors: models, losses, data and statistics for no-reference image quality assessment."""

import importlib
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`iqa.load_model`, imported when it is asked for.

    Not by an import statement, as torch takes seconds.
    """
    if name == "load_model":
        return importlib.import_module("iqa.model.predictor").load_model
    raise AttributeError(f"module 'iqa' has no attribute '{name}'")
