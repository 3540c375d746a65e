"""What a model costs: parameters, multiply-accumulates (MACs, 2 FLOPs each) and latency."""

import copy
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from iqa.model import HyperIQA, describe


def complexity(model: HyperIQA, height: int, width: int) -> dict[str, Any]:
    """Parameters per part, generated weights, and the MACs of one image as three counters see them."""
    described = describe(model, height, width)
    parts = {part["name"]: part["parameters"] for part in described["parts"]}
    return {
        "height": height,
        "width": width,
        "parameters": described["parameters"],
        "backbone_parameters": parts["backbone"],
        "head_parameters": described["parameters"] - parts["backbone"],
        "generated_weights": described["generated_weights"],
        "macs_torch": macs_torch(model, height, width),
        "macs_ptflops": macs_ptflops(model, height, width),
        "macs_thop": macs_thop(model, height, width),
    }


def macs_torch(model: nn.Module, height: int, width: int) -> int:
    """MACs of one image by PyTorch's own counter: every matrix product and convolution, by operator."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(_image(model, 1, height, width))
    return counter.get_total_flops() // 2


def macs_ptflops(model: nn.Module, height: int, width: int) -> int:
    """MACs of one image by ptflops (its PyTorch backend: modules and patched functions)."""
    from ptflops import get_model_complexity_info

    macs, _ = get_model_complexity_info(
        copy.deepcopy(model),
        (3, height, width),
        as_strings=False,
        print_per_layer_stat=False,
        backend="pytorch",
    )
    if macs is None:
        raise RuntimeError("ptflops could not count this model; its message is above")
    return int(macs)


def macs_thop(model: nn.Module, height: int, width: int) -> int:
    """MACs of one image by thop, which counts modules alone: what is a function in `forward` is not seen."""
    from thop import profile

    macs, _ = profile(copy.deepcopy(model), inputs=(_image(model, 1, height, width),), verbose=False)
    return int(macs)


@torch.inference_mode()
def latency(
    model: HyperIQA, height: int, width: int, batch_size: int, warmup: int = 3, repeats: int = 20
) -> dict[str, Any]:
    """Time of one forward pass of a batch, in milliseconds, over `repeats` passes after `warmup` ones.

    On a GPU each pass is waited for (`torch.cuda.synchronize`), so queueing does not pass for speed.
    """
    pixels = _image(model, batch_size, height, width)
    times = []
    for repeat in range(warmup + repeats):
        start = time.perf_counter()
        model(pixels)
        if pixels.is_cuda:
            torch.cuda.synchronize()
        if repeat >= warmup:
            times.append(1000 * (time.perf_counter() - start))
    mean = float(np.mean(times))
    return {
        "device": torch.cuda.get_device_name(pixels.device) if pixels.is_cuda else pixels.device.type,
        "batch_size": batch_size,
        "mean_ms": mean,
        "std_ms": float(np.std(times)),
        "min_ms": min(times),
        "max_ms": max(times),
        "median_ms": float(np.median(times)),
        "p95_ms": float(np.percentile(times, 95)),
        "images_per_second": 1000 * batch_size / mean,
    }


def _image(model: nn.Module, batch_size: int, height: int, width: int) -> Tensor:
    return torch.zeros(batch_size, 3, height, width, device=next(model.parameters()).device)
