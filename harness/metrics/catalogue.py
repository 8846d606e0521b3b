"""The metrics there are, by kind of target; each beside the source of its definition.

It must know nothing of how intervals are made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from harness.metrics.average_precision import AveragePrecision
from harness.metrics.metric import Floats, MeanMetric, Metric, Targets
from models.errors import UserError, did_you_mean
from suites.datasets.base import IGNORED, TargetKind, is_asked

WORST = 1e30
"""What a useless prediction of numbers scores: finite, because neither a study's journal nor JSON
holds an infinity."""


def metric(name: str) -> Metric:
    """Look a metric up by name; a `UserError` names the valid ones."""
    try:
        return METRICS[name]
    except KeyError:
        raise UserError(f'Unknown metric "{name}": {did_you_mean(name, METRICS)}.') from None


def mean_metric(name: str) -> MeanMetric:
    """A metric whose samples add up, as those of maps must. `ValueError` for another one."""
    found = metric(name)
    if not isinstance(found, MeanMetric):
        raise ValueError(f"{name} is no function of means over samples")
    return found


def metrics_of(kind: TargetKind) -> tuple[str, ...]:
    """Names of the metrics for a kind of target; the first is what the field reports."""
    return tuple(name for name, found in METRICS.items() if found.kind == kind)


# --- means and ratios of means --------------------------------------------------------------------


def _mean(means: Floats) -> Floats:
    return means[:, 0]


def _mean_slope(means: Floats) -> Floats:
    return np.ones_like(means)


def _ratio(means: Floats) -> Floats:
    """Of the first half of the columns to the second, averaged where there is any of it."""
    above, below = np.split(means, 2, axis=1)
    present = below > 0
    each = np.divide(above, below, out=np.zeros_like(above), where=present)
    ratios: Floats = each.sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    return ratios


def _ratio_slope(means: Floats) -> Floats:
    above, below = np.split(means, 2)
    present = below > 0
    inverse: Floats = np.divide(1.0, below, out=np.zeros_like(below), where=present)
    slope: Floats = np.concatenate([inverse, -above * inverse * inverse])
    scaled: Floats = slope / max(1, int(present.sum()))
    return scaled


# --- one class a sample ---------------------------------------------------------------------------


def _hits(labels: Targets, predictions: Targets) -> Floats:
    hits: Floats = (labels == predictions).astype(np.float64)
    return hits[:, None]


def _f1_of_classes(labels: Targets, predictions: Targets) -> Floats:
    """F1 = 2 TP / (2 TP + FP + FN), class by class; classes that neither holds do not count."""
    classes = np.union1d(labels, predictions)
    is_label = (labels[:, None] == classes).astype(np.float64)
    is_prediction = (predictions[:, None] == classes).astype(np.float64)
    return np.concatenate([2 * is_label * is_prediction, is_label + is_prediction], axis=1)


# --- several labels a sample ----------------------------------------------------------------------


def _f1_of_labels(labels: Targets, predictions: Targets) -> Floats:
    """``[n, 2 C]``: twice the hits, and labels plus predictions, label by label."""
    truth, said = labels.astype(np.float64), predictions.astype(np.float64)
    return np.concatenate([2 * truth * said, truth + said], axis=1)


def _f1_over_labels(labels: Targets, predictions: Targets) -> Floats:
    hits, both = np.split(_f1_of_labels(labels, predictions), 2, axis=1)
    return np.stack([hits.sum(axis=1), both.sum(axis=1)], axis=1)


# --- a class for each pixel -----------------------------------------------------------------------


def _overlaps(maps: Targets, predictions: Targets) -> Floats:
    """``[n, 2 C]``: pixels in the intersection and in the union of each class."""
    count = int(max(maps.max(), predictions.max(), 0)) + 1
    found = np.zeros((len(maps), 3, count))
    for row, (truth, said) in enumerate(zip(maps, predictions, strict=True)):
        asked = truth != IGNORED
        found[row, 0] = np.bincount(truth[asked & (truth == said)], minlength=count)
        found[row, 1] = np.bincount(truth[asked], minlength=count)
        found[row, 2] = np.bincount(said[asked], minlength=count)
    both, truths, saids = found.transpose(1, 0, 2)
    return np.concatenate([both, truths + saids - both], axis=1)


def _pixel_hits(maps: Targets, predictions: Targets) -> Floats:
    asked = maps != IGNORED
    hits = (asked & (maps == predictions)).sum(axis=(1, 2))
    return np.stack([hits, asked.sum(axis=(1, 2))], axis=1).astype(np.float64)


# --- a number a sample ----------------------------------------------------------------------------


def _squared_errors(values: Targets, predictions: Targets) -> Floats:
    return np.square(predictions.astype(np.float64) - values)[:, None]


def _root(means: Floats) -> Floats:
    return np.sqrt(means[:, 0])


def _root_slope(means: Floats) -> Floats:
    # At a perfect score the slope is infinite, but no sample departs from the mean.
    return np.divide(0.5, np.sqrt(means), out=np.zeros_like(means), where=means > 0)


def _absolute_errors(values: Targets, predictions: Targets) -> Floats:
    return np.abs(predictions.astype(np.float64) - values)[:, None]


def _explained(values: Targets, predictions: Targets) -> Floats:
    """Squared error, value, its square: values are centred, which loses fewer digits."""
    return _explained_from(values.mean(dtype=np.float64), values, predictions)


def _explained_from(centre: float, values: Targets, predictions: Targets) -> Floats:
    centred = values.astype(np.float64) - centre
    errors = np.square(predictions.astype(np.float64) - values)
    return np.stack([errors, centred, np.square(centred)], axis=1)


def _r2(means: Floats) -> Floats:
    error, spread = means[:, 0], means[:, 2] - np.square(means[:, 1])
    shares = np.divide(error, spread, out=np.full_like(error, np.inf), where=spread > 0)
    # Nothing to explain: exact is 1, else 0, as scikit-learn has it.
    return np.where(spread > 0, 1 - shares, (error == 0).astype(np.float64))


def _r2_slope(means: Floats) -> Floats:
    error, mean, square = means
    spread = square - mean**2
    if spread <= 0:
        return np.zeros(3)
    return np.array([-1 / spread, -2 * mean * error / spread**2, error / spread**2])


# --- a number for each pixel ----------------------------------------------------------------------


def _of_pixels(
    name: str,
    of_numbers: MeanMetric,
    statistics: Callable[[Targets, Targets], Floats] | None = None,
) -> MeanMetric:
    """A metric of numbers, over all pixels of the test set; the sample is still the image.

    An image adds the sums over its asked pixels, and how many there are: a smooth function of
    means over pixels is one of means over images. ``statistics`` of pixels must not depend on
    which others stand beside them.
    """
    each = statistics or of_numbers.statistics
    nothing = of_numbers.worst  # of a resample without a pixel, of which nothing can be said

    def summed(maps: Targets, predictions: Targets) -> Floats:
        rows = []
        for truth, said, asked in zip(maps, predictions, is_asked(maps), strict=True):
            rows.append([*each(truth[asked], said[asked]).sum(axis=0), asked.sum()])
        return np.array(rows, dtype=np.float64)

    def of_means(means: Floats) -> Floats:
        counts = means[:, -1:]
        found = of_numbers.of_means(means[:, :-1] / np.where(counts > 0, counts, 1))
        return np.where(counts[:, 0] > 0, found, nothing)

    def gradient(means: Floats) -> Floats:
        count = means[-1]
        if count <= 0:
            return np.zeros_like(means)
        by_pixel = means[:-1] / count
        slope = of_numbers.gradient(by_pixel) / count
        return np.append(slope, -slope @ by_pixel)

    title, rising, worst = of_numbers.title, of_numbers.higher_is_better, of_numbers.worst
    return MeanMetric(name, title, rising, worst, "value_maps", summed, of_means, gradient)


_RMSE = MeanMetric("rmse", "RMSE", False, WORST, "values", _squared_errors, _root, _root_slope)
_MAE = MeanMetric("mae", "MAE", False, WORST, "values", _absolute_errors, _mean, _mean_slope)
_R2 = MeanMetric("r2", "R²", True, -WORST, "values", _explained, _r2, _r2_slope)

METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        MeanMetric("accuracy", "accuracy", True, 0.0, "classes", _hits, _mean, _mean_slope),
        MeanMetric(
            "macro_f1", "macro F1", True, 0.0, "classes", _f1_of_classes, _ratio, _ratio_slope
        ),
        # Micro: hits of all labels together. Macro: the mean over labels that occur.
        MeanMetric(
            "micro_f1", "micro F1", True, 0.0, "labels", _f1_over_labels, _ratio, _ratio_slope
        ),
        MeanMetric(
            "macro_f1_labels", "macro F1", True, 0.0, "labels", _f1_of_labels, _ratio, _ratio_slope
        ),
        AveragePrecision("micro_map", "micro mAP", True, 0.0, "labels", is_micro=True),
        AveragePrecision("macro_map", "macro mAP", True, 0.0, "labels", is_micro=False),
        # Over all pixels of the test set, not image by image (Everingham et al. 2015, section 4.2).
        MeanMetric("miou", "mIoU", True, 0.0, "maps", _overlaps, _ratio, _ratio_slope),
        # Of one class a pixel, micro F1 is this.
        MeanMetric(
            "pixel_accuracy", "pixel accuracy", True, 0.0, "maps", _pixel_hits, _ratio, _ratio_slope
        ),
        _RMSE,
        _MAE,
        _R2,
        _of_pixels("pixel_rmse", _RMSE),
        _of_pixels("pixel_mae", _MAE),
        # Batches of images add up only if all are centred alike; maps hold seven digits at most.
        _of_pixels("pixel_r2", _R2, partial(_explained_from, 0.0)),
    )
}
