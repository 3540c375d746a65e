"""What models cost beside what they achieve: measured in a study, and published."""

from typing import Any

import pandas as pd

from iqa.analysis import published
from iqa.study import param_files
from iqa.study.results import finished, read_json
from iqa.training.params import TrainParams


def agreement(study: str, runs: list[str]) -> pd.DataFrame:
    """SRCC and PLCC of training runs with their database's MOS, measured where a run is finished, and published.

    Returns:
        One row per run: `run`, `srcc`, `srcc_low`, `srcc_high`, `plcc`, `plcc_low`, `plcc_high` (NaN where the run is
        not finished), `chosen_on` (`TEST` where the epoch was chosen on the test images, which flatters it, else
        `validation`), `status` (`finished`, or `not run`), and `published_srcc`, `published_plcc`,
        `published_protocol`, `published_source` as `iqa.analysis.published.with_published` joins them.
    """
    experiments = param_files.experiment_of(study)
    columns = [f"{name}{end}" for name in ("srcc", "plcc") for end in ("", "_low", "_high")]
    rows = []
    for run in runs:
        params = param_files.load(TrainParams, study, run)
        assert isinstance(params, TrainParams)
        done = finished(study, "train", run)
        found = read_json(study, "train", run, "metrics") if done else {}
        row = {"run": run, **{column: found.get(column, float("nan")) for column in columns}}
        row["chosen_on"] = "TEST" if params.selects_on_test else "validation"
        row["status"] = "finished" if done else "not run"
        title = published.title(study, params.database)
        own = pd.DataFrame([{**row, "group": experiments[run]}])
        rows.append(published.with_published(own, published.read_published(), title, title).drop(columns="group"))
    return pd.concat(rows, ignore_index=True)


def overview(counted: pd.DataFrame, timed: pd.DataFrame, agreed: pd.DataFrame) -> pd.DataFrame:
    """Cost and agreement of each run in one row per device: the table of the documents.

    Args:
        counted: one row of `iqa.analysis.complexity.complexity` per run, with `run`, `backbone`, `fusion`.
        timed: `iqa.analysis.speed.speeds` of the runs; of the settings of a device, the first one that ran counts.
        agreed: as `agreement` returns it.

    Returns:
        `run`, `backbone`, `fusion`, `parameters`, `macs_torch`; `device`, `hardware`, `precision`, `compiled`,
        `latency_ms` (median of one image), `images_per_second` and `batch_size` of the quickest batch; then the
        columns of `agreed`.
    """
    rows = []
    for (run, device), own in timed.groupby(["run", "device"], sort=False):
        own = own[own["median_ms"].notna()]
        if not own.empty:
            own = own[(own["precision"] == own["precision"].iloc[0]) & (own["compiled"] == own["compiled"].iloc[0])]
        row: dict[str, Any] = {"run": run, "device": device}
        single = own[own["batch_size"] == 1]
        if len(single):
            row |= single[["hardware", "precision", "compiled"]].iloc[0].to_dict()
            row["latency_ms"] = single["median_ms"].iloc[0]
        if len(own):
            row |= own.loc[own["images_per_second"].idxmax(), ["images_per_second", "batch_size"]].to_dict()
        rows.append(row)
    names = ["run", "device", "hardware", "precision", "compiled", "latency_ms", "images_per_second", "batch_size"]
    costs = counted[["run", "backbone", "fusion", "parameters", "macs_torch"]]
    return costs.merge(pd.DataFrame(rows, columns=names), on="run", how="left").merge(agreed, on="run", how="left")
