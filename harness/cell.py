"""One cell: embed, probe, score. It knows neither MLflow nor YAML.

The probe is tuned on the validation split and scored once on test. What is left in the
store is a `CellResult` with per-sample predictions; an interrupted cell leaves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from harness.content import EMBEDDING_CODE, code_version, content_key
from harness.embed import batch_size, embed_into
from harness.encoders import build_encoder
from harness.finetuning import RowImages, finetune_inputs, finetune_settings
from harness.inputs import InputRule, make_rules, rules_from_json, rules_to_json
from harness.memory import fitting
from harness.metrics import metric, sample_values, score
from harness.model_input import ModelInput
from harness.pixels import Pixels, open_pixels
from harness.plan import Cell, EmbeddingJob, split_identity
from harness.probe_inputs import map_inputs, probe_inputs, splits_of, token_inputs
from harness.probes.attention import AttentionSettings, TokenInputs, run_attention
from harness.probes.base import ProbeInputs, ProbeResult
from harness.probes.finetune_model import untouched
from harness.probes.finetune_tuning import tune_finetune
from harness.probes.knn import KnnSettings, run_knn
from harness.probes.linear import Training
from harness.probes.map_objective import require_pixels
from harness.probes.segmentation import MapInputs, MapSettings, run_segmentation
from harness.probes.tuning import LinearSettings, tune_linear
from harness.sketches import SKETCH_ROWS, sketch, spread
from harness.store import CellResult, Embedding, Store
from harness.suite_file import (
    AttentionProbe,
    FinetuneProbe,
    KnnProbe,
    LinearProbe,
    SegmentationProbe,
)
from models.families import design_of
from suites.datasets.base import MAP_KINDS, Dataset

NO_ROWS = np.zeros(0, dtype=np.int64)
Notify = Callable[[str, int, int], None]


@dataclass
class Seconds:
    """Where a cell's time went; reported, never stored with the result."""

    pixels: float = 0.0
    encoder: float = 0.0
    probe: float = 0.0
    samples: int = 0
    marks: list[float] = field(default_factory=list)


def compute(
    cell: Cell, dataset: Dataset, store: Store, device: torch.device, notify: Notify
) -> tuple[CellResult, Seconds]:
    """Compute a cell. ``notify(what, done, total)`` is told how far it is."""
    seconds = Seconds()
    task = cell.task
    if dataset.card.kind in MAP_KINDS:  # of the other splits, probes see for themselves
        test = {"test": splits_of(cell, dataset)["test"]}
        require_pixels(dataset.labels, test, dataset.card.kind)
    if isinstance(task.probe, FinetuneProbe):
        return _fine_tuned(cell, task.probe, dataset, store, device, notify, seconds), seconds
    embeddings = {
        job.normalisation: embedding_of(job, dataset, store, device, notify, seconds)
        for job in cell.embeddings
    }
    started = time.perf_counter()
    if isinstance(task.probe, SegmentationProbe):
        maps = map_inputs(embeddings, dataset, splits_of(cell, dataset), cell.poolings)
        found = _segment(cell, task.probe, maps, device, notify)
        drawn = sketch([x[maps.splits["test"][:SKETCH_ROWS]] for x in maps.views.values()])
    elif isinstance(task.probe, AttentionProbe):
        tokens = token_inputs(embeddings, dataset, splits_of(cell, dataset), cell.poolings)
        found = _attend(cell, task.probe, tokens, device, notify)
        drawn = sketch([x[tokens.splits["test"][:SKETCH_ROWS]] for x in tokens.views.values()])
    else:
        splits = splits_of(cell, dataset)
        inputs = probe_inputs(embeddings, dataset, splits, cell.poolings, store.root)
        found = _probe(cell, task.probe, inputs, store, device, notify)
        drawn = sketch([split.test.numpy() for split in inputs.views.values()])
    result = _score(cell, dataset, found, drawn)
    seconds.probe = time.perf_counter() - started
    return result, seconds


def _fine_tuned(
    cell: Cell,
    probe: FinetuneProbe,
    dataset: Dataset,
    store: Store,
    device: torch.device,
    notify: Notify,
    seconds: Seconds,
) -> CellResult:
    """Without stored embeddings: the encoder that would give them is trained.

    The sketch is of the encoder as it was before, which is what another run can be held to; after
    hundreds of steps rounding alone has moved every weight.
    """
    started = time.perf_counter()
    pixels = open_pixels(dataset, store, lambda done, all_: notify("decoding images", done, all_))
    rules = {
        name: _rules(name, cell.given, cell.task.split_seed, dataset, pixels, store)
        for name in cell.normalisations
    }
    seconds.pixels = time.perf_counter() - started
    started = time.perf_counter()
    splits = splits_of(cell, dataset)
    inputs = finetune_inputs(cell, dataset, RowImages(pixels, rules), splits)
    settings = finetune_settings(probe, cell.task.metric)
    test = splits["test"]
    shown = np.arange(len(test)) if dataset.card.kind in MAP_KINDS else spread(len(test))

    def tuned(size: int) -> tuple[ProbeResult, list[float]]:
        # The batch is the protocol's: where memory does not hold it, it is learned in parts.
        given = replace(inputs, at_once=size) if size < probe.batch_size else inputs
        drawn = sketch(untouched(given, test[shown[:SKETCH_ROWS]], device))
        path, told = store.study_path(cell.key), _tuning(cell, store, notify, "fine-tuning")
        return tune_finetune(given, settings, cell.seed, path, told, device=device), drawn

    result = _score(cell, dataset, *fitting(store, cell.key, probe.batch_size, tuned))
    seconds.probe = time.perf_counter() - started
    return result


def embedding_of(
    job: EmbeddingJob,
    dataset: Dataset,
    store: Store,
    device: torch.device,
    notify: Notify,
    seconds: Seconds,
) -> Embedding:
    """The stored embedding, or a new one. All poolings are kept, whoever asks for which."""
    name = f"embedding-{job.key}"
    # Another process may be at it: the work is waited for, not done twice.
    with store.claims.first(name, lambda: store.embedding(job.key)) as stored:
        if stored is not None:
            return stored
        _embed(job, dataset, store, device, notify, seconds)
    fresh = store.embedding(job.key)
    if fresh is None:
        raise OSError(f"embedding {job.key} cannot be read back")
    return fresh


def _embed(
    job: EmbeddingJob,
    dataset: Dataset,
    store: Store,
    device: torch.device,
    notify: Notify,
    seconds: Seconds,
) -> None:
    started = time.perf_counter()
    pixels = open_pixels(dataset, store, lambda done, all_: notify("decoding images", done, all_))
    rules = _rules(job.normalisation, job.given, job.split_seed, dataset, pixels, store)
    encoder = build_encoder(job.variant, job.weights, job.given.channels)
    design = design_of(job.variant)
    tokens = design.layout(job.given.shapes, job.patch_size).tokens
    width = design.width(job.given.shapes)
    planned = batch_size(tokens, width, device)
    seconds.pixels += time.perf_counter() - started
    started = time.perf_counter()
    stage = f"embedding, {job.normalisation} normalisation"

    def write(size: int) -> None:
        rows = len(pixels)
        with store.embedding_writer(job.key, rows, width, ("mean", "max"), job.grid) as draft:
            draft.facts["rounding"] = embed_into(
                draft.arrays,
                encoder,
                pixels,
                rules,
                job.patch_size,
                size,
                device,
                lambda done, all_: notify(stage, done, all_),
                job.precision,
            )
            if size < planned:
                draft.facts["batch"] = size  # memory held no more: last bits may differ

    fitting(store, job.key, planned, write)
    seconds.encoder += time.perf_counter() - started
    seconds.samples += len(pixels)


def _rules(
    normalisation: str,
    given: ModelInput,
    split_seed: int,
    dataset: Dataset,
    pixels: Pixels,
    store: Store,
) -> dict[str, InputRule]:
    if normalisation == "pretraining":
        return make_rules(dataset.card, given, "pretraining", pixels, NO_ROWS)
    split = split_identity(dataset, split_seed)
    key = content_key(
        {
            "data": dataset.fingerprint,
            "split": split,
            "given": given.identity,
            "code": code_version(EMBEDDING_CODE),
        }
    )
    known = store.cached("statistics", key)
    if known is None:
        train = dataset.splits(split_seed)["train"]
        known = rules_to_json(make_rules(dataset.card, given, "dataset", pixels, train))
        store.cache("statistics", key, known)
    return rules_from_json(known)


def _segment(
    cell: Cell,
    probe: SegmentationProbe,
    inputs: MapInputs,
    device: torch.device,
    notify: Notify,
) -> ProbeResult:
    settings = MapSettings(
        head=probe.head,
        epochs=probe.epochs,
        batch_size=probe.batch_size,
        select_by=cell.task.metric,
    )
    return run_segmentation(
        inputs,
        settings,
        cell.seed,
        device,
        lambda done, total: notify("training the probe", done, total),
    )


def _attend(
    cell: Cell,
    probe: AttentionProbe,
    inputs: TokenInputs,
    device: torch.device,
    notify: Notify,
) -> ProbeResult:
    settings = AttentionSettings(
        Training(epochs=probe.epochs, batch_size=probe.batch_size), select_by=cell.task.metric
    )
    return run_attention(
        inputs,
        settings,
        cell.seed,
        device,
        lambda done, total: notify("training the probe", done, total),
    )


def _probe(
    cell: Cell,
    probe: KnnProbe | LinearProbe,
    inputs: ProbeInputs,
    store: Store,
    device: torch.device,
    notify: Notify,
) -> ProbeResult:
    select_by = cell.task.metric
    if isinstance(probe, KnnProbe):
        settings = KnnSettings(
            k=probe.k,
            temperature=probe.temperature,
            metric=probe.metric,
            weights=probe.weights,
            select_by=select_by,
        )
        return run_knn(inputs, settings, device)
    return tune_linear(
        inputs,
        LinearSettings(
            trials=probe.trials,
            sampler=probe.sampler,
            select_by=select_by,
            training=Training(epochs=probe.epochs, batch_size=probe.batch_size),
        ),
        seed=cell.seed,
        study_path=store.study_path(cell.key),
        device=device,
        progress=_tuning(cell, store, notify, "tuning the probe"),
    )


def _tuning(cell: Cell, store: Store, notify: Notify, stage: str) -> Callable[[int, int], None]:
    """Told of a study's progress; its finished trials outlive this machine."""

    def progress(done: int, total: int) -> None:
        store.keep_study(cell.key)
        notify(stage, done, total)

    return progress


def _said(name: str, found: ProbeResult) -> npt.NDArray[Any]:
    """What a metric reads of a probe's answer: its predictions, or their probabilities."""
    if not metric(name).from_probabilities:
        return found.predictions.cpu().numpy()
    if found.probabilities is None:
        raise ValueError(f"{name} needs probabilities, which this probe does not give")
    return found.probabilities.cpu().numpy()


def _score(cell: Cell, dataset: Dataset, found: ProbeResult, embeddings: list[float]) -> CellResult:
    task = cell.task
    splits = splits_of(cell, dataset)
    rows = splits["test"]
    labels = dataset.labels[rows]
    predictions = found.predictions.cpu().numpy()
    said = _said(task.metric, found)
    scored = score(task.metric, labels, said, resamples=task.bootstrap, seed=0)
    columns = {
        "sample": [dataset.ids[row] for row in rows],
        "value": sample_values(task.metric, labels, said),
    }
    if dataset.card.kind not in MAP_KINDS:  # which would be larger than all else together
        columns |= {"label": labels, "prediction": predictions}
    table = pl.DataFrame(columns)
    if found.probabilities is not None:
        shares = found.probabilities.cpu().numpy()
        table = table.hstack(pl.DataFrame(shares, schema=[f"p{c}" for c in range(shares.shape[1])]))
    return CellResult(
        key=cell.key,
        metric=task.metric,
        scores={task.metric: (scored.value, scored.low, scored.high)},
        val_score=found.val_score,
        chosen=dict(found.chosen),
        n_train=len(splits["train"]),
        n_val=len(splits["val"]),
        n_test=len(rows),
        inputs=dict(cell.inputs),
        trials=[
            {"number": t.number, "params": dict(t.params), "val_score": t.val_score}
            for t in found.trials
        ],
        sketch=embeddings,
        predictions=table,
    )
