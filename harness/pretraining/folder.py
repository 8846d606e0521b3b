"""A training's folder: where it is, and what is known of the training in it.

It must not know how to train, or what a study is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from models.errors import UserError
from models.pretraining.lines import read_lines, write_lines
from models.pretraining.loop import Job
from models.pretraining.recipe import recipe_hash
from models.study_cards import StudyFiles, read_card

SPEEDS = "speed.jsonl"
PROCESSES = "processes.jsonl"


def run_folder(out: Path, recipe: str, size: str, seed: int) -> Path:
    """``<out>/<recipe>-<size>/seed-<seed>``."""
    return out / f"{recipe}-{size}" / f"seed-{seed}"


def is_done(folder: Path, job: Job) -> bool:
    """Whether these very weights are there already; `UserError` where others are."""
    files = StudyFiles.in_folder(folder)
    if not files.card.is_file():
        return False
    card = read_card(folder)
    mine = recipe_hash(job.recipe, job.setting, job.variant.size)
    same = (card.recipe_hash, card.data.fingerprint, card.steps, card.seed) == (
        mine,
        job.chips.fingerprint,
        job.steps,
        job.seed,
    )
    if not same:
        raise UserError(
            f"{folder} holds weights of another run (recipe {card.recipe} {card.recipe_hash}, "
            f"{card.samples_seen:,} samples of {card.data.title}); choose another folder with "
            "--out, or remove it."
        )
    return True


@dataclass(frozen=True)
class Speed:
    """Samples per second up to a number of samples, measured while training; probes left out."""

    samples: int
    samples_per_second: float


def read_speeds(folder: Path) -> list[Speed]:
    """What a run's folder says of its speed."""
    return read_lines(folder / SPEEDS, Speed)


def write_speeds(folder: Path, speeds: Sequence[Speed]) -> None:
    """Replace what the folder says of its speed."""
    write_lines(folder / SPEEDS, speeds)


def typical_speed(folder: Path) -> float | None:
    """Median samples per second of a training, without its first record, which warms up."""
    speeds = [speed.samples_per_second for speed in read_speeds(folder)]
    return median(speeds[1:] or speeds) if speeds else None


@dataclass(frozen=True)
class Processes:
    """How many processes share each batch from a step on."""

    step: int
    processes: int


def processes_of(folder: Path) -> list[int]:
    """How many processes have trained: one number, or more where it changed on the way."""
    counts = [each.processes for each in read_lines(folder / PROCESSES, Processes)]
    return [n for i, n in enumerate(counts) if i == 0 or n != counts[i - 1]] or [1]


def note_processes(folder: Path, step: int, count: int) -> None:
    """So many go on from a step; what others did past it is lost, and so is their note."""
    kept = [each for each in read_lines(folder / PROCESSES, Processes) if each.step < step]
    write_lines(folder / PROCESSES, [*kept, Processes(step, count)])
