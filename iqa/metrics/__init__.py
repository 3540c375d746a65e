"""Agreement of predictions with MOS: coefficients, their bootstrap intervals, paired tests."""

from iqa.metrics.bootstrap import (
    Comparison,
    bootstrap_interval,
    draws,
    holm,
    p_value,
    paired_difference,
    percentiles,
    resampled,
)
from iqa.metrics.coefficients import krcc, logistic, logistic_fit, plcc, plcc_fitted, rmse, srcc, summary

__all__ = [
    "Comparison",
    "bootstrap_interval",
    "draws",
    "holm",
    "krcc",
    "logistic",
    "logistic_fit",
    "p_value",
    "paired_difference",
    "percentiles",
    "plcc",
    "plcc_fitted",
    "resampled",
    "rmse",
    "srcc",
    "summary",
]
