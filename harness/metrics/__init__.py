"""Scores, their intervals, and what each sample does to them."""

from harness.metrics.catalogue import METRICS, mean_metric, metric, metrics_of
from harness.metrics.metric import MeanMetric, Metric
from harness.metrics.scoring import Score, paired_difference, sample_values, score

__all__ = [
    "METRICS",
    "MeanMetric",
    "Metric",
    "Score",
    "mean_metric",
    "metric",
    "metrics_of",
    "paired_difference",
    "sample_values",
    "score",
]
