"""The options that several commands share, declared once: name, environment variable, help.

It must know nothing of what a command does with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

DataDir = Annotated[
    Optional[Path],  # noqa: UP045  (typer reads the annotation)
    typer.Option("--data-dir", envvar="TOKENRANK_DATA", help="Folder that holds data sets."),
]
StoreDir = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="TOKENRANK_STORE",
        help="Where results are: a folder, or an object store (s3://BUCKET/FOLDER).",
    ),
]
WeightsDir = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--weights-dir",
        envvar="TOKENRANK_WEIGHTS",
        help="Folder of official checkpoints (<name>/config.json, weights.pth); else the hub.",
    ),
]
RegistryFiles = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Option("--registry", help="Further registry file (YAML); may be repeated."),
]
Variants = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--variant", help="Run this variant instead of the suite's; repeatable."),
]
Tier = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--tier", help="Weights of all variants: official, study or random."),
]
Seeds = Annotated[
    Optional[list[int]],  # noqa: UP045
    typer.Option("--seed", min=0, max=2**32 - 1, help="Seed instead of the suite's; repeatable."),
]
PatchSize = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--patch-size", min=1, max=8, help="Patch size of all tasks, in pixels."),
]
WeightsFolders = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--weights", help="VARIANT=FOLDER: a checkpoint folder; repeatable."),
]
Executor = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--executor", help="Who computes: local, ray or slurm; default: the profile's, else local."
    ),
]
Workers = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--workers", min=1, help="Worker processes; local: one for each GPU, else one."),
]
ProfileFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--profile", envvar="TOKENRANK_PROFILE", help="Settings of a machine or cluster (YAML)."
    ),
]
PretrainedDir = Annotated[
    Path, typer.Option("--out", help="Folder for runs: <recipe>-<size>/seed-<seed> in it.")
]
Samples = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--samples", min=2, help="Samples to see, instead of the setting's."),
]
Tolerate = Annotated[
    float, typer.Option("--tolerate", min=0, max=1, help="Share of unusable chips allowed.")
]
Track = Annotated[bool, typer.Option("--track/--no-track", help="Log the curves to MLflow.")]
DEFAULT_STORE = "store"
DEFAULT_PRETRAINED = Path("pretrained")  # `harness.entrants` looks there for a study's weights
DEFAULT_TOLERATE = 0.05  # `suites.chips.TOLERATED`, which takes NumPy to import
