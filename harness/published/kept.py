"""A ranking of published results kept like any other suite run: manifest, table, report.

So `tokenrank report`, `sync` and `ui` see it without knowing where it came from. It must
know nothing of how the table was made.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from harness.content import package_versions
from harness.provenance import MANIFEST, Manifest, git_commit, hardware
from harness.run import write_views
from harness.store import Store, run_name, write_json
from reports.table import SuiteResults

PACKAGES = ("numpy", "polars")  # that can change a number of an imported ranking


def keep_run(results: SuiteResults, store: Store) -> tuple[SuiteResults, Manifest, Path]:
    """Write a ranking under ``runs/``; the results as kept, their manifest, the report's folder.

    The same ranking again changes nothing: its manifest stays as first written.
    """
    store.prepare()
    name = run_name(results.run.suite_hash)
    store.fetch_folder(name)
    manifest = _manifest(results, store)
    kept = replace(
        results,
        run=replace(
            results.run,
            git_commit=manifest.git_commit,
            versions=manifest.versions,
            command=manifest.command,
        ),
    )
    report = write_views(kept, store, manifest.run_key)
    store.keep_folder(name)
    return kept, manifest, report


def _manifest(results: SuiteResults, store: Store) -> Manifest:
    run = results.run
    path = store.run_folder(run.suite_hash) / MANIFEST
    try:
        return Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        pass  # none yet, or damaged: it is written anew
    manifest = Manifest(
        run_key=run.suite_hash,
        suite=run.suite,
        command=run.command,
        git_commit=git_commit(),
        versions=package_versions(PACKAGES),
        hardware=hardware(),
    )
    write_json(path, manifest.facts())
    return manifest
