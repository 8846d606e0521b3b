"""A suite run's saved results, fetched from a tracking server: the report on another machine.

The counterpart of `write`: it finds the experiment and the newest whole suite run, and
downloads what `save_results` wrote. It must know nothing of reports.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities import Run

from harness.mlflow_view.comparison import TAG, view_link
from harness.mlflow_view.experiments import experiment_name
from harness.mlflow_view.facts import SUITE_RUN
from harness.mlflow_view.failures import failures, reason, shown_uri
from harness.mlflow_view.standing import DIGEST_TAG, KIND_TAG
from models.errors import UserError, did_you_mean
from reports.io import ResultsError, load_results
from reports.table import SuiteResults

PREFIX = "tokenrank/"


def fetch_results(uri: str, suite: str | None) -> SuiteResults:
    """Results of the newest finished suite run (of one suite, or of all) at ``uri``.

    Raises `UserError` in one sentence when there is none, or the server does not give it.
    """
    client = MlflowClient(tracking_uri=uri)
    found = _newest(client, uri, suite)
    where = f"suite run {found.info.run_id} at {shown_uri(uri)}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            place = mlflow.artifacts.download_artifacts(
                run_id=found.info.run_id,
                artifact_path="results",
                dst_path=folder,
                tracking_uri=uri,
            )
            return load_results(Path(place))
        except ResultsError as error:
            raise UserError(f"The results of {where} cannot be used: {error}") from None
        except failures() as error:
            raise UserError(
                f"The results of {where} cannot be downloaded: {reason(error)}."
            ) from None


def comparison_links(uri: str) -> dict[str, str]:
    """For each suite, the address of its newest comparison after the server's own."""
    links = {}
    client = MlflowClient(tracking_uri=uri)
    for experiment in client.search_experiments(filter_string=f"name LIKE '{PREFIX}%'"):
        views = {k: v for k, v in experiment.tags.items() if k.startswith(TAG)}
        newest = max(views, key=lambda tag: _updated(views[tag]), default=None)
        if newest:
            key = newest.removeprefix(TAG)
            links[experiment.name.removeprefix(PREFIX)] = view_link(experiment.experiment_id, key)
    return links


def _updated(view: str) -> int:
    """When a saved view was written; views of other makers are older than any of ours."""
    try:
        return int(json.loads(view)["updatedAt"])
    except (ValueError, KeyError, TypeError):
        return 0


def _newest(client: MlflowClient, uri: str, suite: str | None) -> Run:
    experiments = {
        e.name: e.experiment_id
        for e in client.search_experiments(filter_string=f"name LIKE '{PREFIX}%'")
    }
    if suite is not None:
        name = experiment_name(suite)
        if name not in experiments:
            known = [e.removeprefix(PREFIX) for e in experiments]
            hint = did_you_mean(suite, known) if known else "it holds no experiment of tokenrank"
            raise UserError(f'MLflow at {shown_uri(uri)} holds no experiment "{name}": {hint}.')
        experiments = {name: experiments[name]}
    runs = _suite_runs(client, list(experiments.values()))
    if runs:
        return runs[0]
    where = f' of "{suite}"' if suite else ""
    raise UserError(
        f"MLflow at {shown_uri(uri)} holds no finished suite run{where}; run a suite with that "
        "server as MLFLOW_TRACKING_URI, or run tokenrank sync."
    )


def _suite_runs(client: MlflowClient, experiments: list[str]) -> list[Run]:
    """Whole suite runs, newest first."""
    if not experiments:
        return []
    found = client.search_runs(
        experiments,
        f"tags.`{KIND_TAG}` = '{SUITE_RUN}' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=50,
    )
    return [run for run in found if DIGEST_TAG in run.data.tags]
