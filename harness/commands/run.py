"""`tokenrank run`: from options to a finished, shown and tracked suite run.

It joins the suite, the run and the terminal, and decides nothing that could change a
result.
"""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from harness import terminal
from harness.plan import Places
from harness.provenance import load_or_create_manifest
from harness.run import Outcome, run_suite
from harness.store import Store
from harness.suite import Overrides, load_suite, suite_names, suite_path
from harness.tracking import publish
from models.errors import UserError, did_you_mean
from reports.table import SuiteResults

DEFAULT_STORE = Path("store")
TIERS = ("official", "study", "random")


def run_suite_command(
    suite: str,
    *,
    data_dir: Path | None,
    store: Path,
    weights_dir: Path | None,
    registry: list[Path],
    variants: list[str] | None,
    tier: str | None,
    seeds: list[int] | None,
    patch_size: int | None,
    weights: list[str],
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
    kept = Store(store)
    places = Places(data_dir, weights_dir, kept.cache_folder)
    command = regenerating_command(suite, overrides, data_dir is not None)
    with room_on(store):
        with terminal.TerminalWatcher(console) as watcher:
            outcome = run_suite(loaded, places, kept, command, watcher)
        outcome_view.show_outcome(console, outcome)
        _track(console, outcome, kept, command)
    outcome_view.show_time(console, outcome)
    console.print(
        f"Open the MLflow UI with: [bold]{escape(_ui_command(store))}[/]",
        soft_wrap=True,
        highlight=False,
    )
    return outcome.results


@contextmanager
def room_on(place: Path, kept: str = "cells that are finished are kept") -> Iterator[None]:
    """A full disk, in a sentence that says which and what is lost (nothing)."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"The disk is full ({place}); free some space and run the same command again: {kept}."
        ) from None


def _ui_command(store: Path) -> str:
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
