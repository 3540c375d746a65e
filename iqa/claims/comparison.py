"""Published methods beside those that a study has trained, each with the protocol of its figures."""

import pandas as pd

from iqa.analysis.params import CrossDatasetParams
from iqa.claims.facts import published_table
from iqa.claims.measured import Measured
from iqa.data.crops import CROPS
from iqa.data.params import DataPrepParams
from iqa.data.releases import RELEASES
from iqa.study import param_files
from iqa.study.results import finished, read_json, read_table
from iqa.training.params import TrainParams

COLUMNS = ["method", "backbone", "trained_on", "tested_on", "protocol", "srcc", "plcc", "source", "measured"]
SPLITS = {"official": "official split", "seeded": "seeded split", "all_test": "whole database"}


def comparison(study: str) -> pd.DataFrame:
    """Published values on the databases of a study and its own, sorted by database and protocol.

    Values of different protocols (split, choice of the epoch, crops, seeds) cannot be compared to the third decimal;
    each row says its own. What was only expected is left out. Measured values are means over an experiment's seeds.

    Returns:
        columns method, backbone, trained_on, tested_on, protocol, srcc, plcc, source, measured; no rows where nothing
        is published on the study's databases, as on synthetic ones.
    """
    known = Measured(study)
    titles = {known.place(name)[0] for name in param_files.run_names(study, "data_prep")}
    published = published_table().assign(measured=False)
    wanted = published["tested_on"].isin(titles) & ~published["protocol"].str.startswith("expected")
    published = published[wanted]
    own = pd.DataFrame([*_trained(known), *_crossed(known)], columns=COLUMNS)
    own = own[own["tested_on"].isin(published["tested_on"])]
    parts = [part[COLUMNS] for part in (published, own) if len(part)]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
    return rows.sort_values(["tested_on", "protocol"], kind="stable", ignore_index=True)


def _trained(known: Measured) -> list[dict]:
    """One row per experiment: its test result on the database that it was trained on."""
    rows = []
    for experiment, runs in known.trainings.groupby("experiment", sort=False):
        params = param_files.load(TrainParams, known.study, runs["run"].iloc[0])
        about = {"method": experiment, "backbone": params.backbone, "trained_on": known.place(params.database)[0]}
        rows.append(
            about
            | {"tested_on": about["trained_on"], "protocol": protocol(params, len(runs))}
            | {"srcc": runs["srcc"].mean(), "plcc": runs["plcc"].mean()}
            | {"source": f"results/{known.study}/train", "measured": True}
        )
    return rows


def protocol(params: TrainParams, seeds: int) -> str:
    """Split, choice of the epoch, crops and seeds of a training's test result, in the words of `published.csv`."""
    chosen = "test set" if params.selects_on_test else "validation set"
    parts = [split(params.study, params.database), f"best epoch on the {chosen}"]
    return "; ".join([*parts, _crops(params.test_crops, params.test_patches), _seeds(seeds)])


def split(study: str, database: str) -> str:
    """How a database of a study is split, with the number of images where it has been read."""
    rule = _rule(study, database)
    if not finished(study, "data_prep", database):
        return rule
    counts = read_json(study, "data_prep", database, "audit")["splits"]
    images = "/".join(str(counts[name]["n"]) for name in ("train", "val", "test") if name in counts)
    return f"{rule} {images}{Measured(study).part(database)}"


def _rule(study: str, database: str) -> str:
    """How a database of a study is split, in words."""
    params = param_files.load(DataPrepParams, study, database)
    if params.split_file:
        return "own split"
    official = params.reader in RELEASES and RELEASES[params.reader].splits
    return SPLITS[params.split or ("official" if official else "seeded")]


def _crops(mode: str, patches: int) -> str:
    return CROPS[mode].title.format(patches=patches)


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"mean of {count} seeds"


def _crossed(known: Measured) -> list[dict]:
    """One row per experiment or checkpoint, and database that it was not trained on."""
    experiment_of = param_files.experiment_of(known.study)
    rows = []
    for run in param_files.run_names(known.study, "cross_dataset"):
        if not finished(known.study, "cross_dataset", run):
            continue
        params = param_files.load(CrossDatasetParams, known.study, run)
        cross = read_table(known.study, "cross_dataset", run, "cross")
        cross = cross[cross["available"] & (cross["trained_on"] != cross["title"])]
        cross = cross.assign(method=cross["model"].map(experiment_of).fillna(cross["model"]))
        for _, part in cross.groupby(["method", "database"], sort=False):
            rows.append(_cross_row(known.study, run, params, part))
    return rows


def _cross_row(study: str, run: str, params: CrossDatasetParams, part: pd.DataFrame) -> dict:
    first = part.iloc[0]
    trained = first["model"] in param_files.run_names(study, "train")
    own = param_files.load(TrainParams, study, first["model"]) if trained else None
    mode, patches = params.test_crops or (own and own.test_crops), params.test_patches or (own and own.test_patches)
    crops = _crops(mode, patches) if mode else "crops as the checkpoint's"
    seeds = _seeds(len(part)) if trained else "published checkpoint"
    images = f"{first['n']:.0f} images{Measured(study).part(first['database'])}"
    return {
        "method": first["method"],
        "backbone": own.backbone if own else "",
        "trained_on": first["trained_on"],
        "tested_on": first["title"],
        "protocol": f"{_rule(study, first['database'])}, {images}; {crops}; {seeds}",
        "srcc": part["srcc"].mean(),
        "plcc": part["plcc"].mean(),
        "source": f"results/{study}/cross_dataset/{run}",
        "measured": True,
    }
