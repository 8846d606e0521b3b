"""One pretraining as one MLflow run: recipe as parameters, curves as metrics over samples.

The same run is found again by its key, so a resumed training goes on in it. `tracking` decides
whether a server can be asked; this module must not know of servers that are away.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from harness.mlflow_view import names
from harness.mlflow_view.experiments import experiment_named
from harness.mlflow_view.standing import KEY_TAG, KIND_TAG, runs_tagged
from harness.pretraining.curves import Point, Training

# Not "tokenrank/...": what stands there is a suite, and is looked for as one.
EXPERIMENT = "tokenrank: pretraining"
PRETRAINING = "pretraining"
STOPPED_TAG = "tokenrank.stopped"
"""Why a training ended before its end."""
_BATCH = 1000


def log_points(
    uri: str,
    local_artifacts: str | None,
    training: Training,
    points: Sequence[Point],
    *,
    ask: bool = False,
) -> None:
    """Add points to the training's run, which is made if there is none.

    With ``ask``, as a training that begins or goes on does: what stands there already is left
    out (whoever sent it may have been killed before it could note that), and the run counts as
    running again, however it ended.
    """
    client = MlflowClient(tracking_uri=uri)
    run_id = _run(client, local_artifacts, training)
    if ask:
        _reopen(client, run_id)
        points = _missing(client, run_id, points)
    now = int(time.time() * 1000)
    metrics = [Metric(p.name, p.value, now, p.samples) for p in points]
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])


def end(
    uri: str, local_artifacts: str | None, training: Training, status: str, tags: Mapping[str, str]
) -> None:
    """Close the training's run with a status of MLflow (FINISHED, FAILED) and further tags."""
    client = MlflowClient(tracking_uri=uri)
    run_id = _run(client, local_artifacts, training)
    for name, value in tags.items():
        client.set_tag(run_id, name, names.clipped(value, names.TAG_LENGTH))
    client.set_terminated(run_id, status)


def _reopen(client: MlflowClient, run_id: str) -> None:
    run = client.get_run(run_id)
    if run.info.status != "RUNNING":
        client.update_run(run_id, status="RUNNING")
    if STOPPED_TAG in run.data.tags:
        client.delete_tag(run_id, STOPPED_TAG)


def _missing(client: MlflowClient, run_id: str, points: Sequence[Point]) -> list[Point]:
    there = {
        (name, metric.step)
        for name in {point.name for point in points}
        for metric in client.get_metric_history(run_id, name)
    }
    return [point for point in points if (point.name, point.samples) not in there]


def _run(client: MlflowClient, local_artifacts: str | None, training: Training) -> str:
    experiment = experiment_named(client, EXPERIMENT, local_artifacts, {})
    for run in runs_tagged(client, experiment, KEY_TAG, training.key):
        return str(run.info.run_id)
    tags = {KEY_TAG: training.key, KIND_TAG: PRETRAINING, **training.tags}
    run = client.create_run(experiment, tags=tags, run_name=names.one_line(training.title))
    params = [
        Param(name, names.clipped(value, names.PARAM_LENGTH))
        for name, value in training.params.items()
    ]
    client.log_batch(run.info.run_id, params=params)
    return str(run.info.run_id)
