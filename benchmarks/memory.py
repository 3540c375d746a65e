"""Memory that the scoring of photographs takes beyond the model, each case in a process of its own.

    .venv/bin/python -m benchmarks.memory [--images 6] [--megapixels 24] [--run demo/main_s1] [--cases grid map whole]

Files are scored as `iqa predict` scores them, with its default workers: a grid of 25 crops, a quality map that is drawn
(crops side by side), or the whole image. Weights are random, as they do not change the memory. `added_mib` is the
most memory that the process held (resident set) less what it held once the model had scored a small image.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.common import CORES, environment, process, report, seconds
from benchmarks.scaling import forget_peak, memory
from iqa.study import paths

CASES = ("grid", "map", "whole")


def write_photos(folder: Path, images: int, megapixels: float) -> list[Path]:
    """JPEGs of 3:2 with detail; every second one is stored turned, as cameras do."""
    from PIL import Image

    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    generator = np.random.default_rng(0)
    files = [folder / f"{number}.jpg" for number in range(images)]
    for number, file in enumerate(files):
        noise = Image.fromarray(generator.integers(0, 256, (height // 10, height * 3 // 20, 3), np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6 if number % 2 else 1  # orientation
        noise.resize((height * 3 // 2, height)).save(file, quality=90, exif=exif)
    return files


def measure(folder: Path, case: str, run: str) -> None:
    """Score the photos of a folder in this process, and write what it took to `<case>.json`."""
    from iqa.app.predict import Maps
    from iqa.data.pixels import Size
    from iqa.model.hyperiqa import HyperIQA
    from iqa.model.predictor import Predictor, Scale, Unreadable
    from iqa.study import param_files
    from iqa.training.params import TrainParams

    study, _, name = run.partition("/")
    params = param_files.load(TrainParams, study, name)
    network, scale = HyperIQA(params.architecture()).eval(), Scale(0, 1, True, "random weights")
    options = {"crops": "grid", "patches": 25, "seed": 0}
    model = Predictor(network, run, params.input, params.crop, Size(), scale, options)
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

    forget_peak()
    before = memory("VmRSS")
    row = {"case": case, "images": len(files), "seconds": seconds(score), "peak_mib": memory("VmHWM")}
    (folder / f"{case}.json").write_text(json.dumps(row | {"added_mib": row["peak_mib"] - before}))


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--megapixels", type=float, default=24.0)
    parser.add_argument("--run", default="demo/main_s1")
    parser.add_argument("--threads", type=int, default=CORES)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--in-folder", type=Path, help=argparse.SUPPRESS)  # the process of one case
    options = parser.parse_args()
    if options.in_folder:
        measure(options.in_folder, *options.cases, options.run)
        return
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_photos(folder, options.images, options.megapixels)
        variables = environment(folder / "bytecode", OMP_NUM_THREADS=str(options.threads))
        for case in options.cases:
            how = ["--cases", case, "--run", options.run]
            process(
                [sys.executable, "-m", "benchmarks.memory", "--in-folder", folder, *how], cwd=paths.ROOT, env=variables
            )
            rows.append(json.loads((folder / f"{case}.json").read_text()))
    settings = {name: value for name, value in vars(options).items() if name != "in_folder"}
    report("memory", settings, pd.DataFrame(rows))


if __name__ == "__main__":
    main()
