"""A mirror that is killed, or written by two at once: in the end there is one, whole."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from harness.mlflow_view import standing
from harness.mlflow_view.facts import SuiteRun
from harness.provenance import Manifest
from harness.store import Store
from harness.tracking import publish
from reports.table import SuiteResults

ROOT = Path(__file__).parents[2]
# Publishes what a file holds; given a second argument, stalls in the middle and says so.
WRITER = """\
import pickle, sys, time
from pathlib import Path
from mlflow import MlflowClient
from harness.provenance import Manifest
from harness.store import Store
from harness.tracking import publish

results, manifest, store, report = pickle.loads(Path(sys.argv[1]).read_bytes())
if sys.argv[2] == "stall":
    finish = MlflowClient.finalize_logged_model
    def stall(*arguments):
        finish(*arguments)
        print("stalled", flush=True)
        time.sleep(600)
    MlflowClient.finalize_logged_model = stall
print(publish(results, manifest, Store(store), report, ask=True))
"""


@pytest.fixture
def to_publish(
    synthetic: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str
) -> Callable[[str], tuple[SuiteResults, Manifest, Path, Path]]:
    """Arguments for `publish`: the same results from a store of the given name."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    results = synthetic.make_results({f"olmoearth-v1-nano:s{i}": 0.5 + i / 10 for i in range(4)})
    manifest = Manifest("ab" * 32, "eurosat", "tokenrank run eurosat", "0" * 40, {}, {})
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.html").write_text("<p>The report.</p>")
    return lambda name: (results, manifest, tmp_path / name, report)


def writer(tmp_path: Path, arguments: Any, how: str) -> subprocess.Popen[str]:
    packed = tmp_path / f"{arguments[2].name}.pickle"
    packed.write_bytes(pickle.dumps(arguments))
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(packed), how],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def publish_now(arguments: Any) -> Any:
    results, manifest, store, report = arguments
    return publish(results, manifest, Store(store), report, ask=True)


def what_stands(tmp_path: Path) -> tuple[list[str], list[str], list[str]]:
    """Names of active runs, their states, states of active logged models."""
    client = MlflowClient(f"sqlite:///{tmp_path}/tracking.db")
    experiment = client.get_experiment_by_name("tokenrank/eurosat")
    assert experiment is not None
    every = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    assert all(run.info.status != "RUNNING" for run in every)  # deleted ones included
    active = [run for run in every if run.info.lifecycle_stage == "active"]
    models = client.search_logged_models([experiment.experiment_id])
    return (
        sorted(str(run.info.run_name) for run in active),
        [run.info.status for run in active],
        [str(model.status) for model in models],
    )


def assert_one_whole_mirror(tmp_path: Path) -> None:
    names, states, models = what_stands(tmp_path)
    assert [n for n in names if n.startswith("olmo")] == [
        f"olmoearth-v1-nano:s{i}" for i in range(4)
    ]
    assert states == ["FINISHED"] * 5
    assert models == ["READY"] * 4


def test_after_a_kill_the_next_publish_leaves_one_whole_mirror(
    to_publish: Any, tmp_path: Path
) -> None:
    arguments = to_publish("store")
    process = writer(tmp_path, arguments, "stall")
    assert process.stdout is not None
    assert process.stdout.readline() == "stalled\n"
    process.kill()
    process.wait()
    client = MlflowClient(f"sqlite:///{tmp_path}/tracking.db")
    (left,) = [e for e in client.search_experiments() if e.name == "tokenrank/eurosat"]
    states = [run.info.status for run in client.search_runs([left.experiment_id])]
    assert states == ["RUNNING", "RUNNING"]  # else this test proves nothing

    assert publish_now(arguments).fresh
    assert_one_whole_mirror(tmp_path)


@pytest.mark.parametrize("stores", [("one", "one"), ("one", "two")], ids=["one store", "two"])
def test_two_processes_at_once_leave_one_mirror(
    stores: tuple[str, str], to_publish: Any, tmp_path: Path
) -> None:
    processes = [writer(tmp_path, to_publish(name), "go") for name in stores]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum("done=True" in words for words in said) >= 1
    for name in stores:  # one that lost the race catches up with the next sync
        assert publish_now(to_publish(name)).done
    assert_one_whole_mirror(tmp_path)


def test_two_that_remove_each_other_at_the_same_moment_do_not_end_with_none(
    to_publish: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One looks while the other is still half; before it removes that, the other is whole."""

    class Gone(BaseException):
        """The first has looked, when it was whole, and does not come back."""

    finish, delete = MlflowClient.set_terminated, standing.delete_run
    state: dict[str, Any] = {"nested": False, "removing": False}
    first_store, second_store = to_publish("one"), to_publish("two")

    def begin_another(client: MlflowClient, run_id: str, *rest: Any) -> None:
        """The first has written all but the end of its suite run; the second comes and goes."""
        is_suite_run = client.get_run(run_id).data.tags["tokenrank.kind"] == "suite run"
        if is_suite_run and not state["nested"]:
            state["nested"] = True
            state["first"] = (client, run_id)
            assert publish_now(second_store).done
            raise Gone
        finish(client, run_id, *rest)

    def become_whole_first(client: MlflowClient, found: Any) -> None:
        """The second is about to remove the first's, which ends just now and is the older."""
        if not state["removing"]:
            state["removing"] = True
            first_client, run_id = state["first"]
            finish(first_client, run_id)
            results, manifest, *_ = first_store
            run = SuiteRun(results, manifest, (), found.data.tags["tokenrank.digest"])
            assert standing.keep_one(first_client, found.info.experiment_id, run)
        delete(client, found)

    monkeypatch.setattr(MlflowClient, "set_terminated", begin_another)
    monkeypatch.setattr(standing, "delete_run", become_whole_first)
    with pytest.raises(Gone):
        publish_now(first_store)
    assert state["removing"]  # else this test proves nothing
    monkeypatch.undo()
    assert_one_whole_mirror(tmp_path)
