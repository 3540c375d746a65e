"""HyperIQA and its successors: models, losses, data and statistics for no-reference image quality assessment."""

__version__ = "0.1.0"
