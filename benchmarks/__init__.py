"""Measurements of speed, each a script: `python -m benchmarks.<name>`. Their numbers go to benchmarks/out/."""
