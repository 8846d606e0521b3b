"""What a report says, in order: the answer first, then what it rests on, then how and from what.

A pure function of results, rankings, pairs and draws. It must know nothing of HTML,
Markdown or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import polars as pl

from reports import dotplot, figures, words
from reports.absences import absences
from reports.against_baselines import AgainstBaselines, is_mark_only
from reports.analysis_parts import (
    calibration_part,
    cost_growth,
    critical_difference_part,
    per_class_part,
    sensitivity_part,
    tuning_part,
)
from reports.answer import answer
from reports.atlas_page import PAGE as ATLAS_PAGE
from reports.atlas_page import TITLE as ATLAS_TITLE
from reports.baseline_part import against_baselines_part, marks_part
from reports.baseline_tables import baseline_sentences
from reports.budgets import Budgets, budget_sentences, budget_table, budgets
from reports.cost_points import cost_axis, points_of
from reports.document import FACETS, Banner, Figure, Page, Part, anchored
from reports.gallery import Gallery
from reports.licences import licence_sentences
from reports.methods import how_it_was_computed, provenance
from reports.pairs import Pair
from reports.predictions import predictions
from reports.ranking import BASELINE, RankingTable
from reports.samples import is_empty
from reports.sensitivity import sensitivity_sentences
from reports.side_by_side import side_by_side
from reports.table import SuiteResults
from reports.tables import ranking_table, score_tables

_POINTS_ON_A_PHONE, _DOTS_ON_A_PHONE = 24, 120


def page(
    gallery: Gallery,
    results: SuiteResults,
    rankings: Sequence[RankingTable],
    pairs: Sequence[Pair],
    against: Sequence[AgainstBaselines] = (),
) -> Page:
    """Put the whole page together; of a ranking that nothing was run of, only the reasons.

    What is there only to be beaten gets a table and reference lines, no answer or figure of its
    own: nobody chooses between baselines.
    """
    marks = [r for r in rankings if is_mark_only(results, r)]
    asked = [r for r in rankings if r not in marks]
    shown = [r for r in asked if any(entry.scores for entry in r.entries)]
    absent = [a for r in asked if r not in shown for a in absences(results, r)]
    judged = {found.ranking.name: found for found in against}

    def label(ranking: RankingTable) -> str:
        return _label(ranking) if len(shown) > 1 else ""

    samples = predictions(results)
    firm = {r.name: sensitivity_sentences(r, samples) for r in shown}
    parts: list[Part] = []
    for r in shown:
        found = judged.get(r.name)
        parts += _ranking_parts(gallery, results, r, pairs, firm[r.name], label(r), found)
        parts.append(against_baselines_part(found, label(r)))
    if not shown:
        parts.append(Part("Answer", paragraphs=("There are no variants to report on.",)))
    parts.append(marks_part(results, marks, against))
    parts.append(Part("Not run", bullets=tuple(absence.sentence for absence in absent)))
    parts.append(side_by_side(results, pairs, cost_growth(gallery, results, pairs)))
    for ranking in shown:
        parts += _stability(gallery, results, ranking, firm[ranking.name], label(ranking))
    for ranking in shown:
        parts.append(per_class_part(gallery, results, ranking, pairs, samples, label(ranking)))
    for ranking in shown:
        parts.append(calibration_part(gallery, results, ranking, pairs, samples, label(ranking)))
        parts.append(tuning_part(gallery, results, ranking, label(ranking)))
    parts += [how_it_was_computed(results, shown, pairs, against), provenance(results)]
    run = results.run
    links = ((ATLAS_TITLE, ATLAS_PAGE),) if results.atlas else ()
    return Page(run.title or run.suite, run.description, anchored(parts), _facets(results), links)


def _facets(results: SuiteResults) -> tuple[Mapping[str, str], ...]:
    """What a reader may filter by; baselines stay, whatever is chosen."""
    judged = results.variants.filter(pl.col("tier") != BASELINE)
    rows = judged.select("variant", *FACETS).to_dicts()
    return tuple({key: value or words.NO_VALUE for key, value in row.items()} for row in rows)


def _label(ranking: RankingTable) -> str:
    return f": {ranking.origin} data, {' and '.join(map(words.tier_note, ranking.tiers))}"


def _ranking_parts(
    gallery: Gallery,
    results: SuiteResults,
    ranking: RankingTable,
    pairs: Sequence[Pair],
    firm: Sequence[str],
    label: str,
    found: AgainstBaselines | None,
) -> tuple[Part, ...]:
    state = ranking.status
    warn = not words.is_trustworthy(ranking.tiers, ranking.origin)
    lacking = Part(
        "Not run, or not in full: no average rank",
        bullets=tuple(absence.sentence for absence in absences(results, ranking)),
    )
    licences = Part("Licences of the weights", bullets=tuple(licence_sentences(results, ranking)))
    beaten = " ".join(baseline_sentences(found)) if found else ""
    spent = budgets(results, ranking)
    best_spent = " ".join(sentence for each in spent for sentence in budget_sentences(each))
    return (
        Part(
            f"Answer{label}",
            banner=Banner(state, warn),
            answer=tuple(answer(ranking, pairs, firm[:2], beaten, best_spent)),
            paragraphs=_without_cost(results, ranking),
            figures=_cost_rank(gallery, results, ranking),
        ),
        Part(
            f"Ranking{label}",
            tables=tuple(t for t in (ranking_table(results, ranking),) if t.rows),
            parts=(lacking, licences, _task_scores(gallery, results, ranking, found)),
        ),
        _budget_part(spent, label),
    )


def _budget_part(spent: Sequence[Budgets], label: str) -> Part:
    """What each variant scores and costs at each input; empty where there is but one."""
    heading = f"Token budgets{label}"
    if not spent:
        return Part(heading)
    return Part(
        heading,
        paragraphs=(
            "Every variant at every input, cheapest first: what a token buys where. MACs are of "
            "one sample, attention included. Marked is what scores more than all that is as cheap "
            "or cheaper; by chance alone some of it will. Paired differences tell what more MACs "
            "are shown to buy (Answer: Token budget); their 95% intervals are not corrected for "
            "how many points were looked at.",
        ),
        tables=tuple(budget_table(each) for each in spent),
    )


def _stability(
    gallery: Gallery,
    results: SuiteResults,
    ranking: RankingTable,
    firm: Sequence[str],
    label: str,
) -> tuple[Part, Part]:
    """How far the order can be trusted: between tasks, and within them."""
    return (
        critical_difference_part(gallery, results, ranking, label),
        sensitivity_part(gallery, results, ranking, firm, label),
    )


def _without_cost(results: SuiteResults, ranking: RankingTable) -> tuple[str, ...]:
    """Why there is no figure of rank against cost, or who is not in it."""
    if not ranking.ranked:
        return ()
    axis = cost_axis(results, ranking)
    if axis is None:
        return (
            "Rank is not drawn against cost: the results state no cost that all variants share.",
        )
    absent = len(ranking.ranked) - len(points_of(results, ranking))
    if not absent:
        return ()
    verb = "is" if absent == 1 else "are"
    return (
        f"{words.number(absent, 'ranked variant')} {verb} not in the figure, for lack of "
        f"{axis.name}.",
    )


def _cost_rank(
    gallery: Gallery, results: SuiteResults, ranking: RankingTable
) -> tuple[Figure, ...]:
    axis = cost_axis(results, ranking)
    if axis is None or len(ranking.ranked) < 2:  # one variant has no rank to draw
        return ()
    whiskers = "bars are 95% intervals; " if ranking.draws is not None else ""
    return gallery.drawn(
        f"cost_rank_{ranking.name}",
        lambda frame: figures.cost_rank_chart(results, ranking, frame),
        f"{axis.caption} (log axis) against average rank (1, at the top, is best); {whiskers}"
        "dashed: the Pareto front of all ranked variants; what lies on or below it, right of a "
        "corner, is matched or beaten at lower cost. Variants of equal cost are drawn side by "
        "side. Colour: version; shape: token scheme.",
        f"Scatter plot of average rank against {axis.name}. {ranking.status}.",
        fits_a_phone=len(ranking.ranked) <= _POINTS_ON_A_PHONE,
    )


def _task_scores(
    gallery: Gallery, results: SuiteResults, ranking: RankingTable, found: AgainstBaselines | None
) -> Part:
    rows = len(ranking.ranked) + len(ranking.incomplete)
    bars = " with its 95% interval" if ranking.draws is not None else ""
    paired = ""
    if bars and not is_empty(results.samples):
        paired = "Overlapping intervals do not mean a tie: differences are paired. "
    marks = found.best if found else {}
    shared = "Panels of one metric share their axis. "
    shared = shared if dotplot.shares_an_axis(ranking, marks) else ""
    dashed = "Dashed: the best baseline of the task. " if marks else ""
    blocks = dotplot.blocks(ranking)
    drawings = [
        gallery.drawn(
            f"task_scores_{ranking.name}" + (f"_{n}" if len(blocks) > 1 else ""),
            partial(dotplot.task_scores_chart, results, ranking, tasks=block, marks=marks),
            f"Score of each variant on each task{bars}, in the order of the average rank. {dashed}"
            f"{shared}{paired}Colour: version; shape: token scheme.",
            f"Dot plots of the scores per task. {ranking.status}.",
            fits_a_phone=rows * len(ranking.tasks) <= _DOTS_ON_A_PHONE,
        )
        for n, block in enumerate(blocks, start=1)
    ]
    return Part(
        "Scores per task",
        figures=tuple(figure for figures in drawings for figure in figures),
        tables=score_tables(ranking),
        folded=len(blocks) > 1,
    )
