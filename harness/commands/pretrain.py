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
from harness.content import pretraining_version
from harness.launching.node import end_with_torchrun
from harness.mlflow_view.failures import shown_uri
from harness.precision import is_fast_at_bfloat16
from harness.pretraining.card import SIMULATED, chips_card, study_card
from harness.pretraining.closing import STOPPED_TAG, WEIGHTS_TAG, finish_trained
from harness.pretraining.curves import Training
from harness.pretraining.folder import is_done, processes_of, run_folder
from harness.pretraining.mirror import MlflowWatcher
from harness.pretraining.probe import ValidationProbe, validation_probe
from harness.pretraining.tracked import GUARD, Status, training_key
from harness.pretraining.watching import (
    All,
    ProbeListener,
    ProbeWatcher,
    ProcessesWatcher,
    SpeedWatcher,
    TerminalWatcher,
)
from harness.provenance import git_commit, hardware
from harness.store import Store
from harness.store_place import open_store
from harness.tracking import tracking_uri
from models.errors import UserError
from models.olmoearth.config import config_of
from models.pretraining.checkpoint import CHECKPOINT
from models.pretraining.distributed import Group, group_of_environment
from models.pretraining.loop import Habits, Job, Trained, Watcher, train
from models.pretraining.recipe import load_recipe, load_setting, variant_of
from models.registry import load_registry
from models.study_cards import read_card
from models.study_weights import write_study_weights
from suites.chips import TOLERATED, ChipFolder, SimulatedChips, open_chips, simulated_chips


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
    store: str
    probe: str | None
    probe_every: int
    patch_size: int
    data_dir: Path | None
    registry: tuple[Path, ...]
    tolerate: float
    compile: bool
    track: bool
    save_every: float = 30.0


def pretrain_command(asked: Asked) -> None:
    """Train, or go on training, and write the encoder with its card. Raises `UserError`."""
    end_with_torchrun()
    console = Console()
    store = open_store(asked.store)
    with group_of_environment() as group, room_on(asked.out, "the last checkpoint is kept"):
        store.prepare()
        job = job_of(asked, store)
        folder = run_folder(asked.out, job.recipe.name, job.variant.size, job.seed)
        if is_done(folder, job):
            if group.leads:
                say_trained(console, asked, job, folder, store)
            return
        # Before anything is written: a data set to probe on that is not there ends it here.
        probe = _probe(asked, job, store, group)
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, group):
            _train(asked, job, folder, store, group, console, probe)


def job_of(asked: Asked, store: Store) -> Job:
    """What is asked for, checked as far as it can be before a step is made."""
    recipe, setting = load_recipe(asked.recipe), load_setting(asked.setting)
    variant = variant_of(recipe, asked.size, load_registry(asked.registry))
    chips = chips_of(asked.data, store, asked.tolerate)
    job = Job(recipe, setting, variant, chips, asked.seed, asked.samples, pretraining_version())
    most, held = config_of(variant).max_steps, int(chips.sizes[:, 2].max())
    if held > most:
        raise UserError(
            f"{variant.name} takes at most {most} time steps, but chips of {asked.data} have up to "
            f"{held}; leave some out (steps in chips.yaml)."
        )
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
    lock = FileLock(folder / GUARD)
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
    asked: Asked,
    job: Job,
    folder: Path,
    store: Store,
    group: Group,
    console: Console,
    probe: ValidationProbe | None,
) -> None:
    fast = is_fast_at_bfloat16(group.device)
    habits = Habits(compile=asked.compile, bfloat16=fast, save_seconds=asked.save_every)
    if not group.leads:
        train(job, folder, group, habits, All(()))
        return
    _say(console, asked, job, group)
    mirror = MlflowWatcher(store, folder, _training(asked, job)) if asked.track else None
    with TerminalWatcher(console) as bar:
        watchers: list[Watcher] = []
        listeners: list[ProbeListener] = [bar]
        if probe is not None:
            watchers.append(ProbeWatcher(probe, folder, asked.probe_every, listeners))
        watchers += [ProcessesWatcher(folder, group.share.world), SpeedWatcher(folder), bar]
        watchers += [mirror] if mirror else []
        try:
            trained = train(job, folder, group, habits, All(watchers))
            processes = processes_of(folder)
            card = study_card(job, trained, command_of(asked), habits.bfloat16, processes)
            sha256 = write_study_weights(folder, trained.encoder.state_dict(), card)
        except BaseException as error:
            if mirror:
                stopped = str(error) or type(error).__name__
                ended: Status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
                mirror.finish(ended, {STOPPED_TAG: stopped})
            raise
    (folder / CHECKPOINT).unlink(missing_ok=True)
    _say_end(console, job, trained, folder)
    if mirror:
        mirror.finish("FINISHED", {WEIGHTS_TAG: sha256})
        _say_not_mirrored(console, mirror.reason, store, folder)


def say_trained(console: Console, asked: Asked, job: Job, folder: Path, store: Store) -> None:
    """There is nothing to train; what a tracking server missed of it is made up for."""
    console.print(f"Already trained: {escape(str(folder))}.", highlight=False)
    if asked.track:
        sha256 = read_card(folder).weights_sha256
        reason = finish_trained(store, folder, _training(asked, job), sha256)
        _say_not_mirrored(console, reason, store, folder)


def _say_not_mirrored(console: Console, reason: str, store: Store, folder: Path) -> None:
    if reason:
        console.print(
            f"[yellow]MLflow at {escape(shown_uri(tracking_uri(store)))} was not updated: "
            f"{escape(reason)}. The curves are safe in {escape(str(folder))}; run "
            "[bold]tokenrank sync[/], or the same command, when it is back.[/]",
            soft_wrap=True,
        )


def _probe(asked: Asked, job: Job, store: Store, group: Group) -> ValidationProbe | None:
    if asked.probe is None or not group.leads:
        return None
    return validation_probe(
        job.variant, asked.probe, asked.data_dir, store, asked.patch_size, group.device
    )


def _training(asked: Asked, job: Job) -> Training:
    recipe = {f"recipe.{k}": str(v) for k, v in job.recipe.model_dump().items()}
    setting = {f"setting.{k}": str(v) for k, v in job.setting.model_dump().items()}
    identity = {k.replace(" ", "_"): str(v) for k, v in job.identity.items()}
    key = training_key(identity["recipe_hash"], identity["data"], job.seed, job.steps)
    card = chips_card(job)
    return Training(
        key=key,
        title=f"{job.recipe.name} {job.variant.size} seed {job.seed}",
        params={**recipe, **setting, **identity, "size": job.variant.size},
        tags={
            "mlflow.note.content": (
                f"{job.recipe.title}. The step of every curve is the number of samples seen."
            ),
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
    for path in asked.registry:
        parts += ["--registry", path.name]
    if asked.tolerate != TOLERATED:
        parts += ["--tolerate", f"{asked.tolerate:g}"]
    return shlex.join(parts)


def _say(console: Console, asked: Asked, job: Job, group: Group) -> None:
    chips = chips_card(job)
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
