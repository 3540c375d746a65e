"""Published results (`report/published.csv`) and the results of a study, each with its protocol."""

import pandas as pd

from iqa.analysis.params import CrossDatasetParams
from iqa.data import releases
from iqa.data.params import DataPrepParams
from iqa.data.releases import RELEASES
from iqa.model.params import change_rule, describe_rule
from iqa.study import param_files, paths
from iqa.study.csv_texts import read_texts
from iqa.study.results import finished, finished_runs, read_json, read_table
from iqa.training.params import TrainParams

PUBLISHED = ["method", "backbone", "trained_on", "tested_on", "srcc", "plcc", "protocol", "source"]
PUBLISHED += ["experiment", "replica"]  # training files: the one recommended in its place, and the one that repeats it
JOINED = ("srcc", "plcc", "protocol", "source")  # columns of a published row that are joined to a measured one
COLUMNS = ["method", "backbone", "trained_on", "tested_on", "protocol", "srcc", "plcc", "source", "measured"]
SPLITS = {"official": "official split", "seeded": "seeded split", "all_test": "whole database"}


def read_published() -> pd.DataFrame:
    """Published results, from `report/published.csv`: texts, so that figures keep the digits of their source.

    Raises:
        TableError: the file cannot be used; the message names the line.
    """
    return read_texts(paths.REPORT / "published.csv", PUBLISHED, numbers=("srcc", "plcc"))


def published_numbers() -> pd.DataFrame:
    """Published results with SRCC and PLCC as numbers, NaN where a source does not state one."""
    table = read_published()
    return table.assign(**{name: pd.to_numeric(table[name]) for name in ("srcc", "plcc")})


def find_row(source: str, experiment: str, method: str, tested_on: str) -> pd.Series:
    """The row of a source (a word of that column) on a database: for a method, or else for an experiment.

    Raises:
        ValueError: there is no such row, or more than one.
    """
    table = published_numbers()
    named = table["method"] == method if method else table["experiment"] == experiment
    sources = table["source"].str.split().apply(lambda words: source in words)
    rows = table[named & sources & (table["tested_on"] == tested_on)]
    if len(rows) != 1:
        count = f"{len(rows)} rows of {source} for '{method or experiment}' on {tested_on}"
        raise ValueError(f"report/published.csv: {count}, not one; correct the file")
    return rows.iloc[0]


def with_published(table: pd.DataFrame, published: pd.DataFrame, trained_on: str, tested_on: str) -> pd.DataFrame:
    """A table with what others have published of the experiment of each row on the same databases.

    Args:
        table: its column `group` names experiments.
        published: as `read_published` returns it; its columns `experiment` and `replica` name them too.
        trained_on, tested_on: titles of the databases.

    Returns:
        The table with columns `published_srcc` and `published_plcc` (a number; where several sources give one, a text
        that numbers them), `published_protocol` and `published_source` (texts with the same numbers, or one text that
        holds for all). Empty or NaN where nothing is published.
    """
    same = published[(published["trained_on"] == trained_on) & (published["tested_on"] == tested_on)]
    rows = [same[same[["experiment", "replica"]].eq(name).any(axis=1)] for name in table["group"]]
    columns: dict[str, list] = {f"published_{key}": [_joined(part[key]) for part in rows] for key in JOINED}
    for key in ("published_srcc", "published_plcc"):
        columns[key] = [text if text.startswith("(") else float(text or "nan") for text in columns[key]]
    return table.assign(**columns)


def _joined(values: pd.Series) -> str:
    """One text of all values, numbered if they differ; a dash for a missing one."""
    if len(set(values)) <= 1:
        return "".join(set(values))
    return " ".join(f"({number}) {value or '-'}" for number, value in enumerate(values, 1))


def title(study: str, database: str) -> str:
    """The title of a database of a study, whether or not it is on this machine."""
    return releases.title(param_files.load(DataPrepParams, study, database))


def part(study: str, database: str) -> str:
    """How much of a release a study has, in brackets; empty if it has all of it, or has not read it."""
    release = RELEASES.get(param_files.load(DataPrepParams, study, database).reader)
    if release is None or release.images is None or not finished(study, "data_prep", database):
        return ""
    images = read_json(study, "data_prep", database, "audit")["n"]
    return f" ({images:,} of {release.images:,} images)" if images < release.images else ""


def place(study: str, database: str) -> str:
    """How sentences name a database of a study: its title, how much of it is there, and whether it is synthetic."""
    release = RELEASES.get(param_files.load(DataPrepParams, study, database).reader)
    name = title(study, database)
    synthetic = release is not None and release.synthetic and "synthetic" not in name.lower()
    return name + part(study, database) + " (synthetic)" * synthetic


def trainings(study: str) -> pd.DataFrame:
    """One row per finished training of a study: `run`, `experiment`, and what its `metrics.json` holds."""
    experiments = param_files.experiment_of(study)
    runs = finished_runs(study, "train")
    rows = [read_json(study, "train", run, "metrics") | {"run": run, "experiment": experiments[run]} for run in runs]
    return pd.DataFrame(rows, columns=None if rows else ["run", "experiment", "database", "best_epoch"])


def comparison(study: str) -> pd.DataFrame:
    """Published values on the databases of a study and its own, sorted by database and protocol.

    Values of different protocols (split, choice of the epoch, crops, seeds) cannot be compared to the third decimal;
    each row states its protocol. Expected values are left out. Measured ones are means over an experiment's seeds, or
    medians over the splits of its database.

    Returns:
        Columns `COLUMNS`; no rows where nothing is published on the study's databases, as on synthetic ones.
    """
    titles = {title(study, name) for name in param_files.run_names(study, "data_prep")}
    others = published_numbers().assign(measured=False)
    others = others[others["tested_on"].isin(titles) & ~others["protocol"].str.startswith("expected")]
    measured = pd.DataFrame([*_trained(study), *_crossed(study)], columns=COLUMNS)
    measured = measured[measured["tested_on"].isin(others["tested_on"])]
    parts = [rows[COLUMNS] for rows in (others, measured) if len(rows)]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
    return rows.sort_values(["tested_on", "protocol"], kind="stable", ignore_index=True)


def _row(about: dict, rows: pd.DataFrame, folder: str, splits: bool) -> dict:
    """A measured row of `comparison`: means over the seeds of an experiment, or medians over splits."""
    average = "median" if splits else "mean"
    return about | {name: rows[name].agg(average) for name in ("srcc", "plcc")} | {"source": folder, "measured": True}


def _trained(study: str) -> list[dict]:
    """One row per experiment: its test result on the database that it was trained on."""
    rows = []
    for experiment, runs in trainings(study).groupby("experiment", sort=False):
        params = param_files.load(TrainParams, study, runs["run"].iloc[0])
        about = {"method": experiment, "backbone": params.backbone, "trained_on": title(study, params.database)}
        chosen = f"best epoch on the {'test' if params.selects_on_test else 'validation'} set"
        crops = describe_rule(**params.scoring())
        splits = len(set(runs["database"])) > 1
        protocol = "; ".join([_split(study, params.database), chosen, crops, _runs(len(runs), splits)])
        about |= {"tested_on": about["trained_on"], "protocol": protocol}
        rows.append(_row(about, runs, f"results/{study}/train", splits))
    return rows


def _rule(study: str, database: str) -> str:
    """How a database of a study is split, in words."""
    params = param_files.load(DataPrepParams, study, database)
    if params.split_file:
        return "own split"
    official = params.reader in RELEASES and RELEASES[params.reader].splits
    return SPLITS[params.split or ("official" if official else "seeded")]


def _split(study: str, database: str) -> str:
    """The same, with the number of images where the database has been read."""
    rule = _rule(study, database)
    if not finished(study, "data_prep", database):
        return rule
    counts = read_json(study, "data_prep", database, "audit")["splits"]
    images = "/".join(str(counts[name]["n"]) for name in ("train", "val", "test") if name in counts)
    return f"{rule} {images}{part(study, database)}"


def _runs(count: int, splits: bool = False) -> str:
    return "1 seed" if count == 1 else f"median of {count} splits" if splits else f"mean of {count} seeds"


def _crossed(study: str) -> list[dict]:
    """One row per experiment or checkpoint, and database that it was not trained on."""
    experiment_of = param_files.experiment_of(study)
    rows = []
    for run in finished_runs(study, "cross_dataset"):
        params = param_files.load(CrossDatasetParams, study, run)
        cross = read_table(study, "cross_dataset", run, "cross")
        cross = cross[cross["available"] & (cross["trained_on"] != cross["title"])]
        cross = cross.assign(method=cross["model"].map(experiment_of).fillna(cross["model"]))
        for _, group in cross.groupby(["method", "database"], sort=False):
            splits = len(group) > 1 and len({params.trained_on(model) for model in group["model"]}) > 1
            count = int(group["seeds"].sum()) if "seeds" in group else len(group)  # older code scored single runs
            about = _crossed_to(study, params, group.iloc[0], _runs(count, splits))
            rows.append(_row(about, group, f"results/{study}/cross_dataset/{run}", splits))
    return rows


def _crossed_to(study: str, params: CrossDatasetParams, row: pd.Series, over: str) -> dict:
    """What was tested on another database, and by which protocol."""
    runs = param_files.experiments(study).get(row["method"])
    training = param_files.load(TrainParams, study, runs[0]) if runs else None
    changes = {"crops": params.test_crops, "patches": params.test_patches}
    crops = "crops as the checkpoint's"
    if training or params.test_crops:
        crops = describe_rule(**change_rule(training.scoring() if training else {"crops": None}, **changes))
    images = f"{row['n']:.0f} images{part(study, row['database'])}"
    models = over if training else "published checkpoint"
    about = {"method": row["method"], "backbone": training.backbone if training else ""}
    about |= {"trained_on": row["trained_on"], "tested_on": row["title"]}
    return about | {"protocol": f"{_rule(study, row['database'])}, {images}; {crops}; {models}"}
