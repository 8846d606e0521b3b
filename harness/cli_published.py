"""`tokenrank published ...`: the options of the commands on others' result tables.

Like `cli`, it only declares; nothing heavy is imported at the top.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from harness.cli_options import DEFAULT_STORE, StoreDir

published_app = typer.Typer(
    help="Published results: import tables, rank them like with like.", no_args_is_help=True
)
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
