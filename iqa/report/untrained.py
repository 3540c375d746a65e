"""What the files of a run that is not made would hold, as far as its parameters decide it."""

from typing import Any

import pandas as pd

from iqa.analysis import comparison, evaluation, published
from iqa.analysis.params import AblationParams, CrossDatasetParams
from iqa.data.params import DataPrepParams
from iqa.data.releases import release_of
from iqa.model.params import ModelParams
from iqa.study import param_files
from iqa.study.results import command_for
from iqa.training.params import TrainParams


def record(study: str, step: str, run: str, name: str) -> dict[str, Any] | None:
    """A JSON file of a run that is not finished; None where parameters decide nothing of it.

    They decide what `02_train` writes of them and of its model, and the parameters of a comparison.
    """
    if (step, name) == ("ablation", "params.json"):
        return param_files.load(AblationParams, study, run).model_dump()
    if step != "train":
        return None
    from iqa.model.architecture import describe
    from iqa.model.fusion import Last
    from iqa.model.heads import HyperNetwork
    from iqa.model.hyperiqa import LocalDistortionAware
    from iqa.report.evidence import build
    from iqa.training import losses

    def described(architecture: ModelParams) -> dict[str, Any]:
        return describe(build(architecture.model_dump_json()), params.crop, params.crop)

    params = param_files.load(TrainParams, study, run)
    plain = {"head": HyperNetwork.name, "fusion": Last.name, "target_input": LocalDistortionAware.name}
    release = release_of(param_files.load(DataPrepParams, study, params.database))
    about = {"database": params.database, "synthetic": release.synthetic, "select_on": params.select_on}
    files = {
        "params.json": params.model_dump,
        "metrics.json": lambda: about | params.rules(),
        "architecture.json": lambda: described(params.architecture()),
        "architecture_before.json": lambda: described(params.architecture().model_copy(update=plain)),
        "loss.json": lambda: losses.describe(params.terms(), vars(params)),
    }
    return files[name]() if name in files else None


def ablation(study: str, run: str) -> pd.DataFrame:
    """`ablation.csv` of a comparison before any of its trainings is compared: its groups, and what is published."""
    params = param_files.load(AblationParams, study, run)
    trained, waiting = comparison.collect(study, params.train_runs())
    groups = comparison.group([*trained, *waiting], params.reference)
    table = comparison.list_groups(groups).reset_index(drop=True).reindex(columns=comparison.COLUMNS)
    table = table.assign(verdict="not run", command=table["command"].replace("", command_for(study, "ablation", run)))
    database = published.title(study, groups["reference"][0].params["database"])
    return published.with_published(table, published.read_published(), database, database)


def cross(study: str, run: str) -> pd.DataFrame:
    """`cross.csv` of an evaluation that is not made: a row for each model and database, with the command."""
    params = param_files.load(CrossDatasetParams, study, run)
    reason = f"not run: {command_for(study, 'cross_dataset', run)}"
    rows = [
        {"model": model, "database": name, "title": published.title(study, name), "available": False, "reason": reason}
        for model in params.models
        for name in params.databases
    ]
    return pd.DataFrame(rows, columns=evaluation.COLUMNS)
