"""`tokenrank published`: import tables of published results, and rank them like with like.

It joins files, the store and the terminal; what may be compared is decided in
`harness.published`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from harness import terminal
from harness.commands.views import latest_results
from harness.published import notes
from harness.published.beside import build_beside, matches
from harness.published.columns import json_schema
from harness.published.duplicates import DUPLICATE_RULES, DuplicateRule
from harness.published.entrants import Entrant, choose, entrants_of, left_out_sizes
from harness.published.formats import citation_of, licence_of
from harness.published.kept import keep_run
from harness.published.library import (
    Imported,
    Rules,
    Source,
    chosen_tables,
    imported_tables,
    keep,
    read_published,
)
from harness.published.matching import select
from harness.published.shown import heading, ranking_table, told, verdicts
from harness.published.table import build
from harness.store import Store
from harness.store_place import open_store
from harness.tracking import publish
from models.errors import UserError, did_you_mean
from models.registry import load_registry
from reports import words
from reports.io import ResultsError, load_results
from reports.pairs import compare
from reports.ranking import rank
from reports.resampling import bootstrap
from reports.table import SuiteResults


@dataclass(frozen=True)
class Tables:
    """Which tables a command reads: files to import first, or what the store holds."""

    files: tuple[Path, ...]
    named: tuple[str, ...]
    percent: bool
    duplicates: str


def import_command(
    path: Path, store: str, percent: bool, duplicates: str, licence: str, citation: str
) -> None:
    """Import one file and say what became of its rows."""
    imported = read_published(path, Rules(percent, _rule(duplicates)), licence, citation)
    fresh = keep(imported, open_store(store))
    console = Console()
    for line in told(imported):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    what = "Imported as" if fresh else "Already imported as"
    console.print(f"{what} {imported.source.short}.", highlight=False, markup=False)


def list_command(store: str, models: bool) -> None:
    """Show the imported tables, and with ``models`` every model in them."""
    tables = imported_tables(open_store(store))
    if not tables:
        raise UserError(
            f"The store {store} holds no published results; import a table with "
            '"tokenrank published import FILE".'
        )
    console = Console()
    for table in tables:
        source = table.source
        entrants = entrants_of(table.results)
        datasets = {result.dataset for result in table.results}
        console.print(
            f"{source.short}  {source.name}: {words.number(len(entrants), 'model')}, "
            f"{words.number(len(datasets), 'data set')}, {len(table.results):,} results "
            f"({len(source.conflicts)} contradicting); {source.licence}",
            soft_wrap=True, highlight=False, markup=False,
        )  # fmt: skip
        if models:
            rows = [_model_row(entrant) for entrant in entrants.values()]
            console.print(terminal.plain_table(("model", "in the table", "tasks"), rows, 2))


def _model_row(entrant: Entrant) -> tuple[str, str, str]:
    return escape(entrant.name), escape(entrant.model), str(len(entrant.cells))


def report_command(
    models: Sequence[str],
    tables: Tables,
    store: str,
    probes: Sequence[str],
    datasets: Sequence[str],
    any_grid: bool,
    out: Path | None,
) -> None:
    """Rank published models on the tasks they share, as a full report kept in the store."""
    kept = open_store(store)
    imported = _tables(tables, kept)
    entrants = entrants_of([r for table in imported for r in table.results])
    if not models:
        raise UserError(
            "Name the models to rank, e.g. olmoearth-v1 olmoearth-v1.1 (all sizes that both "
            'have), or "*" for all; "tokenrank published list --models" shows them.'
        )
    _check_known("--probe", probes, {t.probe for e in entrants.values() for t in e.cells})
    _check_known("--dataset", datasets, {t.dataset for e in entrants.values() for t in e.cells})
    selection = select(choose(entrants, models), probes, datasets, any_grid)
    sources = [table.source for table in imported]
    command = _regenerating(models, sources, probes, datasets, any_grid)
    console = Console()
    for name in left_out_sizes(entrants, models):
        said = (
            f"{name} is left out: the other named versions have no such size (name it to rank it)."
        )
        console.print(said, soft_wrap=True, highlight=False, markup=False)
    cautions = notes.cautions(selection)
    _finish(build(selection, sources, command), cautions, kept, out)


def beside_command(
    suite: str | None,
    models: Sequence[str],
    tables: Tables,
    store: str,
    results: Path | None,
    mix_tiers: bool,
    out: Path | None,
) -> None:
    """Published results beside an own suite run, where both measure the same."""
    kept = open_store(store)
    own = latest_results(kept, suite) if results is None else _saved(results)
    imported = _tables(tables, kept)
    entrants = entrants_of([r for table in imported for r in table.results])
    chosen = choose(entrants, models) if models else _registry_entrants(entrants)
    if not chosen:
        raise UserError("The imported tables hold no variant of the registry; name the models.")
    found = matches(own, chosen)
    sources = [table.source for table in imported]
    parts = [own.run.suite] if results is None else ["--results", "RESULTS"]
    parts += [part for model in models for part in ("--model", model)]
    command = _with_tables("beside", [*parts, *(["--mix-tiers"] if mix_tiers else [])], sources)
    table = build_beside(own, chosen, found, sources, command, mix_tiers)
    _finish(table, table.run.notes[-1:], kept, out)


def _saved(folder: Path) -> SuiteResults:
    try:
        return load_results(folder)
    except ResultsError as error:
        raise UserError(str(error)) from None


def _registry_entrants(entrants: dict[str, Entrant]) -> list[Entrant]:
    known = set(load_registry().names())
    return [e for e in entrants.values() if e.variant in known]


def schema_command() -> None:
    """Print the JSON Schema of a row of the plain table."""
    print(json.dumps(json_schema(), indent=2))


# --- which tables -----------------------------------------------------------------------


def _rule(text: str) -> DuplicateRule:
    if text not in DUPLICATE_RULES:
        raise UserError(
            f'--duplicates "{text}" is not known: {did_you_mean(text, DUPLICATE_RULES)}.'
        )
    return "refuse" if text == "refuse" else "first" if text == "first" else "exclude"


def _tables(wanted: Tables, store: Store) -> list[Imported]:
    """Files are imported first; named tables join them."""
    rules = Rules(wanted.percent, _rule(wanted.duplicates))
    read = [read_published(path, rules) for path in wanted.files]
    for imported in read:
        keep(imported, store)
    named = chosen_tables(store, wanted.named) if wanted.named or not read else []
    found = {table.source.digest: table for table in [*read, *named]}
    return list(found.values())


def _check_known(option: str, wanted: Sequence[str], known: set[str]) -> None:
    for text in wanted:
        if text not in known:
            raise UserError(
                f'{option} "{text}" is in no imported table: {did_you_mean(text, known)}.'
            )


def _regenerating(
    models: Sequence[str],
    sources: Sequence[Source],
    probes: Sequence[str],
    datasets: Sequence[str],
    any_grid: bool,
) -> str:
    parts = [*models]
    for option, values in (("--probe", probes), ("--dataset", datasets)):
        for value in values:
            parts += [option, value]
    return _with_tables("report", [*parts, *(["--any-grid"] if any_grid else [])], sources)


def _with_tables(verb: str, parts: Sequence[str], sources: Sequence[Source]) -> str:
    """The command over these tables, by their file names: elsewhere they lie somewhere else.

    A table that was read as any would be is imported on the way; what was said of the others
    (rules, licence) belongs to each alone, so all are imported first.
    """
    report = ["tokenrank", "published", verb, *parts]
    if not any(_said(source) for source in sources):
        return shlex.join([*report, *(p for s in sources for p in ("--from", s.name))])
    imports = [shlex.join(["tokenrank", "published", "import", s.name, *_said(s)]) for s in sources]
    report += [part for s in sources for part in ("--table", s.name)]
    return " && ".join([*imports, shlex.join(report)])


def _said(source: Source) -> list[str]:
    """The options that a table was imported with."""
    options = ["--percent"] if source.percent else []
    if source.duplicates != "exclude":
        options += ["--duplicates", source.duplicates]
    for option, text, usual in (
        ("--licence", source.licence, licence_of(source.format)),
        ("--citation", source.citation, citation_of(source.format)),
    ):
        if text != usual:
            options += [option, text]
    return options


# --- to the end -------------------------------------------------------------------------


def _say(console: Console, text: str) -> None:
    """One line as it is; names may hold anything, and a log must not break it."""
    if text:
        console.print(" ".join(text.split()), soft_wrap=True, highlight=False, markup=False)


def _finish(
    results: SuiteResults,
    cautions: Sequence[str],
    store: Store,
    out: Path | None,
) -> None:
    """Keep the ranking, show it, mirror it."""
    from reports.critical_difference import critical_difference_sentences  # noqa: PLC0415

    console = Console()
    results, manifest, report = keep_run(results, store)
    scores = bootstrap(results)
    pairs = compare(results, scores)
    for table in rank(results, scores=scores):
        if table.ranked:
            console.print(heading(table), soft_wrap=True, highlight=False, markup=False)
            console.print(ranking_table(table, results))
            for line in critical_difference_sentences(table):
                _say(console, line)
    for line in verdicts(pairs, results):
        _say(console, line)
    for caution in cautions:
        _say(console, f"- {caution}")
    if out is not None:
        report = _report_to(results, out)
    place = f"Report: {report / 'report.html'}"
    console.print(place, soft_wrap=True, highlight=False, markup=False)
    mirrored = publish(results, manifest, store, store.run_folder(manifest.run_key) / "report")
    if not mirrored.done:
        console.print(
            f"MLflow at {mirrored.uri} was not updated: {mirrored.reason}. The results are safe in "
            'the store; run "tokenrank sync" when it is back.',
            soft_wrap=True, highlight=False, markup=False,
        )  # fmt: skip


def _report_to(results: SuiteResults, out: Path) -> Path:
    from reports.build import build_report  # noqa: PLC0415  (draws; slow to import)

    try:
        return build_report(results, out).html.parent
    except OSError as error:
        raise UserError(
            f"The report cannot be written to {out} ({error.strerror or error}); make room there "
            "or choose another folder with --out."
        ) from None
