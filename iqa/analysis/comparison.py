"""Compare training runs by the parameters in which they differ, and separate the noise of images from that of seeds.

A group is one experiment: runs that differ in nothing but the seed, or the split of their database. One table has one
reference group, to which every other group is compared. Runs that are not finished stay in the table, with the command
that makes them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from iqa.analysis import published
from iqa.metrics import bootstrap, coefficients
from iqa.metrics.verdicts import BETTER, EQUIVALENT, OPEN, WORSE
from iqa.model.params import UNREAD
from iqa.study import param_files, paths
from iqa.study.results import ResultsError, command_for, finished, finished_runs, read_json, read_table
from iqa.training.params import TrainParams

# parameters that name a run, its machine or its files, and do not make it another experiment
NOT_COMPARED = {
    *("study", "run", "seed", "dpi", "device", "devices", "nodes", "strategy", "threads", "workers"),
    *("compile", "channels_last", "fused", "deterministic", "save_all_epochs", "monitor_databases"),
}
QUANTITIES = ("train_loss", "val_loss", "val_srcc", "val_plcc")
NOT_TESTED = ("train_", "val_")  # how the names of coefficients begin that are not of test images
MEANS = ["srcc_mean", "srcc_std", "plcc_mean", "plcc_std", "val_srcc_mean"]
COLUMNS = [  # of `ablation.csv`
    *("group", "label", "differs", "seeds", "runs", "srcc_mean", "srcc_std", "srcc_low", "srcc_high"),
    *("plcc_mean", "plcc_std", "val_srcc_mean", "best_on_validation", "chosen_on"),
    *("delta", "delta_low", "delta_high", "delta_plcc", "p_value", "p_holm", "verdict", "decision", "command"),
    *("detectable", "seeds_needed", "contents_needed", "margin", "p_equivalence"),
]
POWER = ["group", "label", "seeds", "power", "detectable"]  # of `power.csv`
DYNAMICS = ["group", "label", "differs", "quantity", "epoch", "seeds", "mean", "min", "max"]  # of `dynamics.csv`
LONG = 60  # characters; what differs in more than that is named by its experiment in figures
CHANGED = re.compile(r"(?:^|, )([a-z_]+): ")  # the parameters in `fusion: last, epochs: 3`
DECISIONS = {BETTER: "adopted", WORSE: "rejected", OPEN: "not adopted", EQUIVALENT: "not adopted"}


@dataclass(frozen=True)
class Run:
    """A training run of a table, finished or not: its name, its experiment (parameter file) and its parameters.

    Where its database is one of several splits, `split` names that, and `database` among the parameters the first.
    """

    name: str
    experiment: str
    params: dict[str, Any]
    split: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class Trained(Run):
    """A finished training run, with its test metrics, its test predictions, and its epochs (`history.csv`)."""

    metrics: dict[str, Any]
    predictions: pd.DataFrame
    history: pd.DataFrame


Groups = dict[str, list[Run]]


def collect(study: str, runs: list[str]) -> tuple[list[Trained], list[Run]]:
    """The named training runs of a study: those that are finished, and those that are not.

    A parameter that is newer than a finished run counts as its default there.

    Raises:
        ResultsError: a finished run lacks a file or a figure.
        ParameterError: a run that is not finished has no parameter file.
        ValueError: the runs were not tested on the same images with the same scores, nor on splits of one database.
    """
    experiments, known = param_files.experiment_of(study), param_files.runs_of(study, "train")
    splits = {run: runs[0] for runs in param_files.experiments(study, "data_prep").values() if runs[1:] for run in runs}
    defaults = TrainParams.defaults()
    trained, waiting = [], []
    for run in runs:
        name = experiments.get(run, run)
        if not finished(study, "train", run):
            params, split = _split(param_files.load(TrainParams, study, run, known=known).model_dump(), splits)
            waiting.append(Run(run, name, params, split=split))
            continue
        kept = read_json(study, "train", run, "params")
        params = {key: kept.get(key, defaults.get(key)) for key in TrainParams.model_fields}
        tables = {file: read_table(study, "train", run, file) for file in ("predictions", "history")}
        if "test_srcc" not in tables["history"]:  # the own test images may be monitored under the database's name
            own = {f"{params['database']}_{name}": f"test_{name}" for name in ("srcc", "plcc")}
            tables["history"] = tables["history"].rename(columns=own)
        metrics = read_json(study, "train", run, "metrics")
        if lacking := [key for key in ("srcc", "plcc", "val_srcc") if key not in metrics]:
            file = paths.shown(paths.run_folder(study, "train", run) / "metrics.json")
            remedy = f"make it again with: {command_for(study, 'train', run)}"
            raise ResultsError(f"{file} has no key '{lacking[0]}'; {remedy}")
        params, split = _split(params, splits)
        trained.append(Trained(run, name, params, metrics, **tables, split=split))
    _check_tested(trained)
    return trained, waiting


def _split(params: dict[str, Any], splits: dict[str, str]) -> tuple[dict[str, Any], str]:
    """Parameters of a run with the first of its database's splits, and the name of its own; empty if there is one."""
    database = params["database"]
    return (params | {"database": splits[database]}, database) if database in splits else (params, "")


def _check_tested(trained: list[Trained]) -> None:
    """Refuse runs that were tested on different images, unless they differ by their split of one database."""
    first_on: dict[str, Trained] = {}
    for run in trained:
        other = first_on.setdefault(run.split, run)
        if (run.split or trained[0].split) and run.params["database"] != trained[0].params["database"]:
            other = trained[0]
        tested = [each.predictions[["image", "mos"]] for each in (other, run)]
        if not tested[0].equals(tested[1]):
            raise ValueError(f"train/{other.name} and train/{run.name} were tested on different images")


def databases(study: str, runs: list[str]) -> dict[str, str]:
    """Fingerprints of the databases that finished training runs read, by name."""
    return {key: value for run in runs for key, value in read_json(study, "train", run, "record")["data"].items()}


def select_finished(members: Sequence[Run]) -> list[Trained]:
    """The finished ones among some runs."""
    return [run for run in members if isinstance(run, Trained)]


def group(runs: Sequence[Run], reference: str) -> Groups:
    """Runs that differ in nothing but the seed or the split, under a name that says what they change in the reference.

    The reference's group comes first and is called `reference`; the others follow in the order of the runs.

    Args:
        reference: an experiment or a run.

    Raises:
        ValueError: the reference is not among the runs, or a group holds one seed (on one split) twice.
    """
    named = [run for run in runs if reference in (run.name, run.experiment)]
    if not named:
        known = ", ".join(dict.fromkeys(run.experiment for run in runs))
        raise ValueError(f"key 'reference': train/{reference} is not among the compared runs; there are: {known}")
    base = named[0].params
    groups: Groups = {"reference": []}
    for run in runs:
        name = ", ".join(f"{key}: {run.params[key]}" for key in changed(run.params, base)) or "reference"
        groups.setdefault(name, []).append(run)
    for name, members in groups.items():
        seeds = [(member.split, member.params["seed"]) for member in members]
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"'{name}' has a seed twice: {', '.join(member.name for member in members)}")
    return groups


def changed(params: dict[str, Any], base: dict[str, Any]) -> list[str]:
    """The parameters in which an experiment differs from another, but for those that its own head does not read."""
    ignored = NOT_COMPARED | UNREAD.get(params.get("head"), frozenset())
    return [key for key in base if key not in ignored and params[key] != base[key]]


def command(members: Sequence[Run]) -> str:
    """The command for the runs of a group that are not finished, by experiment if none is; empty if all are."""
    lacking = [run for run in members if not isinstance(run, Trained)]
    names = [run.experiment if len(lacking) == len(members) else run.name for run in lacking]
    runs = [f"{members[0].params['study']}/train/{name}" for name in dict.fromkeys(names)]
    return " ".join(["iqa run", *runs]) if runs else ""


def labels(groups: Groups) -> list[str]:
    """A short name of each group: what it changes, or its experiment where that is long."""
    short = [name if len(name) <= LONG else experiment(members) for name, members in groups.items()]
    return [label if short.count(label) == 1 else name for label, name in zip(short, groups, strict=True)]


def experiment(members: Sequence[Run]) -> str:
    """The name of a group's experiment: that of its first run, without the seed or the split."""
    return re.sub(r"_[rs]\d+$", "", members[0].experiment)


def list_groups(groups: Groups) -> pd.DataFrame:
    """One row per group, with its name as index: what a comparison states besides measurements.

    Returns:
        `group` (its experiment), `label` (see `labels`), `differs` (from the reference, empty there), `seeds` and
        `runs` (number and names of the finished runs; the names of all where none is), `chosen_on` (`TEST` where a
        run's epoch was chosen on the test images, which flatters it, else `validation`), `command`.
    """
    rows = []
    for label, (name, members) in zip(labels(groups), groups.items(), strict=True):
        row = {"group": experiment(members), "label": label, "differs": "" if name == "reference" else name}
        done = select_finished(members)
        row |= {"seeds": len(done), "runs": " ".join(run.name for run in done or members)}
        row |= {"chosen_on": "TEST" if any(map(selected_on_test, members)) else "validation"}
        rows.append(row | {"command": command(members)})
    return pd.DataFrame(rows, index=list(groups))


def selected_on_test(run: Run) -> bool:
    """Whether a run's epoch was chosen on the test images, so that its test figures are too good."""
    return run.params["select_on"].startswith("test_")


def means(runs: Sequence[Trained]) -> dict[str, float]:
    """Means over seeds, and of SRCC and PLCC the sample standard deviations; NaN for one seed, which has none."""
    result = {}
    for name in ("srcc", "plcc"):
        values = [run.metrics[name] for run in runs]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        result |= {f"{name}_mean": float(np.mean(values)), f"{name}_std": spread}
    return result | {"val_srcc_mean": float(np.mean([run.metrics["val_srcc"] for run in runs]))}


def resample(runs: Sequence[Trained], resamples: int, seed: int) -> dict[str, np.ndarray]:
    """SRCC (resamples,) of each run over the same resampled test images; images of one content are drawn together."""
    if not runs:
        return {}
    tested, predictions = runs[0].predictions, [run.predictions["prediction"].to_numpy() for run in runs]
    options = {"resamples": resamples, "seed": seed, "groups": tested["reference"]}
    values = bootstrap.resample(coefficients.srcc, predictions, tested["mos"].to_numpy(), **options)
    return dict(zip([run.name for run in runs], values, strict=True))


def intervals(name: str, samples: dict[str, np.ndarray], confidence: float) -> pd.DataFrame:
    """Columns `<name>_low` and `<name>_high`: the percentile interval of each group's resampled values."""
    ends = [bootstrap.ends(name, values, confidence) for values in samples.values()]
    return pd.DataFrame(ends, index=list(samples), columns=[f"{name}_low", f"{name}_high"], dtype=float)


def verdict(row: Mapping[str, Any], alpha: float) -> str:
    """What the row of a group says: better or worse than the reference if `p_holm` is below `alpha`, or why not.

    What is not distinguishable is equivalent if `p_equivalence` is below `alpha`.
    """
    if not row["seeds"]:
        return "not run"
    if not row["differs"]:
        return "reference"
    if np.isnan(row["delta"]):
        return "no reference"
    if np.isnan(row["p_holm"]):
        return "one seed only"
    if row["p_holm"] >= alpha:
        return EQUIVALENT if row["p_equivalence"] < alpha else OPEN
    return BETTER if row["delta"] > 0 else WORSE


def decision(row: Mapping[str, Any], reference_chosen_on: str) -> str:
    """What follows from a verdict; nothing if a better group was chosen on the test images and the reference not."""
    flattered = row["chosen_on"] == "TEST" and reference_chosen_on != "TEST"
    return "" if flattered and row["verdict"] == BETTER else DECISIONS.get(row["verdict"], "")


def find_contrasts(study: str) -> pd.DataFrame:
    """Every comparison in the ablation tables of a study that has a verdict, each once.

    Returns:
        The columns of `ablation.csv`, `place` (the database), `reference` (its experiment) and its `backbone`, `base`
        (the values of the changed parameters there) and `table` (the ablation run).
    """
    parts = [pd.DataFrame(columns=["group", "reference", "differs", "base", "backbone", "place", "table"])]
    for run in finished_runs(study, "ablation"):
        table = read_table(study, "ablation", run, "ablation")
        reference, rows = table.iloc[0], table[table["verdict"].isin([*DECISIONS, "one seed only"])]
        if reference["verdict"] == "reference":  # else its runs are not finished
            params = TrainParams.defaults() | read_json(study, "train", reference["runs"].split()[0], "params")
            base = [", ".join(f"{key}: {params.get(key)}" for key in CHANGED.findall(text)) for text in rows["differs"]]
            place = published.place(study, params["database"])
            about = {"reference": reference["group"], "backbone": params["backbone"], "place": place, "table": run}
            parts.append(rows.assign(base=base, **about))
    return pd.concat(parts[1:] or parts).drop_duplicates(["place", "reference", "differs"])


def find_contrast(contrasts: pd.DataFrame, first: str, second: str, database: str) -> dict[str, Any] | None:
    """The comparison of two experiments on a database, seen from the first; None if there is none."""
    for row in contrasts[contrasts["place"] == database].to_dict("records"):
        if (row["group"], row["reference"]) == (first, second):
            return row
        if (row["reference"], row["group"]) == (first, second):
            turned = {"delta": -row["delta"], "delta_low": -row["delta_high"], "delta_high": -row["delta_low"]}
            word = {BETTER: WORSE, WORSE: BETTER}.get(row["verdict"], row["verdict"])
            return row | turned | {"delta_plcc": -row["delta_plcc"], "verdict": word}
    return None


def monitored(runs: Sequence[Trained]) -> list[str]:
    """The coefficients of test images that all of some runs wrote after each epoch: `test_srcc`, `<database>_srcc`."""
    columns = [run.history.columns for run in runs]
    named = [name for name in columns[0] if name.endswith(("_srcc", "_plcc")) and not name.startswith(NOT_TESTED)]
    return [name for name in named if all(name in other for other in columns)]


def sweep(groups: Groups, table: pd.DataFrame, parameter: str) -> pd.DataFrame:
    """The rows of a comparison that differ in one parameter alone, sorted by its value, a column with its name.

    Column `images` is the mean number of training images, NaN where no run is finished or an older one does not tell.

    Raises:
        ValueError: a value of the parameter is not a number.
    """
    base = groups["reference"][0].params
    alone = [changed(members[0].params, base) in ([], [parameter]) for members in groups.values()]
    values = [members[0].params[parameter] for members in groups.values()]
    counts = [[run.metrics.get("train_images", np.nan) for run in select_finished(runs)] for runs in groups.values()]
    images = [float(np.mean(known)) if known else np.nan for known in counts]
    rows = table.assign(**{parameter: values}, images=images)[alone]
    for value in rows[parameter]:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"key 'parameter': '{parameter}' is {value!r} in a run; a curve needs numbers")
    return rows.astype({parameter: float}).sort_values(parameter, kind="stable")
