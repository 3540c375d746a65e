"""Compare training runs by the parameters in which they differ, with the noise of images and seeds told apart."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from iqa import metrics
from iqa.results import read_json, read_table

# parameters that name a run or its machine, and do not make it another experiment
NOT_COMPARED = {"study", "run", "seed", "device", "threads", "workers"}


@dataclass(frozen=True)
class Trained:
    """A finished training run: its name, parameters, test metrics and test predictions."""

    name: str
    params: dict[str, Any]
    metrics: dict[str, Any]
    predictions: pd.DataFrame


def collect(study: str, runs: list[str]) -> list[Trained]:
    """The named training runs of a study.

    Raises:
        ResultsError: a run is not finished.
        ValueError: the runs were not tested on the same images.
    """
    found = [
        Trained(
            name=run,
            params=read_json(study, "train", run, "params"),
            metrics=read_json(study, "train", run, "metrics"),
            predictions=read_table(study, "train", run, "predictions"),
        )
        for run in runs
    ]
    for other in found[1:]:
        if not found[0].predictions["image"].equals(other.predictions["image"]):
            raise ValueError(f"train/{found[0].name} and train/{other.name} were tested on different images")
    return found


def databases(study: str, runs: list[str]) -> dict[str, str]:
    """Fingerprints of the databases that training runs read, by name."""
    return {key: value for run in runs for key, value in read_json(study, "train", run, "record")["data"].items()}


def group(trained: list[Trained], reference: str) -> dict[str, list[Trained]]:
    """Runs that differ in nothing but the seed, under a name that says what they change; the reference's come first.

    Raises:
        ValueError: the reference is not among the runs, or a group holds one seed twice.
    """
    known = {run.name: run for run in trained}
    if reference not in known:
        raise ValueError(f"key 'reference': train/{reference} is not among the compared runs: {', '.join(known)}")
    base = known[reference].params
    groups: dict[str, list[Trained]] = {"reference": []}
    for run in trained:
        changed = [key for key in base if key not in NOT_COMPARED and run.params[key] != base[key]]
        name = ", ".join(f"{key}: {run.params[key]}" for key in changed) or "reference"
        groups.setdefault(name, []).append(run)
    for name, members in groups.items():
        seeds = [member.params["seed"] for member in members]
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"'{name}' has a seed twice: {', '.join(member.name for member in members)}")
    return groups


def compare(
    groups: dict[str, list[Trained]], resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """One row per group: mean SRCC over its seeds, its interval, and the difference to the reference's mean.

    Two kinds of chance are in the intervals. Images: all runs see the same resampled test contents (paired
    bootstrap; images of one content are drawn together). Seeds: to every resampled mean a draw of the seeds' noise
    is added, Student's t with the standard deviation pooled over the groups, as a group of two or three seeds does
    not show its own spread reliably.

    Returns:
        columns group, differs, seeds, runs, srcc_mean, srcc_std, srcc_low, srcc_high, plcc_mean, plcc_std, delta,
        delta_low, delta_high, verdict: `reference`; `better` or `worse` if the interval of the difference excludes
        zero; `not distinguishable` otherwise; `one seed only` if no group has two seeds, whose noise is then unknown.
    """
    first = groups["reference"][0].predictions
    mos = first["mos"].to_numpy()
    runs = [(run, run.predictions["prediction"].to_numpy()) for members in groups.values() for run in members]
    resampled: dict[str, list[np.ndarray]] = {run.name: [] for run, _ in runs}
    for index in metrics.draws(len(first), resamples, seed, first["reference"]):
        for run, prediction in runs:
            resampled[run.name].append(metrics.srcc(prediction[index], mos[index]))

    srcc = {name: [run.metrics["srcc"] for run in members] for name, members in groups.items()}
    freedom = sum(len(values) - 1 for values in srcc.values())
    within = sum(float(np.var(values)) * len(values) for values in srcc.values())
    noise = np.sqrt(within / freedom) if freedom else 0.0

    samples = {}
    generator = np.random.default_rng(seed)
    for name, members in groups.items():
        of_images = np.mean([np.concatenate(resampled[run.name]) for run in members], axis=0)
        of_seeds = stats.t.rvs(freedom, size=resamples, random_state=generator) if freedom else 0.0
        samples[name] = of_images + of_seeds * noise / np.sqrt(len(members))

    rows = []
    for name, members in groups.items():
        plcc = [run.metrics["plcc"] for run in members]
        low, high = metrics.percentiles(samples[name], confidence)
        delta_low, delta_high = metrics.percentiles(samples[name] - samples["reference"], confidence)
        rows.append(
            {
                "group": members[0].name.rsplit("_s", 1)[0],
                "differs": "" if name == "reference" else name,
                "seeds": len(members),
                "runs": " ".join(run.name for run in members),
                "srcc_mean": float(np.mean(srcc[name])),
                "srcc_std": _deviation(srcc[name]),
                "srcc_low": low,
                "srcc_high": high,
                "plcc_mean": float(np.mean(plcc)),
                "plcc_std": _deviation(plcc),
                "delta": float(np.mean(srcc[name]) - np.mean(srcc["reference"])),
                "delta_low": delta_low,
                "delta_high": delta_high,
                "verdict": "reference" if name == "reference" else _verdict(delta_low, delta_high, freedom),
            }
        )
    return pd.DataFrame(rows)


def _deviation(values: list[float]) -> float:
    """Sample standard deviation over seeds; NaN for one seed, which has none."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _verdict(low: float, high: float, freedom: int) -> str:
    if not freedom:
        return "one seed only"
    return "better" if low > 0 else "worse" if high < 0 else "not distinguishable"
