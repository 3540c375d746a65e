"""What HyperIQA costs on top of its backbone: forward, forward and backward, and the target network.

    .venv/bin/python -m benchmarks.model [--device cuda] [--batch 8] [--rounds 4] [--threads 1]

The floor is the same backbone alone, as timm builds it, on the same batch of normalised images. The target network is
also measured as one grouped convolution per layer, which is how the first implementation of HyperIQA computed it.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn.functional import conv2d

from benchmarks.common import arguments, in_turn, report, row, spent, unit
from iqa.model.hyperiqa import HyperIQA, Layer, target_network
from iqa.model.scoring import choose_device
from iqa.study import param_files
from iqa.training.params import TrainParams

RUNS = ["hyperiqa_s1", "ms_hyperiqa_s1", "swin_tiny_s1", "swin_tiny_attention_s1"]  # of the study koniq10k


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

    def add(what: str, against: str, ours: Callable, floor: Callable, times: int = 1) -> None:
        works = {"ours": lambda: [ours() for _ in range(times)], "floor": lambda: [floor() for _ in range(times)]}
        found = in_turn({name: partial(spent, work, device.type) for name, work in works.items()}, rounds)
        what = f"{run}: {what}" + f", {times} times" * (times > 1)
        rows.append(row(what, found["ours"], unit(device.type), against, found["floor"]))

    with torch.inference_mode():
        add("forward", "backbone", lambda: model(pixels), lambda: model.backbone(image))
        maps = model.backbone(image)
        local, layers = model.local(maps), model.hyper(model.semantic(model.fusion(maps)))
        add(
            "target network",
            "grouped",
            lambda: target_network(local, layers),
            lambda: grouped(local, layers),
            times=500,
        )

    def backward(scores: torch.Tensor) -> None:
        model.zero_grad(set_to_none=True)
        scores.mean().backward()

    model.train()
    both = (lambda: backward(model(pixels)), lambda: backward(model.backbone(image)[-1]))
    add("forward + backward", "backbone", *both)
    return rows


def main() -> None:
    """Measure, print and write the table."""
    options = arguments(__doc__, device="auto", batch=8, rounds=4, threads=1, runs=RUNS)
    device = choose_device(options.device)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows = [each for run in options.runs for each in measure(run, options.batch, options.rounds, device)]
    report("model", options, rows)


if __name__ == "__main__":
    main()
