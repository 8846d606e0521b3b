"""A study's trainings: which there are, in which order, and how far each has come.

What stands is read from the trainings' folders, so that a study needs no state of its own. It
must not know how a training is started.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.content import pretraining_version
from harness.pretraining.folder import is_done, run_folder
from harness.studies.file import Arm, Study
from models.errors import UserError, did_you_mean
from models.pretraining import checkpoint
from models.pretraining.chips import Chips
from models.pretraining.loop import Job
from models.pretraining.recipe import recipe_hash
from models.study_cards import StudyFiles, read_card

Standing = Literal["done", "to go on", "to do"]


@dataclass(frozen=True, eq=False)
class Training:
    """One arm with one seed, and its folder. ``job`` is None where only results are looked at."""

    arm: Arm
    seed: int
    folder: Path
    job: Job | None

    @property
    def title(self) -> str:
        """Name of it in a table or a bar."""
        return f"{self.arm.recipe.name} seed {self.seed}"


@dataclass(frozen=True)
class State:
    """How far a training is; ``total`` samples are to be seen (None: not known without chips)."""

    training: Training
    standing: Standing
    samples: int
    total: int | None

    @property
    def is_done(self) -> bool:
        """Whether its weights are there."""
        return self.standing == "done"


@dataclass(frozen=True)
class Wanted:
    """What of a study is wanted: arms and seeds (empty: all), samples (None: the setting's)."""

    arms: Sequence[str] = ()
    seeds: Collection[int] = ()
    samples: int | None = None


def trainings_of(study: Study, wanted: Wanted, out: Path, chips: Chips | None) -> list[Training]:
    """The trainings, most useful first: main arms before others, and of each seed by seed.

    Whenever a study is interrupted, the arms that stand can then be compared seed by seed. Raises
    `UserError` for an arm that the study does not have, or chips that no arm can use.
    """
    names = [arm.recipe.name for arm in study.arms]
    for name in wanted.arms:
        if name not in names:
            hint = did_you_mean(name, names)
            raise UserError(f'Study "{study.name}" has no arm "{name}": {hint}.')
    chosen = [
        (not arm.recipe.main, place, order, arm, seed)
        for order, arm in enumerate(study.arms)
        if not wanted.arms or arm.recipe.name in wanted.arms
        for place, seed in enumerate(arm.seeds)
        if not wanted.seeds or seed in wanted.seeds
    ]
    if not chosen:
        seeds = ", ".join(map(str, sorted({seed for arm in study.arms for seed in arm.seeds})))
        raise UserError(
            f'Study "{study.name}" has no training with these arms and seeds; its seeds: {seeds}.'
        )
    return [
        Training(
            arm,
            seed,
            run_folder(out, arm.recipe.name, study.size, seed),
            None if chips is None else _job(study, arm, seed, chips, wanted.samples),
        )
        for *_, arm, seed in sorted(chosen, key=lambda each: each[:3])
    ]


def _job(study: Study, arm: Arm, seed: int, chips: Chips, samples: int | None) -> Job:
    code = pretraining_version()
    return Job(arm.recipe, study.setting, arm.variant, chips, seed, samples, code)


def state_of(training: Training, study: Study) -> State:
    """How far a training is, from its folder.

    Raises `UserError` where the folder holds another training's weights or checkpoint, so that
    nothing is started that could not end.
    """
    if training.job is None:
        return _looked_at(training, study)
    return state_of_job(training, training.job)


def state_of_job(training: Training, job: Job) -> State:
    """As `state_of`, where the chips are known."""
    total = job.steps * job.setting.batch
    if is_done(training.folder, job):
        return State(training, "done", total, total)
    found = checkpoint.load(training.folder, job.identity)
    if found is None:
        return State(training, "to do", 0, total)
    return State(training, "to go on", found.step * job.setting.batch, total)


def _looked_at(training: Training, study: Study) -> State:
    """Without chips: whether weights of this recipe and setting are there."""
    folder = training.folder
    if not StudyFiles.in_folder(folder).card.is_file():
        history = checkpoint.read_history(folder)
        samples = history[-1].samples if history else 0
        return State(training, "to go on" if samples else "to do", samples, None)
    card = read_card(folder)
    mine = recipe_hash(training.arm.recipe, study.setting, study.size)
    if (card.recipe_hash, card.seed) != (mine, training.seed):
        raise UserError(
            f"{folder} holds weights of recipe {card.recipe} {card.recipe_hash}, seed {card.seed}; "
            f'study "{study.name}" wants {training.arm.recipe.name} {mine}, seed {training.seed}. '
            "Name another folder with --out, or remove it."
        )
    return State(training, "done", card.samples_seen, card.samples_seen)
