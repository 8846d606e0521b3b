"""`tokenrank pretrain` and `tokenrank study`: their options.

Like `cli`, it only declares; nothing heavy is imported at the top.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Optional

import typer

from harness.cli_options import (
    DEFAULT_PRETRAINED,
    DEFAULT_STORE,
    DEFAULT_TOLERATE,
    DataDir,
    Executor,
    PretrainedDir,
    ProfileFile,
    RegistryFiles,
    Samples,
    StoreDir,
    Tolerate,
    Track,
)
from models.errors import UserError

pretraining_app = typer.Typer()


def _require_folder(out: Path) -> None:
    """Raise `UserError` for an address: a path has lost one of its slashes already."""
    if re.match(r"\w[\w+.-]+:/", str(out)):
        raise UserError(
            f"--out {out} is not a folder: pretraining writes to a folder that all nodes share; "
            "give its path."
        )


@pretraining_app.command()
def pretrain(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (v1.1) or a YAML file.")],
    data: Annotated[
        str, typer.Option("--data", help="Folder of chips, or `simulated`.", show_default=False)
    ],
    size: Annotated[str, typer.Option("--size", help="Size of the encoder.")] = "nano",
    setting: Annotated[
        str, typer.Option("--setting", help="Scale: a setting's name, or a YAML file.")
    ] = "study",
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed.")] = 0,
    samples: Samples = None,
    out: PretrainedDir = DEFAULT_PRETRAINED,
    probe: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--probe", help="Data set for a kNN probe on its validation split."),
    ] = None,
    probe_every: Annotated[
        int, typer.Option("--probe-every", min=1, help="Samples from one probe to the next.")
    ] = 20_000,
    patch_size: Annotated[
        int, typer.Option("--patch-size", min=1, max=8, help="Patch size of the probe, pixels.")
    ] = 8,
    tolerate: Tolerate = DEFAULT_TOLERATE,
    compile_blocks: Annotated[
        bool, typer.Option("--compile", help="Compile the transformer blocks (torch.compile).")
    ] = False,
    save_every: Annotated[
        float, typer.Option("--save-every", min=0, help="Seconds from one checkpoint to the next.")
    ] = 30.0,
    track: Track = True,
    executor: Executor = None,
    profile: ProfileFile = None,
    data_dir: DataDir = None,
    store: StoreDir = DEFAULT_STORE,
    registry: RegistryFiles = None,
) -> None:
    """Pretrain an encoder; the same command goes on after an interruption."""
    from harness.commands import launching  # noqa: PLC0415
    from harness.commands import pretrain as command  # noqa: PLC0415
    from harness.executors.profile import profile_of  # noqa: PLC0415

    _require_folder(out)
    asked = command.Asked(
        recipe=recipe,
        data=data,
        size=size,
        setting=setting,
        seed=seed,
        samples=samples,
        out=out,
        store=store,
        probe=probe,
        probe_every=probe_every,
        patch_size=patch_size,
        data_dir=data_dir,
        registry=tuple(registry or ()),
        tolerate=tolerate,
        compile=compile_blocks,
        track=track,
        save_every=save_every,
    )
    if (executor or profile) and not launching.is_started_by_torchrun():
        launching.pretrain_by(asked, profile_of(executor, profile))
    else:
        command.pretrain_command(asked)


@pretraining_app.command()
def study(
    study: Annotated[str, typer.Argument(help="A study's name (tokens) or a YAML file.")],
    data: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--data", envvar="TOKENRANK_CHIPS", help="Folder of chips to train on, or `simulated`."
        ),
    ] = None,
    out: PretrainedDir = DEFAULT_PRETRAINED,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            "--workers", min=1, help="Trainings at a time; default: all that fit, 4 without GPUs."
        ),
    ] = None,
    samples: Samples = None,
    arm: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--arm", help="Only this arm of the study; repeatable."),
    ] = None,
    seed: Annotated[
        Optional[list[int]],  # noqa: UP045
        typer.Option("--seed", min=0, max=2**32 - 1, help="Only this seed; repeatable."),
    ] = None,
    train_only: Annotated[bool, typer.Option("--train-only", help="Do not rank.")] = False,
    rank_only: Annotated[
        bool, typer.Option("--rank-only", help="Train nothing; rank what stands.")
    ] = False,
    ship: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--ship", help="Write each main arm's best run here: chosen on validation, with scores."
        ),
    ] = None,
    tolerate: Tolerate = DEFAULT_TOLERATE,
    track: Track = True,
    executor: Executor = None,
    profile: ProfileFile = None,
    data_dir: DataDir = None,
    store: StoreDir = DEFAULT_STORE,
    registry: RegistryFiles = None,
) -> None:
    """Train all arms of a study in resumable pieces, then rank and report them."""
    from harness.commands import study as command  # noqa: PLC0415
    from harness.executors.profile import profile_of  # noqa: PLC0415
    from harness.studies.trainings import Wanted  # noqa: PLC0415

    _require_folder(out)
    if train_only and rank_only:
        raise UserError("--train-only and --rank-only leave nothing to do; give one of them.")
    command.study_command(
        command.Asked(
            study=study,
            data=data,
            out=out,
            store=store,
            data_dir=data_dir,
            registry=tuple(registry or ()),
            workers=workers,
            wanted=Wanted(tuple(arm or ()), tuple(seed or ()), samples),
            train=not rank_only,
            rank=not train_only,
            tolerate=tolerate,
            track=track,
            ship=ship,
            profile=profile_of(executor, profile),
        )
    )
