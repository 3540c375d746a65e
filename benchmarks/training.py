"""Training patches per second of the project's loop, of a bare loop over the same backbone, and of the loader alone.

    .venv/bin/python -m benchmarks.training [--runs koniq10k/swin_tiny_s1] [--device cuda] [--precision bf16-mixed]
                                            [--compile] [--batch 16] [--steps 1] [--rounds 4] [--threads 1]
                                            [--workers 0] [--peak 989]

On a CPU, seconds are processor time where the loader has no workers.

`--peak` is the device's peak in TFLOP/s at this precision; with it the table has the share of the peak that is used.

Training is measured as `iqa run` does it: Lightning's loop over `iqa.training.fit.Fit` with its loader, losses,
clipping, fused optimiser and history. It is compared with

- a bare loop: timm's network of the same name with global pooling and a linear head, L1, the same optimiser, batch,
  precision and clipping, on one batch of pixels that is already on the device. Goal: at least 0.9 of its throughput;
- the same step by hand: the project's model, loader, losses, optimiser and schedule in a plain `for`, which leaves
  what Lightning costs.

The loader alone is compared with what training consumes. Goal: at least 3 times that.

Time runs from the end of a batch to the end of a later one. Left out are the start (building the model, starting
workers, the first batches) and what follows an epoch: validation, `history.csv`, checkpoints. Pixels are random, of
the database's stored size, and in memory; weights are random, as neither changes the time.
"""

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from benchmarks import common
from benchmarks.common import row
from benchmarks.images import SIZES, random_database
from iqa.analysis.complexity import macs_torch
from iqa.data.database import Database
from iqa.model.hyperiqa import HyperIQA
from iqa.model.scoring import choose_device
from iqa.study import param_files
from iqa.training import fit, losses, schedules
from iqa.training.batches import Batch, train_loader
from iqa.training.fit import Fit
from iqa.training.params import TrainParams

RUNS = ["koniq10k/hyperiqa_s1", "demo/main_s1"]
EPOCH = {"koniq10k": 7046 * 20}  # patches of the real database's epoch
LARGE = 128  # side of a crop from which on a CPU takes seconds for a batch
LOADED = 40  # batches of the loader alone, which is quick


def database(params: TrainParams, batches: int) -> Database:
    """Random images of the study's size, enough for an epoch of so many full batches, and one to validate."""
    images = max(32, -(-batches * params.batch_size // params.train_patches))
    return random_database(["val"] + ["train"] * images, *SIZES[params.study], params.input)


class Clock:
    """Patches per second, as `read` tells them, from the end of batch `first` to the end of `last` of an epoch."""

    def __init__(self, first: int, last: int, batch: int, read: Callable[[], float]):
        self.first, self.last, self.read = first, last, read
        self.patches = batch * (last - first)

    def ended(self, number: int) -> bool:
        """Count a batch that has ended; True when the measurement is over."""
        if number in (self.first, self.last):
            now = self.read()
            self.rate = self.patches / (now - self.start) if number == self.last else 0.0
            self.start = now
        return number >= self.last


def timed_fit(clock: Clock, after_epoch: Callable[[float], None]) -> type[Fit]:
    """`Fit` with a clock: an epoch ends when it has seen enough, and calls `after_epoch` instead of validating."""

    class Timed(Fit):
        def on_train_batch_start(self, batch: Batch, index: int) -> int | None:
            return -1 if index > clock.last else None

        def on_train_batch_end(self, outputs: Any, batch: Batch, index: int) -> None:
            clock.ended(index)

        def on_train_epoch_end(self) -> None:
            after_epoch(clock.rate)

    return Timed


def by_hand(params: TrainParams, data: Database, device: torch.device) -> Callable[[Clock], float]:
    """The steps of `Fit` in a plain loop over its loader; a function that runs it and returns patches per second."""
    model = HyperIQA(params.architecture()).to(device, memory_format=layout(params)).train()
    optimizer = schedules.optimizer(model, params)
    schedule = schedules.scheduler(optimizer, params, 1_000_000)
    loader = train_loader(data, params)
    call = torch.compile(model) if params.compile else model

    def step(batch: Batch) -> None:
        pixels, target, _ = (part.to(device, non_blocking=True) for part in batch)
        pixels = pixels.contiguous(memory_format=layout(params))
        with autocast(params, device):
            prediction = call(pixels).float()
            loss = losses.total(prediction, target, params.terms(), vars(params))["total"]
        descend(loss, model, optimizer, params.clip)
        schedule.step()

    def run(clock: Clock) -> float:
        return timed(map(step, loader), clock)

    return run


def bare(params: TrainParams, device: torch.device) -> Callable[[Clock], float]:
    """The floor: timm's network with a linear head on one batch in memory."""
    dropped = {"drop_path_rate": params.drop_path} if params.drop_path else {}
    model = timm.create_model(params.backbone, num_classes=1, **params.backbone_args, **dropped)
    model = model.to(device, memory_format=layout(params)).train()
    optimizer = schedules.optimizer(model, params)
    image = torch.randn(params.batch_size, 3, params.crop, params.crop, device=device)
    image = image.contiguous(memory_format=layout(params))
    target = torch.rand(params.batch_size, device=device)
    call = torch.compile(model) if params.compile else model

    def step() -> None:
        with autocast(params, device):
            loss = l1_loss(call(image).flatten().float(), target)
        descend(loss, model, optimizer, params.clip)

    def run(clock: Clock) -> float:
        return timed((step() for _ in itertools.count()), clock)

    return run


def descend(loss: Tensor, model: nn.Module, optimizer: torch.optim.Optimizer, clip: float) -> None:
    """One step of an optimiser."""
    optimizer.zero_grad()
    loss.backward()
    if clip:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()


def layout(params: TrainParams) -> torch.memory_format:
    return torch.channels_last if params.channels_last else torch.contiguous_format


def autocast(params: TrainParams, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=params.precision == "bf16-mixed")


def timed(steps: Iterator[None], clock: Clock) -> float:
    """Take steps until the clock has seen enough."""
    for number, _ in enumerate(steps):
        if clock.ended(number):
            break
    return clock.rate


def measure(params: TrainParams, options: argparse.Namespace, steps: int) -> dict[str, list[float]]:
    """Patches per second of each way in each round.

    One fit lasts over all rounds: its epochs are the rounds, and the other ways have their turn after each. The first
    round does not count.
    """
    device, first = choose_device(params.device), 2 * params.workers  # by then what workers had prepared is used up
    torch.set_num_threads(params.threads)
    data, plenty = (database(params, first + 1 + count) for count in (steps, LOADED))
    floor, hand = bare(params, device), by_hand(params, data, device)
    read = time.perf_counter if params.workers and device.type == "cpu" else common.clock(device.type)
    found: dict[str, list[float]] = {"fit": [], "floor": [], "hand": [], "loader": []}

    def clock(count: int = steps) -> Clock:
        return Clock(first, first + count, params.batch_size, read)

    def round(rate: float) -> None:
        found["fit"].append(rate)
        found["floor"].append(floor(clock()))
        found["hand"].append(hand(clock()))
        found["loader"].append(timed((None for _ in train_loader(plenty, params)), clock(LOADED)))
        print(".", end="", flush=True)

    timed_class = timed_fit(clock(), round)
    with tempfile.TemporaryDirectory() as folder, patch.object(fit, "Fit", timed_class):
        fit.fit(params, data, Path(folder), {})
    return {name: rates[1:] for name, rates in found.items()}


def rows(params: TrainParams, found: dict[str, list[float]], peak: float) -> list[dict[str, Any]]:
    """Rows of the table for one training run."""
    run, by_processor = f"{params.study}/{params.run}", common.unit(choose_device(params.device).type) == "CPU s"
    unit = "patches/CPU s" if by_processor and not params.workers else "patches/s"
    what, head = f"{run}: training, batch {params.batch_size}, {params.precision}", f"{params.backbone} + linear head"
    table = [
        row(what, found["fit"], unit, f"{head}, bare loop", found["floor"], "ratio >= 0.9"),
        row(f"{what}: Lightning", found["fit"], unit, "the same step by hand", found["hand"]),
        row(f"{run}: loader alone", found["loader"], unit, "what training consumes", found["fit"], "ratio >= 3"),
    ]
    if params.study in EPOCH:
        minutes = [EPOCH[params.study] / rate / 60 for rate in found["fit"]]
        each = "CPU min" if unit == "patches/CPU s" else "min"
        table.append(row(f"{run}: epoch of {EPOCH[params.study]:,} patches", minutes, each))
    if peak:
        flops = 3 * 2 * macs_torch(HyperIQA(params.architecture()).eval(), params.crop, params.crop)
        used = [rate * flops / 1e12 for rate in found["fit"]]
        table.append(row(f"{run}: use of the device", used, "TFLOP/s", "its peak", [peak] * len(used)))
    return table


def settings(run: str, options: argparse.Namespace) -> tuple[TrainParams, int]:
    """Parameters of a run as they are measured, and steps of a measurement: fewer where a CPU takes seconds for one."""
    study, _, name = run.partition("/")
    own = param_files.load(TrainParams, study, name)
    on_cpu = choose_device(options.device).type == "cpu"
    slow = on_cpu and own.crop >= LARGE
    changes = {
        "device": options.device,
        "precision": options.precision or ("32-true" if on_cpu else own.precision),
        "batch_size": options.batch or (16 if slow else own.batch_size),
        "threads": options.threads,
        "workers": options.workers,
        "compile": options.compile,
        "channels_last": options.channels_last,
        "fused": options.fused,
        "epochs": options.rounds + 1,
        "patience": None,
        "pretrained": False,
        "weights": None,
    }
    if options.deterministic is not None:
        changes["deterministic"] = options.deterministic
    return param_files.load(TrainParams, study, name, changes), options.steps or (1 if slow else 10 if on_cpu else 50)


def main() -> None:
    """Measure, print and write the table."""
    switches = {"deterministic": None, "compile": False, "channels_last": True, "fused": True}
    numbers = {"batch": 0, "steps": 0, "rounds": 4, "threads": 1, "workers": 0, "peak": 0.0}
    options = common.arguments(__doc__, runs=RUNS, device="auto", precision="", **switches, **numbers)
    os.environ["IQA_BATCH"] = "1"  # no progress bars
    table = []
    for run in options.runs:
        params, steps = settings(run, options)
        table += rows(params, measure(params, options, steps), options.peak)
    print("\nmedians over the rounds; left out: the start, the first batches, and validation after an epoch")
    common.report("training", options, table)


if __name__ == "__main__":
    main()
