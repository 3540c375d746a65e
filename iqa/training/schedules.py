"""The optimiser of a training run, and its learning rates over the epochs."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from iqa.model.hyperiqa import HyperIQA
from iqa.training.params import TrainParams


def optimizer(model: HyperIQA, params: TrainParams) -> Optimizer:
    """AdamW or Adam; the heads at `lr_ratio` times the backbone's rate.

    Biases and normalisations do not decay unless `decay_all` says so. The groups are named `backbone` and `heads`;
    what the target network reads (the LDA modules) belongs to `lda_group`. Frozen parameters are in none.
    """
    backbone = ("backbone.", "local.") if params.lda_group == "backbone" else ("backbone.",)
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = "backbone" if name.startswith(backbone) else "heads"
            groups.setdefault((part, params.decay_all or parameter.ndim > 1), []).append(parameter)
    rates = {"backbone": params.lr, "heads": params.lr * params.lr_ratio}
    options = [
        {"name": part, "params": group, "lr": rates[part], "weight_decay": params.weight_decay if decayed else 0.0}
        for (part, decayed), group in groups.items()
    ]
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    # a fused optimiser takes scaled gradients (fp16), too late for them to be clipped
    fused = params.fused and not (params.clip and params.precision == "fp16-mixed")
    return kinds[params.optimizer](options, fused=fused)


def rates(optimizer: Optimizer) -> dict[str, float]:
    """The current learning rates as `lr_backbone` (0 if it is frozen) and `lr_heads`."""
    return {"lr_backbone": 0.0} | {f"lr_{group['name']}": group["lr"] for group in optimizer.param_groups}


def factor(schedule: str, epoch: float, epochs: int, every: int, final: float, milestones: Sequence[int] = ()) -> float:
    """The factor of a learning rate after `epoch` (a fraction between epochs) of `epochs`.

    `constant`: 1. `step`: a tenth after each `every` epochs. `milestones`: a tenth after each of these epochs.
    `cosine`: from 1 to `final` over all epochs along half a cosine. `cosine_restarts`: the same over each `every`
    epochs (Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, with periods of one
    length).

    >>> [factor("step", epoch, 16, 6, 0) for epoch in (0, 5.9, 6, 12)]
    [1.0, 1.0, 0.1, 0.01]
    """
    if schedule == "constant":
        return 1.0
    if schedule == "step":
        return 10.0 ** -math.floor(epoch / every)
    if schedule == "milestones":
        return 10.0 ** -sum(epoch >= milestone for milestone in milestones)
    progress = epoch / epochs if schedule == "cosine" else epoch % every / every
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def scheduler(optimizer: Optimizer, params: TrainParams, steps: int) -> LRScheduler:
    """The schedule of a run of `steps` optimiser steps, called after each.

    `one_cycle` rises from a 25th to the full rate over the first 15% and falls to nearly 0 (Smith & Topin 2019). Other
    schedules follow on a linear rise over `warmup_epochs`; a cosine ends at `min_lr` (in both groups) or at `final_lr`
    times each group's rate. With `schedule_group: heads` the backbone keeps its rate. After `lr_ratio_epochs` the heads
    have the backbone's rate. With `schedule_interval: epoch` the rates change between epochs alone.
    """
    if params.schedule == "one_cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, peaks, total_steps=steps, pct_start=0.15)
    of_epoch = steps // params.epochs
    return LambdaLR(optimizer, [partial(_factor, params, group["name"], of_epoch) for group in optimizer.param_groups])


def _factor(params: TrainParams, group: str, of_epoch: int, step: int) -> float:
    """The factor of a group's rate after `step` steps, of which `of_epoch` are an epoch."""
    epoch, rate = step / of_epoch, params.lr * (params.lr_ratio if group == "heads" else 1)
    if params.schedule_interval == "epoch":
        epoch = math.floor(epoch)
    value = 1.0
    if params.schedule_group in ("all", group):
        final = params.final_lr if params.min_lr is None else params.min_lr / rate
        every, warmup = params.schedule_epochs, params.warmup_epochs
        value = factor(params.schedule, epoch, params.epochs, every, final, params.milestones)
        if epoch < warmup:
            value *= (step + 1) / (warmup * of_epoch + 1)
    late = group == "heads" and params.lr_ratio_epochs is not None and epoch >= params.lr_ratio_epochs
    return value / params.lr_ratio if late else value
