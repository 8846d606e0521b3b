"""Results for a baseline or a check: a suite's cells from the store, what is missing computed.

The lean part of `tokenrank run`: no report, no tracking. It decides nothing about what the
results mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from harness import terminal
from harness.commands.run import assignment, checked_tier, regenerating_command, room_on
from harness.kept_tables import kept_tables
from harness.plan import Cell, Places, Plan, make_plan, shown_name
from harness.provenance import load_or_create_manifest
from harness.regression.snapshot import CellId
from harness.results import collect
from harness.run import Seconds, compute_cells
from harness.store import run_name
from harness.store_place import open_store
from harness.suite import Overrides, load_suite, suite_path
from models.errors import UserError
from reports.io import ResultsError, load_results
from reports.table import SuiteResults


@dataclass(frozen=True)
class RunOptions:
    """Where and how a suite is run; as for `tokenrank run`."""

    data_dir: Path | None
    store: str
    weights_dir: Path | None
    registry: tuple[Path, ...] = ()
    variants: tuple[str, ...] | None = None
    tier: str | None = None
    seeds: tuple[int, ...] | None = None
    patch_size: int | None = None
    weights: tuple[str, ...] = ()

    @classmethod
    def asked(
        cls,
        data_dir: Path | None,
        store: str,
        weights_dir: Path | None,
        registry: Sequence[Path] | None,
        variants: Sequence[str] | None,
        tier: str | None,
        seeds: Sequence[int] | None,
        patch_size: int | None,
        weights: Sequence[str] | None,
    ) -> RunOptions:
        """From a command line: what was not given is None or empty there."""
        return cls(
            data_dir,
            store,
            weights_dir,
            tuple(registry or ()),
            tuple(variants) if variants else None,
            tier,
            tuple(seeds) if seeds else None,
            patch_size,
            tuple(weights or ()),
        )

    def refuse_beside_results(self) -> None:
        """Options of a run have no meaning for saved results; they are never ignored."""
        given = {
            "--registry": self.registry,
            "--variant": self.variants,
            "--tier": self.tier,
            "--seed": self.seeds,
            "--patch-size": self.patch_size,
            "--weights": self.weights,
        }
        for option, value in given.items():
            if value:
                raise UserError(
                    f"{option} chooses what a run computes, but --results takes results that are "
                    "there already; give one or the other."
                )

    def overrides(self) -> Overrides:
        """As the suite's reader takes them."""
        return Overrides(
            variants=self.variants,
            tier=checked_tier(self.tier),
            seeds=tuple(dict.fromkeys(self.seeds)) if self.seeds else None,
            patch_size=self.patch_size,
            registry=self.registry,
            weights=tuple(assignment(text) for text in self.weights),
        )


@dataclass(frozen=True)
class Measured:
    """Results, and the machine that the run was first started on."""

    results: SuiteResults
    hardware: Mapping[str, str]


Wanted = Callable[[SuiteResults], Callable[[CellId], bool]]


def everything(_: SuiteResults) -> Callable[[CellId], bool]:
    """Every cell is to be computed."""
    return lambda _cell: True


def measure(
    console: Console, path: Path, named: str, options: RunOptions, wanted: Wanted = everything
) -> Measured:
    """Results of the suite at ``path``, called ``named`` on the command line.

    ``wanted`` is shown what the store holds and says which of the other cells to compute.
    """
    overrides = options.overrides()
    suite = load_suite(path, overrides)
    store = open_store(options.store)
    store.prepare()
    plan = make_plan(suite, Places(options.data_dir, options.weights_dir, store.cache_folder))
    command = regenerating_command(named, overrides, options.data_dir is not None)
    manifest = load_or_create_manifest(store, plan, command)
    store.fetch_folder(run_name(plan.key), only=("results/*",))
    kept = kept_tables(plan, store)
    if not kept:
        store.fetch_cells(cell.key for cell in plan.cells)
    results = collect(plan, store, manifest, kept)
    to_do = _to_do(plan, results, wanted(results))
    if to_do:
        with room_on(store.root), terminal.TerminalWatcher(console) as watcher:
            watcher.planned(plan, to_do)
            compute_cells(plan, to_do, store, watcher, Seconds())
        results = collect(plan, store, manifest)
    return Measured(results, manifest.hardware)


def loaded_plan(named: str, options: RunOptions) -> Plan:
    """The plan of a suite, with nothing computed."""
    suite = load_suite(suite_path(named), options.overrides())
    store = open_store(options.store)
    store.prepare()
    return make_plan(suite, Places(options.data_dir, options.weights_dir, store.cache_folder))


def _to_do(plan: Plan, results: SuiteResults, wanted: Callable[[CellId], bool]) -> list[Cell]:
    """Cells without a result that are wanted, each once (two may share a key)."""
    done = set(results.scores["cell"].to_list())
    found: dict[str, Cell] = {}
    for cell in plan.cells:
        name = shown_name(plan, cell)
        if cell.key not in done and wanted(CellId(name, cell.task.name, cell.seed)):
            found[cell.key] = cell
    return list(found.values())


def saved(folder: Path) -> SuiteResults:
    """Results from a folder; `UserError` when it does not hold any."""
    try:
        return load_results(folder)
    except ResultsError as error:
        raise UserError(str(error)) from None


def require_folder(path: Path) -> None:
    """Refuse an output file that has no folder to stand in, or is one itself."""
    if path.is_dir():
        raise UserError(f"{path} cannot be written: it is a folder; name a file in it.")
    if not path.parent.is_dir():
        raise UserError(
            f"{path} cannot be written: there is no folder {path.parent}; make it first."
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around the writing of an output file: what a disk can refuse, in a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); choose another place."
        ) from None
