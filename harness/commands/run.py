"""`tokenrank run`: from options to a finished, shown and tracked suite run.

It joins the suite, the run and the terminal, and decides nothing that could change a
result.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from harness import terminal
from harness.cli_options import DEFAULT_STORE
from harness.executors.board import Board
from harness.executors.ending import told_to_end
from harness.executors.local import gpus
from harness.executors.profile import Profile, profile_of, with_workers
from harness.plan import Cell, Places, Plan
from harness.provenance import load_or_create_manifest
from harness.run import Compute, Outcome, Seconds, run_suite
from harness.store import Store
from harness.store_place import open_store
from harness.suite import Overrides, load_suite, suite_names, suite_path
from harness.tracking import publish
from models.errors import DISK_FULL, UserError, did_you_mean
from reports.table import SuiteResults

TIERS = ("official", "study", "random")


@dataclass(frozen=True)
class Computing:
    """Who computes, as the command line says: executor, workers, a profile's file."""

    executor: str | None = None
    workers: int | None = None
    profile: Path | None = None

    def resolved(self) -> Profile | None:
        """The profile with these options; None where this process computes by itself."""
        if self == Computing():
            return None if len(gpus()) < 2 else Profile()
        return with_workers(profile_of(self.executor, self.profile), self.workers)


def run_suite_command(
    suite: str,
    *,
    data_dir: Path | None,
    store: str,
    weights_dir: Path | None,
    registry: list[Path],
    variants: list[str] | None,
    tier: str | None,
    seeds: list[int] | None,
    patch_size: int | None,
    weights: list[str],
    computing: Computing = Computing(),
) -> SuiteResults:
    """Run a suite, show what came out, return it. Raises `UserError` for mistakes in options."""
    # Statistics take a second to import, and other commands need this module's helpers only.
    from harness import outcome_view  # noqa: PLC0415

    overrides = Overrides(
        variants=tuple(variants) if variants else None,
        tier=checked_tier(tier),
        seeds=tuple(dict.fromkeys(seeds)) if seeds else None,
        patch_size=patch_size,
        registry=tuple(registry),
        weights=tuple(assignment(text) for text in weights),
    )
    console = Console()
    loaded = load_suite(suite_path(suite), overrides)
    kept = open_store(store)
    places = Places(data_dir, weights_dir, kept.cache_folder)
    command = regenerating_command(suite, overrides, data_dir is not None)
    profile = computing.resolved()
    with room_on(kept.root):
        with terminal.TerminalWatcher(console) as watcher:
            compute = _by_workers(profile, places, overrides, watcher) if profile else None
            outcome = run_suite(loaded, places, kept, command, watcher, compute)
        outcome_view.show_outcome(console, outcome)
        outcome_view.show_remade(console, outcome)
        kept.told_remade(outcome.remade)
        _track(console, outcome, kept, command)
    outcome_view.show_time(console, outcome)
    console.print(
        f"Open the MLflow UI with: [bold]{escape(_ui_command(store))}[/]",
        soft_wrap=True,
        highlight=False,
    )
    if outcome.broken:
        raise UserError(_broken_sentence(outcome, kept))
    return outcome.results


def _by_workers(
    profile: Profile, places: Places, overrides: Overrides, watcher: terminal.TerminalWatcher
) -> Compute:
    def compute(
        plan: Plan, to_do: list[Cell], store: Store, _: object, seconds: Seconds
    ) -> Mapping[str, str]:
        from harness.executors.executing import compute_on  # noqa: PLC0415

        with told_to_end():
            driven = compute_on(profile, plan, to_do, places, store, overrides, watcher)
        seconds.workers = True
        seconds.encoder += driven.encoder
        seconds.probe += driven.probe
        return driven.broken

    return compute


def _broken_sentence(outcome: Outcome, store: Store) -> str:
    reasons = list(dict.fromkeys(outcome.broken.values()))
    first = reasons[0].rstrip(".")
    others = f", and {len(reasons) - 1} other reasons" if len(reasons) > 1 else ""
    logs = Board(store, outcome.plan.key).logs
    return (
        f"{len(outcome.broken)} of {len({c.key for c in outcome.plan.cells})} cells could not be "
        f"computed ({first}{others}); what was printed meanwhile is in {logs}; all others are in "
        "the store, and the same command tries again."
    )


@contextmanager
def room_on(place: Path, kept: str = "cells that are finished are kept") -> Iterator[None]:
    """A full disk, in a sentence that says which and what is lost (nothing)."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(
            f"The disk is full ({place}); free some space and run the same command again: {kept}."
        ) from None


def _ui_command(store: str) -> str:
    """The line that opens the UI; a session that hides the environment names its own."""
    given = os.environ.get("TOKENRANK_UI_COMMAND")
    if store == DEFAULT_STORE:
        return given or "tokenrank ui"
    return f"{given} -- --store {store}" if given else f"tokenrank ui --store {store}"


def _track(console: Console, outcome: Outcome, store: Store, command: str) -> None:
    manifest = load_or_create_manifest(store, outcome.plan, command)
    with console.status("Mirroring the run into MLflow"):
        published = publish(outcome.results, manifest, store, outcome.report)
    if not published.done:
        console.print(
            f"[yellow]MLflow at {published.uri} was not updated: {escape(published.reason)}. "
            "The results are safe in the store; run [bold]tokenrank sync[/] when it is back.[/]",
            soft_wrap=True,
        )


def regenerating_command(suite: str, overrides: Overrides, own_data: bool) -> str:
    """The command that regenerates the run; capitals stand for folders of the reader's own."""
    named = suite if suite in suite_names() else Path(suite).name
    parts = ["tokenrank", "run", named]
    if own_data:
        parts += ["--data-dir", "DATA"]
    for name in overrides.variants or ():
        parts += ["--variant", name]
    if overrides.tier:
        parts += ["--tier", overrides.tier]
    for seed in overrides.seeds or ():
        parts += ["--seed", str(seed)]
    if overrides.patch_size:
        parts += ["--patch-size", str(overrides.patch_size)]
    for path in overrides.registry:
        parts += ["--registry", path.name]
    for name, _ in overrides.weights:
        parts += ["--weights", f"{name}=WEIGHTS"]
    return shlex.join(parts)


def checked_tier(tier: str | None) -> str | None:
    """The tier given on the command line; `UserError` for an unknown one."""
    if tier is not None and tier not in TIERS:
        raise UserError(f'--tier "{tier}" is not known: {did_you_mean(tier, TIERS)}.')
    return tier


def assignment(text: str) -> tuple[str, Path]:
    """A variant's folder of weights, from VARIANT=FOLDER."""
    name, equals, folder = text.partition("=")
    if not equals or not name or not folder:
        raise UserError(f'--weights "{text}" is not of the form VARIANT=FOLDER.')
    return name, Path(folder)
