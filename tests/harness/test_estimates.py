"""Estimates: counts are the plan's own, cached work costs nothing, and time is held to what was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness import estimates
from harness.calibration import encoder_seconds, probe_speed
from harness.costs import cost_of
from harness.estimates import EncoderSeconds, Machine, ProbeSpeed
from harness.plan import Places, Plan, make_plan
from harness.store import Store
from harness.suite import load_suite

SUITE = """\
name: small
title: Small
protocol: {patch_size: 8, bootstrap: 100}
variants: [olmoearth-v1-nano, "olmoearth-v1-nano:single"]
baselines: []
seeds: [0, 1]
tasks:
  - {name: near, dataset: simulated, data: {size: 100}, probe: {kind: knn}}
  - {name: line, dataset: simulated, data: {size: 100}, probe: {kind: linear, trials: 4, epochs: 2}}
  - {name: fine, dataset: simulated, data: {size: 100}, probe: {kind: knn}, patch_size: 4}
"""
SPEED = ProbeSpeed(vote=1e-9, step=1e-8, logit=1e-8)


def machine(encoder: EncoderSeconds) -> Machine:
    return Machine(encoder, SPEED, batch=lambda tokens, width: 5, at_once=3)


@pytest.fixture
def plan(tmp_path: Path, store: Store) -> Plan:
    path = tmp_path / "small.yaml"
    path.write_text(SUITE)
    return make_plan(load_suite(path), Places(None, None, store.cache_folder))


def test_counts_are_the_plans_and_shared_passes_count_once(plan: Plan, store: Store) -> None:
    calls = []

    def two_milliseconds(variant, given, patch_size):
        calls.append(variant.name)
        return 0.002

    near, line, fine = estimates.estimate(plan, store, machine(two_milliseconds))
    # Two variants, two seeds (random weights: other encoders), two normalisations.
    assert (near.cells, near.to_do, near.passes) == (4, 4, 8)
    assert (line.passes, line.macs, line.bytes) == (0, 0, 0)  # the same embeddings
    assert fine.passes == 8
    macs = {
        variant: cost_of(cell.variant, cell.given.shapes, 8, store).macs
        for cell in plan.cells
        for variant in [cell.variant.name]
    }
    assert near.macs == 100 * 4 * sum(macs.values())
    # Decoded once: 100 tiles of 64 x 64 pixels and 13 bands in 16 bits; then two poolings a pass.
    assert near.bytes == 100 * 64 * 64 * 13 * 2 + 8 * 100 * 2 * 4 * 128
    assert fine.bytes == 8 * 100 * 2 * 4 * 128
    # Three batches of five at a time, of the sequence that is longest: patches of 4 pixels,
    # three groups. A block holds five times its tokens and the hidden layer, which is four times.
    # Beside it lie the embeddings of both normalisations and poolings.
    widest = 3 * 5 * 4 * (64 // 4) ** 2 * 3 * 128 * (5 + 4)
    assert fine.memory == widest + 2 * 100 * 2 * 4 * 128
    # One measurement for a family and width; others follow from their MACs.
    assert calls == ["olmoearth-v1-nano"]
    share = macs["olmoearth-v1-nano:single"] / macs["olmoearth-v1-nano"]
    assert near.encoder_seconds == pytest.approx(0.002 * 100 * 4 * (1 + share))
    splits = plan.dataset_of(plan.suite.tasks[0]).splits(0)
    train, val, test = (len(splits[name]) for name in ("train", "val", "test"))
    assert near.probe_seconds == pytest.approx(4 * 1e-9 * train * 128 * (4 * val + test))


def test_what_is_done_costs_nothing_and_what_it_took_is_known(plan: Plan, store: Store) -> None:
    from harness.executors.work import finish  # noqa: PLC0415

    cell = plan.cells[0]
    finish(plan, cell, store, lambda *_: None)
    near = estimates.estimate(plan, store, machine(lambda *_: 0.001))[0]
    assert (near.cells, near.to_do, near.passes) == (4, 3, 6)
    assert near.bytes == 6 * 100 * 2 * 4 * 128  # images are decoded
    took = estimates.taken(store, plan)
    assert set(took) == {"near"}
    assert took["near"] > 0
    assert estimates.remembered(store, plan) is None
    estimates.remember(store, plan, [near])
    expected = near.encoder_seconds + near.probe_seconds
    kept = estimates.remembered(store, plan)
    assert kept is not None
    assert (kept.cells, kept.seconds) == (3, pytest.approx(expected))
    # Asked again when all is done, it does not forget what it said.
    estimates.remember(store, plan, [replace(near, to_do=0, encoder_seconds=0)])
    assert estimates.remembered(store, plan) == kept


def test_the_calibration_takes_the_encoders_own_path(plan: Plan) -> None:
    cell = plan.cells[0]
    assert encoder_seconds(cell.variant, cell.given, 8) > 0
    speed = probe_speed(width=16, outputs=3)
    assert speed.vote > 0
    assert speed.step > 0
    assert speed.logit > 0
