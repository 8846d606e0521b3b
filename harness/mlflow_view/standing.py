"""What stands on the server of a suite run, and which of it stays: one whole mirror, no more.

A killed process leaves half a mirror, and two that write at once leave two. Every process
chooses the same one to keep. It must know nothing of what a mirror holds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from harness.mlflow_view.facts import SUITE_RUN, SuiteRun

KIND_TAG, KEY_TAG = "tokenrank.kind", "tokenrank.run_key"
DIGEST_TAG, MARK_TAG = "tokenrank.digest", "tokenrank.mark"


def keep_one(client: MlflowClient, experiment: str, run: SuiteRun) -> str | None:
    """Keep the oldest whole mirror of these results and remove all others; None if there is none.

    Every process that writes the same suite run chooses the same one, so that two that write
    at once leave one behind.
    """
    key = run.manifest.run_key
    runs = list(runs_tagged(client, experiment, KEY_TAG, key))
    whole = [r for r in runs if _is_whole(r, run)]
    whole.sort(key=lambda r: (r.info.start_time, r.info.run_id))
    kept = whole[0].data.tags.get(MARK_TAG) if whole else None
    for found in runs:
        if kept is None or found.data.tags.get(MARK_TAG) != kept:
            delete_run(client, found)
    for model in models_tagged(client, experiment, KEY_TAG, key):
        if kept is None or model.tags.get(MARK_TAG) != kept:
            delete_model(client, model)
    return kept


def delete_run(client: MlflowClient, found: Run) -> None:
    """Delete a run, unless another process just did."""
    with _gone_already():
        if found.info.status == "RUNNING":  # by a process that was killed
            client.set_terminated(found.info.run_id, "KILLED")
        client.delete_run(found.info.run_id)


def delete_model(client: MlflowClient, model: Any) -> None:
    """Delete a logged model, unless another process just did."""
    with _gone_already():
        client.delete_logged_model(model.model_id)


@contextlib.contextmanager
def _gone_already() -> Iterator[None]:
    """Two processes may remove the same thing at once."""
    try:
        yield
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise


def _is_whole(found: Run, run: SuiteRun) -> bool:
    tags = found.data.tags
    return bool(
        tags.get(KIND_TAG) == SUITE_RUN
        and tags.get(DIGEST_TAG) == run.digest
        and found.info.status == "FINISHED"
    )


def runs_tagged(client: MlflowClient, experiment: str, tag: str, value: str) -> Iterator[Run]:
    """Active runs with this tag, page by page; the value is of our own making, without quotes."""
    token = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`{tag}` = '{value}'", max_results=1000, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def models_tagged(client: MlflowClient, experiment: str, tag: str, value: str) -> Iterator[Any]:
    """Active logged models with this tag."""
    token = None
    while True:
        page = client.search_logged_models(
            [experiment], f"tags.`{tag}` = '{value}'", page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return
