"""Tuning studies in a real PostgreSQL: a journal's trials, whoever writes and whatever restarts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import create_engine

from harness.probes import study_database, tuning
from harness.probes.base import ProbeResult
from harness.probes.study_database import _storage, storage_at
from harness.probes.tuning import LinearSettings, tune_linear
from models.errors import AwayError, UserError
from tests.harness.test_tuning import SHORT, as_bytes, beside, make_inputs
from tests.services import Postgres, postgres

SETTINGS = LinearSettings(trials=16, round_size=8, training=SHORT)
ON_NETWORK = "/postgres?host=127.0.0.1"  # where roles need passwords


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as cluster:
        yield cluster


@pytest.fixture
def cluster(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """A server that holds no studies, in whose database studies are kept."""
    with create_engine(server.uri).begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    _storage.cache_clear()
    monkeypatch.setenv("TOKENRANK_TUNING", server.uri)
    return server


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """What is found without a database."""
    return as_bytes(tune(tmp_path_factory.mktemp("journal") / "cell.journal"))


def tune(path: Path, signal: float = 2.0) -> ProbeResult:
    return tune_linear(make_inputs(signal), SETTINGS, 0, path)


def trials(cluster: Postgres) -> int:
    [study] = optuna.get_all_study_summaries(cluster.uri)
    return study.n_trials


def never(_: float) -> None:
    raise AssertionError("it is not waited for")


def test_a_shared_study_has_the_trials_of_a_journal_and_is_resumed(
    cluster: Postgres, journal: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "elsewhere" / "cell.journal"
    assert as_bytes(tune(there)) == journal
    assert not there.parent.exists()
    # Other embeddings: another cell, whose study must not be taken for this one.
    assert as_bytes(tune(there.with_name("other.journal"), signal=0.0)) != journal
    trained: list[int] = []
    whole = tuning.train_heads
    monkeypatch.setattr(
        tuning, "train_heads", lambda *args: trained.append(len(args[1])) or whole(*args)
    )
    assert as_bytes(tune(there)) == journal
    assert trained == [1]  # the best one, refitted: no trial again


def test_two_processes_that_tune_one_cell_find_what_one_finds(
    cluster: Postgres, journal: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with beside(monkeypatch, lambda killed: tune_linear(
        make_inputs(2.0), SETTINGS, 0, tmp_path / "cell.journal", killed
    )):  # fmt: skip
        assert as_bytes(tune(tmp_path / "cell.journal")) == journal
    assert trials(cluster) == 2 * SETTINGS.trials
    assert as_bytes(tune(tmp_path / "cell.journal")) == journal


@pytest.mark.parametrize("when", ["before it starts", "while it trains"])
def test_a_server_that_restarts_is_waited_for(
    cluster: Postgres,
    journal: object,
    when: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It comes back while the database is waited for: nothing is lost, nothing is different."""
    pauses, rounds = list[float](), list[int]()
    whole = tuning.train_heads

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            cluster.start()

    def train_heads(*args: Any) -> Any:
        rounds.append(len(args[1]))
        if rounds == [8, 8] and when == "while it trains":
            cluster.stop()
        return whole(*args)

    monkeypatch.setattr(study_database, "sleep", sleep)
    monkeypatch.setattr(tuning, "train_heads", train_heads)
    if when == "before it starts":
        cluster.stop()
    assert as_bytes(tune(tmp_path / "cell.journal")) == journal
    assert pauses == [1.0, 2.0]
    assert rounds == [8, 8, 1]
    assert trials(cluster) == SETTINGS.trials


def test_a_server_that_stays_away_is_no_final_fault(
    cluster: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker tries an `OSError` again; a mistake it would give up at once."""
    slept: list[float] = []
    monkeypatch.setattr(study_database, "sleep", slept.append)
    cluster.stop()
    try:
        with pytest.raises(AwayError, match=r"\(TOKENRANK_TUNING\) does not answer: connection to"):
            tune(tmp_path / "cell.journal")
    finally:
        cluster.start()
    assert sum(slept) == 60


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("/postgres?", "/nowhere?"), 'database "nowhere" does not exist'),
        (("tokenrank@", "nobody@"), 'role "nobody" does not exist'),
        (("tokenrank@/postgres?host={folder}", f"tokenrank:no@{ON_NETWORK}"), "password auth"),
        (("tokenrank@/postgres?host={folder}", f"tokenrank@{ON_NETWORK}"), "no password supplied"),
        (("psycopg2", "nosuchdriver"), "nosuchdriver"),
    ],
)
def test_a_mistake_is_told_at_once(
    cluster: Postgres,
    wrong: tuple[str, str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = (each.format(folder=cluster.folder) for each in wrong)
    assert old in cluster.uri
    monkeypatch.setenv("TOKENRANK_TUNING", cluster.uri.replace(old, new))
    monkeypatch.setattr(study_database, "sleep", never)
    with pytest.raises(UserError, match=rf"TOKENRANK_TUNING.*cannot be used \(.*{said}"):
        tune(tmp_path / "cell.journal")


OPENING = """
import sys
from harness.probes.study_database import storage_at
print("ready", flush=True)
sys.stdin.readline()
storage_at(sys.argv[1])
"""


def test_many_workers_make_the_tables_at_once(cluster: Postgres) -> None:
    command = [sys.executable, "-c", OPENING, cluster.uri]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    workers = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        _, error = worker.communicate()
        assert worker.returncode == 0, error
    assert storage_at(cluster.uri).get_all_studies() == []
