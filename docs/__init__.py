"""The documentation, and `python -m docs.generate`, which makes its reference pages from the code."""
