"""Run benchmarks one after the other, then compare: `python -m benchmarks [NAME ...]` (all of them)."""

import subprocess
import sys

from iqa.study import paths

BENCHMARKS = ("model", "training", "data_path", "folder", "memory", "evaluation", "pipeline", "scaling")


def main() -> int:
    """Run what is named; the exit status of the comparison, or of the first benchmark that fails."""
    for name in [*(sys.argv[1:] or BENCHMARKS), "compare"]:
        print(f"== {name}", flush=True)
        if status := subprocess.call([sys.executable, "-m", f"benchmarks.{name}"], cwd=paths.ROOT):
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
