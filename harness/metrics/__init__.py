"""Scores, their intervals, and what each sample does to them."""

from harness.metrics.catalogue import METRICS, metric, metrics_of
from harness.metrics.metric import Metric
from harness.metrics.scoring import Score, paired_difference, sample_values, score, score_of

__all__ = [
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
