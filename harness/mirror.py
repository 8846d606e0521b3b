"""One suite run written through an MLflow client: the parent run, and one run per variant.

Each variant's run is complete in itself (parameters, tags, metrics, data sets, predictions),
so that a flat search finds it. `tracking` decides when and whether; this module must not
know of servers that are away.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

from harness.provenance import Manifest
from harness.store import Store
from reports.ranking import IncompleteVariant, RankedVariant, rank
from reports.table import SuiteResults, TaskInfo


class Mirror:
    """Writes one suite run to the tracking server at ``uri``."""

    def __init__(
        self,
        uri: str,
        results: SuiteResults,
        manifest: Manifest,
        store: Store,
        digest: str,
    ) -> None:
        self.uri = uri
        self.client = MlflowClient(tracking_uri=uri)
        self.results = results
        self.manifest = manifest
        self.store = store
        self.digest = digest
        self.rankings = rank(results)
        self.experiment = self._experiment()

    def write(self, report: Path) -> None:
        """Write the suite run, unless these very results are already there."""
        parent = self._suite_run()
        if parent is not None and self._is_current(parent):
            return
        for old in self._all_of_this_run():
            # A mirror that was cut short, or of other numbers: rewritten whole, so that no
            # run stays half-filled or counted twice.
            self.client.delete_run(old)
        parent_id = self._create(self.results.run.suite, self._parent_tags())
        for row in self.results.variants.iter_rows(named=True):
            self._variant_run(row, parent_id)
        self._log(parent_id, self._parent_params(), {})
        self.client.log_artifacts(parent_id, str(report), "report")
        # Last: a run without this tag is one that was cut short.
        self.client.set_tag(parent_id, "tokenrank.digest", self.digest)
        self.client.set_terminated(parent_id)

    # --- runs ------------------------------------------------------------------

    def _variant_run(self, row: Mapping[str, Any], parent: str) -> None:
        ranked = self._ranked(row["variant"])
        tags = {
            **self._common_tags(),
            "mlflow.parentRunId": parent,
            "tokenrank.variant": row["variant"],
            "tokenrank.complete": "yes" if ranked else "no",
        }
        run_id = self._create(row["variant"], tags)
        metrics = {
            "tokens": row["tokens"],
            "macs": row["macs"],
            "macs_patch_embedding": row["macs_patch_embedding"],
            "macs_linear": row["macs_linear"],
            "macs_attention": row["macs_attention"],
            "parameters": float(row["params"]),
            **dict(self._score_metrics(row["variant"])),
        }
        if ranked:
            metrics["average_rank"] = ranked.average_rank
            if ranked.interval:
                metrics["average_rank_low"] = ranked.interval.low
                metrics["average_rank_high"] = ranked.interval.high
        params = {
            "family": row["family"],
            "version": row["version"],
            "size": row["size"],
            "token_scheme": row["scheme"],
            "band_groups": row["groups"],
            "tokens": f"{row['tokens']:g}",
            "tier": row["tier"],
            "weights": row["weights_hash"],
            "licence": row["licence"],
            "data_origin": ", ".join(self._origins()),
            "patch_size": ", ".join(sorted({str(t.patch_size) for t in self.results.run.tasks})),
            "seeds": ", ".join(str(seed) for seed in self.results.run.seeds),
        }
        self._log(run_id, params, metrics)
        self._log_datasets(run_id)
        self._log_predictions(run_id, row["variant"])
        self.client.set_terminated(run_id)

    def _ranked(self, variant: str) -> RankedVariant | None:
        """The variant's place; None when it is incomplete (or its origins were ranked apart)."""
        found = [e for t in self.rankings for e in t.ranked if e.variant == variant]
        return found[0] if len(found) == 1 else None

    def _score_metrics(self, variant: str) -> Iterator[tuple[str, float]]:
        for table in self.rankings:
            entries: list[RankedVariant | IncompleteVariant] = [*table.ranked, *table.incomplete]
            for entry in entries:
                if entry.variant != variant:
                    continue
                for task, found in entry.scores.items():
                    yield f"score/{task}", found.value
                    if found.interval:
                        yield f"score_low/{task}", found.interval.low
                        yield f"score_high/{task}", found.interval.high

    def _log(self, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self.client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
            params=[Param(name, str(value)) for name, value in params.items()],
        )

    def _log_datasets(self, run_id: str) -> None:
        inputs = [
            DatasetInput(
                dataset=Dataset(
                    name=task.dataset,
                    digest=task.fingerprint[:8],
                    source_type="tokenrank",
                    source=json.dumps({"title": task.title, "fingerprint": task.fingerprint}),
                    profile=json.dumps(
                        {"train": task.n_train, "val": task.n_val, "test": task.n_test}
                    ),
                ),
                tags=[InputTag("mlflow.data.context", f"{task.origin} data")],
            )
            for task in _one_per_dataset(self.results.run.tasks)
        ]
        self.client.log_inputs(run_id, inputs)

    def _log_predictions(self, run_id: str, variant: str) -> None:
        cells = self.results.scores.filter(self.results.scores["variant"] == variant)
        for row in cells.iter_rows(named=True):
            path = self.store.root / "cells" / row["cell"][:2] / f"{row['cell']}.parquet"
            self.client.log_artifact(run_id, str(path), f"predictions/{row['task']}/{row['seed']}")

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        run = self.client.create_run(self.experiment, run_name=name, tags=dict(tags))
        return str(run.info.run_id)

    # --- what is there already -------------------------------------------------

    def _experiment(self) -> str:
        name = f"tokenrank/{self.results.run.suite}"
        found = self.client.get_experiment_by_name(name)
        if found is None:
            # The kind makes the UI open on runs rather than on traces of language models.
            tags = {
                "mlflow.experimentKind": "custom_model_development",
                "mlflow.note.content": self.results.run.description,
            }
            return str(self.client.create_experiment(name, self._artifacts(), tags))
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _artifacts(self) -> str | None:
        """Beside the results for a local database; a server knows its own place."""
        local = self.uri.startswith("sqlite:")
        return (self.store.root / "mlartifacts").resolve().as_uri() if local else None

    def _suite_run(self) -> Any:
        runs = self.client.search_runs(
            [self.experiment],
            f"tags.`tokenrank.run_key` = '{self.manifest.run_key}' "
            "and tags.`tokenrank.kind` = 'suite run'",
        )
        return runs[0] if runs else None

    def _is_current(self, run: Any) -> bool:
        return bool(run.data.tags.get("tokenrank.digest") == self.digest)

    def _all_of_this_run(self) -> list[str]:
        runs = self.client.search_runs(
            [self.experiment],
            f"tags.`tokenrank.run_key` = '{self.manifest.run_key}'",
            max_results=5000,
        )
        return [run.info.run_id for run in runs]

    # --- words -----------------------------------------------------------------

    def _origins(self) -> list[str]:
        return sorted({task.origin for task in self.results.run.tasks})

    def _common_tags(self) -> dict[str, str]:
        run = self.results.run
        return {
            "tokenrank.run_key": self.manifest.run_key,
            "tokenrank.suite": run.suite,
            "tokenrank.kind": "variant",
            "tokenrank.data_origin": ", ".join(self._origins()),
            "mlflow.source.git.commit": self.manifest.git_commit,
            "tokenrank.suite_hash": run.suite_hash,
            **{f"tokenrank.data.{t.name}": t.fingerprint for t in run.tasks},
            **{f"tokenrank.version.{n}": v for n, v in self.manifest.versions.items()},
            **{f"tokenrank.hardware.{n}": v for n, v in self.manifest.hardware.items()},
        }

    def _parent_tags(self) -> dict[str, str]:
        return {
            **self._common_tags(),
            "tokenrank.kind": "suite run",
            "mlflow.note.content": _description(self.results),
        }

    def _parent_params(self) -> dict[str, str]:
        run = self.results.run
        return {
            "suite": run.suite,
            "tasks": str(len(run.tasks)),
            "variants": str(len(self.results.variants)),
            "command": self.manifest.command,
        }


def _one_per_dataset(tasks: Sequence[TaskInfo]) -> list[TaskInfo]:
    return list({task.fingerprint: task for task in tasks}.values())


def _description(results: SuiteResults) -> str:
    run = results.run
    lines = [f"**{run.title}**", "", run.description, ""]
    for origin in sorted({task.origin for task in run.tasks}):
        names = sorted({task.title for task in run.tasks if task.origin == origin})
        lines.append(f"- {origin.upper()} data: {'; '.join(names)}")
    for tier in sorted(set(results.variants["tier"].to_list())):
        lines.append(f"- weights: {tier}")
    return "\n".join([*lines, *(f"- {note}" for note in run.notes)])
