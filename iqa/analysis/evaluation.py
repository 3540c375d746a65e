"""How well predictions agree with the MOS of databases: coefficients with intervals, per distortion and level."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from iqa.data.database import Database
from iqa.data.prepare import in_size
from iqa.metrics import bootstrap, coefficients
from iqa.metrics.logistic5 import plcc_fitted5
from iqa.model.params import change_rule
from iqa.model.predictor import Predictor
from iqa.model.scoring import predict

MOST = {"distortion": 40, "level": 10}  # with more different values they are no kinds or steps
FEWEST = 10  # images below which a coefficient says nothing
COEFFICIENTS = ("srcc", "plcc", "plcc_fitted", "krcc", "rmse", "bias")
PARTS = ("srcc", "plcc", "bias")  # those of single distortions and levels
OF_SCALE = ("rmse", "bias")  # those that compare values, not order or trend
ENDS = dict.fromkeys(COEFFICIENTS, (-1.0, 1.0)) | {"rmse": (0.0, np.inf), "bias": (-np.inf, np.inf)}
FEW = 6  # degrees of freedom below which the noise of seeds is pooled over databases
CONTENTS, TRAININGS = "contents only", "contents and trainings"  # what an interval covers
COLUMNS = [  # of `cross.csv`
    *("model", "trained_on", "database", "title", "available", "reason", "n"),
    *("seeds", "runs", "command", "covers", "srcc_std", "plcc_std"),
    *(f"{name}{end}" for name in COEFFICIENTS for end in ("", "_low", "_high")),
    *("confidence", "ceiling_srcc", "copies", "plcc_fitted5"),
]


def evaluate(
    predictions: pd.DataFrame,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    uncalibrated: str = "",
    samples: dict[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Number of images `n`, SRCC, PLCC (raw, and after the logistic fit), KRCC, RMSE and bias (in units of the MOS).

    Each comes with a bootstrap interval over the contents of the images (`<name>_low`, `<name>_high`). The interval
    of `plcc_fitted` is that of the one curve fitted to all images.

    Args:
        predictions: one row per image: `prediction` and `mos` on the same scale, and `reference`, the content.
        uncalibrated: why the predictions have no scale (`iqa.model.predictor.Scale`); RMSE and bias are None then.
        samples: what `resample` gives for the predictions, if it is known already.
    """
    result = coefficients.summary(*_scores(predictions)) | {"confidence": confidence}
    for name, values in (samples or resample(predictions, resamples, seed)).items():
        result |= bootstrap.ends(name, values, confidence)
    left_out = OF_SCALE if uncalibrated else ()
    return {key: None if key.startswith(left_out) else value for key, value in result.items()}


def resample(predictions: pd.DataFrame, resamples: int = 1000, seed: int = 0) -> dict[str, np.ndarray]:
    """Each coefficient (resamples,) over resampled contents; the same draws for all predictions of a database."""
    prediction, mos = _scores(predictions)
    found = {}
    for name in COEFFICIENTS:
        statistic, values = getattr(coefficients, name), prediction
        if name == "plcc_fitted" and np.ptp(prediction) > 0:
            values = coefficients.logistic(prediction, *coefficients.logistic_fit(prediction, mos))
            statistic = coefficients.plcc
        (found[name],) = bootstrap.resample(statistic, [values], mos, resamples, seed, predictions["reference"])
    return found


def _scores(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and MOS (n,)."""
    return predictions["prediction"].to_numpy(dtype=float), predictions["mos"].to_numpy(dtype=float)


def pool_seeds(trainings: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The noise of seeds: one standard deviation for all models that are scored on a database, as in `03_ablation`.

    Where these give fewer than `FEW` degrees of freedom, it is pooled over all databases that the models were not
    trained on; RMSE and bias in units of the score range, as databases have different ones.

    Args:
        trainings: one row per training run and database: `model`, the experiment, `database`, `title`, `trained_on`,
            `range` (length of the score range), and the coefficients.

    Returns:
        The standard deviation of each coefficient by database, NaN where no experiment has two seeds, and its degrees
        of freedom.
    """
    database = trainings["database"]
    units = pd.DataFrame({name: trainings["range"] if name in OF_SCALE else 1.0 for name in COEFFICIENTS}, dtype=float)
    groups = (trainings[list(COEFFICIENTS)].astype(float) / units).groupby([database, trainings["model"]], sort=False)
    counts = groups.count()
    squares = (groups.var(ddof=0) * counts).groupby("database", sort=False).sum()
    freedom = (counts - 1).clip(lower=0).groupby("database", sort=False).sum()
    foreign = (trainings["title"] != trainings["trained_on"]).groupby(database, sort=False).all()
    pooled = foreign & (freedom["srcc"] < FEW)
    squares.loc[pooled], freedom.loc[pooled] = squares[pooled].sum().to_numpy(), freedom[pooled].sum().to_numpy()
    return np.sqrt(squares / freedom.where(freedom > 0)) * units.groupby(database, sort=False).first(), freedom


def average_seeds(
    found: list[dict[str, Any]],
    samples: list[dict[str, np.ndarray]],
    noise: Mapping[str, float],
    freedom: Mapping[str, float],
    seed: int = 0,
) -> dict[str, Any]:
    """Means over the training runs of a model on one database, with intervals that cover trainings where it is known.

    The same resampled contents are taken for all runs. To each mean a draw of the noise of seeds is added: Student's t,
    as the standard deviation is itself an estimate.

    Args:
        found, samples: what `evaluate` and `resample` gave for each run.
        noise, freedom: of each coefficient, see `pool_seeds`; none for an interval that covers contents alone.
    """
    result = found[0] | {"seeds": len(found), "covers": TRAININGS if freedom.get("srcc") else CONTENTS}
    for name in ("srcc", "plcc"):
        result[f"{name}_std"] = np.std([each[name] for each in found], ddof=1) if len(found) > 1 else None
    if found[0].get("plcc_fitted5") is not None:
        result["plcc_fitted5"] = float(np.mean([each["plcc_fitted5"] for each in found]))
    for name in COEFFICIENTS:
        if found[0][name] is None:
            continue
        values = np.mean([each[name] for each in samples], axis=0)
        if freedom.get(name):
            draws = stats.t.rvs(freedom[name], size=values.size, random_state=np.random.default_rng(seed))
            values = np.clip(values + draws * noise[name] / np.sqrt(len(found)), *ENDS[name])
        result[name] = float(np.mean([each[name] for each in found]))
        result |= bootstrap.ends(name, values, result["confidence"])
    return result


def fitted5(predictions: pd.DataFrame) -> float | None:
    """PLCC after the logistic with 5 parameters; None of fewer than the 6 images that it needs."""
    return plcc_fitted5(*_scores(predictions)) if len(predictions) > 5 else None


def without_twins(predictions: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """SRCC and PLCC with their intervals without the images that have a twin in training or validation.

    Returns:
        `without_twins`: n and, of ten images or more, the coefficients; nothing where there are no twins.
    """
    if "twin" not in predictions:
        return {}
    new = predictions[predictions["twin"].isna()]
    if len(new) == len(predictions):
        return {}
    measured = evaluate(new) if len(new) >= FEWEST else {}
    names = [f"{name}{end}" for name in ("srcc", "plcc") for end in ("", "_low", "_high")] if measured else []
    return {"without_twins": {"n": len(new)} | {name: measured[name] for name in names}}


def agreement(
    scores: np.ndarray, mos: np.ndarray, *options: Any, names: Iterable[str] = ("srcc", "plcc")
) -> dict[str, float]:
    """SRCC and PLCC with their intervals; `options` are `bootstrap_interval`'s from `resamples` on."""
    result = {}
    for name in names:
        statistic = getattr(coefficients, name)
        low, high = bootstrap.bootstrap_interval(statistic, scores, mos, *options)
        result |= {name: statistic(scores, mos), f"{name}_low": low, f"{name}_high": high}
    return result


def breakdown(
    predictions: pd.DataFrame,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    uncalibrated: str = "",
) -> pd.DataFrame:
    """SRCC, PLCC and bias for each distortion and each level, where the database has some of them (at most `MOST`).

    Returns:
        Columns `by` (distortion or level), `value`, `n`, and `srcc`, `srcc_low`, `srcc_high`, then the same of `plcc`
        and `bias`; NaN where there are fewer than 10 images or all their MOS are the same, and `bias` as in `evaluate`.
    """
    names = [name for name in PARTS if not uncalibrated or name not in OF_SCALE]
    rows = []
    for by in ("distortion", "level"):
        if not 2 <= predictions[by].nunique() <= MOST[by]:
            continue
        for value, part in predictions.groupby(by):
            row: dict[str, Any] = {"by": by, "value": f"{value:g}" if by == "level" else value, "n": len(part)}
            if len(part) >= FEWEST and np.ptp(part["mos"]) > 0:
                row |= agreement(*_scores(part), resamples, confidence, seed, part["reference"], names=names)
            rows.append(row)
    columns = ["by", "value", "n", *(f"{name}{end}" for name in PARTS for end in ("", "_low", "_high"))]
    return pd.DataFrame(rows).reindex(columns=columns)


def score(
    model: Predictor, database: Database, preparation: str = "model", label: str = "", **changes: Any
) -> pd.DataFrame:
    """The rows of a database's test split with `prediction`, as a model scores them, on the database's own scale.

    Args:
        preparation: `model`: images are brought to the size and colours of the model, as when it scores files;
            `database`: they are taken as the database is stored.
        label: of a progress bar; empty for no bar.
        changes: what replaces the model's own options, see `iqa.model.params.change_rule`.
    """
    if preparation == "model":
        database = in_size(database, "test", model.size, model.input)
    options = change_rule(model.options, **changes)
    return predict(model.network, database, database.indices("test"), label=label, **options)


def stack(tables: Iterable[pd.DataFrame], first: list[str]) -> pd.DataFrame:
    """Tables one below the other, with the columns `first` in front; no rows where there are no tables."""
    table = pd.concat(list(tables) or [pd.DataFrame(columns=first)], ignore_index=True)
    return table[first + [column for column in table.columns if column not in first]]


def cross_table(
    rows: list[dict[str, Any]],
    trained_on: dict[str, str],
    missing: dict[str, dict[str, str]],
    untrained: dict[str, str] | None = None,
) -> pd.DataFrame:
    """One row per model and database, with no figures where one of the two is not available.

    Args:
        rows: of the evaluated pairs: `COLUMNS` but for `reason`.
        trained_on: title of the database that each evaluated model was trained on.
        missing: `title` and `reason` of each database that is not available.
        untrained: the command that trains each model that is not finished.
    """
    absent = [
        {"model": model, "trained_on": source, "database": name, "available": False, **why}
        for model, source in trained_on.items()
        for name, why in missing.items()
    ]
    titles = {row["database"]: row["title"] for row in [*rows, *absent]}
    absent += [
        {"model": model, "database": name, "title": title, "available": False, "reason": f"not run: {command}"}
        for model, command in (untrained or {}).items()
        for name, title in titles.items()
    ]
    order = [*trained_on, *(untrained or {})]
    listed = sorted([*rows, *absent], key=lambda row: order.index(row["model"]))
    return pd.DataFrame(listed).reindex(columns=COLUMNS)


def results_json(scored: dict[tuple[str, str], pd.DataFrame], cross: pd.DataFrame) -> dict[str, Any]:
    """What `eval_results.json` holds: the results of the first model, and under `compared` those of the others.

    `model_type`, `eval_time` (UTC), and `datasets`: for each `metrics` (`srcc`, `plcc`, `num_samples`, the other
    coefficients and all intervals) and `predictions` (`image`, `score`, `prediction`, on the database's scale); for one
    that is not available, `available` is false and `reason` says why. Of an experiment the metrics are means over its
    `runs`, and the predictions those of the first.

    Args:
        scored: what `score` returned, by model (of an experiment: by run) and database.
    """
    models: dict[str, dict] = {}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for row in cross.to_dict("records"):
        model, database = row["model"], row["database"]
        datasets = models.setdefault(model, {"model_type": model, "eval_time": now, "datasets": {}})["datasets"]
        if not row["available"]:
            datasets[database] = {"available": False, "reason": row["reason"]}
            continue
        metrics = {key: value for key, value in row.items() if key.startswith(COEFFICIENTS) and not pd.isna(value)}
        metrics |= {"num_samples": int(row["n"]), "confidence": row["confidence"]}
        if not pd.isna(row["runs"]):
            model, metrics["runs"] = row["runs"].split()[0], row["runs"]
        images = scored[model, database][["image", "mos", "prediction"]].rename(columns={"mos": "score"})
        datasets[database] = {"available": True, "metrics": metrics, "predictions": images.to_dict("records")}
    first, *others = models.values()
    return first | {"compared": others}
