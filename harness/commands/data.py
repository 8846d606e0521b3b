"""`tokenrank data list | get | check`: what data there are, where to get them, are they sound?

It shows what `suites.datasets` finds; the judgement is made there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from harness.store_place import open_store
from harness.terminal import plain_table
from models.errors import UserError
from suites.datasets import catalogue
from suites.datasets.audit import AuditReport
from suites.datasets.catalogue import DATA_DIR
from suites.datasets.entries import ENTRIES
from suites.datasets.sources import SOURCES

if TYPE_CHECKING:
    from suites.datasets.download import Fetched

COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


def list_command(data_dir: Path | None) -> None:
    """One row per known data set; of those that are not there, what fetching them takes."""
    console = Console()
    rows = []
    for known in catalogue.available(data_dir):
        missing = f"not found: {known.layout}{_to_get(known.name)}"
        where = "built in" if known.builtin else str(known.folder or missing)
        rows.append([known.name, known.origin.upper(), known.title, where])
    table = plain_table(["name", "origin", "what", "where"], rows)
    table.columns[3].overflow = "fold"  # a path that is cut is no use
    console.print(table)
    if data_dir is None:
        console.print(f"No data directory is set; set {DATA_DIR} or --data-dir to use real data.")


def _to_get(name: str) -> str:
    source = SOURCES.get(name)
    size = f", {source.size}" if source is not None and source.size else ""
    return f' ("data get {name}"{size})' if source is not None else ""


def get_command(name: str, data_dir: Path | None) -> None:
    """Download with a progress bar; the same command continues an interrupted one."""
    from suites.datasets.download import get  # noqa: PLC0415

    if data_dir is None:
        raise UserError(f"Say where to put the data: set {DATA_DIR} or --data-dir.")
    console = Console()
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    named = TextColumn("{task.description}", markup=False)
    with Progress(named, *columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None)
        fetched = get(
            name,
            data_dir,
            lambda done, all_: bar.update(task, completed=done, total=all_),
            step=lambda text: bar.reset(task, description=text, total=None),
        )
    lines = [f"{part.target}: {_state(part)} (SHA-256 {part.sha256})" for part in fetched]
    source = SOURCES[name]
    lines.append(f"Licence: {source.licence}. Source: {source.home}")
    lines += [source.note] if source.note else []
    for line in lines:
        console.print(escape(line), soft_wrap=True, highlight=False)


def _state(part: Fetched) -> str:
    if part.was_there:
        return "was there already"
    if part.verified:
        return "fetched and verified"
    return "fetched; nobody publishes a checksum, so that it could not be verified"


def check_command(
    name: str,
    data_dir: Path | None,
    store: str,
    usual: Mapping[str, str],
    options: Sequence[str] = (),
) -> None:
    """Audit a known data set or a folder of images; errors found give exit code 1.

    ``usual`` are taken by those that know them, ``options`` (``KEY=VALUE``) are asked for.
    """
    console = Console()
    said = _said(options)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("reading", total=None)
        report = _audit(
            name,
            data_dir,
            open_store(store).cache_folder,
            usual,
            said,
            lambda done, all_: bar.update(task, completed=done, total=all_),
        )
    _show(console, report)
    if report.level == "error":
        raise typer.Exit(1)


def _audit(
    name: str,
    data_dir: Path | None,
    cache: Path,
    usual: Mapping[str, str],
    said: Mapping[str, object],
    progress: Callable[[int, int], None],
) -> AuditReport:
    from suites.datasets.audit import check  # noqa: PLC0415
    from suites.datasets.loose import check_folder  # noqa: PLC0415

    if catalogue.is_own(name):
        return check(catalogue.resolve(name, None, said, cache_dir=cache), progress)
    if name not in ENTRIES and Path(name).exists():
        return check_folder(Path(name), progress=progress)
    entry = catalogue.entry_of(name)
    known = {key: value for key, value in usual.items() if key in entry.options}
    return check(catalogue.resolve(name, data_dir, {**known, **said}, cache_dir=cache), progress)


def _said(options: Sequence[str]) -> dict[str, object]:
    """Options of a data set as they were typed, whole numbers as such."""
    found: dict[str, object] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not (key and equals and value):
            raise UserError(f'--option "{option}" must be KEY=VALUE, e.g. --option sensors=s2.')
        found[key] = int(value) if value.isdecimal() else value
    return found


def _show(console: Console, report: AuditReport) -> None:
    console.print(escape(f"{report.name}: {report.samples} samples"), highlight=False)
    if report.bands:
        rows = [
            [s.name, *(f"{v:.4g}" for v in (s.minimum, s.mean, s.deviation, s.maximum))]
            for s in report.bands
        ]
        console.print(plain_table(["band (as named)", "min", "mean", "std", "max"], rows, 1))
    for finding in report.findings:
        colour = COLOURS[finding.level]
        console.print(
            f"[{colour}]{finding.level:8}[/]{escape(f'{finding.topic}: {finding.sentence}')}",
            highlight=False,
            soft_wrap=True,
        )
