"""Look inside trained models: generated weights, attention over the scales, errors, and the ceiling of rating noise.

`gather` scores the test images of a database once and keeps what led to the scores; everything else is arithmetic on
that. Intervals are percentile bootstraps over contents (`iqa.metrics.draws`), so that images of one content count as
one draw.
"""

from iqa.analysis.attention import attention_bands, attention_tests, entropy
from iqa.analysis.gathering import Gathered, band, gather, models_table, summary
from iqa.analysis.maps import Maps, feature_rows, quality_rows
from iqa.analysis.residuals import cases, ceiling, chosen, errors, groups_of
from iqa.analysis.weights import class_probe, pca, quality_probe, separation, silhouette, weight_space

__all__ = [
    "Gathered",
    "Maps",
    "attention_bands",
    "attention_tests",
    "band",
    "cases",
    "ceiling",
    "chosen",
    "class_probe",
    "entropy",
    "errors",
    "feature_rows",
    "gather",
    "groups_of",
    "models_table",
    "pca",
    "quality_probe",
    "quality_rows",
    "separation",
    "silhouette",
    "summary",
    "weight_space",
]
