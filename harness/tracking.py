"""MLflow's only home: a view of the store, never the truth.

A suite run becomes one parent run with one child per variant, each child complete in
itself (parameters, tags, metrics), so that a flat search finds it. Publishing is
idempotent, and a server that is away costs nothing but a later `tokenrank sync`. It
must know nothing of how results are computed.
"""

from __future__ import annotations

import contextlib
import json
import os
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from harness.provenance import Manifest
from harness.results import results_digest
from harness.store import Store, write_json
from reports.ranking import IncompleteVariant, RankedVariant, rank
from reports.table import SuiteResults, TaskInfo

if TYPE_CHECKING:
    from mlflow import MlflowClient

URI_VARIABLE = "MLFLOW_TRACKING_URI"
REACH_SECONDS = 5.0
LOCAL_DATABASE = "mlflow.db"


class TrackingAwayError(Exception):
    """The tracking server cannot be reached or refuses; its message says why."""


@dataclass(frozen=True)
class Published:
    """What happened: ``done`` (now or earlier), or why it is still to do."""

    done: bool
    uri: str
    reason: str = ""
    fresh: bool = False


def tracking_uri(store: Store) -> str:
    """``MLFLOW_TRACKING_URI``, else an SQLite file in the store."""
    return os.environ.get(URI_VARIABLE) or f"sqlite:///{(store.root / LOCAL_DATABASE).resolve()}"


def publish(results: SuiteResults, manifest: Manifest, store: Store, report: Path) -> Published:
    """Mirror a run into MLflow unless this very result is already there.

    Nothing raised by MLflow or the network escapes: the results are safe in the store,
    and the returned `Published` says what is still to do.
    """
    uri = tracking_uri(store)
    digest = results_digest(results)
    state = store.run_folder(manifest.run_key) / "tracking.json"
    if _state(state).get(uri) == digest:
        return Published(True, uri)
    try:
        _check_reachable(uri)
        _mirror(uri, results, manifest, store, report, digest)
    except TrackingAwayError as error:
        return Published(False, uri, str(error))
    write_json(state, {**_state(state), uri: digest})
    return Published(True, uri, fresh=True)


def warm_up(store: Store) -> None:
    """Import MLflow and make a new local database while the encoders run.

    Both take seconds, and nothing depends on them before the end. A failure here is
    nobody's business: `publish` meets it again and says so.
    """

    def work() -> None:
        with contextlib.suppress(Exception):
            _quieten()
            make_database(store)

    threading.Thread(target=work, daemon=True, name="tracking-warm-up").start()


def make_database(store: Store) -> None:
    """Make the store's own database under another name and move it into place when it is whole.

    MLflow makes its tables one by one, for seconds; killed in between, it can neither use
    nor mend what is there, and the store could never be mirrored again.
    """
    from mlflow import MlflowClient  # noqa: PLC0415

    place = store.root / LOCAL_DATABASE
    if os.environ.get(URI_VARIABLE) or place.exists():
        return
    with FileLock(f"{place}.guard"):
        if place.exists():
            return
        for left in store.root.glob(f".{LOCAL_DATABASE}.*"):
            left.unlink()  # by a run that was killed
        # A name of its own each time: MLflow remembers which databases it has opened.
        in_work = store.root / f".{LOCAL_DATABASE}.{time.time_ns()}.tmp"
        MlflowClient(tracking_uri=f"sqlite:///{in_work.resolve()}").search_experiments(
            max_results=1
        )
        in_work.replace(place)


def _quieten() -> None:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    # A new database announces every table that it makes; nobody asked for that.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")


def _state(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _check_reachable(uri: str) -> None:
    """Ask once, quickly: MLflow's own client retries for minutes."""
    if not uri.startswith(("http://", "https://")):
        return
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=REACH_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise TrackingAwayError(f"it answers with error {error.code}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise TrackingAwayError(f"it cannot be reached ({reason})") from None


def _mirror(
    uri: str,
    results: SuiteResults,
    manifest: Manifest,
    store: Store,
    report: Path,
    digest: str,
) -> None:
    _quieten()
    from mlflow import MlflowClient  # noqa: PLC0415  (seconds to import)
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    try:
        make_database(store)
        client = MlflowClient(tracking_uri=uri)
        _Mirror(client, results, manifest, store, digest).write(report)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrackingAwayError(textwrap.shorten(first_line, 200)) from None


class _Mirror:
    """Writes one suite run through an MLflow client."""

    def __init__(
        self,
        client: MlflowClient,
        results: SuiteResults,
        manifest: Manifest,
        store: Store,
        digest: str,
    ) -> None:
        self.client = client
        self.results = results
        self.manifest = manifest
        self.store = store
        self.digest = digest
        self.rankings = rank(results)
        self.experiment = self._experiment()

    def write(self, report: Path) -> None:
        parent = self._suite_run()
        if parent is not None and self._is_current(parent):
            return
        for old in self._all_of_this_run():
            # A mirror that was cut short, or of other numbers: rewritten whole, so that no
            # run stays half-filled or counted twice.
            self.client.delete_run(old)
        parent_id = self._create(self.results.run.suite, self._parent_tags())
        for row in self.results.variants.iter_rows(named=True):
            self._variant_run(row, parent_id)
        self._log(parent_id, self._parent_params(), {})
        self.client.log_artifacts(parent_id, str(report), "report")
        # Last: a run without this tag is one that was cut short.
        self.client.set_tag(parent_id, "tokenrank.digest", self.digest)
        self.client.set_terminated(parent_id)

    # --- runs ------------------------------------------------------------------

    def _variant_run(self, row: Mapping[str, Any], parent: str) -> None:
        ranked = self._ranked(row["variant"])
        tags = {
            **self._common_tags(),
            "mlflow.parentRunId": parent,
            "tokenrank.variant": row["variant"],
            "tokenrank.complete": "yes" if ranked else "no",
        }
        run_id = self._create(row["variant"], tags)
        metrics = {
            "tokens": row["tokens"],
            "macs": row["macs"],
            "macs_patch_embedding": row["macs_patch_embedding"],
            "macs_linear": row["macs_linear"],
            "macs_attention": row["macs_attention"],
            "parameters": float(row["params"]),
            **dict(self._score_metrics(row["variant"])),
        }
        if ranked:
            metrics["average_rank"] = ranked.average_rank
            if ranked.interval:
                metrics["average_rank_low"] = ranked.interval.low
                metrics["average_rank_high"] = ranked.interval.high
        params = {
            "family": row["family"],
            "version": row["version"],
            "size": row["size"],
            "token_scheme": row["scheme"],
            "band_groups": row["groups"],
            "tokens": f"{row['tokens']:g}",
            "tier": row["tier"],
            "weights": row["weights_hash"],
            "licence": row["licence"],
            "data_origin": ", ".join(self._origins()),
            "patch_size": ", ".join(sorted({str(t.patch_size) for t in self.results.run.tasks})),
            "seeds": ", ".join(str(seed) for seed in self.results.run.seeds),
        }
        self._log(run_id, params, metrics)
        self._log_datasets(run_id)
        self._log_predictions(run_id, row["variant"])
        self.client.set_terminated(run_id)

    def _ranked(self, variant: str) -> RankedVariant | None:
        """The variant's place; None when it is incomplete (or its origins were ranked apart)."""
        found = [e for t in self.rankings for e in t.ranked if e.variant == variant]
        return found[0] if len(found) == 1 else None

    def _score_metrics(self, variant: str) -> Iterator[tuple[str, float]]:
        for table in self.rankings:
            entries: list[RankedVariant | IncompleteVariant] = [*table.ranked, *table.incomplete]
            for entry in entries:
                if entry.variant != variant:
                    continue
                for task, found in entry.scores.items():
                    yield f"score/{task}", found.value
                    if found.interval:
                        yield f"score_low/{task}", found.interval.low
                        yield f"score_high/{task}", found.interval.high

    def _log(self, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric, Param  # noqa: PLC0415

        now = int(time.time() * 1000)
        self.client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
            params=[Param(name, str(value)) for name, value in params.items()],
        )

    def _log_datasets(self, run_id: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415

        inputs = [
            DatasetInput(
                dataset=Dataset(
                    name=task.dataset,
                    digest=task.fingerprint[:8],
                    source_type="tokenrank",
                    source=json.dumps({"title": task.title, "fingerprint": task.fingerprint}),
                    profile=json.dumps(
                        {"train": task.n_train, "val": task.n_val, "test": task.n_test}
                    ),
                ),
                tags=[InputTag("mlflow.data.context", f"{task.origin} data")],
            )
            for task in _one_per_dataset(self.results.run.tasks)
        ]
        self.client.log_inputs(run_id, inputs)

    def _log_predictions(self, run_id: str, variant: str) -> None:
        cells = self.results.scores.filter(self.results.scores["variant"] == variant)
        for row in cells.iter_rows(named=True):
            path = self.store.root / "cells" / row["cell"][:2] / f"{row['cell']}.parquet"
            self.client.log_artifact(run_id, str(path), f"predictions/{row['task']}/{row['seed']}")

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        run = self.client.create_run(self.experiment, run_name=name, tags=dict(tags))
        return str(run.info.run_id)

    # --- what is there already -------------------------------------------------

    def _experiment(self) -> str:
        name = f"tokenrank/{self.results.run.suite}"
        found = self.client.get_experiment_by_name(name)
        if found is None:
            # The kind makes the UI open on runs rather than on traces of language models.
            tags = {
                "mlflow.experimentKind": "custom_model_development",
                "mlflow.note.content": self.results.run.description,
            }
            return str(self.client.create_experiment(name, self._artifacts(), tags))
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _artifacts(self) -> str | None:
        """Beside the results for a local database; a server knows its own place."""
        local = tracking_uri(self.store).startswith("sqlite:")
        return (self.store.root / "mlartifacts").resolve().as_uri() if local else None

    def _suite_run(self) -> Any:
        runs = self.client.search_runs(
            [self.experiment],
            f"tags.`tokenrank.run_key` = '{self.manifest.run_key}' "
            "and tags.`tokenrank.kind` = 'suite run'",
        )
        return runs[0] if runs else None

    def _is_current(self, run: Any) -> bool:
        return bool(run.data.tags.get("tokenrank.digest") == self.digest)

    def _all_of_this_run(self) -> list[str]:
        runs = self.client.search_runs(
            [self.experiment],
            f"tags.`tokenrank.run_key` = '{self.manifest.run_key}'",
            max_results=5000,
        )
        return [run.info.run_id for run in runs]

    # --- words -----------------------------------------------------------------

    def _origins(self) -> list[str]:
        return sorted({task.origin for task in self.results.run.tasks})

    def _common_tags(self) -> dict[str, str]:
        run = self.results.run
        return {
            "tokenrank.run_key": self.manifest.run_key,
            "tokenrank.suite": run.suite,
            "tokenrank.kind": "variant",
            "tokenrank.data_origin": ", ".join(self._origins()),
            "mlflow.source.git.commit": self.manifest.git_commit,
            "tokenrank.suite_hash": run.suite_hash,
            **{f"tokenrank.data.{t.name}": t.fingerprint for t in run.tasks},
            **{f"tokenrank.version.{n}": v for n, v in self.manifest.versions.items()},
            **{f"tokenrank.hardware.{n}": v for n, v in self.manifest.hardware.items()},
        }

    def _parent_tags(self) -> dict[str, str]:
        return {
            **self._common_tags(),
            "tokenrank.kind": "suite run",
            "mlflow.note.content": _description(self.results),
        }

    def _parent_params(self) -> dict[str, str]:
        run = self.results.run
        return {
            "suite": run.suite,
            "tasks": str(len(run.tasks)),
            "variants": str(len(self.results.variants)),
            "command": self.manifest.command,
        }


def _one_per_dataset(tasks: Sequence[TaskInfo]) -> list[TaskInfo]:
    return list({task.fingerprint: task for task in tasks}.values())


def _description(results: SuiteResults) -> str:
    run = results.run
    lines = [f"**{run.title}**", "", run.description, ""]
    for origin in sorted({task.origin for task in run.tasks}):
        names = sorted({task.title for task in run.tasks if task.origin == origin})
        lines.append(f"- {origin.upper()} data: {'; '.join(names)}")
    for tier in sorted(set(results.variants["tier"].to_list())):
        lines.append(f"- weights: {tier}")
    return "\n".join([*lines, *(f"- {note}" for note in run.notes)])
