"""`tokenrank data ...`: the options of the commands on data sets.

Like `cli`, it only declares; nothing heavy is imported at the top.
"""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli_options import DEFAULT_STORE, DataDir, StoreDir

data_app = typer.Typer(help="Data sets: list, download, audit.", no_args_is_help=True)


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
    """Download a data set from where it is published; resumes, and verifies checksums."""
    from harness.commands import data as command  # noqa: PLC0415

    command.get_command(name, data_dir)


@data_app.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="Data set, a task's YAML, or a folder of images.")],
    data_dir: DataDir = None,
    store: StoreDir = DEFAULT_STORE,
    band_order: Annotated[
        str, typer.Option("--band-order", help="m-eurosat only: corrected or as-published.")
    ] = "corrected",
    partition: Annotated[
        str, typer.Option("--partition", help="GEO-Bench only: which partition file.")
    ] = "default",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="KEY=VALUE, as `data:` of a suite has it; repeatable."),
    ] = None,
) -> None:
    """Audit units, value ranges, NaNs, duplicates and band order, from the pixels."""
    from harness.commands import data as command  # noqa: PLC0415

    usual = {"band_order": band_order, "partition": partition}
    command.check_command(name, data_dir, store, usual, option or ())
