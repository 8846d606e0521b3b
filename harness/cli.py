"""The `tokenrank` command: the one obvious way in.

Each command parses its options, calls one function of the harness and shows what came
out. Nothing heavy is imported here at the top, so that ``--help`` answers at once.
Mistakes of the user end in one sentence and exit code 2.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from harness.cli_data import data_app
from harness.cli_judging import judging_app
from harness.cli_options import (
    DEFAULT_STORE,
    DataDir,
    Executor,
    PatchSize,
    ProfileFile,
    RegistryFiles,
    Seeds,
    StoreDir,
    Tier,
    Variants,
    WeightsDir,
    WeightsFolders,
    Workers,
)
from harness.cli_pretraining import pretraining_app
from harness.cli_published import published_app
from models.errors import DISK_FULL, AwayError, UserError

app = typer.Typer(
    name="tokenrank",
    help="Rank token designs of Earth-observation transformers: what a scheme costs and buys.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
INTERRUPTED = 130  # 128 + SIGINT, the shells' convention


@app.command()
def run(
    suite: Annotated[str, typer.Argument(help="A suite's name (eurosat) or a YAML file.")],
    data_dir: DataDir = None,
    store: StoreDir = DEFAULT_STORE,
    weights_dir: WeightsDir = None,
    registry: RegistryFiles = None,
    variant: Variants = None,
    tier: Tier = None,
    seed: Seeds = None,
    patch_size: PatchSize = None,
    weights: WeightsFolders = None,
    executor: Executor = None,
    workers: Workers = None,
    profile: ProfileFile = None,
) -> None:
    """Run a suite: embed, probe, rank, report, track. Finished cells are reused."""
    from harness.commands import run as command  # noqa: PLC0415

    command.run_suite_command(
        suite,
        data_dir=data_dir,
        store=store,
        weights_dir=weights_dir,
        registry=registry or [],
        variants=variant,
        tier=tier,
        seeds=seed,
        patch_size=patch_size,
        weights=weights or [],
        computing=command.Computing(executor, workers, profile),
    )


@app.command()
def status(
    suite: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="Suite to tell of; default: all that have notes in the store."),
    ] = None,
    store: StoreDir = DEFAULT_STORE,
) -> None:
    """Who computes what now, how far each run is, and what is broken; from any machine."""
    from harness.commands import status as command  # noqa: PLC0415

    command.status_command(suite, store)


@app.command()
def cancel(
    suite: Annotated[str, typer.Argument(help="Suite whose run is to be stopped.")],
    store: StoreDir = DEFAULT_STORE,
) -> None:
    """Stop a suite's run on all its workers; finished cells are kept."""
    from harness.commands import status as command  # noqa: PLC0415

    command.cancel_command(suite, store)


@app.command()
def plan(
    suite: Annotated[str, typer.Argument(help="A suite's name (eurosat) or a YAML file.")],
    data_dir: DataDir = None,
    store: StoreDir = DEFAULT_STORE,
    weights_dir: WeightsDir = None,
    registry: RegistryFiles = None,
    variant: Variants = None,
    tier: Tier = None,
    seed: Seeds = None,
    patch_size: PatchSize = None,
    weights: WeightsFolders = None,
) -> None:
    """What a suite would cost here: cells, MACs, disk, time; and what it took, where it ran."""
    from harness.commands import plan as command  # noqa: PLC0415
    from harness.commands.measure import RunOptions  # noqa: PLC0415

    command.plan_command(
        suite,
        RunOptions.asked(
            *(data_dir, store, weights_dir, registry, variant, tier, seed, patch_size, weights)
        ),
    )


@app.command()
def models(
    height: Annotated[int, typer.Option(min=1, help="Rows, pixels.")] = 64,
    width: Annotated[int, typer.Option(min=1, help="Columns, pixels.")] = 64,
    steps: Annotated[int, typer.Option(min=1, max=12, help="Time steps.")] = 1,
    patch_size: Annotated[int, typer.Option(min=1, max=8, help="Patch size, pixels.")] = 4,
    modality: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Modality; repeatable. Default: sentinel2_l2a, or what the model needs."),
    ] = None,
    variant: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Variants to show; default: all, each with its own scheme."),
    ] = None,
    schemes: Annotated[bool, typer.Option("--schemes", help="Every scheme on every one.")] = False,
    published_axis: Annotated[
        bool, typer.Option("--published-axis", help="Mean MACs over the 13 published inputs.")
    ] = False,
    inputs: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--inputs", help="Data set: show what each model will really see of it."),
    ] = None,
    data_dir: DataDir = None,
    missing_bands: Annotated[
        str, typer.Option(help="With --inputs, as in a protocol: refuse or nearest.")
    ] = "refuse",
    resize: Annotated[
        str, typer.Option(help="With --inputs, as in a protocol: refuse, fit or native.")
    ] = "refuse",
    registry: RegistryFiles = None,
) -> None:
    """List variants: scheme, tokens, parameters, MACs, tiers, licences; or what they see."""
    from harness.commands import model_inputs  # noqa: PLC0415
    from harness.commands import models as command  # noqa: PLC0415

    if inputs is not None:
        model_inputs.model_inputs_command(
            dataset=inputs,
            names=variant or [],
            data_dir=data_dir,
            patch_size=patch_size,
            missing_bands=missing_bands,
            resize=resize,
            registry=registry or [],
        )
        return
    command.models_command(
        names=variant or [],
        height=height,
        width=width,
        steps=steps,
        patch_size=patch_size,
        modalities=modality or [],
        all_schemes=schemes,
        published_axis=published_axis,
        registry=registry or [],
    )


@app.command()
def tokens(
    variant: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(
            help="Variants to draw; default: the smallest of every version and token scheme."
        ),
    ] = None,
    height: Annotated[int, typer.Option(min=1, help="Rows, pixels.")] = 64,
    width: Annotated[int, typer.Option(min=1, help="Columns, pixels.")] = 64,
    steps: Annotated[int, typer.Option(min=1, help="Time steps.")] = 1,
    patch_size: Annotated[int, typer.Option(min=1, max=8, help="Patch size, pixels.")] = 8,
    modality: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Modality; repeatable. Default: sentinel2_l2a, or what it needs."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("atlas"),
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Measure throughput and memory here (random weights)."),
    ] = False,
    registry: RegistryFiles = None,
) -> None:
    """Draw token designs: how a sample becomes tokens, and what that costs (atlas.html)."""
    from harness.commands import tokens as command  # noqa: PLC0415

    asked = command.Asked(height, width, steps, patch_size, tuple(modality or ()))
    command.tokens_command(variant or [], asked, out, measure=measure, registry=registry or [])


@app.command()
def report(
    suite: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            help="Suite (or its YAML) whose latest run is shown; default: the latest of all."
        ),
    ] = None,
    store: StoreDir = DEFAULT_STORE,
    results: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--results", help="Folder of saved results, from any machine."),
    ] = None,
    from_mlflow: Annotated[
        bool, typer.Option("--from-mlflow", help="Fetch the results from MLflow, on any machine.")
    ] = False,
    tracking_uri: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--tracking-uri",
            help="MLflow server for --from-mlflow; default: MLFLOW_TRACKING_URI, else the store's.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("report"),
) -> None:
    """Write the report of a finished run again: from the store, saved results or MLflow."""
    from harness.commands import views as command  # noqa: PLC0415

    mlflow_uri = command.source_of_report(store, results, from_mlflow, tracking_uri)
    command.report_command(suite, store, results, out, mlflow_uri)


app.add_typer(judging_app)
app.add_typer(pretraining_app)


@app.command()
def sync(store: StoreDir = DEFAULT_STORE) -> None:
    """Mirror to MLflow what could not be mirrored when it ran; nothing is logged twice."""
    from harness.commands import views as command  # noqa: PLC0415

    command.sync_command(store)


@app.command()
def ui(
    store: StoreDir = DEFAULT_STORE,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on loopback.")] = 5000,
) -> None:
    """Open the MLflow UI on loopback over the store's tracking database."""
    from harness.commands import views as command  # noqa: PLC0415

    command.ui_command(store, port)


@app.command()
def schema() -> None:
    """Print the JSON Schema of suite files, for editors."""
    import json  # noqa: PLC0415

    from harness.suite_file import json_schema  # noqa: PLC0415

    typer.echo(json.dumps(json_schema(), indent=2))


app.add_typer(published_app, name="published")
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer keeps Ctrl-C to itself and says nothing
            sys.stderr.write(f"Interrupted; the same command goes on from here.{os.linesep}")
        raise
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        sentence = _disk_sentence(error)
        if sentence is None:
            raise
        _fail(sentence)


def _disk_sentence(error: OSError) -> str | None:
    """A sentence for what a disk or a store can do to a user; anything else is a bug."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in DISK_FULL:
        return f"The disk is full{where}; free some space and run the same command again."
    if isinstance(error, AwayError):
        said = f"{str(error)[:1].upper()}{str(error)[1:]}"
        return f"{said}; nothing that is stored is lost, and the same command goes on from there."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"No permission to write{where}; choose another folder with --store or --out."
    return None


def _fail(sentence: str) -> None:
    # Plain text on stderr: a sentence must stay one line in a log, whatever a name in it holds.
    sys.stderr.write(f"tokenrank: {' '.join(sentence.splitlines())}{os.linesep}")
    sys.exit(2)


if __name__ == "__main__":
    main()
