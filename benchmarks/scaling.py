"""How time and memory of each step grow with the number of images.

    .venv/bin/python -m benchmarks.scaling [--sizes 1000 10000 100000] [--resamples 100] [--threads 2]

Small JPEGs (64x48, all of different contents), a network of a few thousand weights, and one fresh process per
size, which takes the steps of a study one after the other:

- preparation: labels read and split, files hashed, decoded and cached, the audit;
- epoch: `fit` for one epoch of one patch per image, with what follows it (16 images validated, checkpoint);
- scoring: `iqa.model.scoring.score` of all images;
- statistics: `iqa.analysis.evaluation.evaluate` of all images, with fewer resamples than a study has (time is linear in
  them);
- figures: histogram and scatter of all images, saved as png, svg and pdf.

The floor of a row is the smaller size's time, times how many more images there are: a ratio above 1 is growth faster
than linear. `exponent` is the slope of a line through the logarithms of time and size (1 is linear; fixed costs make it
smaller). `peak_mib` is the most memory that the process held during a step (resident set: libraries and mapped pages of
the cache included), `added_mib` how much more that is than before the step, and `memory_exponent` the slope of that.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.common import CORES, MIB, environment, process, report, seconds
from iqa.study import paths

HEIGHT, WIDTH, CROP = 48, 64, 48
DIFFERENT = 64  # pictures; the files differ by bytes after the picture's end
HELD_OUT = 16  # images each to validate and to test
NETWORK = {"stem_width": 4, "channels": [8, 8, 8, 8], "zero_init_last": False}
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def write_images(folder: Path, sizes: list[int]) -> None:
    """A folder of images and a label file for each size; the files are written once and linked."""
    from PIL import Image

    rng = np.random.default_rng(0)
    noise = rng.normal(0, rng.uniform(5, 60, DIFFERENT)[:, None, None, None], (DIFFERENT, HEIGHT, WIDTH, 3))
    largest = folder / str(max(sizes))
    largest.mkdir()
    pictures = []
    for pixels in np.clip(128 + noise, 0, 255).astype(np.uint8):
        Image.fromarray(pixels).save(folder / "picture.jpg", quality=90)
        pictures.append((folder / "picture.jpg").read_bytes())
    names = [f"{number:06}.jpg" for number in range(max(sizes))]
    for number, name in enumerate(names):
        (largest / name).write_bytes(pictures[number % DIFFERENT] + number.to_bytes(4, "little"))
    mos = rng.uniform(0, 100, len(names)).round(2)
    for size in sizes:
        split = ["val"] * HELD_OUT + ["test"] * HELD_OUT + ["train"] * (size - 2 * HELD_OUT)
        table = pd.DataFrame({"image": names[:size], "mos": mos[:size], "split": split})
        table.to_csv(folder / f"{size}.csv", index=False)
        (folder / str(size)).mkdir(exist_ok=True)
        for name in names[:size] if size < max(sizes) else []:
            (folder / str(size) / name).hardlink_to(largest / name)


def memory(entry: str) -> float:
    """MiB that this process holds (`VmRSS`) or has held at most since `forget_peak` (`VmHWM`).

    Where the system does not tell (only Linux does), both are the most since its start.
    """
    if STATUS.is_file():
        return float(STATUS.read_text().split(f"{entry}:")[1].split()[0]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB


def forget_peak() -> None:
    if CLEAR.is_file():
        CLEAR.write_text("5")


def steps(folder: Path, size: int, resamples: int, threads: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The steps of a study of `size` images by name, in their order."""
    from iqa.analysis.evaluation import evaluate
    from iqa.data.audit import audit
    from iqa.data.params import DataPrepParams
    from iqa.data.prepare import prepare
    from iqa.model.hyperiqa import HyperIQA
    from iqa.model.scoring import score
    from iqa.show import data_prep, train
    from iqa.study import param_files
    from iqa.study.results import RunFolder
    from iqa.training.params import TrainParams
    from iqa.training.train import train as fit

    paths.CACHE, paths.RESULTS = folder / f"cache_{size}", folder / f"results_{size}"
    files = {"folder": str(folder / str(size)), "labels": str(folder / f"{size}.csv")}
    about = {"low": 0.0, "high": 100.0, "higher_is_better": True, "inputs": ["rgb"], "workers": threads}
    prep = DataPrepParams(study="scaling", run="scaling", reader="csv", **files, **about)
    params = param_files.load(TrainParams, "demo", "main_s1").model_copy(
        update={"study": "scaling", "run": "scaling", "database": "scaling", "input": "rgb", "crop": CROP}
        | {"backbone_args": NETWORK, "batch_size": 64, "epochs": 1, "threads": threads, "device": "cpu"}
    )
    out = RunFolder(params)
    model = HyperIQA(params.architecture())
    found: dict[str, Any] = {}

    def preparation() -> None:
        found["data"] = prepare(prep)
        audit(found["data"])

    def scoring() -> None:
        data = found["data"]
        how = {"input": "rgb", "crops": "whole", "patches": 1, "crop": CROP, "batch_size": 64}
        value = score(model, data, np.arange(len(data)), **how)
        found["predictions"] = data.table.assign(prediction=data.denormalise(value))

    def draw() -> None:
        out.save_figure("mos_histogram", data_prep.mos_histogram(found["predictions"], 0, 100))
        out.save_figure("scatter", train.prediction_scatter(found["predictions"], 0, 100))

    yield "preparation", preparation
    yield "epoch", lambda: fit(params, found["data"], out.path)
    yield "scoring", scoring
    yield "statistics", lambda: evaluate(found["predictions"], resamples)
    yield "figures", draw


def measure(folder: Path, size: int, resamples: int, threads: int) -> None:
    """Take the steps in the process of one size, and write their seconds and memory to `<size>.json`."""
    rows = []
    for name, step in steps(folder, size, resamples, threads):
        forget_peak()
        before = memory("VmRSS")
        row = {"step": name, "images": size, "seconds": seconds(step), "peak_mib": memory("VmHWM")}
        rows.append(row | {"added_mib": max(1.0, row["peak_mib"] - before)})
    (folder / f"{size}.json").write_text(json.dumps(rows))


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows by step, with the time that linear growth would give, and the fitted exponents."""
    found = pd.DataFrame(rows)
    parts = []
    for _, part in found.groupby("step", sort=False):
        part = part.sort_values("images")
        linear = part["seconds"].shift() * part["images"] / part["images"].shift()
        part = part.assign(linear_seconds=linear, ratio=part["seconds"] / linear)
        for column, name in (("seconds", "exponent"), ("added_mib", "memory_exponent")):
            known = len(part) > 1
            part[name] = np.polyfit(np.log(part["images"]), np.log(part[column]), 1)[0] if known else np.nan
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000], help="images")
    parser.add_argument("--resamples", type=int, default=100)
    parser.add_argument("--threads", type=int, default=CORES)
    parser.add_argument("--in-folder", type=Path, help=argparse.SUPPRESS)  # the process of one size
    options = parser.parse_args()
    if options.in_folder:
        measure(options.in_folder, *options.sizes, options.resamples, options.threads)
        return
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_images(folder, options.sizes)
        variables = environment(folder / "bytecode", IQA_BATCH="1", OMP_NUM_THREADS=str(options.threads))
        for size in sorted(options.sizes):
            how = ["--sizes", size, "--resamples", options.resamples, "--threads", options.threads]
            command = [sys.executable, "-m", "benchmarks.scaling", "--in-folder", folder, *how]
            taken, _ = process(command, cwd=paths.ROOT, env=variables)
            print(f"{size:,} images: {taken:.0f} s, start included", flush=True)
            rows += json.loads((folder / f"{size}.json").read_text())
    settings = {name: value for name, value in vars(options).items() if name != "in_folder"}
    report("scaling", settings, table(rows))


if __name__ == "__main__":
    main()
