"""The stress suite: `python -m stress` proves that nothing is lost and that nothing is silently wrong."""
