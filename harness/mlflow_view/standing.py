"""What stands on the server of a suite run, and which of it stays: one whole mirror, no more.

A killed process leaves half a mirror, and two that write at once leave two. There is no lock:
only who has a whole mirror removes others, every process chooses the same one to keep, and
each looks once more whether it still stands. It must know nothing of what a mirror holds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from harness.mlflow_view.facts import SUITE_RUN, SuiteRun

KIND_TAG, KEY_TAG = "tokenrank.kind", "tokenrank.run_key"
DIGEST_TAG, MARK_TAG = "tokenrank.digest", "tokenrank.mark"


def keep_one(client: MlflowClient, experiment: str, run: SuiteRun) -> str | None:
    """Keep the oldest whole mirror of these results; its mark, None if there is none (any more).

    All others are removed: older results of the same suite run, second mirrors, and halves. The
    writer of a half may be dead or at work; at work, it meets the removal and finds the whole
    one here. Without a whole one nothing is removed: two writers would only hinder each other.

    Between the look and a removal a half may become whole, and its writer remove the one that
    is kept here. Then both are gone, and who looks last, after removals of its own, sees that.
    """
    key = run.manifest.run_key
    runs = list(runs_tagged(client, experiment, KEY_TAG, key))
    whole = [r for r in runs if _is_whole(r, run)]
    if not whole:
        return None
    oldest = min(whole, key=lambda r: (r.info.start_time, r.info.run_id))
    kept = oldest.data.tags.get(MARK_TAG)
    others = [r for r in runs if r.data.tags.get(MARK_TAG) != kept]
    # Suite runs first: a mirror that has lost a part must not pass for a whole one.
    for found in sorted(others, key=lambda r: r.data.tags.get(KIND_TAG) != SUITE_RUN):
        delete_run(client, found)
    for model in models_tagged(client, experiment, KEY_TAG, key):
        if model.tags.get(MARK_TAG) != kept:
            delete_model(client, model)
    if others and client.get_run(oldest.info.run_id).info.lifecycle_stage != "active":
        return None
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


def runs_tagged(
    client: MlflowClient, experiment: str, tag: str, value: str, *, deleted: bool = False
) -> Iterator[Run]:
    """Active (or deleted) runs with this tag; the value is of our own making, without quotes."""
    kind = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    token = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`{tag}` = '{value}'", kind, max_results=1000, page_token=token
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
