"""The optimiser of a training run, and its learning rates over the epochs."""

import math

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from iqa.model.hyperiqa import HyperIQA
from iqa.training.params import TrainParams


def optimizer(model: HyperIQA, params: TrainParams) -> Optimizer:
    """AdamW or Adam; the heads at `lr_ratio` times the backbone's rate; no decay of biases and normalisations.

    Its groups are named `backbone` and `heads`; frozen parameters are in none.
    """
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = "backbone" if name.startswith("backbone.") else "heads"
            groups.setdefault((part, parameter.ndim > 1), []).append(parameter)
    rates = {"backbone": params.lr, "heads": params.lr * params.lr_ratio}
    options = [
        {"name": part, "params": group, "lr": rates[part], "weight_decay": params.weight_decay if decayed else 0.0}
        for (part, decayed), group in groups.items()
    ]
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    return kinds[params.optimizer](options, fused=params.fused)


def rates(optimizer: Optimizer) -> dict[str, float]:
    """The current learning rates as `lr_backbone` (0 if it is frozen) and `lr_heads`."""
    return {"lr_backbone": 0.0} | {f"lr_{group['name']}": group["lr"] for group in optimizer.param_groups}


def factor(schedule: str, epoch: float, epochs: int, every: int, final: float) -> float:
    """The factor of the learning rates after `epoch` (a fraction between epochs) of `epochs`.

    `constant`: 1. `step`: a tenth after each `every` epochs. `cosine`: from 1 to `final` over all epochs along half a
    cosine. `cosine_restarts`: the same over each `every` epochs (Loshchilov & Hutter, "SGDR: stochastic gradient
    descent with warm restarts", ICLR 2017, with periods of one length).

    >>> [factor("step", epoch, 16, 6, 0) for epoch in (0, 5.9, 6, 12)]
    [1.0, 1.0, 0.1, 0.01]
    """
    if schedule == "constant":
        return 1.0
    if schedule == "step":
        return 10.0 ** -math.floor(epoch / every)
    progress = epoch / epochs if schedule == "cosine" else epoch % every / every
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def scheduler(optimizer: Optimizer, params: TrainParams, steps: int) -> LRScheduler:
    """The schedule of a run of `steps` optimiser steps, called after each.

    `one_cycle` rises from a 25th to the full rate over the first 15% and falls to nearly 0 (Smith & Topin 2019).
    """
    if params.schedule == "one_cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, peaks, total_steps=steps, pct_start=0.15)
    of_epoch = steps // params.epochs
    every, final = params.schedule_epochs, params.final_lr
    return LambdaLR(optimizer, lambda step: factor(params.schedule, step / of_epoch, params.epochs, every, final))
