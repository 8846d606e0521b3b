"""Scores, their intervals, and what each sample does to them."""

from harness.metrics.catalogue import IGNORED, METRICS, metric, metrics_of
from harness.metrics.metric import Metric
from harness.metrics.scoring import Score, paired_difference, sample_values, score, score_of

__all__ = [
    "IGNORED",
    "METRICS",
    "Metric",
    "Score",
    "metric",
    "metrics_of",
    "paired_difference",
    "sample_values",
    "score",
    "score_of",
]
