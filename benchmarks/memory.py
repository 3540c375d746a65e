"""Memory that the scoring of photographs takes beyond the model, each case in a process of its own.

    .venv/bin/python -m benchmarks.memory [--images 6] [--megapixels 24] [--run demo/main_s1] [--cases grid map whole]

Files are scored as `iqa predict` scores them, with its default workers: a grid of 25 crops, a quality map that is drawn
(crops side by side), or the whole image. Weights are random, as they do not change the memory. What is added is the
most memory that the process held (resident set) less what it held once the model had scored a small image.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import Cost, arguments, cost, fresh, report, row
from benchmarks.folder import predictor
from benchmarks.images import write_photographs
from iqa.app.predict import Maps
from iqa.data.pixels import Size
from iqa.model.memory import keep_freed
from iqa.model.predictor import Unreadable

GOAL = "value < 1000"


def measure(folder: Path, case: str, run: str, threads: int) -> Cost:
    """What it takes to score the photographs of a folder in this process."""
    torch.set_num_threads(threads)
    keep_freed()
    model = predictor(run, torch.device("cpu"), Size())
    how = {"grid": {"crops": "grid", "patches": 25}, "whole": {"crops": "whole"}}
    how["map"] = {"crops": "dense", "stride": model.crop}
    files = sorted(folder.glob("*.jpg"))
    maps = Maps(folder, files)
    model.score(np.zeros((model.crop, model.crop, 3), np.uint8))

    def score() -> None:
        for file, scores in model.score_files(files, **how[case]):
            if isinstance(scores, Unreadable):
                raise scores
            if case == "map":
                maps.draw(model, file, scores)

    return cost(score)


def main() -> None:
    """Measure, print and write the table."""
    how = {"images": 6, "megapixels": 24.0, "run": "demo/main_s1", "threads": 1}
    options = arguments(__doc__, cases=("grid", "map", "whole"), **how)
    height = round((options.megapixels * 1e6 / 1.5) ** 0.5)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_photographs(folder, options.images, height * 3 // 2, height)
        for case in options.cases:
            found = fresh(measure, folder, case, options.run, options.threads)
            what = f"{case}: {options.images} photographs of {options.megapixels:g} megapixels"
            rows.append(row(f"{what}, added memory", [found.added], "MiB", goal="" if case == "whole" else GOAL))
            rows.append(row(what, [found.cpu], "CPU s"))
    report("memory", options, rows)


if __name__ == "__main__":
    main()
