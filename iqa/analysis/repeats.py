"""Compare experiments over several random splits of a database: medians, and differences split by split.

The splits share images, so that results on them are not independent: intervals and p-values are rather too small.
"""

from collections.abc import Sequence

import pandas as pd
from scipy import stats

from iqa.analysis.comparison import Trained
from iqa.metrics import bootstrap

COLUMNS = ["splits", "srcc_median", "plcc_median"]  # of `ablation.csv`, beside those of every comparison
SUMMARY = [*COLUMNS, "srcc_low", "srcc_high"]
DIFFERENCE = ["delta", "delta_low", "delta_high", "delta_plcc", "p_value"]


def by_split(runs: Sequence[Trained]) -> pd.DataFrame:
    """SRCC and PLCC (columns) of the finished runs of an experiment on each split (rows)."""
    rows = [[run.metrics["srcc"], run.metrics["plcc"]] for run in runs]
    return pd.DataFrame(rows, index=[run.split for run in runs], columns=["srcc", "plcc"])


def summarise(values: pd.DataFrame) -> list[float]:
    """`SUMMARY` of an experiment: number of splits, medians over them, and the quartiles of its SRCC."""
    quartiles = bootstrap.percentiles(values["srcc"].to_numpy(), 0.5)
    return [len(values), *values.median(), *quartiles]


def difference(values: pd.DataFrame, reference: pd.DataFrame, confidence: float) -> list[float]:
    """`DIFFERENCE` of two experiments, from the splits that both have.

    The median of the differences with its exact interval from order statistics (NaN where so few splits give none),
    that of the PLCC, and the two-sided p-value of Wilcoxon's signed-rank test. NaN where they share no split.
    """
    gains = (values - reference).dropna()
    if gains.empty:
        return [float("nan")] * len(DIFFERENCE)
    srcc = gains["srcc"].to_numpy()
    if not srcc.any():  # as of the reference and itself
        return [0.0, 0.0, 0.0, gains["plcc"].median(), 1.0]
    interval = stats.quantile_test(srcc, p=0.5).confidence_interval(confidence)
    p_value = float(stats.wilcoxon(srcc).pvalue)
    return [gains["srcc"].median(), interval.low, interval.high, gains["plcc"].median(), p_value]
