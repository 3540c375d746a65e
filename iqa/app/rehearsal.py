"""Try a study before paying for it: its whole graph with stand-ins, then a forecast of what the real one costs.

A rehearsal runs in a project of its own, `cache/rehearsals/<study>/`: a copy of the code, the study's parameter files
with small values, and for each database a small release in its own layout (`iqa.data.stand_ins`). Networks are the
smallest of their family, with random weights, and are trained for a few steps. No number of it means anything; its
report says so. It shows whether every run works, and how tables and figures of this size look.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from ruamel.yaml import YAML
from torch import nn

from iqa.analysis import complexity
from iqa.analysis.params import AblationParams, AnalysisParams, ComplexityParams, CrossDatasetParams
from iqa.app import machine, steps
from iqa.app.stale import State
from iqa.data import prepare
from iqa.data.params import DataPrepParams
from iqa.data.releases import OWN_FILES, OWN_SCALE, release_of
from iqa.data.stand_ins import HEIGHT, WIDTH, write_own, write_stand_in
from iqa.model.hyperiqa import HyperIQA
from iqa.model.scoring import LOWER, choose_device
from iqa.report import appendix
from iqa.report.params import ReportParams
from iqa.show.common import TALLEST
from iqa.study import param_files, paths
from iqa.study.params import Params
from iqa.study.results import FORMATS, RECORD
from iqa.training import losses, schedules
from iqa.training.params import TrainParams, source_run

COPIED = ("iqa", "notebooks", "report", "profiles", "Snakefile")
NOTICE = "This is a rehearsal with stand-ins for images and networks: no number in it means anything."
IMAGES = 60  # of each stand-in
CROP = 64
DPI = 60  # of figures
SMALLEST: dict[str, tuple[str, dict[str, Any]]] = {  # by the start of a backbone's name: a small one of its family
    "swin": ("swin_tiny_patch4_window7_224", {"embed_dim": 24, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 4, 8]}),
    "resnet": ("resnet10t", {"stem_width": 8, "channels": [16, 32, 64, 128], "layers": [1, 1, 1, 1]}),
    "mobilenetv2": ("mobilenetv2_035", {}),
    "tf_efficientnet_lite": ("mobilenetv2_035", {}),
    "convnext": ("convnext_atto", {"depths": [2, 2, 2, 2]}),
    "tf_efficientnetv2": ("tf_efficientnetv2_b0", {}),
}
DEPTHS = ("depths", "layers")  # arguments of backbones that tell how many blocks each level has
SMALL = {"epochs": 2, "batch_size": 8, "train_patches": 1, "test_patches": 1}  # one more for each larger value
BLANK = 2.0  # standard deviation of a figure's grey values below which nothing is seen on it
LONGEST = 30  # characters of a word in a table, between marks after which a line may break, that still fit a column


def rehearse(study: str, cores: int | None = None) -> tuple[Path, pd.DataFrame]:
    """Run a study with stand-ins: the project's folder, and a row for each problem, with columns `place` and `problem`.

    Raises:
        ParameterError: the study does not exist, or a parameter file is wrong.
    """
    runs = list(steps.all_params(study))
    home = paths.CACHE / "rehearsals" / study
    shutil.rmtree(home, ignore_errors=True)
    make_project(home, runs)
    cores = cores or os.cpu_count() or 1
    environment = os.environ | {"PYTHONPATH": str(home), "IQA_CACHE": str(home / "cache")}
    environment |= {machine.CORES: "1", "OMP_NUM_THREADS": "1", "IQA_BATCH": "1"}
    environment[FORMATS] = "png svg"  # what `examine` looks at, and what the report shows
    command = [sys.executable, "-m", "iqa.app.cli", "report", study, f"--jobs={cores}"]
    subprocess.run(command, cwd=home, env=environment, check=False)
    return home, pd.DataFrame(examine(home, runs), columns=["place", "problem"])


def make_project(home: Path, runs: list[Params]) -> None:
    """A project for the rehearsal of a study: code, small parameter files, and stand-ins for its databases."""
    study = runs[0].study
    trainings = [params for params in runs if isinstance(params, TrainParams)]
    home.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", *(folder.name for folder in paths.PARAMS.iterdir()))
    for name in COPIED:
        source = paths.ROOT / name
        if source.is_dir():
            shutil.copytree(source, home / name, ignore=ignored if name == "report" else None)
        else:
            shutil.copy(source, home)
    shutil.copytree(paths.PARAMS, home / "params")  # a study may read the files of another
    for step in steps.STEPS:
        (home / "params" / study / f"{step}.yaml").unlink(missing_ok=True)
        for file in (home / "params" / study / step).glob("*.yaml"):
            file.unlink()
    files = {step: param_files.runs_of(study, step) for step in steps.STEPS}
    written: set[Path] = set()
    for params in runs:
        file, alone = files[params.step][params.run]
        if file in written:  # by another of its runs
            continue
        written.add(file)
        if isinstance(params, DataPrepParams):
            write_release(params, _release_folder(params, home))
        values = {key: value for key, value in shrink(params, home, trainings).items() if key not in alone}
        if "database" in alone:
            values["database"] = param_files.experiment_of(study, "data_prep")[alone["database"]]
        several = {key: value for key, value in param_files.read_yaml(file).items() if key in ("seeds", "repeats")}
        target = home / "params" / study / params.step / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        YAML(typ="safe", pure=True).dump(values | (several if alone else {}), target)


def _release_folder(params: DataPrepParams, home: Path) -> Path:
    """Where the stand-in for a database is, which its splits share."""
    return home / "data" / param_files.experiment_of(params.study, "data_prep")[params.run]


def write_release(params: DataPrepParams, folder: Path) -> None:
    """A stand-in for the release that a database's parameters describe; synthetic ones make themselves."""
    if params.reader in OWN_FILES:
        scale = tuple(getattr(params, key) for key in OWN_SCALE)
        lists = {key: folder / f"{key}.list" for key in OWN_FILES[params.reader] if getattr(params, key)}
        write_own(folder, IMAGES, scale, lists)
    elif params.reader != "synthetic":
        write_stand_in(params.reader, folder, IMAGES)
        if params.images:
            release = release_of(params)
            names = [name for place in release.image_folders for name in place.removesuffix("?").split(" | ")]
            there = next((folder / name for name in names if (folder / name).is_dir()), None)
            if there is not None and there.name != params.images:
                there.rename(folder / params.images)


def shrink(params: Params, home: Path, trainings: list[TrainParams]) -> dict[str, Any]:
    """The values of a run's parameter file in the rehearsal.

    Args:
        trainings: all of the study; those that differ in the size of anything still do.
    """
    values = params.model_dump(exclude={"study", "run"})
    values |= {key: small for key, small in {"dpi": DPI, "threads": 1}.items() if key in values}
    if isinstance(params, DataPrepParams):
        folder = _release_folder(params, home)
        if params.reader == "synthetic":
            return values | {"scale": min(params.scale, 0.05)}
        values |= {"folder": str(folder), "split_file": None}
        values |= {key: str(folder / f"{key}.list") for key in OWN_FILES.get(params.reader, ()) if values[key]}
        if params.height and params.width:
            values |= {"height": min(params.height, HEIGHT), "width": min(params.width, WIDTH)}
    elif isinstance(params, TrainParams):
        backbone, arguments = smallest(params.backbone, sorted({each.backbone for each in trainings}))
        given = {key: value for key, value in params.backbone_args.items() if key == "strict_img_size"}
        values |= {"backbone": backbone, "backbone_args": arguments | given, "pretrained": False, "weights": None}
        values |= {"crop": min(params.crop, CROP), "fpn_channels": min(params.fpn_channels, 32)}
        own = source_run(params.start_from, params.study)
        values |= {"start_from": params.start_from if own and own[0] == params.study else None}
        for key, least in SMALL.items():
            place = sorted({getattr(each, key) for each in trainings}).index(values[key])
            values[key] = min(values[key], least + place)
        values |= {"devices": 1, "nodes": 1, "workers": 0, "compile": False, "precision": "32-true"}
    elif isinstance(params, AblationParams):
        values |= {"resamples": 50}
    elif isinstance(params, ComplexityParams):
        values |= {"height": CROP, "width": CROP, "batch_sizes": [1], "until_full": False, "seconds": 0.05}
        values |= {"memory_batch": 1, "warmup": 1, "repeats": 2, "compiled": [False], "precisions": ["32-true"]}
    elif isinstance(params, CrossDatasetParams):
        models = [model for model in params.models if model not in params.checkpoints()]
        values |= {"models": models, "resamples": 50, "batch_size": 8}
        values |= {"test_patches": params.test_patches and min(params.test_patches, 2)}
    elif isinstance(params, AnalysisParams):
        values |= {"resamples": 50, "cases": 2, "images": [], "components": min(params.components, 5), "bands": 2}
    elif isinstance(params, ReportParams):
        values |= {"notice": NOTICE}
    return values


def smallest(backbone: str, backbones: list[str]) -> tuple[str, dict[str, Any]]:
    """A small network of a backbone's family, and its arguments; the backbone itself where none is known.

    Args:
        backbones: all of the study; of one family, each has more blocks than the one before.
    """
    fits = max((start for start in SMALLEST if backbone.startswith(start)), key=len, default=None)
    if fits is None:
        return backbone, {}
    more = [each for each in backbones if each.startswith(fits)].index(backbone)
    name, arguments = SMALLEST[fits]
    deeper = {
        key: [*arguments[key][:2], arguments[key][2] + more, arguments[key][3]] for key in DEPTHS if key in arguments
    }
    return name, arguments | deeper


# --- what came of it


def examine(home: Path, runs: list[Params]) -> Iterator[tuple[str, str]]:
    """What is wrong with the results of a rehearsal: place and problem."""
    study = runs[0].study
    for params in runs:
        folder = home / "results" / study / params.step / params.run
        name = f"{params.step}/{params.run}"
        if not (folder / RECORD).is_file():
            yield name, _why(folder)
            continue
        for file in sorted(folder.rglob("*.png")):
            with Image.open(file) as image:
                grey = np.asarray(image.convert("L"), float)
            if grey.std() < BLANK:
                yield f"{name}/{file.name}", "figure: nothing is seen on it"
            if grey.shape[0] > (TALLEST + 0.3) * DPI:  # with its margins
                yield f"{name}/{file.name}", "figure: taller than a page"
    folder = home / "report" / study / "tables"
    written = {file.stem: pd.read_csv(file, dtype=str).fillna("") for file in sorted(folder.glob("*.csv"))}
    for table in appendix.LISTED if written else ():
        if table.name not in {"ablation", *written}:
            yield f"tables/{table.name}", "table: no rows"
    for name, table in written.items():
        words = [len(word) for cell in table.to_numpy().ravel() for word in re.split(r"[\s/_;-]", cell)]
        if max(words, default=0) > LONGEST:
            yield f"tables/{name}", f"table: a word of {max(words)} characters"


def _why(folder: Path) -> str:
    """Why a run is not finished."""
    logs = sorted([*folder.parent.glob(f"{folder.name}*/log.txt")], key=lambda file: file.stat().st_mtime)
    lines = logs[-1].read_text(encoding="utf-8", errors="replace").splitlines() if logs else []
    failed = [line for line in lines if line.startswith("failed: ")]
    return f"failed: {re.sub('^failed: ', '', failed[-1])[:160]}" if failed else "not run, as one that it needs failed"


# --- what the real study costs


def forecast(study: str, device: str = "auto") -> pd.DataFrame:
    """What each training experiment of a study costs, from counts and one timed step on this machine.

    A step of the study's main model is timed; others take as long per multiply-accumulate (forward and backward: three
    times the forward pass). Memory counts weights, gradients, both moments, and the outputs of all layers of a batch.
    Reading and decoding of images, tables and figures are not counted.

    Returns:
        One row per experiment: `experiment`, `runs`, `images` (of an epoch), `gmacs` (of a patch), `hours` (of one
        run), `memory_gb` (of one process), `disk_gb` (of its results), and `total_hours` (of all runs).
    """
    state = State(study)
    where = choose_device(device)
    report = next(params for params in state.params.values() if isinstance(params, ReportParams))
    speed = _seconds_per_mac(state.params["train", report.main], where)
    rows = []
    for name, runs in param_files.experiments(study).items():
        params = state.params["train", runs[0]]
        counts: Counter[str] = Counter()
        for database in (params.database, *params.with_databases):
            counts.update(_images(state.params["data_prep", database]))
        with torch.device("meta"):
            model = HyperIQA(params.architecture())
        macs = complexity.macs_torch(model.eval(), params.crop, params.crop)
        weights = sum(parameter.numel() for parameter in model.parameters())
        images = max(1, round(counts["train"] * params.train_share))
        patches = images * params.train_patches
        scored = counts["val"] * params.validation()["patches"]
        hours = params.epochs * (3 * patches + scored) * macs * speed / 3600
        batch = params.batch_size // params.processes()
        width = 4 if params.precision == "32-true" else 2
        memory = weights * 16 + batch * _outputs(model, params.crop) * width
        rows.append(
            {"experiment": name, "runs": len(runs), "images": images, "gmacs": macs / 1e9, "hours": hours}
            | {"memory_gb": memory / 2**30, "disk_gb": weights * 16 / 2**30, "total_hours": hours * len(runs)}
        )
    return pd.DataFrame(rows)


def cache_gb(study: str) -> float:
    """GB of cached pixels of the databases of a study whose stored size is set."""
    total = 0
    for params in steps.all_params(study):
        if isinstance(params, DataPrepParams) and params.height and params.width:
            total += _images(params)["all"] * params.height * params.width * 3 * len(params.inputs)
    return total / 1e9


def _images(params: DataPrepParams) -> dict[str, int]:
    """Images in all, for training and for validation: those that are here, or else by the facts of the release."""
    if params.reader != "synthetic" and prepare.absent(params) is None:
        splits = prepare.read(params).table["split"]
        return {"all": len(splits)} | {split: int((splits == split).sum()) for split in ("train", "val")}
    release = release_of(params)
    images = release.images or 1200
    splits = release.splits or {"train": round(images * params.train_fraction)}
    train = splits["train"]
    val = splits.get("val", round(train * params.val_fraction))
    return {"all": images, "train": train if "val" in splits else train - val, "val": val}


def _seconds_per_mac(params: TrainParams, device: torch.device) -> float:
    """Seconds per multiply-accumulate of a training step, by timing one of a model.

    On a CPU the step is timed with one thread, by what it takes of the processor, so that other work on the machine
    does not count; the threads of the run are taken to share it evenly.
    """
    torch.manual_seed(0)
    cuda = device.type == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = HyperIQA(params.architecture()).train().to(device, memory_format=torch.channels_last)
    batch = params.batch_size if cuda else 2
    pixels = torch.randint(0, 256, (batch, 3, params.crop, params.crop), dtype=torch.uint8, device=device)
    target = torch.linspace(0, 1, batch, device=device)
    optimizer = schedules.optimizer(model, params)
    lower = torch.autocast(device.type, LOWER.get(params.precision), enabled=params.precision in LOWER and cuda)
    spent = []
    for _ in range(3):  # the first warms up
        started = clock()
        with lower:
            prediction = model(pixels).float()
        losses.total(prediction, target, params.terms(), vars(params))["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
        if cuda:
            torch.cuda.synchronize()
        spent.append(clock() - started)
    torch.set_num_threads(threads)
    macs = complexity.macs_torch(model.eval(), params.crop, params.crop)
    return min(spent[1:]) / (3 * batch * macs) / (1 if cuda else params.threads)


def _outputs(model: nn.Module, crop: int) -> int:
    """Values that the layers of a model give for one patch; a training keeps them for the backward pass."""
    total = 0

    def count(_module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal total
        total += output.numel() if isinstance(output, torch.Tensor) else 0

    hooks = [part.register_forward_hook(count) for part in model.modules() if not list(part.children())]
    model(torch.zeros(1, 3, crop, crop, dtype=torch.uint8, device="meta"))
    for hook in hooks:
        hook.remove()
    return total
