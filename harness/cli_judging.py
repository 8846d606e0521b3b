"""`tokenrank compare`, `check` and `baseline`: the options of the commands that judge.

Like `cli`, it only declares; nothing heavy is imported at the top.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from harness.cli_options import (
    DEFAULT_STORE,
    DataDir,
    PatchSize,
    RegistryFiles,
    Seeds,
    StoreDir,
    Tier,
    Variants,
    WeightsDir,
    WeightsFolders,
)
from harness.regression import MARGIN, SKETCH_TOLERANCE

judging_app = typer.Typer()


@judging_app.command()
def compare(
    reference: Annotated[
        str, typer.Argument(help="A variant (olmoearth-v1-nano) or a version (v1).")
    ],
    candidate: Annotated[str, typer.Argument(help="What it is compared with.")],
    suite: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--suite", help="Suite (or YAML) whose latest run is used; default: the latest of all."
        ),
    ] = None,
    store: StoreDir = DEFAULT_STORE,
    results: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--results", help="Folder of saved results, from any machine."),
    ] = None,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", help="Also write the comparison to this file."),
    ] = None,
) -> None:
    """Compare two variants, or two versions size by size: cost, quality, significance."""
    from harness.commands import compare as command  # noqa: PLC0415

    command.compare_command(
        reference, candidate, suite=suite, store=store, results=results, json_file=json_file
    )


@judging_app.command()
def check(
    baseline: Annotated[
        Path, typer.Option("--baseline", help="Baseline file, from `tokenrank baseline`.")
    ],
    suite: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="Suite's name or YAML file; default: the baseline's suite."),
    ] = None,
    data_dir: DataDir = None,
    store: StoreDir = DEFAULT_STORE,
    weights_dir: WeightsDir = None,
    registry: RegistryFiles = None,
    variant: Variants = None,
    tier: Tier = None,
    seed: Seeds = None,
    patch_size: PatchSize = None,
    weights: WeightsFolders = None,
    results: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--results", help="Check this folder of saved results; nothing is run."),
    ] = None,
    margin: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0, max=1, help="Loss of score not allowed; default: the baseline's."),
    ] = None,
    sketch_tolerance: Annotated[
        float, typer.Option(min=0, help="How far embeddings of the same weights may move.")
    ] = SKETCH_TOLERANCE,
    junit: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--junit", help="Write JUnit XML to this file."),
    ] = None,
    markdown: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--markdown", help="Write a Markdown summary to this file."),
    ] = None,
    annotations: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--annotations", help="github or none; default: github inside GitHub Actions."
        ),
    ] = None,
) -> None:
    """Hold a suite to its baseline. Exit code 0: not worse, 1: a regression, 2: cannot tell."""
    from harness.commands import check as command  # noqa: PLC0415
    from harness.commands.measure import RunOptions  # noqa: PLC0415

    code = command.check_command(
        suite,
        RunOptions.asked(
            *(data_dir, store, weights_dir, registry, variant, tier, seed, patch_size, weights)
        ),
        command.Telling(junit, markdown, annotations),
        baseline=baseline,
        results=results,
        margin=margin,
        tolerance=sketch_tolerance,
    )
    raise typer.Exit(code)


@judging_app.command()
def baseline(
    out: Annotated[Path, typer.Option("--out", help="Baseline file to write.")],
    suite: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="Suite's name or YAML file; missing cells are computed."),
    ] = None,
    data_dir: DataDir = None,
    store: StoreDir = DEFAULT_STORE,
    weights_dir: WeightsDir = None,
    registry: RegistryFiles = None,
    variant: Variants = None,
    tier: Tier = None,
    seed: Seeds = None,
    patch_size: PatchSize = None,
    weights: WeightsFolders = None,
    results: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--results", help="Take this folder of saved results; nothing is run."),
    ] = None,
    margin: Annotated[
        float, typer.Option(min=0, max=1, help="Loss of score that counts as a regression.")
    ] = MARGIN,
) -> None:
    """Write a baseline: the results that later runs are held to, in one file for review."""
    from harness.commands import baseline as command  # noqa: PLC0415
    from harness.commands.measure import RunOptions  # noqa: PLC0415

    command.baseline_command(
        suite,
        RunOptions.asked(
            *(data_dir, store, weights_dir, registry, variant, tier, seed, patch_size, weights)
        ),
        results=results,
        margin=margin,
        out=out,
    )
