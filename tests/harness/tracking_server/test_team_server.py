"""A team's server (PostgreSQL, S3): outages lose nothing, publishers do not meet, files arrive."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from harness.mlflow_view.write import _Writing
from harness.provenance import Manifest
from harness.store import Store
from harness.tracking import Published, publish
from reports.table import SuiteResults
from tests.services import free_port, serving

ROOT = Path(__file__).parents[3]
VARIANTS = ("olmoearth-one-pico", "olmoearth-three-pico")
Publication = tuple[SuiteResults, Manifest, Path, Path]
PUBLISHER = """\
import pickle, sys
from pathlib import Path
from harness.store import Store
from harness.tracking import publish

results, manifest, store, report = pickle.loads(Path(sys.argv[1]).read_bytes())
print("ready", flush=True)
sys.stdin.readline()
print(publish(results, manifest, Store(store), report, ask=True))
"""


def run_folder(team: Any, suite: str) -> Path:
    """Where the worker's store keeps the run of a suite."""
    (found,) = (
        path.parent
        for path in team.store.glob("runs/*/manifest.json")
        if f'"{suite}"' in path.read_text()
    )
    return Path(found)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def looks(team: Any, client: MlflowClient, suite: str) -> dict[str, Any]:
    """All that a suite's runs and models show, without ids, marks and times."""
    experiment = client.get_experiment_by_name(f"tokenrank/{suite}")
    assert experiment is not None
    place = [experiment.experiment_id]
    runs = client.search_runs(place)
    passing = ("tokenrank.mark", "mlflow.parentRunId", "mlflow.user")
    shown: dict[str, Any] = {
        run.info.run_name: (
            run.info.status,
            run.data.params,
            run.data.metrics,
            {k: v for k, v in run.data.tags.items() if k not in passing},
            {
                name: hashlib.sha256(body).hexdigest()
                for name, body in team.objects(f"mlflow/{place[0]}/{run.info.run_id}/").items()
            },
        )
        for run in runs
    }
    for model in client.search_logged_models(place):
        tags = {k: v for k, v in model.tags.items() if k not in passing}
        shown[f"model {model.name}"] = (str(model.status), model.params, tags)
    return shown


# --- the server is away -------------------------------------------------------------------


def test_a_run_without_its_server_ends_well_and_says_what_to_do(team: Any, down: Any) -> None:
    assert down.code == 0, down.err
    assert f"MLflow at {team.address} was not updated: it cannot be reached" in down.out
    assert "run tokenrank sync when it is back" in down.out
    assert (run_folder(team, "down") / "results" / "run.json").is_file()


def test_sync_writes_what_the_run_would_have_written(server: Any, client: MlflowClient) -> None:
    ended = server.on_worker("sync")
    assert (ended.code, ended.out.count("mirrored now")) == (0, 1), ended
    assert "already there" in server.on_worker("sync").out
    synced = looks(server, client, "down")
    assert_one_whole_mirror(server, "down")

    experiment = client.get_experiment_by_name("tokenrank/down")
    assert experiment is not None
    for run in client.search_runs([experiment.experiment_id]):
        client.delete_run(run.info.run_id)
    for model in client.search_logged_models([experiment.experiment_id]):
        client.delete_logged_model(model.model_id)
    (run_folder(server, "down") / "tracking.json").unlink()  # as in a store of another machine
    ended = server.on_worker("worker", SUITE=str(server.suite("down")))
    assert ended.code == 0
    assert "not updated" not in ended.out
    assert looks(server, client, "down") == synced


def test_the_report_of_the_server_is_the_stores_byte_for_byte(server: Any) -> None:
    assert server.on_worker("sync").code == 0
    ended = server.on_worker("reader", SUITE="down")
    assert ended.code == 0, ended.err
    made = files_of(server.folder / "report")
    assert "report.html" in made
    assert made == files_of(run_folder(server, "down") / "report")


def test_files_are_in_the_bucket_though_workers_hold_no_keys(
    server: Any, client: MlflowClient
) -> None:
    assert "AWS" not in server.command("worker")
    assert server.on_worker("sync").code == 0
    experiment = client.get_experiment_by_name("tokenrank/down")
    assert experiment is not None
    assert experiment.artifact_location.startswith("mlflow-artifacts:")
    (suite_run,) = client.search_runs(
        [experiment.experiment_id], "tags.`tokenrank.kind` = 'suite run'"
    )
    prefix = f"mlflow/{experiment.experiment_id}/{suite_run.info.run_id}/artifacts/"
    folder = run_folder(server, "down")
    kept = {
        f"{name}/{path}": body
        for name in ("results", "report")
        for path, body in files_of(folder / name).items()
    }
    assert server.objects(prefix) == kept


# --- several publishers -------------------------------------------------------------------


@pytest.fixture
def worker(server: Any) -> Iterator[pytest.MonkeyPatch]:
    """This process as a worker of the server."""
    with server.worker_shell() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server.address)
        yield patch


@pytest.fixture
def publication(synthetic: Any, tmp_path: Path) -> Callable[[str, str], Publication]:
    """Arguments for `publish`: the results of a suite, from a store of the given name."""
    results = synthetic.make_results({name: 0.5 + i / 10 for i, name in enumerate(VARIANTS)})
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.html").write_text("<p>The report.</p>")

    def make(suite: str, store: str) -> Publication:
        named = replace(results, run=replace(results.run, suite=suite))
        key = hashlib.sha256(suite.encode()).hexdigest()
        manifest = Manifest(key, suite, f"tokenrank run {suite}", "0" * 40, {}, {})
        return named, manifest, tmp_path / store, report

    return make


def publish_now(arguments: Publication) -> Published:
    results, manifest, store, report = arguments
    return publish(results, manifest, Store(store), report, ask=True)


def assert_one_whole_mirror(team: Any, suite: str) -> None:
    assert [status for _, status in team.runs(suite)] == ["FINISHED"] * 3
    assert {name for name, _ in team.runs(suite)} > set(VARIANTS)
    models = team.ask(
        "SELECT m.name FROM logged_models m JOIN experiments e USING (experiment_id) "
        "WHERE e.name = %s AND m.lifecycle_stage = 'active' ORDER BY 1",
        f"tokenrank/{suite}",
    )
    assert [name for (name,) in models] == sorted(VARIANTS)


@contextmanager
def another_process(
    arguments: Publication, folder: Path, environment: dict[str, str]
) -> Iterator[Callable[[], str]]:
    """A process that is about to publish; yields what lets it and returns what it says then."""
    packed = folder / "arguments.pickle"
    packed.write_bytes(pickle.dumps(arguments))
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISHER, str(packed)],
        cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield lambda: process.communicate("\n")[0]


def test_two_processes_beside_the_remains_of_a_third_leave_one_mirror(
    server: Any, worker: pytest.MonkeyPatch, publication: Any, tmp_path: Path
) -> None:
    class Killed(BaseException):
        """Nothing is tidied up after it."""

    def die(*_: object) -> None:
        raise Killed

    with worker.context() as dying:
        dying.setattr(_Writing, "undo", lambda _: None)
        dying.setattr(MlflowClient, "finalize_logged_model", die)
        with pytest.raises(Killed):
            publish_now(publication("shared", "killed"))
    left = server.ask("SELECT status FROM runs WHERE status = 'RUNNING'")
    assert len(left) == 2  # else this test proves less

    environment = {**server.environment(), "MLFLOW_TRACKING_URI": server.address}
    with (
        another_process(publication("shared", "one"), tmp_path, environment) as begin,
        ThreadPoolExecutor(1) as beside,
    ):
        said = beside.submit(begin)
        here = publish_now(publication("shared", "two"))
        assert here.done, here.reason
        assert "done=True" in said.result()
    assert_one_whole_mirror(server, "shared")
    assert not publish_now(publication("shared", "three")).fresh
    assert_one_whole_mirror(server, "shared")


# --- a part of it is away -----------------------------------------------------------------


def test_a_database_lost_in_the_middle_leaves_nothing_open_after_the_next_publication(
    server: Any, worker: pytest.MonkeyPatch, publication: Any
) -> None:
    arguments = publication("lost-database", "store")
    finish = MlflowClient.finalize_logged_model

    def lose(*given: Any) -> Any:
        server.cluster.stop()
        return finish(*given)

    with worker.context() as losing:
        losing.setattr(MlflowClient, "finalize_logged_model", lose)
        try:
            published = publish_now(arguments)
        finally:
            server.cluster.start()
    assert not published.done
    assert published.reason.startswith("it answers with error 50")
    assert publish_now(arguments).fresh
    assert_one_whole_mirror(server, "lost-database")


def test_a_bucket_that_is_away_loses_nothing_and_leaves_nothing(
    server: Any, worker: pytest.MonkeyPatch, publication: Any
) -> None:
    arguments = publication("lost-bucket", "store")
    server.files.stop()
    try:
        published = publish_now(arguments)
    finally:
        server.files.start()
    assert not published.done
    assert published.reason == "it answers with error 500"
    assert server.runs("lost-bucket") == []
    assert publish_now(arguments).fresh
    assert_one_whole_mirror(server, "lost-bucket")


# --- the rest of the page -----------------------------------------------------------------


def test_only_the_names_that_are_let_in_are_answered(server: Any) -> None:
    place = f"{server.address}/api/2.0/mlflow/experiments/search?max_results=1"
    allowed = {"Host": f"tracking.example.org:{server.port}"}
    with urllib.request.urlopen(urllib.request.Request(place, headers=allowed)) as answer:
        assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(place, headers={"Host": "other.example.org"}))


def test_a_database_without_a_server_is_refused(
    server: Any, worker: pytest.MonkeyPatch, publication: Any, tmp_path: Path
) -> None:
    uri = f"postgresql+psycopg2://tracking:SECRET@127.0.0.1:{server.cluster.port}/tracking"
    worker.setenv("MLFLOW_TRACKING_URI", uri)
    worker.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    published = publish_now(publication("no-server", "store"))
    assert not published.done
    assert "it is a database, which keeps no files" in published.reason
    assert "SECRET" not in str(published)
    assert [p for p in sorted(tmp_path.iterdir()) if p not in before] == [tmp_path / "store"]


def test_files_of_removed_runs_go_when_the_server_is_told(
    server: Any, client: MlflowClient
) -> None:
    experiment = client.create_experiment("of somebody else")
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "a note", "note.txt")
    client.set_terminated(run)
    assert server.objects(f"mlflow/{experiment}/{run}/") == {"artifacts/note.txt": b"a note"}
    client.delete_run(run)
    server.collect_garbage(**{"30d": "0s"})
    assert server.objects(f"mlflow/{experiment}/{run}/") == {}
    assert server.ask("SELECT run_uuid FROM runs WHERE run_uuid = %s", run) == []


def test_files_may_go_past_the_server_and_wrong_keys_lose_nothing(
    server: Any,
) -> None:
    direct = replace(server, port=free_port())
    suite = str(direct.suite("direct"))
    command, log = direct.on_server("direct server"), direct.folder / "direct.log"
    with serving(command, direct.address, log, direct.environment(), direct.folder):
        ended = direct.on_worker("worker", SUITE=suite)  # without keys
        assert ended.code == 0, ended.err
        assert "was not updated: Unable to locate credentials" in ended.out
        assert direct.runs("direct") == []
        ended = direct.on_worker("direct worker", SUITE=suite)
        assert ended.code == 0, ended.err
        assert "not updated" not in ended.out
    assert [status for _, status in direct.runs("direct")] == ["FINISHED"] * 3
    kept = files_of(run_folder(direct, "direct") / "results")
    in_bucket = direct.objects("direct/")
    for name, body in kept.items():
        assert body in [b for path, b in in_bucket.items() if path.endswith(f"/results/{name}")]


def test_every_part_of_the_page_is_used_here(team: Any) -> None:
    assert set(team.parts) == {
        *("database", "settings", "bucket", "server", "worker", "reader", "sync", "gc"),
        *("direct server", "direct worker"),
    }
