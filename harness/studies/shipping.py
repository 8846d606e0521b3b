"""The best run of each main arm as weights to ship: chosen on validation, with its scores.

Which of an arm's seeds is shipped is decided by the last probe on the validation split; the
test scores that go into the card are read afterwards, and choose nothing. It must not know how
anything was trained or ranked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from harness.pretraining.watching import read_probes
from harness.studies.file import Study
from harness.studies.trainings import State
from models.errors import UserError
from models.study_cards import StudyCard, StudyFiles, StudyScore, read_card
from models.study_weights import write_study_weights
from models.weights import load_encoder_file
from reports.table import SuiteResults


@dataclass(frozen=True)
class Shipped:
    """One arm's weights as they were written; ``validation`` chose the seed."""

    recipe: str
    seed: int
    validation: float
    files: StudyFiles

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return self.files.weights.stat().st_size


def ship(
    study: Study, states: Sequence[State], results: Sequence[SuiteResults], folder: Path
) -> list[Shipped]:
    """Write each main arm's best run to ``folder`` as ``<recipe>-<size>.safetensors`` and card.

    Raises `UserError` where a main arm has no finished training, or one without a probe.
    """
    shipped = []
    for arm in study.arms:
        if not arm.recipe.main:
            continue
        mine = [s for s in states if s.training.arm is arm and s.is_done]
        if not mine:
            raise UserError(
                f'Arm "{arm.recipe.name}" of study "{study.name}" has no finished training; finish '
                "the study before its weights are shipped."
            )
        value, best = max(((_validation(s), s) for s in mine), key=lambda each: each[0])
        source = best.training.folder
        stem = f"{arm.recipe.name}-{study.size}"
        files = StudyFiles(folder / f"{stem}.safetensors", folder / f"{stem}.yaml")
        card = read_card(source)
        scored = card.model_copy(update={"scores": _scores(card, results)})
        tensors = load_encoder_file(StudyFiles.in_folder(source).weights).state_dict
        write_study_weights(files, tensors, scored)
        shipped.append(Shipped(arm.recipe.name, card.seed, value, files))
    return shipped


def _validation(state: State) -> float:
    probes = read_probes(state.training.folder)
    if not probes:
        raise UserError(
            f"{state.training.folder} holds no probe on a validation split, by which the seed to "
            "ship is chosen; train it with a study that probes."
        )
    return probes[-1].knn


def _scores(card: StudyCard, results: Sequence[SuiteResults]) -> list[StudyScore]:
    """What this very seed scored in each suite that ranked it, as the suite's table has it."""
    found = []
    for table in results:
        rows = table.variants.filter(
            (pl.col("tier") == "study") & (pl.col("recipe") == card.recipe)
        )["variant"]
        scores = table.scores.filter(
            pl.col("variant").is_in(rows.to_list()) & (pl.col("seed") == card.seed)
        )
        found += [
            StudyScore(
                suite=table.run.suite,
                task=row["task"],
                score=row["score"],
                low=row["ci_low"],
                high=row["ci_high"],
                note=f"seed {card.seed}, test split",
            )
            for row in scores.iter_rows(named=True)
        ]
    return found
