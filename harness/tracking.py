"""MLflow, a view of the store and never the truth: when it is written, and what if it is away.

Publishing is idempotent, and a server that is away costs nothing but a later `tokenrank
sync`; what is written is `mlflow_view`'s. It must know nothing of how results are computed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from harness.content import content_key, package_versions
from harness.mlflow_view.failures import failures, reason, shown_uri
from harness.pretraining.curves import Point, Training
from harness.provenance import Manifest
from harness.results import results_digest
from harness.store import Store, as_json, run_name, write_json
from models.cache import cache_folder
from models.replacing import replacing
from reports.table import SuiteResults

Answer = TypeVar("Answer")
URI_VARIABLE = "MLFLOW_TRACKING_URI"
REACH_SECONDS = 5.0
LOCK_SECONDS = 600.0
LOCAL_DATABASE = "mlflow.db"
TRAININGS = "trainings"  # notes in the store on those that were mirrored
LOCAL_ARTIFACTS = "mlartifacts"
DATABASE_PACKAGES = ("mlflow", "sqlalchemy", "alembic")
VIEW = "tokenrank-mlflow-3"
"""What a mirror looks like; with another one, the same results are mirrored anew."""


class TrackingAwayError(Exception):
    """The tracking server cannot be reached or refuses; its message says why."""


@dataclass(frozen=True)
class Published:
    """What happened: ``done`` (now or earlier), or why it is still to do; ``uri`` to be shown."""

    done: bool
    uri: str
    reason: str = ""
    fresh: bool = False


def tracking_uri(store: Store) -> str:
    """``MLFLOW_TRACKING_URI``, else an SQLite file in the store."""
    return os.environ.get(URI_VARIABLE) or f"sqlite:///{(store.root / LOCAL_DATABASE).resolve()}"


def place_of(uri: str) -> str:
    """What stands for a server in notes: the URI itself may hold a password."""
    return content_key(uri)[:16]


def is_gone(uri: str) -> bool:
    """Whether it is a local database that is not there (any more): what was noted is void then."""
    file = uri.partition("?")[0].removeprefix("sqlite:///")
    return file != uri.partition("?")[0] and not Path(file).exists()


def publish(
    results: SuiteResults, manifest: Manifest, store: Store, report: Path, *, ask: bool = False
) -> Published:
    """Mirror a run into MLflow unless this very result is already there.

    Whether it is there is noted in the store; with ``ask`` the server is asked again.
    Nothing raised by MLflow or the network escapes: the results are safe in the store,
    and the returned `Published` says what is still to do.
    """
    uri = tracking_uri(store)
    shown = shown_uri(uri)
    digest = content_key({"results": results_digest(results), "view": VIEW})
    state = store.run_folder(manifest.run_key) / "tracking.json"
    place = place_of(uri)
    if not ask and not is_gone(uri) and _state(state).get(place) == digest:
        return Published(True, shown)
    state.parent.mkdir(parents=True, exist_ok=True)
    try:
        check_reachable(uri)
        # Two processes on one store: the second waits, and finds the run mirrored.
        with FileLock(f"{state}.guard", timeout=LOCK_SECONDS):
            fresh = _mirror(uri, results, manifest, store, report, digest)
            write_json(state, {**_state(state), place: digest})
            with contextlib.suppress(OSError):  # other machines ask the server, and find it there
                store.keep_file(f"{run_name(manifest.run_key)}/{state.name}")
    except Timeout:
        return Published(False, shown, "another process is still writing this suite run there")
    except TrackingAwayError as error:
        return Published(False, shown, str(error))
    return Published(True, shown, fresh=fresh)


def warm_up(store: Store) -> None:
    """Import MLflow, make a new local database and open it while the encoders run.

    All of it takes seconds, and nothing depends on it before the end. A failure here is
    nobody's business: `publish` meets it again and says so.
    """

    def work() -> None:
        with contextlib.suppress(Exception):
            uri = tracking_uri(store)
            check_reachable(uri)  # if it is away, MLflow is not needed either
            quieten()
            make_database(store)
            _warm(uri, is_ours=not os.environ.get(URI_VARIABLE))

    threading.Thread(target=work, daemon=True, name="tracking-warm-up").start()


def make_database(store: Store) -> None:
    """Make the store's own database under another name and move it into place when it is whole.

    MLflow makes its tables one by one, for seconds; killed in between, it can neither use
    nor mend what is there, and the store could never be mirrored again.
    """
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
        _copy_or_make_empty(in_work)
        _forget_published(store)
        in_work.replace(place)


def _forget_published(store: Store) -> None:
    """Of a database of this name that somebody removed: the new one holds nothing."""
    place = place_of(tracking_uri(store))
    for state in store.root.glob("runs/*/tracking.json"):
        noted = _state(state)
        if noted.pop(place, None) is not None:
            write_json(state, noted)
    names = [f"{TRAININGS}/{name}" for name in store.files.names(TRAININGS)]
    for name, text in store.files.read_many(names).items():
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # damaged
            note = json.loads(text)
            if note["told"].pop(place, None) is not None:
                store.files.write(name, as_json(note))


def _copy_or_make_empty(place: Path) -> None:
    versions = content_key(package_versions(DATABASE_PACKAGES))
    kept = cache_folder() / "tracking-databases" / f"{versions}.db"
    try:
        _copy_empty(kept, place)
    except (OSError, sqlite3.Error):  # none is kept, or it is damaged
        place.unlink(missing_ok=True)
        _make_empty(place)
        with contextlib.suppress(OSError):  # it only saves time
            kept.parent.mkdir(parents=True, exist_ok=True)
            with replacing(kept, sync=True) as temporary:
                shutil.copyfile(place, temporary)


def _copy_empty(kept: Path, place: Path) -> None:
    shutil.copyfile(kept, place)
    # MLflow's own experiment, which is none of ours, has its files below the working folder.
    with contextlib.closing(sqlite3.connect(place)) as database, database:
        if database.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("the kept database is damaged")
        database.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0",
            [str(Path("mlruns", "0").absolute())],
        )


def _make_empty(place: Path) -> None:
    _open(f"sqlite:///{place.resolve()}")


def _open(uri: str) -> None:
    """MLflow makes the tables that are not there; half of its modules are imported only then."""
    from mlflow import MlflowClient  # noqa: PLC0415

    MlflowClient(tracking_uri=uri).search_experiments(max_results=1)


def _warm(uri: str, is_ours: bool) -> None:
    """Open a whole database or a server. In one of somebody else's it would make or change tables.

    Ended in between, with the run, it could leave half of them.
    """
    from mlflow.store.tracking import sqlalchemy_store  # noqa: F401, PLC0415

    if is_ours or uri.startswith(("http://", "https://")):
        _open(uri)


def quieten() -> None:
    """Settings of MLflow's client for a guest: say little, and give up before minutes pass."""
    for name, value in (
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "30"),
        # A new database announces every table that it makes; nobody asked for that.
        ("MLFLOW_LOGGING_LEVEL", "ERROR"),
        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
        # Two lines on standard output for every run that is written to a server.
        ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
    ):
        os.environ.setdefault(name, value)


def _state(path: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}  # at worst the server is asked once more
    return found


def check_reachable(uri: str) -> None:
    """Ask once, quickly: MLflow's own client retries for minutes. Raises `TrackingAwayError`."""
    if not uri.startswith(("http://", "https://")):
        return
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=REACH_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise TrackingAwayError(f"it answers with error {error.code}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "reason", error)
        raise TrackingAwayError(f"it cannot be reached ({why})") from None


def _mirror(
    uri: str,
    results: SuiteResults,
    manifest: Manifest,
    store: Store,
    report: Path,
    digest: str,
) -> bool:
    """Write the view; False when it was there already."""

    def write() -> bool:
        from harness.mlflow_view.facts import SuiteRun  # noqa: PLC0415
        from harness.mlflow_view.write import write_suite_run  # noqa: PLC0415

        run = SuiteRun.of(results, manifest, digest)
        return write_suite_run(uri, run, report, store.root / LOCAL_ARTIFACTS)

    return _asking(store, write)


def push_training(
    store: Store, training: Training, points: Sequence[Point], *, ask: bool = False
) -> None:
    """Add points to a pretraining's curves; `TrackingAwayError` when the server refuses them.

    ``ask``: leave out those that it has.
    """
    uri = tracking_uri(store)
    check_reachable(uri)

    def write() -> None:
        from harness.mlflow_view.pretraining import log_points  # noqa: PLC0415

        log_points(uri, _artifacts(uri, store), training, points, ask=ask)

    _asking(store, write)


def end_training(store: Store, training: Training, status: str, tags: Mapping[str, str]) -> None:
    """Close a pretraining's run, FINISHED or FAILED; raises as `push_training` does."""
    uri = tracking_uri(store)
    check_reachable(uri)

    def write() -> None:
        from harness.mlflow_view.pretraining import end  # noqa: PLC0415

        end(uri, _artifacts(uri, store), training, status, tags)

    _asking(store, write)


def _artifacts(uri: str, store: Store) -> str | None:
    """Where a new experiment of a local database keeps files; a server knows its own place."""
    local = uri.startswith("sqlite:")
    return (store.root / LOCAL_ARTIFACTS).resolve().as_uri() if local else None


def _asking(store: Store, write: Callable[[], Answer]) -> Answer:
    """What ``write`` returns; `TrackingAwayError` for whatever MLflow or its database raises."""
    quieten()
    try:
        make_database(store)
        return write()
    except failures() as error:
        raise TrackingAwayError(reason(error)) from None
