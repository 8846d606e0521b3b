"""The machines of docs/team-server.md, all on loopback, set up by the commands of that page."""

from __future__ import annotations

import io
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from harness import cli
from tests.services import S3, Postgres, free_port, postgres, s3, serving

PAGE = Path(__file__).parents[3] / "docs" / "team-server.md"
PART = re.compile(r"^<!-- part: ([\w ]+) -->\n```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SUITE = """\
name: NAME
title: A small suite
registry: [pico.yaml]
protocol: {patch_size: 8, bootstrap: 100}
tier: random
seeds: [0]
variants: [olmoearth-one-pico, olmoearth-three-pico]
tasks: [{name: sim-knn, dataset: simulated, data: {size: 100}, probe: {kind: knn, k: 5}}]
baselines: []
"""
REGISTRY = """\
family: olmoearth
sizes: {pico: {dim: 32, depth: 1, heads: 4}}
versions:
  one: {scheme: single, sizes: [pico]}
  three: {scheme: per-resolution, sizes: [pico]}
"""
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "AWS_MAX_ATTEMPTS": "1"}
"""Tests that stop a server do not wait for it to come back."""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Team:
    """Addresses of the page's machines, and a folder with a worker's suites and its store."""

    cluster: Postgres
    files: S3
    port: int
    folder: Path
    parts: Mapping[str, str]

    @property
    def address(self) -> str:
        """The tracking server's, for workers and readers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        """The worker's."""
        return self.folder / "store"

    def suite(self, name: str) -> Path:
        """A small suite file."""
        path = self.folder / f"{name}.yaml"
        path.write_text(SUITE.replace("NAME", name))
        return path

    def command(self, part: str, **others: str) -> str:
        """A block of the page, with the names that it uses here."""
        names = {
            "db.example.org": f"127.0.0.1:{self.cluster.port}",
            "https://s3.example.org": self.files.url,
            "0.0.0.0": "127.0.0.1",
            "5000": str(self.port),
            **others,
        }
        if "worker" in part or part == "reader":  # elsewhere it is the name that is let in
            names["tracking.example.org:5000"] = f"127.0.0.1:{self.port}"
        longest_first = sorted(names, key=len, reverse=True)
        found = re.compile("|".join(map(re.escape, longest_first)))
        return found.sub(lambda match: names[match[0]], self.parts[part])

    def on_server(self, part: str, **others: str) -> list[str]:
        """A shell that does what a block says, after the server's settings."""
        return ["bash", "-euc", self.command("settings") + self.command(part, **others)]

    def environment(self) -> dict[str, str]:
        """What every shell here starts with: programs, and no settings of anybody's."""
        foreign = ("AWS_", "MLFLOW_", "TOKENRANK_", "PYTEST_", "PG")
        path = [str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(foreign)},
            **{"PATH": os.pathsep.join(path), "MLFLOW_WORKERS": "1", **PATIENCE},
            **{"PGHOST": self.cluster.folder, "PGPORT": str(self.cluster.port)},
            **{"PGUSER": self.cluster.superuser, "PGDATABASE": "postgres"},
        }

    def on_worker(self, part: str, **others: str) -> Ended:
        """What a worker's block says, typed in a shell of its own."""
        with self.worker_shell() as patch:
            text = self.command(part, **others)
            if part == "sync":  # which the page has typed in the same shell, later
                text = self.command("worker").partition("tokenrank")[0] + text
            for line in text.splitlines():
                words = shlex.split(line)
                if words[0] == "tokenrank":
                    return tokenrank(patch, *words[1:])
                assert words[0] == "export"
                set_all(patch, words[1:])
        raise AssertionError(f"{part} ends with no command")

    @contextmanager
    def worker_shell(self) -> Iterator[pytest.MonkeyPatch]:
        """A worker knows its store, and no secret."""
        with a_shell() as patch:
            patch.setenv("TOKENRANK_STORE", str(self.store))
            patch.chdir(self.folder)
            yield patch

    def collect_garbage(self, **others: str) -> None:
        """The page's `mlflow gc`, in this process: another would be seconds in starting."""
        from click.testing import CliRunner  # noqa: PLC0415
        from mlflow.cli import cli as mlflow_cli  # noqa: PLC0415

        with a_shell() as patch:
            *settings, command = (
                self.command("settings") + self.command("gc", **others)
            ).splitlines()
            for line in settings:
                set_all(patch, shlex.split(line)[1:])
            words = shlex.split(os.path.expandvars(command))
            at = words.index("mlflow")
            set_all(patch, words[:at])
            done = CliRunner().invoke(mlflow_cli, words[at + 1 :])
            assert done.exit_code == 0, done.output

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the tracking database, past MLflow."""
        import psycopg2  # noqa: PLC0415

        place = {"host": self.cluster.folder, "port": self.cluster.port, "dbname": "tracking"}
        connection = psycopg2.connect(user=self.cluster.superuser, **place)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, values)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def runs(self, suite: str) -> list[tuple[str, str]]:
        """Names and states of the runs that stand of a suite; none at all may be open."""
        assert self.ask("SELECT run_uuid FROM runs WHERE status = 'RUNNING'") == []
        return self.ask(
            "SELECT r.name, r.status FROM runs r JOIN experiments e USING (experiment_id) "
            "WHERE e.name = %s AND r.lifecycle_stage = 'active' ORDER BY 1",
            f"tokenrank/{suite}",
        )

    def objects(self, prefix: str) -> dict[str, bytes]:
        """What the bucket holds under a prefix, past MLflow."""
        import boto3  # noqa: PLC0415

        client = boto3.client(
            "s3", endpoint_url=self.files.url, aws_access_key_id="KEY",
            aws_secret_access_key="SECRET", region_name="us-east-1",
        )  # fmt: skip
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket="team-bucket", Prefix=prefix
        )
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        found = {k: client.get_object(Bucket="team-bucket", Key=k)["Body"].read() for k in keys}
        return {key.removeprefix(prefix): body for key, body in found.items()}


def set_all(patch: pytest.MonkeyPatch, settings: Sequence[str]) -> None:
    """Set what is written as ``NAME=VALUE``."""
    for name, _, value in (word.partition("=") for word in settings):
        patch.setenv(name, value)


@contextmanager
def a_shell() -> Iterator[pytest.MonkeyPatch]:
    """No settings and keys of anybody's, nor any that this process has used before."""
    import boto3  # noqa: PLC0415
    from mlflow.store.artifact import s3_artifact_repo  # noqa: PLC0415

    s3_artifact_repo._cached_get_s3_client.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        for name in [n for n in os.environ if n.startswith(("AWS_", "MLFLOW_", "PG"))]:
            patch.delenv(name)
        for name, value in PATIENCE.items():
            patch.setenv(name, value)
        yield patch


def tokenrank(patch: pytest.MonkeyPatch, *arguments: str) -> Ended:
    """Call the command line in this process."""
    patch.setattr(sys, "argv", ["tokenrank", *arguments])
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        cli.main()
    return Ended(int(end.value.code or 0), " ".join(out.getvalue().split()), err.getvalue())


@pytest.fixture(scope="session")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Database and bucket, made by the page's commands; the tracking server does not run yet."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # the S3 store's, for each request
    folder = tmp_path_factory.mktemp("team")
    (folder / "pico.yaml").write_text(REGISTRY)
    sudo = folder / "bin" / "sudo"
    sudo.parent.mkdir()
    sudo.write_text('#!/bin/sh\nshift 2\nexec "$@"\n')  # the cluster's superuser is named by PGUSER
    sudo.chmod(0o755)
    parts = dict(PART.findall(PAGE.read_text(encoding="utf-8")))
    with postgres() as cluster, s3() as files:
        made = Team(cluster, files, free_port(), folder, parts)
        for command in (["bash", "-euc", made.command("database")], made.on_server("bucket")):
            subprocess.run(command, check=True, env=made.environment(), cwd=folder)
        yield made


@pytest.fixture(scope="session")
def down(team: Team) -> Ended:
    """A worker's run while no server answers."""
    return team.on_worker("worker", SUITE=str(team.suite("down")))


@pytest.fixture(scope="session")
def server(team: Team, down: Ended) -> Iterator[Team]:
    """The page's server, started after a worker has run without it."""
    log = team.folder / "server.log"
    with serving(team.on_server("server"), team.address, log, team.environment(), team.folder):
        yield team


@pytest.fixture(scope="session")
def client(server: Team) -> MlflowClient:
    """MLflow's own client of the server."""
    return MlflowClient(server.address)
