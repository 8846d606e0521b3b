"""What a report must know of a plan's study weights, from their cards.

It must know nothing of scores, or of how the facts are told.
"""

from __future__ import annotations

from harness.entrants import Entrant
from harness.plan import Plan, shown_name
from models.study_cards import StudyCard
from reports.table import StudyWeights


def cards_of(plan: Plan, entrant: Entrant) -> list[StudyCard]:
    """Cards of an entrant's study weights, one per seed of the suite that has some."""
    mine = {c.seed: c.weights.card for c in plan.cells if c.row == entrant.row}
    return [card for card in mine.values() if card is not None]


def study_facts(plan: Plan) -> tuple[StudyWeights, ...]:
    """One entry per entrant that has some, in the suite's order."""
    found = []
    for entrant in plan.suite.entrants:
        cards = cards_of(plan, entrant)
        if not cards:
            continue
        each = {card.seed: card.weights_sha256 for card in cards}
        first = cards[0]  # `harness.weights` has seen to it that they are of one training
        found.append(
            StudyWeights(
                variant=shown_name(plan, entrant),
                recipe=first.recipe,
                recipe_hash=first.recipe_hash,
                training_seeds=tuple(each),
                steps=first.steps,
                samples_seen=first.samples_seen,
                pretraining_macs=first.pretraining_macs,
                data_title=first.data.title,
                data_count=first.data.count,
                data_origin=first.data.origin,
                data_licence=first.data.licence,
                data_fingerprint=first.data.fingerprint,
                limits=tuple(dict.fromkeys(limit for card in cards for limit in card.limits)),
                command=first.created_by_command,
                weights_sha256=tuple(each.values()),
                setting=first.setting,
                code=tuple(dict.fromkeys(card.code for card in cards)),
            )
        )
    return tuple(found)
