"""A suite's experiment in MLflow: found or made, whoever else makes it, and described.

Several machines write to one server at once; what MLflow refuses because another was first is
asked again here. It must know nothing of runs and what they hold.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from harness.mlflow_view import comparison, describe, names
from harness.mlflow_view.facts import SuiteRun

Answer = TypeVar("Answer")
DATABASES = ("postgresql", "mysql", "mssql")
TAKEN = re.compile(r"unique|duplicate", re.IGNORECASE)
"""How databases say that another transaction has just written the same row."""


def experiment_name(suite: str) -> str:
    """The experiment of a suite."""
    return f"tokenrank/{names.one_line(suite, names.EXPERIMENT_LENGTH - len('tokenrank/'))}"


def experiment_named(
    client: MlflowClient, name: str, artifacts: str | None, tags: Mapping[str, str]
) -> str:
    """The id of the experiment, which is made or brought back if need be.

    ``artifacts`` is where a new one keeps files; None leaves that to the server.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        _check_keeps_files(client, artifacts)
        try:
            return str(client.create_experiment(name, artifacts, dict(tags)))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # made by another process just now?
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _check_keeps_files(client: MlflowClient, artifacts: str | None) -> None:
    """A database alone keeps no files: MLflow would put them into the current folder."""
    if artifacts is None and client.tracking_uri.partition(":")[0].split("+")[0] in DATABASES:
        raise MlflowException(
            "it is a database, which keeps no files (start an mlflow server over it and give "
            "that server's address)"
        )


def describe_experiment(client: MlflowClient, experiment: str, run: SuiteRun) -> None:
    """Description and saved view, unless they stand already (each is a write)."""
    note = describe.experiment_note(run, link(experiment, run))
    standing = client.get_experiment(experiment).tags
    key, view = comparison.view_tag(run, int(time.time() * 1000))
    wanted = {"mlflow.note.content": note}
    if _state_of(standing.get(key)) != _state_of(view):
        wanted[key] = view
    for name, value in wanted.items():
        if standing.get(name) != value:
            once_more_if_taken(partial(client.set_experiment_tag, experiment, name, value))


def once_more_if_taken(write: Callable[[], Answer]) -> Answer:
    """What ``write`` returns; asked again if another process wrote the same row meanwhile.

    MLflow looks whether a row (a data set, a tag) is there and then adds it; of two that add
    it at once, PostgreSQL refuses one, which the second time finds it there.
    """
    try:
        return write()
    except MlflowException as error:
        if not TAKEN.search(str(error)):
            raise
        return write()


def link(experiment: str, run: SuiteRun) -> str:
    """The address of the run's comparison, after the server's own."""
    return comparison.view_link(experiment, comparison.view_key(run))


def _state_of(view: str | None) -> object:
    """A saved view without its times."""
    try:
        found = json.loads(view or "{}")
    except ValueError:
        return None
    return (found.get("name"), found.get("state")) if isinstance(found, dict) else None
