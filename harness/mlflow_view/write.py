"""One suite run written through an MLflow client: a parent run, and one run per variant.

Each variant's run is complete in itself (parameters, metrics, data sets, logged model,
artifacts), so that a flat search finds it. All that one writing creates carries one mark, by
which `standing` removes what was cut short or lost a race. `tracking` decides when and
whether; this module must not know of servers that are away.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
)
from mlflow.exceptions import MlflowException

from harness.mlflow_view import describe, names
from harness.mlflow_view.artifacts import Tables, write_variant_files
from harness.mlflow_view.experiments import (
    describe_experiment,
    experiment_name,
    experiment_named,
    link,
    once_more_if_taken,
)
from harness.mlflow_view.facts import (
    SUITE_RUN,
    VARIANT,
    Measured,
    Row,
    SuiteRun,
    design_colour,
    one_per_dataset,
    provenance_tags,
    shared_tags,
    study_tags,
    suite_params,
    suite_run_title,
    variant_metrics,
    variant_params,
)
from harness.mlflow_view.standing import (
    DIGEST_TAG,
    KIND_TAG,
    MARK_TAG,
    delete_model,
    delete_run,
    keep_one,
    models_tagged,
    runs_tagged,
)
from reports.io import save_results
from reports.table import TaskInfo

_BATCH = 1000
ROUNDS = 5
"""How often a suite run is written anew because another process removed it."""


def write_suite_run(uri: str, run: SuiteRun, report: Path, local_artifacts: Path) -> bool:
    """Write the suite run; False when these very results are already there.

    ``report`` is the folder of its report; ``local_artifacts`` is where a new experiment of
    a local database keeps files (a server knows its own place).
    """
    client = MlflowClient(tracking_uri=uri)
    place = local_artifacts.resolve().as_uri() if uri.startswith("sqlite:") else None
    # The kind makes the page open on runs rather than on traces of language models.
    kind = {"mlflow.experimentKind": "custom_model_development"}
    experiment = experiment_named(client, experiment_name(run.results.run.suite), place, kind)
    written: set[str] = set()
    for _ in range(ROUNDS):
        kept = keep_one(client, experiment, run)
        if kept is not None:
            describe_experiment(client, experiment, run)
            return kept in written
        writing = _Writing(client, experiment, run)
        written.add(writing.mark)
        try:
            writing.write(report)
        except MlflowException:
            removed = writing.is_removed()
            writing.undo()
            if not removed:
                raise
        except BaseException:
            writing.undo()
            raise
    raise MlflowException("other processes keep writing the same suite run")


@dataclass
class _Writing:
    """One writing of a suite run, and the mark on all it creates."""

    client: MlflowClient
    experiment: str
    run: SuiteRun
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def write(self, report: Path) -> None:
        parent = self._create_run(
            suite_run_title(self.run), SUITE_RUN, self._suite_note(), provenance_tags(self.run)
        )
        tables = Tables.of(self.run.results)
        for row in self.run.results.variants.iter_rows(named=True):
            self._write_variant(row, parent, tables)
        self._log(parent, suite_params(self.run), [])
        with tempfile.TemporaryDirectory() as folder:
            save_results(self.run.results, Path(folder))
            self.client.log_artifacts(parent, folder, "results")
        self.client.log_artifacts(parent, str(report), "report")
        # Last: a suite run without it is one that was cut short.
        self.client.set_tag(parent, DIGEST_TAG, self.run.digest)
        self.client.set_terminated(parent)

    def is_removed(self) -> bool:
        """Whether another process, whose own mirror was whole first, has removed this one."""
        try:
            found = runs_tagged(self.client, self.experiment, MARK_TAG, self.mark, deleted=True)
            return any(True for _ in found)
        except MlflowException:
            return False

    def undo(self) -> None:
        """Remove what was written so far; what cannot be reached now, the next writing removes."""
        with contextlib.suppress(Exception):
            for found in runs_tagged(self.client, self.experiment, MARK_TAG, self.mark):
                delete_run(self.client, found)
            for model in models_tagged(self.client, self.experiment, MARK_TAG, self.mark):
                delete_model(self.client, model)

    def _write_variant(self, row: Row, parent: str, tables: Tables) -> None:
        note = describe.variant_note(self.run, row)
        look = {
            "mlflow.parentRunId": parent,
            "mlflow.runColor": design_colour(self.run, row),
            # The page unfolds suite runs whose runs are evaluations.
            "mlflow.runType": "evaluation",
            **study_tags(self.run, row),
        }
        run_id = self._create_run(row["variant"], VARIANT, note, look)
        params = variant_params(self.run, row)
        model = self.client.create_logged_model(
            self.experiment,
            name=names.model_name(row["variant"]),
            source_run_id=run_id,
            tags={
                **self._tags(VARIANT),
                **study_tags(self.run, row),
                "mlflow.note.content": describe.model_note(self.run, row),
            },
            params=params,
        ).model_id
        datasets = list(_dataset_inputs(self.run))
        once_more_if_taken(lambda: self.client.log_inputs(run_id, datasets))
        metrics = [self._metric(m, model) for m in variant_metrics(self.run, row)]
        self._log(run_id, params, metrics)
        self.client.log_outputs(run_id, [LoggedModelOutput(model, 0)])
        with tempfile.TemporaryDirectory() as folder:
            write_variant_files(tables, row["variant"], Path(folder))
            self.client.log_artifacts(run_id, folder)
        self.client.finalize_logged_model(model, "READY")
        self.client.set_terminated(run_id)

    def _metric(self, measured: Measured, model: str) -> Metric:
        """A metric of the run and of its model, on the data set it was measured on."""
        datasets = one_per_dataset(self.run.results.run.tasks)
        task = measured.task or (datasets[0] if len(datasets) == 1 else None)
        name, digest = (_dataset_name(task), _dataset_digest(task)) if task else (None, None)
        now = int(time.time() * 1000)
        return Metric(measured.key, measured.value, now, 0, model, name, digest)

    def _log(self, run_id: str, params: Mapping[str, str], metrics: list[Metric]) -> None:
        self.client.log_batch(
            run_id,
            metrics=metrics[:_BATCH],
            params=[Param(name, value) for name, value in params.items()],
        )
        for start in range(_BATCH, len(metrics), _BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + _BATCH])

    def _create_run(self, name: str, kind: str, note: str, more: Mapping[str, str]) -> str:
        tags = {**self._tags(kind), "mlflow.note.content": note, **more}
        created = self.client.create_run(self.experiment, run_name=names.one_line(name), tags=tags)
        return str(created.info.run_id)

    def _tags(self, kind: str) -> dict[str, str]:
        return {**shared_tags(self.run), KIND_TAG: kind, MARK_TAG: self.mark}

    def _suite_note(self) -> str:
        return describe.suite_note(self.run, link(self.experiment, self.run))


# --- data sets --------------------------------------------------------------------------


def _dataset_inputs(run: SuiteRun) -> Iterator[DatasetInput]:
    for task in one_per_dataset(run.results.run.tasks):
        source = {"title": names.one_line(task.title, 300), "fingerprint": task.fingerprint}
        samples = {"train": task.n_train, "val": task.n_val, "test": task.n_test}
        dataset = Dataset(
            name=_dataset_name(task),
            digest=_dataset_digest(task),
            source_type="tokenrank",
            source=json.dumps(source),
            profile=json.dumps(samples),
        )
        yield DatasetInput(dataset, [InputTag("mlflow.data.context", f"{task.origin} data")])


def _dataset_name(task: TaskInfo) -> str:
    return names.one_line(task.dataset, names.DATASET_LENGTH)


def _dataset_digest(task: TaskInfo) -> str:
    return names.one_line(task.fingerprint, names.DATASET_LENGTH)[:8]
