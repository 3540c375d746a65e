"""What a model costs, measured: time per batch and memory, on each device and with each precision.

What cannot be measured (no such device, no compiler, a batch that does not fit) is a row with its reason.
"""

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count, product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from iqa.analysis.params import ComplexityParams
from iqa.model.hyperiqa import HyperIQA
from iqa.model.memory import GIB, Live, OverLimit, available, is_lacking
from iqa.model.scoring import LOWER, choose_device
from iqa.study.results import hardware

LEAST = 3  # passes that are timed at least, however long they take
TIMES = ("first_ms", "mean_ms", "std_ms", "min_ms", "max_ms", "median_ms", "p95_ms", "images_per_second", "passes")
SETTING = ("device", "hardware", "software", "precision", "compiled")
SPEEDS = ["run", *SETTING, "batch_size", *TIMES, "peak_bytes", "reason"]  # columns of `latency.csv`
MEMORIES = ["run", *SETTING, "batch_size", "inference_bytes", "training_bytes", "measure", "reason"]  # of `memory.csv`


@dataclass(frozen=True)
class Setting:
    """Where and how a model runs."""

    device: torch.device
    precision: str = "32-true"
    compiled: bool = False

    def about(self) -> dict[str, Any]:
        """The columns `SETTING`: device (`cpu` or the GPU's name), hardware and software in words, and how it runs."""
        on_gpu = self.device.type == "cuda" and not self.lacking()
        name = torch.cuda.get_device_name(self.device) if on_gpu else str(self.device)
        cores = f"{hardware()['cpu']}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
        software = f"torch {torch.__version__}" + (f", CUDA {torch.version.cuda}" if on_gpu else "")
        where = cores if self.device.type == "cpu" else name
        return dict(zip(SETTING, (name, where, software, self.precision, self.compiled), strict=True))

    def lacking(self) -> str:
        """Why this machine cannot run it; empty if it can."""
        if self.device.type not in ("cpu", "cuda"):
            return f"only the CPU and CUDA devices are measured, not {self.device}"
        absent = self.device.type == "cuda" and (self.device.index or 0) >= torch.cuda.device_count()
        return f"this machine has no device {self.device}" if absent else ""

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, LOWER.get(self.precision), enabled=self.precision in LOWER)

    @contextmanager
    def hold(self, model: nn.Module) -> Iterator[None]:
        """The model on the device; afterwards back on the CPU, and its memory back to the device."""
        model.to(self.device)
        try:
            yield
        finally:
            model.to("cpu")
            torch.cuda.empty_cache()

    def scoring(self, network: Callable, pixels: Tensor) -> Callable[[], None]:
        """A forward pass of a batch."""

        @torch.inference_mode()
        def run() -> None:
            with self.autocast():
                network(pixels)

        return run

    def pixels(self, batch_size: int, params: ComplexityParams) -> Tensor:
        """Random pixels (B, 3, H, W), uint8, channels last, always the same."""
        shape, generator = (batch_size, 3, params.height, params.width), torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return pixels.to(self.device, memory_format=torch.channels_last)


def devices(names: list[str]) -> list[torch.device]:
    """The devices that names stand for: `all` is the CPU and one CUDA device of each kind, `auto` the first CUDA device
    where there is one, else the CPU."""
    chosen: list[torch.device] = []
    for name in names:
        if name == "all":
            kinds = {torch.cuda.get_device_name(index): index for index in reversed(range(torch.cuda.device_count()))}
            chosen += [torch.device("cpu"), *(torch.device("cuda", index) for index in sorted(kinds.values()))]
        else:
            chosen.append(choose_device(name))
    return list(dict.fromkeys(chosen))


def settings(params: ComplexityParams, compiled: Iterable[bool] | None = None) -> list[Setting]:
    """Every combination of device, precision and `compiled` (that of the parameters), what is not compiled first."""
    choices = sorted(set(params.compiled if compiled is None else compiled))
    return [Setting(*values) for values in product(devices(params.devices), params.precisions, choices)]


def speeds(model: HyperIQA, setting: Setting, params: ComplexityParams) -> Iterator[dict[str, Any]]:
    """Time of forward passes, a row per batch size.

    Batches are random uint8 pixels, channels last, that are on the device already. The sizes are `batch_sizes`, with
    `until_full` doubled until memory ends. The first size that does not fit is the last: it needs more memory than
    there is (on the CPU: than `memory_gb`), or a pass would take longer than `seconds`.

    Yields:
        `SETTING`, `batch_size`, `TIMES` (see `timing`), `peak_bytes` (of one pass, see `peak_memory`; None where it is
        compiled for the CPU) and `reason` (empty where it was measured).
    """
    about = setting.about()
    if setting.lacking():
        yield about | {"batch_size": params.batch_sizes[0], "reason": setting.lacking()}
        return
    if setting.compiled:
        torch.compiler.reset()
    with setting.hold(model):
        forward = torch.compile(model) if setting.compiled else model
        pace = 0.0  # seconds per image of the size before
        larger = (params.batch_sizes[-1] * 2**power for power in count(1)) if params.until_full else ()
        for batch_size in chain(params.batch_sizes, larger):
            row = about | {"batch_size": batch_size, "reason": ""}
            if pace * batch_size > params.seconds:
                takes = f"a pass would take about {pace * batch_size:.1f} s"
                yield row | {"reason": f"time: {takes}, the limit is {params.seconds:g} s"}
                return
            try:
                times = _speed(model, forward, setting, batch_size, params)
            except (RuntimeError, OSError, MemoryError) as error:
                reason = _reason(error)
                if reason is None and not setting.compiled and not pace:  # a mistake, not a limit of large batches
                    raise
                cause = "torch.compile" if setting.compiled else "error"
                yield row | {"reason": reason or f"{cause}: {_first_line(error)}"}
                return
            pace = times["min_ms"] / 1000 / batch_size
            yield row | times


def _speed(
    model: HyperIQA, forward: Callable, setting: Setting, batch_size: int, params: ComplexityParams
) -> dict[str, Any]:
    """Times and peak memory of one batch size."""
    pixels = setting.pixels(batch_size, params)
    run, on_cpu = setting.scoring(forward, pixels), setting.device.type == "cpu"
    if on_cpu:  # compiled code is not seen from Python; a pass that is not compiled shows that the batch fits
        peak = peak_memory(setting.scoring(model, pixels), model, memory_limit(params.memory_gb), pixels)
    else:
        torch.cuda.reset_peak_memory_stats(setting.device)
    times = timing(run, batch_size, setting.device, params.warmup, params.repeats, params.seconds)
    if not on_cpu:
        peak = torch.cuda.max_memory_allocated(setting.device)
    return times | {"peak_bytes": None if on_cpu and setting.compiled else peak}


def timing(
    run: Callable[[], Any],
    batch_size: int,
    device: torch.device,
    warmup: int = 3,
    repeats: int = 20,
    seconds: float = float("inf"),
) -> dict[str, Any]:
    """Time of passes of a batch, in milliseconds, after `warmup` ones that do not count.

    On a GPU each pass is waited for (`torch.cuda.synchronize`), so that queueing does not pass for speed.

    Args:
        repeats: passes that are timed; fewer, but `LEAST`, where they take longer than `seconds` together.

    Returns:
        `TIMES`: `first_ms` is the first pass of all (with compilation, if any); `passes` are those that count.
    """
    times: list[float] = []
    while len(times) < warmup + repeats:
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1000 * (time.perf_counter() - start))
        if len(times) >= warmup + LEAST and sum(times[warmup:]) > 1000 * seconds:
            break
    counted = np.array(times[warmup:])
    values = (counted.mean(), counted.std(), counted.min(), counted.max(), np.median(counted))
    values = (times[0], *values, np.percentile(counted, 95), 1000 * batch_size / counted.mean())
    return {**dict(zip(TIMES[:-1], map(float, values), strict=True)), "passes": len(counted)}


def memory(model: HyperIQA, setting: Setting, params: ComplexityParams) -> dict[str, Any]:
    """Peak memory of scoring and of training with a batch of `memory_batch` images; never compiled.

    Scoring is one pass. Training is two steps of AdamW with the L1 loss, of the parameters that the run trains; the
    second one holds weights, gradients, the optimiser's averages and the activations at once.

    Returns:
        `SETTING`, `batch_size`, `inference_bytes`, `training_bytes`, `measure` and `reason`.
    """
    row = setting.about() | {"batch_size": params.memory_batch, "reason": setting.lacking()}
    row["measure"] = "tensors" if setting.device.type == "cpu" else "torch.cuda.max_memory_allocated"
    if row["reason"]:
        return row
    with setting.hold(model):
        limit = memory_limit(params.memory_gb)
        for name, work in (("inference", _scoring), ("training", _training)):
            try:
                row[f"{name}_bytes"] = work(model, setting, params, limit)
            except (RuntimeError, MemoryError) as error:
                reason = _reason(error)
                if reason is None:
                    raise
                row["reason"] = f"{name}: {reason}"
    return row


def _scoring(model: HyperIQA, setting: Setting, params: ComplexityParams, limit: float) -> int:
    pixels = setting.pixels(params.memory_batch, params)
    return peak_memory(setting.scoring(model, pixels), model, limit, pixels)


def _training(model: HyperIQA, setting: Setting, params: ComplexityParams, limit: float) -> int:
    pixels = setting.pixels(params.memory_batch, params)
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad])

    def run() -> None:
        for _ in range(2):
            optimizer.zero_grad()
            with setting.autocast():
                loss = (model(pixels) - 0.5).abs().mean()
            loss.backward()
            optimizer.step()

    return peak_memory(run, model, limit, pixels)


def peak_memory(run: Callable[[], Any], model: nn.Module, limit: float, *more: Tensor) -> int:
    """Most bytes that tensors take at once while `run` runs, including the model's and `more`.

    On a GPU it is what PyTorch's allocator has handed out (`torch.cuda.max_memory_allocated`). On the CPU it is the
    bytes of all storages that PyTorch's operators return, from their making until they are freed: scratch memory inside
    an operator and what the process itself takes (about 0.4 GiB) are not in it, and it is the same on every run.

    Raises:
        OverLimit: on the CPU, more than `limit` bytes; the work is stopped there.
    """
    kept = [*model.parameters(), *model.buffers(), *more]
    device = kept[0].device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    with Live(kept, limit) as live:
        run()
    return live.peak


def memory_limit(gigabytes: float | None) -> float:
    """Bytes that tensors on the CPU may take: `gigabytes` (GiB), or those that are `available`."""
    return available() if gigabytes is None else gigabytes * GIB


def _reason(error: Exception) -> str | None:
    """Why a batch does not fit, or None for an error of another kind."""
    if isinstance(error, OverLimit):
        return str(error)
    return f"memory: {_first_line(error)}" if is_lacking(error) else None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
