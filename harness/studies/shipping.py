"""The best run of each main arm as weights to ship: chosen on validation, with its scores.

Which of an arm's seeds is shipped is decided by the last probe on the validation split; the
test scores that go into the card are read afterwards, and choose nothing. It must not know how
anything was trained or ranked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.pretraining.watching import ProbeScore, read_probes
from harness.studies.file import Study
from harness.studies.trainings import State
from models.errors import UserError
from models.study_cards import StudyCard, StudyFiles, StudyScore, read_card
from models.study_weights import write_study_weights
from models.weights import load_encoder_file
from reports.table import SuiteResults


@dataclass(frozen=True)
class Shipped:
    """One arm's weights as they were written; ``validation`` chose the seed.

    ``replaced``: whether others were there before.
    """

    recipe: str
    seed: int
    validation: float
    files: StudyFiles
    replaced: bool

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return self.files.weights.stat().st_size


def ship(
    study: Study, states: Sequence[State], results: Sequence[SuiteResults], folder: Path
) -> list[Shipped]:
    """Write each main arm's best run to ``folder`` as ``<recipe>-<size>.safetensors`` and card.

    Main arms none of whose trainings is among the states are left alone. Raises `UserError` where
    an arm has no finished training, or one without a probe, or was ranked with other weights:
    nothing is written then.
    """
    chosen = [
        _best(arm.recipe.name, study.name, [s for s in states if s.training.arm is arm])
        for arm in study.arms
        if arm.recipe.main and any(s.training.arm is arm for s in states)
    ]
    cards = [
        (card, card.model_copy(update={"scores": scores_of(card, results)}))
        for card in (read_card(best.training.folder) for best, _ in chosen)
    ]
    shipped = []
    for (best, probe), (card, scored) in zip(chosen, cards, strict=True):
        stem = f"{card.recipe}-{study.size}"
        files = StudyFiles(folder / f"{stem}.safetensors", folder / f"{stem}.yaml")
        replaced = files.weights.exists()
        source = StudyFiles.in_folder(best.training.folder)
        write_study_weights(files, load_encoder_file(source.weights).state_dict, scored)
        shipped.append(Shipped(card.recipe, card.seed, probe.knn, files, replaced))
    return shipped


def _best(arm: str, study: str, states: Sequence[State]) -> tuple[State, ProbeScore]:
    """The finished training with the best last probe."""
    done = [state for state in states if state.is_done]
    if not done:
        raise UserError(
            f'Arm "{arm}" of study "{study}" has no finished training; finish the study before its '
            "weights are shipped, or name the arms that are (--arm)."
        )
    probed = [(state, _last_probe(state)) for state in done]
    datasets = sorted({probe.dataset for _, probe in probed})
    if len(datasets) > 1:
        raise UserError(
            f'Trainings of arm "{arm}" were probed on different data sets ({", ".join(datasets)}), '
            "by which the seed to ship cannot be chosen; train them again with one."
        )
    return max(probed, key=lambda each: each[1].knn)


def _last_probe(state: State) -> ProbeScore:
    probes = read_probes(state.training.folder)
    if not probes:
        raise UserError(
            f"{state.training.folder} holds no probe on a validation split, by which the seed to "
            "ship is chosen; train it with a study that probes."
        )
    return probes[-1]


def scores_of(card: StudyCard, results: Sequence[SuiteResults]) -> list[StudyScore]:
    """What these very weights scored in each suite that ranked them, as the suite's table has it.

    Raises `UserError` where a suite ranked other weights of the same recipe and seed.
    """
    found = []
    for table in results:
        tasks = {task.name: task for task in table.run.tasks}
        for study in table.run.study:
            ranked = dict(zip(study.training_seeds, study.weights_sha256, strict=False))
            if study.recipe != card.recipe or card.seed not in ranked:
                continue
            if ranked[card.seed] != card.weights_sha256:
                raise UserError(
                    f"Suite {table.run.suite} ranked other weights of {card.recipe} seed "
                    f"{card.seed} than those to ship; rank the study again."
                )
            mine = table.scores.filter(variant=study.variant, seed=card.seed)
            found += [
                StudyScore(
                    suite=table.run.suite,
                    task=row["task"],
                    dataset=tasks[row["task"]].dataset,
                    origin=tasks[row["task"]].origin,
                    score=row["score"],
                    low=row["ci_low"],
                    high=row["ci_high"],
                    note=f"seed {card.seed}, test split",
                )
                for row in mine.iter_rows(named=True)
            ]
    return found
