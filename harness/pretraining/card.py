"""What is known of a training, as the card that goes with its weights.

It must not know how the weights are written, shown or ranked.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.content import package_versions
from harness.pretraining.cost import pretraining_macs
from models.pretraining.loop import Job, Trained
from models.pretraining.recipe import recipe_hash
from models.sensors import modality
from models.study_cards import BandRow, StudyCard, StudyData
from suites.chips import ChipCard, ChipFolder, SimulatedChips

SIMULATED = "simulated"


def chips_card(job: Job) -> ChipCard:
    """Facts about the chips of a job."""
    assert isinstance(job.chips, ChipFolder | SimulatedChips)
    return job.chips.card


def study_card(
    job: Job,
    trained: Trained,
    command: str,
    bfloat16: bool = False,
    processes: Sequence[int] = (1,),
) -> StudyCard:
    """The card of a finished training; ``command`` makes the weights again."""
    chips = chips_card(job)
    samples = trained.steps * job.setting.batch
    return StudyCard(
        variant=job.variant.name,
        recipe=job.recipe.name,
        recipe_hash=recipe_hash(job.recipe, job.setting, job.variant.size),
        setting=job.setting.name,
        samples_factor=job.recipe.samples_factor,
        precision="bfloat16" if bfloat16 else "float32",
        processes=list(processes),
        size=job.variant.size,
        seed=job.seed,
        steps=trained.steps,
        samples_seen=samples,
        data=StudyData(
            title=chips.title,
            count=chips.count,
            fingerprint=job.chips.fingerprint,
            origin=chips.origin,
            licence=chips.licence or "not stated",
        ),
        statistics=_statistics(trained),
        code=job.code,
        packages=package_versions(["torch", "numpy"]),
        pretraining_macs=pretraining_macs(job),
        limits=limits(job),
        created_by_command=command,
    )


def _statistics(trained: Trained) -> dict[str, dict[str, BandRow]]:
    return {
        name: {
            band: BandRow(mean=float(mean), std=float(std))
            for band, mean, std in zip(
                modality(name).band_names, found.mean, found.std, strict=True
            )
        }
        for name, found in trained.statistics.items()
    }


def limits(job: Job) -> list[str]:
    """What weights of this run cannot be used for, in sentences for their card."""
    chips = chips_card(job)
    said = [
        f"Trained on {chips.count:,} chips only, far fewer than published weights: a subject of "
        "study, not a model to build on."
    ]
    untrained = [m for m in job.variant.scheme.groups if m not in job.modalities]
    if untrained:
        said.append(f"{', '.join(untrained)} were never trained; those weights are random.")
    if chips.steps[1] == 1:
        said.append("Every chip shows one date: nothing was learned about time.")
        if len(job.modalities) == len(job.variant.scheme.of(job.modalities[0])) == 1:
            said.append(
                "One date, one sensor and one token for all bands: every masking strategy masks at "
                "random here, so these weights say nothing of their recipe's."
            )
    if chips.origin == SIMULATED:
        said.append("The images were simulated: scores say nothing about the Earth.")
    return said
