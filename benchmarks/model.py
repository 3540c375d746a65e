"""What HyperIQA costs on top of its backbone: forward, forward and backward, and the target network.

    .venv/bin/python -m benchmarks.model [--device cuda] [--batch 8] [--rounds 7]

The floor is the same backbone alone, as timm builds it, on the same batch of normalised images. A ratio is the median
over rounds in which both were timed one after the other. The target network is also timed as one grouped convolution
per layer, which is how the first implementation of HyperIQA computed it.
"""

import argparse
import time
from collections.abc import Callable

import pandas as pd
import torch
from torch.nn.functional import conv2d

from benchmarks.common import report
from iqa.model.hyperiqa import HyperIQA, Layer, target_network
from iqa.model.scoring import choose_device
from iqa.study import param_files
from iqa.training.params import TrainParams

RUNS = ("hyperiqa_s1", "ms_hyperiqa_s1", "swin_tiny_s1", "swin_tiny_attention_s1")  # of the study koniq10k


def ratio(ours: Callable[[], object], floor: Callable[[], object], rounds: int, device: torch.device) -> dict:
    """Median milliseconds of both, and of their ratio in each round, after two rounds that do not count."""
    times = []
    for _ in range(rounds + 2):
        marks = []
        for work in (ours, floor):
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            marks.append(1000 * (time.perf_counter() - start))
        times.append(marks)
    found = pd.DataFrame(times[2:], columns=["ms", "floor_ms"])
    return {**found.median(), "ratio": (found["ms"] / found["floor_ms"]).median()}


def grouped(local: torch.Tensor, layers: list[Layer]) -> torch.Tensor:
    """The target network as one convolution per layer with a group for each image."""
    x = local.reshape(1, -1, 1, 1)
    for number, (weight, bias) in enumerate(layers):
        x = conv2d(x, weight.reshape(-1, weight.shape[2], 1, 1), bias.flatten(), groups=len(weight))
        x = torch.sigmoid(x) if number < len(layers) - 1 else x
    return x.flatten()


def measure(run: str, batch: int, rounds: int, device: torch.device) -> list[dict]:
    """Rows of the table for one model."""
    params = param_files.load(TrainParams, "koniq10k", run).architecture()
    model = HyperIQA(params).to(device, memory_format=torch.channels_last).eval()
    pixels = torch.randint(0, 256, (batch, 3, 224, 224), dtype=torch.uint8, device=device)
    image = model.normalise(pixels).contiguous(memory_format=torch.channels_last)
    rows = []

    def add(what: str, ours: Callable[[], object], floor: Callable[[], object]) -> None:
        rows.append({"run": run, "what": what, **ratio(ours, floor, rounds, device)})
        print(".", end="", flush=True)

    with torch.inference_mode():
        add("forward / backbone", lambda: model(pixels), lambda: model.backbone(image))
        maps = model.backbone(image)
        local, layers = model.local(maps), model.hyper(model.semantic(model.fusion(maps)))
        add("target network / grouped", lambda: target_network(local, layers), lambda: grouped(local, layers))

    def backward(scores: torch.Tensor) -> None:
        model.zero_grad(set_to_none=True)
        scores.mean().backward()

    model.train()
    add(
        "forward + backward / backbone",
        lambda: backward(model(pixels)),
        lambda: backward(model.backbone(image)[-1]),
    )
    return rows


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", nargs="+", default=RUNS)
    options = parser.parse_args()
    device = choose_device(options.device)
    torch.manual_seed(0)
    rows = [row for run in options.runs for row in measure(run, options.batch, options.rounds, device)]
    print()
    settings = {
        "batch": options.batch,
        "rounds": options.rounds,
        "device": str(device),
        "threads": torch.get_num_threads(),
    }
    report("model", settings, pd.DataFrame(rows), decimals=3)


if __name__ == "__main__":
    main()
