"""`tokenrank pretrain`: from a recipe and a folder of chips to study weights with their card.

It joins chips, the loop, probes, tracking and the terminal, and decides nothing that could
change a weight.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape

from harness.commands.run import room_on
from harness.content import PRETRAINING_CODE, code_version, package_versions
from harness.pretraining.cost import pretraining_macs
from harness.pretraining.curves import Training
from harness.pretraining.folder import is_done, run_folder
from harness.pretraining.mirror import MlflowWatcher
from harness.pretraining.probe import ValidationProbe, validation_probe
from harness.pretraining.watching import (
    All,
    ProbeListener,
    ProbeWatcher,
    SpeedWatcher,
    TerminalWatcher,
)
from harness.provenance import git_commit, hardware
from harness.store import Store
from models.errors import UserError
from models.pretraining.checkpoint import CHECKPOINT
from models.pretraining.distributed import Group, group_of_environment
from models.pretraining.loop import Habits, Job, Trained, Watcher, train
from models.pretraining.recipe import load_recipe, load_setting, recipe_hash, variant_of
from models.registry import load_registry
from models.sensors import modality
from models.study_cards import BandRow, StudyCard, StudyData
from models.study_weights import write_study_weights
from suites.chips import ChipCard, ChipFolder, SimulatedChips, open_chips, simulated_chips

SIMULATED = "simulated"


@dataclass(frozen=True)
class Asked:
    """The options of the command."""

    recipe: str
    data: str
    size: str
    setting: str
    seed: int
    samples: int | None
    out: Path
    store: Path
    probe: str | None
    probe_every: int
    patch_size: int
    data_dir: Path | None
    registry: tuple[Path, ...]
    tolerate: float
    compile: bool
    track: bool


def pretrain_command(asked: Asked) -> None:
    """Train, or go on training, and write the encoder with its card. Raises `UserError`."""
    console = Console()
    store = Store(asked.store)
    with group_of_environment() as group, room_on(asked.out, "the last checkpoint is kept"):
        store.prepare()
        job = job_of(asked, store)
        folder = run_folder(asked.out, job.recipe.name, job.variant.size, job.seed)
        if is_done(folder, job):
            if group.leads:
                console.print(f"Already trained: {escape(str(folder))}.", highlight=False)
            return
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, group):
            _train(asked, job, folder, store, group, console)


def job_of(asked: Asked, store: Store) -> Job:
    """What is asked for, checked as far as it can be before a step is made."""
    recipe, setting = load_recipe(asked.recipe), load_setting(asked.setting)
    variant = variant_of(recipe, asked.size, load_registry(asked.registry))
    chips = chips_of(asked.data, store, asked.tolerate)
    job = Job(recipe, setting, variant, chips, asked.seed, asked.samples)
    if not job.modalities:  # raises where the scheme and the chips share nothing
        raise AssertionError
    return job


def chips_of(data: str, store: Store, tolerate: float) -> ChipFolder | SimulatedChips:
    """The chips that ``--data`` names, decoded once into the store's cache."""
    if data == SIMULATED:
        return simulated_chips(cache_dir=store.cache_folder)
    return open_chips(Path(data), cache_dir=store.cache_folder, tolerate=tolerate)


@contextmanager
def _alone(folder: Path, group: Group) -> Iterator[None]:
    """Nobody else trains in this folder meanwhile; the lock dies with its process."""
    if not group.leads:
        yield
        return
    lock = FileLock(folder / ".guard")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another process is training in {folder}; wait for it, or choose another folder with "
            "--out."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _train(
    asked: Asked, job: Job, folder: Path, store: Store, group: Group, console: Console
) -> None:
    habits = Habits(compile=asked.compile, bfloat16=group.device.type == "cuda", save_seconds=30.0)
    if not group.leads:
        train(job, folder, group, habits, All(()))
        return
    probe = _probe(asked, job, store, group)
    _say(console, asked, job, group)
    mirror = MlflowWatcher(store, folder, _training(asked, job)) if asked.track else None
    with TerminalWatcher(console) as bar:
        watchers: list[Watcher] = []
        listeners: list[ProbeListener] = [bar]
        if probe is not None:
            watchers.append(ProbeWatcher(probe, folder, asked.probe_every, listeners))
        watchers += [SpeedWatcher(folder), bar, *([mirror] if mirror else [])]
        try:
            trained = train(job, folder, group, habits, All(watchers))
            write_study_weights(folder, trained.encoder.state_dict(), _card(asked, job, trained))
        except BaseException as error:
            if mirror:
                stopped = str(error) or type(error).__name__
                mirror.finish("FAILED", {"tokenrank.stopped": stopped})
            raise
    (folder / CHECKPOINT).unlink(missing_ok=True)
    _say_end(console, job, trained, folder)
    if mirror:
        mirror.finish("FINISHED", {"tokenrank.weights": str(folder.name)})
        if mirror.reason:
            console.print(
                f"[yellow]MLflow at {escape(mirror.uri)} was not updated: "
                f"{escape(mirror.reason)}. The curves are safe in {escape(str(folder))}.[/]",
                soft_wrap=True,
            )


def _probe(asked: Asked, job: Job, store: Store, group: Group) -> ValidationProbe | None:
    if asked.probe is None:
        return None
    return validation_probe(
        job.variant, asked.probe, asked.data_dir, store, asked.patch_size, group.device
    )


def _training(asked: Asked, job: Job) -> Training:
    recipe = {f"recipe.{k}": str(v) for k, v in job.recipe.model_dump().items()}
    setting = {f"setting.{k}": str(v) for k, v in job.setting.model_dump().items()}
    identity = {k.replace(" ", "_"): str(v) for k, v in job.identity.items()}
    key = "-".join(identity[k] for k in ("recipe_hash", "data", "seed", "steps"))
    card = _chips_card(job)
    return Training(
        key=key,
        title=f"{job.recipe.name} {job.variant.size} seed {job.seed}",
        params={**recipe, **setting, **identity, "size": job.variant.size},
        tags={
            "tokenrank.recipe": job.recipe.name,
            "tokenrank.variant": job.variant.name,
            "tokenrank.data": f"{card.title} ({card.count} chips)",
            "tokenrank.data_origin": card.origin,
            "tokenrank.command": command_of(asked),
            "tokenrank.git_commit": git_commit(),
            **{f"tokenrank.{k}": v for k, v in hardware().items()},
        },
    )


def command_of(asked: Asked) -> str:
    """The command that makes the weights again; capitals stand for folders of the reader's own."""
    data = asked.data if asked.data == SIMULATED else "CHIPS"
    parts = ["tokenrank", "pretrain", Path(asked.recipe).name, "--data", data]
    parts += ["--size", asked.size, "--setting", Path(asked.setting).name]
    parts += ["--seed", str(asked.seed)]
    if asked.samples is not None:
        parts += ["--samples", str(asked.samples)]
    return shlex.join(parts)


def _chips_card(job: Job) -> ChipCard:
    assert isinstance(job.chips, ChipFolder | SimulatedChips)
    return job.chips.card


def _card(asked: Asked, job: Job, trained: Trained) -> StudyCard:
    chips = _chips_card(job)
    samples = trained.steps * job.setting.batch
    return StudyCard(
        variant=job.variant.name,
        recipe=job.recipe.name,
        recipe_hash=recipe_hash(job.recipe, job.setting, job.variant.size),
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
        code=code_version(PRETRAINING_CODE),
        packages=package_versions(["torch", "numpy"]),
        pretraining_macs=pretraining_macs(job),
        limits=limits(job),
        created_by_command=command_of(asked),
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
    chips = _chips_card(job)
    said = [
        f"Trained on {chips.count:,} chips only, far fewer than published weights: a subject of "
        "study, not a model to build on."
    ]
    untrained = [m for m in job.variant.scheme.groups if m not in job.modalities]
    if untrained:
        said.append(f"{', '.join(untrained)} were never trained; those weights are random.")
    if chips.steps[1] == 1:
        said.append("Every chip shows one date: nothing was learned about time.")
    if chips.origin == SIMULATED:
        said.append("The images were simulated: scores say nothing about the Earth.")
    return said


def _say(console: Console, asked: Asked, job: Job, group: Group) -> None:
    chips = _chips_card(job)
    console.print(
        f"Recipe [bold]{escape(job.recipe.name)}[/]: {escape(job.recipe.title)}; setting "
        f"{escape(job.setting.name)}, {job.steps * job.setting.batch:,} samples in {job.steps:,} "
        f"steps on {group.device}"
        + (f" x {group.share.world}" if group.share.world > 1 else "")
        + ".",
        highlight=False,
        soft_wrap=True,
    )
    skipped = f", {chips.skipped} skipped" if chips.skipped else ""
    console.print(
        f"Data: [bold]{chips.origin.upper()}[/] · {escape(chips.title)}{skipped}.",
        highlight=False,
        soft_wrap=True,
    )
    for note in chips.notes:
        console.print(f"  {escape(note)}", highlight=False, soft_wrap=True)
    if isinstance(job.chips, ChipFolder):
        for name, reason in job.chips.skipped:
            console.print(f"  skipped {escape(name)}: {escape(reason)}", highlight=False)


def _say_end(console: Console, job: Job, trained: Trained, folder: Path) -> None:
    last = trained.history[-1]
    speed = trained.timed_samples / max(trained.seconds, 1e-9)
    console.print(
        f"Trained {job.variant.name} by {escape(job.recipe.name)}: loss {last.loss:.3f}, effective "
        f"rank {last.effective_rank:.1f}; {speed:.0f} samples/s, "
        f"{trained.waited / max(trained.seconds, 1e-9):.1%} of the time waiting for data.",
        highlight=False,
        soft_wrap=True,
    )
    place = shlex.quote(str(folder.parent / "seed-{seed}"))
    console.print(
        f"Rank it with: weights: {place} in a suite{os.linesep}"
        f"Weights and card: {escape(str(folder))}",
        highlight=False,
        soft_wrap=True,
    )
