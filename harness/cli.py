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

from models.errors import UserError

app = typer.Typer(
    name="tokenrank",
    help="Rank token designs of Earth-observation transformers: what a scheme costs and buys.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Data sets: list, download, audit.", no_args_is_help=True)
app.add_typer(data_app, name="data")
published_app = typer.Typer(
    help="Published results: import tables, rank them like with like.", no_args_is_help=True
)
app.add_typer(published_app, name="published")

DataDir = Annotated[
    Optional[Path],  # noqa: UP045  (typer reads the annotation)
    typer.Option("--data-dir", envvar="TOKENRANK_DATA", help="Folder that holds data sets."),
]
StoreDir = Annotated[
    Path, typer.Option("--store", envvar="TOKENRANK_STORE", help="Folder for results.")
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
PublishedFiles = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Option("--from", help="Import this CSV or Parquet file first; repeatable."),
]
PublishedTables = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--table", help="An imported table, by digest or file name; repeatable."),
]
Percent = Annotated[
    bool, typer.Option("--percent", help="The file's scores are in percent; convert them.")
]
Duplicates = Annotated[
    str,
    typer.Option(
        "--duplicates",
        help="A result given twice with other values: exclude it, refuse the file, or first.",
    ),
]
DEFAULT_STORE = Path("store")
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
    )


@app.command()
def models(
    height: Annotated[int, typer.Option(min=1, help="Rows, pixels.")] = 64,
    width: Annotated[int, typer.Option(min=1, help="Columns, pixels.")] = 64,
    steps: Annotated[int, typer.Option(min=1, max=12, help="Time steps.")] = 1,
    patch_size: Annotated[int, typer.Option(min=1, max=8, help="Patch size, pixels.")] = 4,
    modality: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Modality; repeatable. Default: sentinel2_l2a."),
    ] = None,
    variant: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Variants to show; default: all, each with its own scheme."),
    ] = None,
    schemes: Annotated[bool, typer.Option("--schemes", help="Every scheme on every one.")] = False,
    published_axis: Annotated[
        bool, typer.Option("--published-axis", help="Mean MACs over the 13 published inputs.")
    ] = False,
    registry: RegistryFiles = None,
) -> None:
    """List variants: scheme, groups, tokens, parameters, MACs, weight tiers."""
    from harness.commands import models as command  # noqa: PLC0415

    command.models_command(
        names=variant or [],
        height=height,
        width=width,
        steps=steps,
        patch_size=patch_size,
        modalities=modality or ["sentinel2_l2a"],
        all_schemes=schemes,
        published_axis=published_axis,
        registry=registry or [],
    )


@app.command()
def report(
    suite: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="Suite whose latest run is reported; default: the latest of all."),
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


@app.command()
def compare(
    reference: Annotated[
        str, typer.Argument(help="A variant (olmoearth-v1-nano) or a version (v1).")
    ],
    candidate: Annotated[str, typer.Argument(help="What it is compared with.")],
    suite: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--suite", help="Suite whose latest run is used; default: the latest of all."),
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


@app.command()
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
    ] = 2e-5,
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
        RunOptions(
            data_dir=data_dir,
            store=store,
            weights_dir=weights_dir,
            registry=tuple(registry or ()),
            tier=tier,
            seeds=tuple(seed) if seed else None,
            patch_size=patch_size,
            weights=tuple(weights or ()),
        ),
        command.Telling(junit, markdown, annotations),
        baseline=baseline,
        results=results,
        margin=margin,
        tolerance=sketch_tolerance,
    )
    raise typer.Exit(code)


@app.command()
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
    ] = 0.02,
) -> None:
    """Write a baseline: the results that later runs are held to, in one file for review."""
    from harness.commands import baseline as command  # noqa: PLC0415
    from harness.commands.measure import RunOptions  # noqa: PLC0415

    command.baseline_command(
        suite,
        RunOptions(
            data_dir=data_dir,
            store=store,
            weights_dir=weights_dir,
            registry=tuple(registry or ()),
            variants=tuple(variant) if variant else None,
            tier=tier,
            seeds=tuple(seed) if seed else None,
            patch_size=patch_size,
            weights=tuple(weights or ()),
        ),
        results=results,
        margin=margin,
        out=out,
    )


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

    from harness.suite import json_schema  # noqa: PLC0415

    typer.echo(json.dumps(json_schema(), indent=2))


@published_app.command("import")
def published_import(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet table of published results.")],
    store: StoreDir = DEFAULT_STORE,
    percent: Percent = False,
    duplicates: Duplicates = "exclude",
    licence: Annotated[str, typer.Option("--licence", help="Licence of the table.")] = "",
    citation: Annotated[str, typer.Option("--citation", help="Where the table is from.")] = "",
) -> None:
    """Import a table of results: torchgeo-bench's, or the plain schema. Nothing is run."""
    from harness.commands import published as command  # noqa: PLC0415

    command.import_command(file, store, percent, duplicates, licence, citation)


@published_app.command("list")
def published_list(
    store: StoreDir = DEFAULT_STORE,
    models: Annotated[bool, typer.Option("--models", help="Every model of every table.")] = False,
) -> None:
    """Show the imported tables."""
    from harness.commands import published as command  # noqa: PLC0415

    command.list_command(store, models)


@published_app.command("report")
def published_report(
    models: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(
            help="Models; family-version for all sizes (olmoearth-v1 olmoearth-v1.1); * matches."
        ),
    ] = None,
    from_: PublishedFiles = None,
    table: PublishedTables = None,
    store: StoreDir = DEFAULT_STORE,
    probe: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--probe", help="Only tasks with this probe; repeatable."),
    ] = None,
    dataset: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--dataset", help="Only tasks on this data set; repeatable."),
    ] = None,
    any_grid: Annotated[
        bool,
        typer.Option(
            "--any-grid", help="Rank tasks whose stated cost shows unlike patch grids as well."
        ),
    ] = False,
    percent: Percent = False,
    duplicates: Duplicates = "exclude",
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="Write the report here too."),
    ] = None,
) -> None:
    """Rank published models on the tasks that all of them share, as a full report."""
    from harness.commands import published as command  # noqa: PLC0415

    tables = command.Tables(tuple(from_ or ()), tuple(table or ()), percent, duplicates)
    command.report_command(models or [], tables, store, probe or [], dataset or [], any_grid, out)


@published_app.command("beside")
def published_beside(
    suite: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="Own suite, whose latest run is used; default: the latest of all."),
    ] = None,
    model: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--model", help="Published model; default: all of the registry. Repeatable."),
    ] = None,
    from_: PublishedFiles = None,
    table: PublishedTables = None,
    store: StoreDir = DEFAULT_STORE,
    results: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--results", help="Folder of saved results instead of a suite's run."),
    ] = None,
    mix_tiers: Annotated[
        bool, typer.Option("--mix-tiers", help="One ranking of own and published results.")
    ] = False,
    percent: Percent = False,
    duplicates: Duplicates = "exclude",
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", help="Write the report here too."),
    ] = None,
) -> None:
    """Put published results beside own ones, only where both measure the same."""
    from harness.commands import published as command  # noqa: PLC0415

    tables = command.Tables(tuple(from_ or ()), tuple(table or ()), percent, duplicates)
    command.beside_command(suite, model or [], tables, store, results, mix_tiers, out)


@published_app.command("schema")
def published_schema() -> None:
    """Print the JSON Schema of a row of the plain table, for editors and validators."""
    from harness.commands import published as command  # noqa: PLC0415

    command.schema_command()


@data_app.command("list")
def data_list(data_dir: DataDir = None) -> None:
    """Show the known data sets, and which of them the data directory holds."""
    from harness.commands import data as command  # noqa: PLC0415

    command.list_command(data_dir)


@data_app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="Data set to download.")],
    data_dir: DataDir = None,
) -> None:
    """Download a data set from the hub; resumes, and verifies checksums."""
    from harness.commands import data as command  # noqa: PLC0415

    command.get_command(name, data_dir)


@data_app.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="Data set, or a folder of images.")],
    data_dir: DataDir = None,
    store: StoreDir = DEFAULT_STORE,
    band_order: Annotated[
        str, typer.Option("--band-order", help="m-eurosat only: corrected or as-published.")
    ] = "corrected",
    partition: Annotated[
        str, typer.Option("--partition", help="GEO-Bench only: which partition file.")
    ] = "default",
) -> None:
    """Audit units, value ranges, NaNs, duplicates and band order, from the pixels."""
    from harness.commands import data as command  # noqa: PLC0415

    command.check_command(name, data_dir, store, {"band_order": band_order, "partition": partition})


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
    """A sentence for what a disk can do to a user; anything else is a bug."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full{where}; free some space and run the same command again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"No permission to write{where}; choose another folder with --store or --out."
    return None


def _fail(sentence: str) -> None:
    # Plain text on stderr: a sentence must stay one line in a log, whatever a name in it holds.
    sys.stderr.write(f"tokenrank: {' '.join(sentence.splitlines())}{os.linesep}")
    sys.exit(2)


if __name__ == "__main__":
    main()
