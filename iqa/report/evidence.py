"""What settles claims: the documents' models and published figures, and what a study has measured.

Models are built on torch's meta device, with shapes but without numbers, so that counting takes seconds and no memory.
"""

from functools import cache
from typing import Any

import pandas as pd
import torch

from iqa.analysis import comparison, complexity, published
from iqa.metrics.verdicts import BETTER, FAILS, HOLDS, OPEN, WORSE
from iqa.model.hyperiqa import HyperIQA
from iqa.model.params import ModelParams
from iqa.report.claims import MEASURED, Claim, ClaimError, Finding, Step, bound, joint
from iqa.report.params import ClaimsParams
from iqa.show.tables import number
from iqa.study import param_files
from iqa.training.params import TrainParams

VERDICTS = {BETTER: HOLDS, WORSE: FAILS, OPEN: OPEN}  # of ablation tables


class Documents:
    """Models and published figures of the documents. An experiment is named by its training file.

    Args:
        params: the study that holds the training files, and the test images of the published figures.
    """

    def __init__(self, params: ClaimsParams):
        self.params = params
        self.experiments = param_files.experiments(params.models)

    def training(self, experiment: str) -> TrainParams:
        """Parameters of an experiment, with the first of its seeds."""
        if experiment not in self.experiments:
            file = f"params/{self.params.models}/train/{experiment}.yaml"
            raise ClaimError(f"{file} does not exist; there are: {', '.join(self.experiments)}")
        return param_files.load(TrainParams, self.params.models, self.experiments[experiment][0])

    def changed(self, first: str, second: str) -> list[str]:
        """Training parameters in which two experiments differ."""
        return comparison.changed(self.training(first).model_dump(), self.training(second).model_dump())

    def model(self, experiment: str) -> HyperIQA:
        """The model of an experiment in eval mode. It is shared, so do not change it."""
        return _build(self.training(experiment).architecture().model_dump_json())

    def macs(self, experiment: str) -> int:
        """Multiply-accumulates of a model for one crop, attention products included."""
        return _count_macs(self.model(experiment), self.params.size)

    def published(self, source: str, experiment: str = "", method: str = "", tested_on: str = "") -> pd.Series:
        """What a source publishes of an experiment or a method, on the documents' database unless another is named."""
        return published.find_row(source, experiment, method, tested_on or self.params.database)

    def values(self, source: str, experiments: list[str], column: str = "srcc") -> list[float]:
        """Published values of several experiments."""
        return [float(self.published(source, experiment)[column]) for experiment in experiments]

    def step(self, before: float, after: float) -> Step:
        """The step from one published SRCC to another, with the bound of these test images."""
        return Step(before, after, bound(before, after, self.params.test_images, self.params.confidence))

    def steps(self, source: str, experiments: list[str]) -> list[Step]:
        """The steps to the first experiment from each of the others, as a source publishes them."""
        after, *before = self.values(source, experiments)
        return [self.step(value, after) for value in before]


@cache
def _build(architecture: str) -> HyperIQA:
    with torch.device("meta"):
        return HyperIQA(ModelParams.model_validate_json(architecture, strict=False)).eval()


@cache
def _count_macs(model: HyperIQA, size: int) -> int:
    return complexity.macs_torch(model, size, size)


def format_contrast(row: dict[str, Any]) -> str:
    """A row of a comparison in words."""
    delta, low, high = (number(row[key], "+.4f") for key in ("delta", "delta_low", "delta_high"))
    return f"SRCC {delta} [{low}, {high}] ({row['seeds']} seed{'s' * (row['seeds'] > 1)}), {row['verdict']}"


def judge(contrasts: pd.DataFrame, claim: Claim, database: str) -> Finding | None:
    """What a study measured of a claim's first experiment against the others; None unless it compared all of them."""
    first, *others = claim.experiments
    rows = {other: comparison.find_contrast(contrasts, first, other, database) for other in others}
    if not rows or not all(row and row["verdict"] in VERDICTS for row in rows.values()):
        return None
    text = "; ".join(f"{first} against {other}: {format_contrast(row)}" for other, row in rows.items())
    word = joint(VERDICTS[row["verdict"]] for row in rows.values())
    return Finding(f"Measured: {text}.", f"{MEASURED}: {database}", word)


def look_elsewhere(study: str, contrasts: pd.DataFrame, claim: Claim) -> str:
    """What a study measured on each database where only a claim's parameters differed, in sentences."""
    alone = [set(comparison.CHANGED.findall(text)) <= set(claim.parameters) for text in contrasts["differs"]]
    return "".join(
        f" In this study (study {study}, {place}): "
        + "; ".join(
            f"{row['differs']} instead of {base} gives {format_contrast(row)}" for row in rows.to_dict("records")
        )
        + "."
        for (place, base), rows in contrasts.loc[alone].groupby(["place", "base"], sort=False)
    )
