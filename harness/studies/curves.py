"""From the folders of a study's trainings to learning curves, and to what each arm has cost.

Reads what trainings leave behind (history, probes, speeds, card); computes nothing that a card
says. It must not know how curves are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from harness.pretraining.cost import training_macs
from harness.pretraining.folder import typical_speed
from harness.pretraining.watching import read_probes
from harness.studies.file import Study
from harness.studies.trainings import State, Training
from models.pretraining.checkpoint import read_history
from models.study_cards import StudyCard, StudyFiles, read_card
from reports.learning_curves import ArmInfo, LearningCurves, Reading, TrainingCurve
from reports.study import departed_from


@dataclass(frozen=True)
class ArmCost:
    """What an arm's trainings have cost; None where it is not known yet.

    ``samples`` and ``macs`` are of one training that is done; ``samples_per_second`` is the mean
    of its trainings' medians, on whatever else the machine did beside; ``loss`` the mean of the
    last records.
    """

    arm: str
    done: int
    seeds: int
    samples: int | None
    macs: int | None
    samples_per_second: float | None
    loss: float | None

    @property
    def seconds(self) -> float | None:
        """Of one training, probes left out."""
        if self.samples is None or self.samples_per_second is None:
            return None
        return self.samples / self.samples_per_second


def learning_curves(study: Study, states: Sequence[State], probe: str) -> LearningCurves:
    """What the trainings have logged so far. ``probe`` names the data set of the probes."""
    cards = [card for state in states if (card := card_of(state.training)) is not None]
    data = list(dict.fromkeys(card.data.title for card in cards))
    origins = {card.data.origin for card in cards}
    for state in states:
        if state.training.job is not None:
            origins.add(state.training.job.chips.origin)
    probed = [p.dataset for s in states for p in read_probes(s.training.folder)]
    if "simulated" in probed:
        origins.add("simulated")
    trainings = [_curve(state.training) for state in states]
    return LearningCurves(
        study=study.name,
        arms=_arms(study),
        trainings=tuple(t for t in trainings if t.readings.get("loss")),
        probe=_probe_words(study, ", ".join(dict.fromkeys(probed)) or probe),
        data=" and ".join(data) or "chips of no finished training",
        origin="real" if origins <= {"real"} else "simulated",
    )


def _probe_words(study: Study, dataset: str) -> str:
    at = "" if study.probe is None else f", patch size {study.probe.patch_size}"
    return f"{dataset}{at}"


def card_of(training: Training) -> StudyCard | None:
    """The card of a training that is done."""
    if not StudyFiles.in_folder(training.folder).card.is_file():
        return None
    return read_card(training.folder)


def arm_costs(study: Study, states: Sequence[State]) -> list[ArmCost]:
    """Costs of the study's arms, in its order; arms that are not among the states are left out."""
    found = []
    for arm in study.arms:
        mine = [s.training for s in states if s.training.arm is arm]
        if not mine:
            continue
        cards = [card for training in mine if (card := card_of(training)) is not None]
        speeds = [s for training in mine if (s := typical_speed(training.folder)) is not None]
        losses = [h[-1].loss for training in mine if (h := read_history(training.folder))]
        found.append(
            ArmCost(
                arm=arm.recipe.name,
                done=len(cards),
                seeds=len(mine),
                samples=cards[0].samples_seen if cards else None,
                macs=cards[0].pretraining_macs if cards else None,
                samples_per_second=mean(speeds) if speeds else None,
                loss=mean(losses) if losses else None,
            )
        )
    return found


def _arms(study: Study) -> tuple[ArmInfo, ...]:
    main = [arm.recipe.name for arm in study.arms if arm.recipe.main]
    return tuple(
        ArmInfo(
            arm.recipe.name,
            arm.recipe.main,
            None if arm.recipe.main else departed_from(arm.recipe.name, main),
        )
        for arm in study.arms
    )


def _curve(training: Training) -> TrainingCurve:
    history = read_history(training.folder)
    probes = read_probes(training.folder)
    return TrainingCurve(
        arm=training.arm.recipe.name,
        seed=training.seed,
        macs_per_sample=_macs_per_sample(training),
        readings={
            "knn": tuple(Reading(p.samples, p.knn) for p in probes),
            "loss": tuple(Reading(r.samples, r.loss) for r in history),
            "discrimination": tuple(Reading(r.samples, r.discrimination) for r in history),
            "contrast": tuple(Reading(r.samples, r.contrast) for r in history),
        },
    )


def _macs_per_sample(training: Training) -> float | None:
    card = card_of(training)
    if card is not None and card.pretraining_macs is not None and card.samples_seen:
        return card.pretraining_macs / card.samples_seen
    return training_macs(training.job).total if training.job is not None else None
