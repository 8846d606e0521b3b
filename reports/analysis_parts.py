"""The analyses beside the ranking, each as a part of the page: what they say and draw.

It must know nothing of how an analysis is computed, nor of HTML, Markdown or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from reports.calibration import calibrations
from reports.calibration_figure import reliability_chart
from reports.calibration_tables import calibration_sentences, calibration_table
from reports.confusion_figures import (
    changes_to_draw,
    confusion_change_chart,
    confusion_chart,
    tasks_to_draw,
)
from reports.cost_curve_figures import MOST_LINES, cost_ratio_chart, macs_chart
from reports.cost_curves import cost_curve_sentences, cost_curve_table
from reports.critical_difference import critical_difference_sentences
from reports.critical_difference_diagram import critical_difference_chart
from reports.document import Figure, Part
from reports.gallery import Gallery
from reports.pairs import Pair
from reports.per_class_tables import (
    class_change_table,
    per_class_sentences,
    per_class_table,
    version_class_changes,
)
from reports.predictions import Predictions
from reports.ranking import RankingTable
from reports.sensitivity import aggregation_explanations, aggregation_table, stability_table
from reports.sensitivity_figure import sensitivity_chart
from reports.table import SuiteResults
from reports.tuning import searches, tried_ranges
from reports.tuning_figures import chosen_chart, tuning_chart
from reports.tuning_tables import tuning_sentences, tuning_table


def cost_growth(gallery: Gallery, results: SuiteResults, pairs: Sequence[Pair]) -> Part:
    """How a pair's cost ratio grows with image side and time steps; empty without pairs."""
    heading = "How cost grows with the input"
    if not pairs:
        return Part(heading)
    table = cost_curve_table(results, pairs)
    ratio = gallery.drawn(
        "cost_ratio",
        lambda frame: cost_ratio_chart(results, pairs, frame),
        "How many times fewer MACs the candidate needs, by image side and by time steps; solid: "
        f"attention included, dashed: attention-blind. At most {MOST_LINES} pairs are drawn.",
        "Line plots of the MACs ratio of each pair against image side and time steps.",
    )
    macs = gallery.drawn(
        "macs_growth",
        lambda frame: macs_chart(results, frame),
        "MACs per sample of each variant (log axis), attention included, by image side and by "
        "time steps.",
        "Line plots of MACs per sample against image side and time steps.",
    )
    return Part(
        heading,
        paragraphs=tuple(cost_curve_sentences(results, pairs)),
        figures=(*ratio, *macs),
        parts=(Part("Ratios pair by pair", tables=(table,) if table else (), folded=True),),
    )


def critical_difference_part(
    gallery: Gallery, results: SuiteResults, ranking: RankingTable, label: str
) -> Part:
    """Friedman and Nemenyi over the tasks; empty with fewer than two ranked variants."""
    heading = f"Critical difference{label}"
    if len(ranking.ranked) < 2:
        return Part(heading)
    return Part(
        heading,
        paragraphs=tuple(critical_difference_sentences(ranking)),
        figures=gallery.drawn(
            f"critical_difference_{ranking.name}",
            lambda frame: critical_difference_chart(results, ranking, frame),
            "Average ranks on one axis; a bar joins variants whose ranks differ by less than "
            "Nemenyi's critical difference, so that these tasks cannot tell them apart "
            "(J. Demsar, JMLR 7, 2006).",
            f"Critical-difference diagram of the average ranks. {ranking.status}.",
        ),
    )


def sensitivity_part(
    gallery: Gallery,
    results: SuiteResults,
    ranking: RankingTable,
    sentences: Sequence[str],
    label: str,
) -> Part:
    """Whether other tasks, other samples or another aggregation would give another order."""
    heading = f"Sensitivity of the ranking{label}"
    if len(ranking.ranked) < 2:
        return Part(heading)
    tables = (stability_table(ranking), aggregation_table(ranking))
    return Part(
        heading,
        paragraphs=tuple(sentences),
        figures=gallery.drawn(
            f"sensitivity_{ranking.name}",
            lambda frame: sensitivity_chart(results, ranking, frame),
            "Dot: average rank over all tasks; ticks: average rank without each one task.",
            f"Dot plot of the average ranks without each task. {ranking.status}.",
        ),
        tables=tuple(table for table in tables if table),
        parts=(Part("Aggregations", terms=tuple(aggregation_explanations(ranking)), folded=True),),
    )


def per_class_part(
    gallery: Gallery,
    results: SuiteResults,
    ranking: RankingTable,
    pairs: Sequence[Pair],
    samples: Mapping[str, Predictions],
    label: str,
) -> Part:
    """Which classes are weak, and which a later version loses; says so without predictions."""
    heading = f"Per class{label}"
    if not ranking.ranked:
        return Part(heading)
    changes = version_class_changes(samples, pairs, ranking)
    state = ranking.status
    best = ranking.ranked[0].variant
    figures: list[Figure] = []
    for pair, task in changes_to_draw(changes):
        figures += gallery.drawn(
            f"confusion_change_{ranking.name}_{len(figures) + 1}",
            partial(confusion_change_chart, results, ranking, samples[task], pair),
            f"How the confusion on {task} changes from {pair.reference} to {pair.candidate}, in "
            "shares of the true class (rows). Blue: more on the diagonal or less beside it; "
            "orange: the reverse.",
            f"Heat map of the change in confusion on {task}. {state}.",
        )
    for found in tasks_to_draw(ranking, samples):
        figures += gallery.drawn(
            f"confusion_{ranking.name}_{len(figures) + 1}",
            partial(confusion_chart, results, ranking, found),
            f"Confusion of {best}, ranked first, on {found.task.name}: shares of the true class "
            "(rows) by predicted class (columns), all seeds together.",
            f"Heat map of the confusion of {best} on {found.task.name}. {state}.",
        )
    change_table, class_table = class_change_table(changes), per_class_table(ranking, samples)
    return Part(
        heading,
        paragraphs=tuple(per_class_sentences(ranking, samples, changes)),
        parts=(
            Part(
                "Classes under a later version",
                tables=(change_table,) if change_table else (),
                folded=True,
            ),
            Part("Weakest classes", tables=(class_table,) if class_table else (), folded=True),
            Part("Confusion", figures=tuple(figures), folded=len(figures) > 1),
        ),
    )


def calibration_part(
    gallery: Gallery,
    results: SuiteResults,
    ranking: RankingTable,
    pairs: Sequence[Pair],
    samples: Mapping[str, Predictions],
    label: str,
) -> Part:
    """Whether a probe that is sure of a prediction is right; says so without confidences."""
    heading = f"Calibration{label}"
    if not ranking.ranked:
        return Part(heading)
    found = calibrations(ranking, samples, pairs)
    table = calibration_table(found)
    return Part(
        heading,
        paragraphs=tuple(calibration_sentences(found)),
        figures=gallery.drawn(
            f"calibration_{ranking.name}",
            partial(reliability_chart, results, ranking, found),
            "Accuracy by stated confidence; on the diagonal a probe is right as often as it is "
            "sure. Dots grow with the number of samples.",
            f"Reliability diagrams per task. {ranking.status}.",
        ),
        parts=(Part("Calibration error", tables=(table,) if table else (), folded=True),),
    )


def tuning_part(gallery: Gallery, results: SuiteResults, ranking: RankingTable, label: str) -> Part:
    """How the probes' settings were found, and whether the search was wide enough."""
    heading = f"Tuning{label}"
    if not ranking.ranked:
        return Part(heading)
    found, ranges = searches(results, ranking), tried_ranges(results, ranking)
    table = tuning_table(found, ranges)
    state = ranking.status
    progress = gallery.drawn(
        f"tuning_{ranking.name}",
        partial(tuning_chart, results, ranking, found),
        "Best validation score so far against the number of trials, the median over seeds.",
        f"Line plots of the best validation score against trials. {state}.",
    )
    chosen = gallery.drawn(
        f"tuning_chosen_{ranking.name}",
        partial(chosen_chart, results, ranking, found, ranges),
        "What tuning settled on for every variant and seed, within the range that was tried; at "
        "the edge of the frame the range may be too narrow.",
        f"Dot plots of the chosen settings. {state}.",
    )
    return Part(
        heading,
        paragraphs=tuple(tuning_sentences(found, ranges)),
        figures=(*progress, *chosen),
        parts=(Part("Trials and choices", tables=(table,) if table else (), folded=True),),
    )
