"""What can be known without data: the documents' own figures, the models as they are built, and the noise of an SRCC.

Models are built from `params/koniq10k/train/` on torch's meta device: shapes without numbers, so that counting takes
seconds and no memory. An experiment is named by its parameter file there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from scipy import stats
from torch import nn

from iqa.analysis import comparison, complexity, published
from iqa.data import crops
from iqa.model.checkpoints import LAYOUTS
from iqa.model.hyperiqa import HyperIQA, describe
from iqa.model.params import ModelParams
from iqa.study import param_files, paths
from iqa.training.params import TrainParams

STUDY = "koniq10k"  # the study whose parameter files regenerate the documents' tables
DATABASE = "KonIQ-10k"
TEST_IMAGES = 2010  # on which S001, S002 and S003 tested; S003
SIDE = 224  # pixels of a crop in all documents
Z95 = 1.96


@dataclass(frozen=True)
class Claim:
    """A row of `report/claims.csv`.

    Args:
        id: `C..` or `D..`.
        source: documents S000 to S005, with blanks between them.
        claim: what is said; `stated`: the figures that go with it.
        kind: what the claim is about: parameters, complexity, hardware, results, training, protocol, geometry, usage,
            arithmetic or generalisation.
        figures: the documents' numbers that the check needs, as they are written there.
        experiments: training experiments of the study `koniq10k` that are compared or would settle it, the one that
            is said to be better first.
        parameters: the training parameters in question, whose ablation on other databases is named beside.
    """

    id: str
    source: str
    claim: str
    stated: str
    kind: str
    figures: list[str]
    experiments: list[str]
    parameters: list[str]

    @property
    def numbers(self) -> list[float]:
        return [float(figure) for figure in self.figures]


class ClaimError(ValueError):
    """Files of the claims that do not fit together; the message names file, row and remedy."""


def claims() -> list[Claim]:
    """The rows of `report/claims.csv`."""
    table = pd.read_csv(paths.REPORT / "claims.csv", dtype=str, keep_default_na=False)
    lists = {name: table[name].str.split() for name in ("figures", "experiments", "parameters")}
    return [Claim(**row) for row in table.assign(**lists).to_dict("records")]


def published_table() -> pd.DataFrame:
    """`report/published.csv` as `iqa.analysis.published.published` reads it, with SRCC and PLCC as numbers."""
    table = published.published()
    return table.assign(**{name: pd.to_numeric(table[name]) for name in ("srcc", "plcc")})


def published(source: str, experiment: str = "", method: str = "", tested_on: str = DATABASE) -> pd.Series:
    """The published row of a source (one of the words in that column) for an experiment, or for a method.

    Raises:
        ClaimError: there is no such row, or more than one.
    """
    table = published_table()
    named = table["method"] == method if method else table["experiment"] == experiment
    sources = table["source"].str.split().apply(lambda words: source in words)
    found = table[named & sources & (table["tested_on"] == tested_on)]
    if len(found) != 1:
        what = f"'{method or experiment}' on {tested_on}"
        raise ClaimError(f"report/published.csv: {len(found)} rows of {source} for {what}, not one; correct the file")
    return found.iloc[0]


def published_srcc(source: str, experiment: str = "", method: str = "", tested_on: str = DATABASE) -> float:
    """The SRCC of a published row."""
    return float(published(source, experiment, method, tested_on)["srcc"])


def agrees(value: float, figure: str) -> bool:
    """Whether a value is the figure once it is rounded to as many decimals as the figure has."""
    decimals = len(figure.partition(".")[2])
    return round(value, decimals) == float(figure)


# models


def training(experiment: str) -> TrainParams:
    """Parameters of an experiment of the study `koniq10k`, with the first of its seeds.

    Raises:
        ClaimError: there is no such file.
    """
    return _training(paths.PARAMS / STUDY / "train", experiment)


@cache
def _training(folder: Path, experiment: str) -> TrainParams:
    known = _experiments(folder)
    if experiment not in known:
        names = ", ".join(known) or "none"
        raise ClaimError(f"{paths.shown(folder)}/{experiment}.yaml does not exist; there are: {names}")
    return param_files.load(TrainParams, STUDY, known[experiment][0])


@cache
def _experiments(folder: Path) -> dict[str, list[str]]:
    return param_files.experiments(STUDY)


def changed(first: str, second: str) -> list[str]:
    """Training parameters in which two experiments differ."""
    return comparison.changed(training(first).model_dump(), training(second).model_dump())


@cache
def _built(architecture: str) -> HyperIQA:
    with torch.device("meta"):
        return HyperIQA(ModelParams.model_validate_json(architecture, strict=False)).eval()


def model(experiment: str) -> HyperIQA:
    """The model of an experiment on the meta device, in eval mode. It is shared: leave it as it is."""
    return _built(training(experiment).architecture().model_dump_json())


def count(module: nn.Module) -> int:
    """Parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def parameters(experiment: str) -> int:
    """Parameters of an experiment's model."""
    return count(model(experiment))


@cache
def _macs(module: nn.Module) -> int:
    return complexity.macs_torch(module, SIDE, SIDE)


def macs(experiment: str) -> int:
    """Multiply-accumulates of an experiment's model for one crop of 224x224, attention products included."""
    return _macs(model(experiment))


def backbone_macs(experiment: str) -> int:
    """The backbone's part of them."""
    return _macs(model(experiment).backbone)


def description(experiment: str) -> dict:
    """`iqa.model.describe` of an experiment's model at 224x224."""
    return describe(model(experiment), SIDE, SIDE)


def timm_parameters(name: str, **arguments: object) -> int:
    """Parameters of a timm network, its classifier included unless the arguments say otherwise."""
    with torch.device("meta"):
        return count(timm.create_model(name, **arguments))


def weights_tag(experiment: str) -> str:
    """Name of the pretrained weights that timm takes for an experiment's backbone, such as `ms_in1k`."""
    return timm.get_pretrained_cfg(training(experiment).backbone).tag


def checkpoint_names(experiment: str, layout: str) -> list[str]:
    """Names of all tensors in a published checkpoint of this model."""
    names = LAYOUTS[layout].names
    own = list(model(experiment).state_dict())
    parts = [next(part for part in names if name.startswith(f"{part}.")) for name in own]
    return [names[part] + name.removeprefix(part) for part, name in zip(parts, own, strict=True)]


def saved_bytes(experiment: str, batch_size: int) -> int:
    """Bytes that a training step in 32 bits keeps from its forward to its backward pass: a lower bound of memory."""
    network = model(experiment).train()
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network(torch.zeros(batch_size, 3, SIDE, SIDE, device="meta"))
    finally:
        network.eval()
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def hyper_tensors(experiment: str, times: int = 2) -> Iterator[int]:
    """Tensors of the heads that an optimiser trains each time it is made anew from one and the same `filter`.

    This is how the step schedule of the original solver, and of those that were made from it, renews its optimiser.
    """
    network = model(experiment)
    body = {id(tensor) for part in (network.backbone, network.local) for tensor in part.parameters()}
    heads = filter(lambda tensor: id(tensor) not in body, network.parameters())
    for _ in range(times):
        groups = [{"params": heads}, {"params": network.backbone.parameters()}]
        yield len(torch.optim.Adam(groups).param_groups[0]["params"])


def rates(epochs: int, lr: float = 1.0, final: float = 0.0, restart: int | None = None) -> np.ndarray:
    """(epochs + 1,): rates of torch's cosine schedule after 0, 1, ... epochs; with `restart`, one that starts anew."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    schedules = torch.optim.lr_scheduler
    if restart is None:
        schedule = schedules.CosineAnnealingLR(optimizer, T_max=epochs, eta_min=final)
    else:
        schedule = schedules.CosineAnnealingWarmRestarts(optimizer, T_0=restart, eta_min=final)
    found = [lr]
    for _ in range(epochs):
        optimizer.step()
        schedule.step()
        found.append(optimizer.param_groups[0]["lr"])
    return np.array(found)


# chance


def standard_error(srcc: float, images: int = TEST_IMAGES) -> float:
    """Standard error of one SRCC: that of Fisher's z, sqrt((1 + r^2 / 2) / (n - 3)), carried back to r.

    Source: Bonett & Wright 2000, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations".
    """
    return float(np.sqrt((1 + srcc**2 / 2) / (images - 3)) * (1 - srcc**2))


def bound(first: float, second: float, images: int = TEST_IMAGES) -> float:
    """How far two SRCC may lie apart by the choice of the test images alone, in 95% of cases.

    It is unpaired: models that err on the same images differ by less, which their predictions would show; training
    anew with another seed adds to it. Without predictions and seeds it is what single published values allow.
    """
    return Z95 * float(np.hypot(standard_error(first, images), standard_error(second, images)))


def selection_gain(epochs: int, srcc: float, images: int = TEST_IMAGES) -> float:
    """Expected excess of the best of several equally good epochs, if their errors on the test images are independent.

    The mean of the largest of k standard normal values, times the standard error. Epochs of one training err alike,
    so it is an upper bound.
    """
    x = np.linspace(-8, 8, 4001)
    density = epochs * stats.norm.pdf(x) * stats.norm.cdf(x) ** (epochs - 1)
    return float(np.trapezoid(x * density, x)) * standard_error(srcc, images)


def coverage(mode: str, patches: int, height: int, width: int, crop: int) -> tuple[int, float]:
    """Number of different test crops of an image, and the share of its pixels that they cover together."""
    positions = crops.positions(mode, height, width, crop, patches)
    seen = np.zeros((height, width), dtype=bool)
    for top, left in positions:
        seen[top : top + crop, left : left + crop] = True
    return len(np.unique(positions, axis=0)), float(seen.mean())
