"""How fast are 64 linear-probe trials, trained as one program and one after another?

Prints one markdown table; both columns are measured in the same run, on the same
embeddings, with the same protocol. Of the plain trials only a few are timed, over a tenth
of the epochs, and scaled up: each step costs the same, whatever its learning rate.

    python benchmarks/probes.py [--trials 64] [--plain 4] [--threads N]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from harness.probes.base import EmbeddedSplit, Labels, ProbeInputs
from harness.probes.linear import (
    Training,
    Trial,
    initial_linear,
    learning_rate_factors,
    minibatches,
    train_heads,
)
from harness.probes.tuning import LinearSettings, tune_linear

TRAIN, VAL, TEST, CLASSES = 2000, 1000, 1000, 10
NORMALISATIONS, POOLINGS = ("pretraining", "dataset"), ("mean", "max")


def inputs_of_width(dim: int) -> ProbeInputs:
    """Four views of 10 overlapping Gaussian classes, ``dim`` wide."""
    generator = torch.Generator().manual_seed(0)
    labels = [torch.randint(0, CLASSES, (n,), generator=generator) for n in (TRAIN, VAL, TEST)]
    centres = torch.randn(CLASSES, dim, generator=generator)
    views = {}
    for normalisation in NORMALISATIONS:
        for pooling in POOLINGS:
            spread = dim**0.5 / 3
            rows = [
                centres[y] + spread * torch.randn(len(y), dim, generator=generator) for y in labels
            ]
            views[normalisation, pooling] = EmbeddedSplit(*rows)
    return ProbeInputs(views, Labels(*labels[:2]), CLASSES)


def spread_trials(count: int) -> list[Trial]:
    """Trials spread over the learning rates and the views."""
    return [
        Trial(
            1e-4 * 5000 ** (i / max(1, count - 1)),
            0.01,
            NORMALISATIONS[i % 2],
            POOLINGS[i // 2 % 2],
        )
        for i in range(count)
    ]


def train_plainly(inputs: ProbeInputs, trial: Trial, training: Training, seed: int) -> nn.Module:
    """One trial as anyone would write it: modules, autograd, torch's own AdamW."""
    model = nn.Sequential(nn.BatchNorm1d(inputs.dim), nn.Linear(inputs.dim, inputs.outputs))
    weight, bias = initial_linear(inputs.dim, inputs.outputs, seed)
    with torch.no_grad():
        model[1].weight.copy_(weight)
        model[1].bias.copy_(bias)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=trial.learning_rate, weight_decay=trial.weight_decay
    )
    batches = minibatches(len(inputs.labels.train), training, seed)
    factors = learning_rate_factors(len(batches), training.warmup)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: [*factors, 0.0][step])
    rows, labels = inputs.views[trial.view].train, inputs.labels.train
    for batch in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows[batch]), labels[batch]).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def seconds_plain(
    inputs: ProbeInputs, trials: list[Trial], training: Training, threads: int
) -> float:
    """Wall-clock seconds of a plain trial (median), validation included."""
    seconds = []
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    for trial in trials:
        start = time.perf_counter()
        model = train_plainly(inputs, trial, training, seed=0)
        with torch.no_grad():
            model(inputs.views[trial.view].val).argmax(dim=1)
        seconds.append(time.perf_counter() - start)
    torch.set_num_threads(before)
    return statistics.median(seconds)


def seconds_batched(inputs: ProbeInputs, trials: list[Trial], training: Training) -> float:
    """Wall-clock seconds of all trials in one program, validation included."""
    start = time.perf_counter()
    heads = train_heads(inputs, trials, training, seed=0)
    for index, trial in enumerate(trials):
        heads.logits(index, inputs.views[trial.view].val).argmax(dim=1)
    return time.perf_counter() - start


def seconds_tuned(inputs: ProbeInputs, count: int, training: Training) -> float:
    """Wall-clock seconds of a whole tuned probe: Optuna, journal, training, refit, test."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        settings = LinearSettings(trials=count, training=training)
        tune_linear(inputs, settings, 0, Path(folder) / "study.log")
        return time.perf_counter() - start


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--plain", type=int, default=4, help="plain trials that are timed")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--dims", type=int, nargs="+", default=[128, 768])
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    training = Training()
    print(
        f"{options.trials} linear-probe trials, {TRAIN} training and {VAL} validation samples, "
        f"{CLASSES} classes, 4 views, {training.epochs} epochs of batch {training.batch_size}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}\n"
    )
    print("| width | one program | whole tuned probe | one after another (plain torch) | ratio |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for dim in options.dims:
        inputs = inputs_of_width(dim)
        trials = spread_trials(options.trials)
        seconds_batched(inputs, trials, Training(epochs=1))  # warm up caches and thread pool
        batched = seconds_batched(inputs, trials, training)
        tuned = seconds_tuned(inputs, options.trials, training)
        sampled = trials[:: max(1, len(trials) // options.plain)][: options.plain]
        # Small operations often run faster on one thread: plain torch gets the better of both.
        short = Training(epochs=training.epochs // 10)
        plain = (
            10
            * len(trials)
            * min(
                seconds_plain(inputs, sampled, short, threads)
                for threads in {1, torch.get_num_threads()}
            )
        )
        print(
            f"| {dim} | {batched:.1f} s | {tuned:.1f} s | {plain:.0f} s | {plain / batched:.1f}x |",
            flush=True,
        )


if __name__ == "__main__":
    main()
