"""How well predictions agree with the MOS of databases: coefficients with intervals, per distortion and level."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from iqa.data.database import Database
from iqa.metrics import bootstrap, coefficients
from iqa.model.predictor import Predictor
from iqa.model.scoring import predict
from iqa.study.progress import bar

MOST = {"distortion": 40, "level": 10}  # more are no kinds or steps, but a value of each image
FEWEST = 10  # images below which a coefficient says nothing
Scored = dict[tuple[str, str], pd.DataFrame]  # by model and database: the database's rows with `prediction`

COEFFICIENTS = ("srcc", "plcc", "plcc_fitted", "krcc", "rmse")


def evaluate(
    predictions: pd.DataFrame, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """Number of images `n`, SRCC, PLCC (raw, and after the logistic fit), KRCC and RMSE (in units of the MOS).

    Each comes with a bootstrap interval over the contents of the images (`<name>_low`, `<name>_high`). The interval
    of `plcc_fitted` is that of the one curve fitted to all images.

    Args:
        predictions: one row per image: `prediction` and `mos` on the same scale, and `reference`, the content.
    """
    prediction, mos = predictions["prediction"].to_numpy(dtype=float), predictions["mos"].to_numpy(dtype=float)
    result = coefficients.summary(prediction, mos) | {"confidence": confidence}
    groups = predictions["reference"]
    for name in COEFFICIENTS:
        statistic, values = getattr(coefficients, name), prediction
        if name == "plcc_fitted" and np.ptp(prediction) > 0:
            values = coefficients.logistic(prediction, *coefficients.logistic_fit(prediction, mos))
            statistic = coefficients.plcc
        interval = bootstrap.bootstrap_interval(statistic, values, mos, resamples, confidence, seed, groups)
        result |= _ends(name, interval)
    return result


def _ends(name: str, interval: tuple[float, float]) -> dict[str, float]:
    return {f"{name}_low": interval[0], f"{name}_high": interval[1]}


def breakdown(
    predictions: pd.DataFrame, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """SRCC and PLCC for each distortion and for each level, where the database has some of them (at most `MOST`).

    Returns:
        Columns `by` (distortion or level), `value`, `n`, `srcc`, `srcc_low`, `srcc_high`, `plcc`, `plcc_low` and
        `plcc_high`; NaN where there are fewer than 10 images or all their MOS are the same.
    """
    rows = []
    for by in ("distortion", "level"):
        if not 2 <= predictions[by].nunique() <= MOST[by]:
            continue
        for value, part in predictions.groupby(by):
            row: dict[str, Any] = {"by": by, "value": f"{value:g}" if by == "level" else value, "n": len(part)}
            if len(part) >= FEWEST and np.ptp(part["mos"]) > 0:
                pair = part["prediction"].to_numpy(dtype=float), part["mos"].to_numpy(dtype=float)
                for name in ("srcc", "plcc"):
                    statistic = getattr(coefficients, name)
                    interval = bootstrap.bootstrap_interval(
                        statistic, *pair, resamples, confidence, seed, part["reference"]
                    )
                    row |= {name: statistic(*pair)} | _ends(name, interval)
            rows.append(row)
    columns = ["by", "value", "n", *(f"{name}{end}" for name in ("srcc", "plcc") for end in ("", "_low", "_high"))]
    return pd.DataFrame(rows).reindex(columns=columns)


def score_all(models: dict[str, Predictor], databases: dict[str, Database], **changes: Any) -> Scored:
    """The test split of every database as every model scores it, on the database's own scale.

    Args:
        changes: what replaces a model's own options (`iqa.model.scoring.score_all`); None leaves one as it is.
    """
    changes = {key: value for key, value in changes.items() if value is not None}
    pairs = [(model, name) for model in models for name in databases]
    scored = {}
    for model, name in bar(pairs, total=len(pairs), desc="scoring", unit="database"):
        found, data = models[model], databases[name]
        frame = predict(found.network, data, data.indices("test"), **found.options | changes)
        scored[model, name] = frame.assign(model=model, trained_on=found.scale.of, database=name)
    return scored


def joined(scored: Scored) -> pd.DataFrame:
    """All predictions in one table: `model`, `trained_on`, `database`, then the database's columns and `prediction`."""
    first = ["model", "trained_on", "database"]
    table = pd.concat(scored.values(), ignore_index=True) if scored else pd.DataFrame(columns=first)
    return table[first + [column for column in table.columns if column not in first]]


def cross_table(
    scored: Scored,
    databases: dict[str, Database],
    missing: dict[str, dict[str, Any]],
    models: dict[str, Predictor],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    untrained: dict[str, str] | None = None,
) -> pd.DataFrame:
    """One row per model and database, `evaluate`'s figures in it; none where one of the two is not there.

    Args:
        databases: the evaluated ones by name.
        missing: those that are not available, by name: `title` and `reason`.
        models: those that were evaluated, by name.
        untrained: models that are not finished, by name: how to make them.

    Returns:
        Columns `model`, `trained_on`, `database`, `title`, `available`, `reason`, `evaluate`'s, and `ceiling_srcc`.
    """
    rows = []
    for model, predictor in models.items():
        about = {"model": model, "trained_on": predictor.scale.of}
        for name, database in databases.items():
            found = evaluate(scored[model, name], resamples, confidence, seed)
            here = {"database": name, "title": database.title, "available": True, "reason": None}
            rows.append(about | here | found | {"ceiling_srcc": database.ceiling_srcc()})
        rows += [about | {"database": name, "available": False, **why} for name, why in missing.items()]
    titles = {name: database.title for name, database in databases.items()}
    titles |= {name: why["title"] for name, why in missing.items()}
    for model, remedy in (untrained or {}).items():
        not_run = {"model": model, "available": False, "reason": f"not run: {remedy}"}
        rows += [not_run | {"database": name, "title": title} for name, title in titles.items()]
    figures = ["n", *(f"{name}{end}" for name in COEFFICIENTS for end in ("", "_low", "_high")), "confidence"]
    about = ["model", "trained_on", "database", "title", "available", "reason"]
    return pd.DataFrame(rows).reindex(columns=[*about, *figures, "ceiling_srcc"])


def breakdowns(
    scored: Scored, databases: dict[str, Database], resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """`breakdown` of every model and database, with columns `model`, `database` and `title` before its own."""
    tables = []
    for (model, name), predictions in scored.items():
        found = breakdown(predictions, resamples, confidence, seed)
        tables.append(found.assign(model=model, database=name, title=databases[name].title))
    first = ["model", "database", "title"]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=first)
    return table[first + [column for column in table.columns if column not in first]]


def results_json(scored: Scored, cross: pd.DataFrame) -> dict[str, Any]:
    """What `eval_results.json` holds: that of the first model, and under `compared` that of each further one.

    `model_type`, `eval_time` (UTC), and `datasets`: for each `metrics` (`srcc`, `plcc`, `num_samples`, the other
    coefficients and all intervals) and `predictions` (`image`, `score`, `prediction`, on the database's scale); for one
    that is not available, `available` is false and `reason` says why.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")

    def of_model(model: str, rows: pd.DataFrame) -> dict[str, Any]:
        datasets = {}
        for row in rows.to_dict("records"):
            if not row["available"]:
                datasets[row["database"]] = {"available": False, "reason": row["reason"]}
                continue
            listed = scored[model, row["database"]][["image", "mos", "prediction"]].rename(columns={"mos": "score"})
            metrics = {key: value for key, value in row.items() if key.startswith(COEFFICIENTS)}
            metrics |= {"num_samples": int(row["n"]), "confidence": row["confidence"]}
            datasets[row["database"]] = {
                "available": True,
                "metrics": metrics,
                "predictions": listed.to_dict("records"),
            }
        return {"model_type": model, "eval_time": now, "datasets": datasets}

    first, *others = (of_model(model, rows) for model, rows in cross.groupby("model", sort=False))
    return first | {"compared": others}
