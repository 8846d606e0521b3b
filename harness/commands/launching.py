"""Trainings launched by an executor, with what a person sees of them.

It joins a profile, launches and the terminal, and decides nothing that could change a weight.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from harness.commands.pretrain import Asked, job_of, say_trained
from harness.commands.run import room_on
from harness.executors.profile import Profile
from harness.launching.driving import board_of, drive_launches, launch_key, make_launcher
from harness.launching.launch import Launch
from harness.pretraining.closing import close_left
from harness.pretraining.folder import is_done, run_folder
from harness.store import Store
from harness.store_place import open_store
from harness.studies.file import Arm
from harness.studies.progress import LaunchProgress
from harness.studies.trainings import State, Training, state_of_job
from models.errors import UserError

Named = Sequence[tuple[Launch, State]]


def launch_of(state: State, arguments: Sequence[str]) -> Launch:
    """A training that is not done, as a launch of ``tokenrank <arguments>``."""
    training = state.training

    def has_weights() -> bool:
        assert training.job is not None  # chips are there where anything is trained
        return is_done(training.folder, training.job)

    key = launch_key(training.folder)
    given, total = tuple(arguments), state.total or 0
    return Launch(key, training.title, training.folder, given, total, is_done=has_weights)


def launch_all(
    console: Console,
    named: Named,
    profile: Profile,
    workers: int | None,
    name: str,
    out: Path,
    store: Store,
    *,
    track: bool,
) -> dict[str, str]:
    """Launch trainings as the profile says, and show them; sentences of the failed ones, by key."""
    launcher = make_launcher(profile, workers, len(named))
    launches = [launch for launch, _ in named]
    folders = {launch.key: launch.folder for launch in launches}
    try:
        with LaunchProgress(console, {launch.key: state for launch, state in named}) as progress:
            failures = drive_launches(
                launches, launcher, board_of(store, name, out), profile.policy, progress, name
            )
    except BaseException as error:  # all that ran were ended, some of them before they could say so
        if track:
            close_left(store, folders.values(), "KILLED", str(error) or type(error).__name__)
        raise
    for key, sentence in failures.items() if track else ():
        close_left(store, [folders[key]], "FAILED", sentence)
    ended_well = [launch for launch in launches if launch.key not in failures]
    found = {launch.key: without_weights(launch) for launch in ended_well}
    return failures | {key: sentence for key, sentence in found.items() if sentence}


def without_weights(launch: Launch) -> str:
    """A sentence where a training ended well, and what was asked for is not in its folder."""
    for wait in (0, 1, 2, 2):  # seconds: a network file system may be behind
        time.sleep(wait)
        try:
            if launch.is_done():
                return ""
        except UserError as error:
            return str(error)
    return (
        f"The training in {launch.folder} ended, and its weights are not there (its log is "
        f"{launch.log()}); the same command goes on from the last checkpoint."
    )


def is_started_by_torchrun() -> bool:
    """Whether this process is one of a launch already, or of a torchrun by hand."""
    return "TORCHELASTIC_RUN_ID" in os.environ or os.environ.get("WORLD_SIZE", "1") != "1"


def pretrain_by(asked: Asked, profile: Profile) -> None:
    """`tokenrank pretrain` by an executor. Raises `UserError`, also where the training failed."""
    console = Console()
    store = open_store(asked.store)
    with room_on(asked.out, "the last checkpoint is kept"):
        store.prepare()
        job = job_of(asked, store)
        folder = run_folder(asked.out, job.recipe.name, job.variant.size, job.seed)
        arm = Arm(asked.recipe, job.recipe, job.variant, (job.seed,))
        state = state_of_job(Training(arm, job.seed, folder, job), job)
        if state.is_done:
            say_trained(console, asked, job, folder, store)
            return
        name = f"{job.recipe.name}-{job.variant.size}-seed-{job.seed}"
        named = [(launch_of(state, arguments_of(asked)), state)]
        failures = launch_all(
            console, named, profile, None, name, asked.out, store, track=asked.track
        )
    for sentence in failures.values():
        raise UserError(sentence)
    console.print(f"Weights and card: {escape(str(folder))}", highlight=False, soft_wrap=True)


def arguments_of(asked: Asked) -> list[str]:
    """The options of `tokenrank pretrain` that a launched process is given."""
    given = ["pretrain", asked.recipe, "--data", asked.data, "--size", asked.size]
    given += ["--setting", asked.setting, "--seed", str(asked.seed)]
    given += ["--out", str(asked.out), "--store", str(asked.store)]
    given += ["--patch-size", str(asked.patch_size), "--probe-every", str(asked.probe_every)]
    given += ["--tolerate", str(asked.tolerate), "--save-every", str(asked.save_every)]
    given += [] if asked.samples is None else ["--samples", str(asked.samples)]
    given += [] if asked.probe is None else ["--probe", asked.probe]
    given += [] if asked.data_dir is None else ["--data-dir", str(asked.data_dir)]
    for path in asked.registry:
        given += ["--registry", str(path)]
    given += ["--compile"] if asked.compile else []
    return given if asked.track else [*given, "--no-track"]
