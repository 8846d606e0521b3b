"""Tuning: the same study however often it is killed, and no luck mistaken for skill."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import optuna
import pytest
import torch
from optuna.storages.journal import JournalFileBackend

from harness.metrics import metric
from harness.probes import study, tuning
from harness.probes.base import EmbeddedSplit, Labels, ProbeInputs
from harness.probes.linear import Heads, Training, Trial
from harness.probes.tuning import PUBLISHED_RATES, LinearSettings, tune_linear
from models.errors import AwayError, UserError

SHORT = Training(epochs=3)


def draw_labels(g: torch.Generator, n: int = 96, classes: int = 4) -> list[torch.Tensor]:
    return [torch.randint(0, classes, (size,), generator=g) for size in (n, n, 4 * n)]


TEST_LABELS = draw_labels(torch.Generator().manual_seed(0))[2].numpy()


def make_inputs(signal_size: float, n: int = 96, dim: int = 16, classes: int = 4) -> ProbeInputs:
    """Four views; only ("dataset", "mean") carries any signal, of the given size."""
    g = torch.Generator().manual_seed(0)
    labels = draw_labels(g, n, classes)
    centres = torch.randn(classes, dim, generator=g)
    views = {}
    for view in [(a, b) for a in ("pretraining", "dataset") for b in ("mean", "max")]:
        size = signal_size if view == ("dataset", "mean") else 0.0
        views[view] = EmbeddedSplit(
            *(size * centres[y] + torch.randn(len(y), dim, generator=g) for y in labels)
        )
    return ProbeInputs(views, Labels(*labels[:2]), classes)


def as_bytes(result) -> tuple:
    rows = [(t.number, tuple(t.params.items()), t.val_score) for t in result.trials]
    return (
        result.predictions.numpy().tobytes(),
        b"" if result.probabilities is None else result.probabilities.numpy().tobytes(),
        tuple(result.chosen.items()),
        result.val_score,
        tuple(rows),
    )


class KilledError(Exception):
    """A process ends here."""


@contextmanager
def beside(
    monkeypatch: pytest.MonkeyPatch, other: Callable[[Callable[[int, int], None]], object]
) -> Iterator[None]:
    """While a round is trained, another process trains it too, stores it and is killed.

    ``other`` tunes the same cell, with this to be told of progress.
    """
    train, rounds = tuning.train_heads, [0, 0]  # of this process and of the other one

    def killed(_done: int, _total: int) -> None:
        rounds[1] += 1
        if rounds[1] == rounds[0]:
            raise KilledError

    def train_heads(inputs, trials, *rest):
        if len(trials) > 1:
            rounds[0], rounds[1] = rounds[0] + 1, 0
            with monkeypatch.context() as patch:
                patch.setattr(tuning, "train_heads", train)
                with pytest.raises(KilledError):
                    other(killed)
        return train(inputs, trials, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "train_heads", train_heads)
        yield


@contextmanager
def without_locks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a network file system that has none."""

    class NoLock(nullcontext):
        def acquire(self) -> None: ...
        def release(self) -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr(study, "FileLock", NoLock)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    inputs = make_inputs(1.0)
    settings = LinearSettings(trials=12, round_size=4, training=SHORT)
    result = tune_linear(inputs, settings, 7, folder / "study.log")
    return inputs, settings, result, (folder / "study.log").read_bytes()


def test_tuning_finds_the_view_with_the_signal(undisturbed):
    _, _, result, _ = undisturbed
    assert (result.chosen["normalisation"], result.chosen["pooling"]) == ("dataset", "mean")
    assert result.val_score == max(trial.val_score for trial in result.trials)
    assert metric("accuracy").value(TEST_LABELS, result.predictions.numpy()) > 0.8
    torch.testing.assert_close(result.probabilities.sum(dim=1), torch.ones(len(result.predictions)))


def test_a_journal_cut_anywhere_ends_in_the_same_bytes(undisturbed, tmp_path):
    inputs, settings, result, journal = undisturbed
    for share in (0.0, 0.04, 0.3, 0.55, 0.8, 0.97, 1.0):  # most of them tear a line
        path = tmp_path / f"{share}.log"
        path.write_bytes(journal[: int(share * len(journal))])
        assert as_bytes(tune_linear(inputs, settings, 7, path)) == as_bytes(result), share


def test_finished_trials_are_not_trained_again(undisturbed, tmp_path, monkeypatch):
    inputs, settings, result, journal = undisturbed
    path = tmp_path / "study.log"
    path.write_bytes(journal)
    trained = []
    original = tuning.train_heads

    def counting(inputs, trials, *rest):
        trained.append(len(trials))
        return original(inputs, trials, *rest)

    monkeypatch.setattr(tuning, "train_heads", counting)
    assert as_bytes(tune_linear(inputs, settings, 7, path)) == as_bytes(result)
    assert trained == [1]  # the refit alone


@pytest.mark.parametrize("place", ["journal", "database"])
def test_two_processes_that_tune_one_cell_find_what_one_finds(
    undisturbed, place, tmp_path, monkeypatch
):
    """A claim was broken though its owner lived: every trial is there twice."""
    inputs, settings, result, _ = undisturbed
    path = tmp_path / "study.log"
    if place == "database":
        monkeypatch.setenv("TOKENRANK_TUNING", f"sqlite:///{tmp_path}/studies.db")

    def other(killed: Callable[[int, int], None]) -> object:
        return tune_linear(inputs, settings, 7, path, killed)

    with without_locks(monkeypatch), beside(monkeypatch, other):
        assert as_bytes(tune_linear(inputs, settings, 7, path)) == as_bytes(result)
    if place == "journal":
        assert path.read_bytes().count(b'"value":') == 2 * len(result.trials)
    assert as_bytes(tune_linear(inputs, settings, 7, path)) == as_bytes(result)


def test_trials_that_were_written_twice_or_asked_otherwise_do_not_count(
    undisturbed, tmp_path, monkeypatch
):
    """The answer to a write was lost; another version of Optuna began the study."""
    inputs, settings, result, _ = undisturbed
    path = tmp_path / "study.log"
    add = optuna.Study.add_trial

    def twice(self: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        strange = optuna.trial.create_trial(
            params={**trial.params, "weight_decay": 0.5},
            distributions=trial.distributions,
            value=0.99,
            user_attrs=trial.user_attrs,
        )
        for each in (strange, trial, trial):
            add(self, each)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "add_trial", twice)
        tune_linear(inputs, settings, 7, path)
    assert as_bytes(tune_linear(inputs, settings, 7, path)) == as_bytes(result)


def test_kill_minus_nine_then_the_same_call(tmp_path):
    """A real process, killed right after its first trials reached the disk."""
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        import torch
        from harness.probes.base import EmbeddedSplit, Labels, ProbeInputs
        from harness.probes.linear import Training
        from harness.probes.tuning import LinearSettings, tune_linear
        torch.set_num_threads(1)
        g = torch.Generator().manual_seed(0)
        y = [torch.randint(0, 3, (40,), generator=g) for _ in range(3)]
        split = EmbeddedSplit(*(torch.randn(40, 6, generator=g) for _ in range(3)))
        inputs = ProbeInputs({("pretraining", "mean"): split}, Labels(*y[:2]), 3)
        settings = LinearSettings(trials=9, round_size=3, training=Training(epochs=2))
        pause = (lambda done, total: time.sleep(60)) if sys.argv[2] == "slow" else None
        result = tune_linear(inputs, settings, 0, Path(sys.argv[1]), pause)
        print([(t.number, dict(t.params), t.val_score) for t in result.trials])
        print(result.chosen, result.probabilities.numpy().tobytes().hex())
        """
    )
    root = str(Path(tuning.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}

    def command(path: Path, pace: str) -> list[str]:
        return [sys.executable, "-c", program, str(path), pace]

    killed, whole = tmp_path / "killed.log", tmp_path / "whole.log"
    process = subprocess.Popen(command(killed, "slow"), env=environment)
    deadline = time.monotonic() + 50
    try:
        while not killed.exists() or killed.read_bytes().count(b"\n") < 3:  # study, two trials
            assert process.poll() is None, "the first run ended by itself"
            assert time.monotonic() < deadline, "no trial reached the journal"
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    lock = tmp_path / "killed.log.lock"  # as a kill during a write leaves it, if it did not
    if not lock.is_symlink():
        lock.symlink_to(killed)
    outputs = [
        subprocess.run(
            command(path, "fast"), env=environment, capture_output=True, check=True, text=True
        )
        for path in (killed, whole)
    ]
    assert outputs[0].stdout == outputs[1].stdout
    assert outputs[0].stderr == outputs[1].stderr == ""  # Optuna is quiet


def test_noise_is_near_chance_on_test(tmp_path):
    """64 trials pick the luckiest on validation; the test score must not inherit the luck."""
    inputs = make_inputs(0.0)
    settings = LinearSettings(trials=64, sampler="random", round_size=64, training=SHORT)
    result = tune_linear(inputs, settings, 0, tmp_path / "study.log")
    test = metric("accuracy").value(TEST_LABELS, result.predictions.numpy())
    deviation = (0.25 * 0.75 / len(result.predictions)) ** 0.5
    assert abs(test - 0.25) < 4 * deviation
    assert result.val_score > test  # there was luck to inherit


def test_grid_is_the_published_sweep(tmp_path):
    result = tune_linear(
        make_inputs(1.0), LinearSettings(sampler="grid", training=SHORT), 0, tmp_path / "s.log"
    )
    points = {tuple(trial.params.values()) for trial in result.trials}
    assert len(result.trials) == len(points) == 32
    assert {point[0] for point in points} == set(PUBLISHED_RATES)
    assert {point[1] for point in points} == {0.01}


def test_ties_go_to_the_lowest_trial(tmp_path):
    constant = EmbeddedSplit(*(torch.ones(20, 4) for _ in range(3)))
    labels = Labels(*(torch.zeros(20, dtype=torch.int64) for _ in range(2)))
    inputs = ProbeInputs({("pretraining", "mean"): constant}, labels, 2)
    settings = LinearSettings(trials=6, round_size=3, training=Training(epochs=40))
    result = tune_linear(inputs, settings, 0, tmp_path / "s.log")
    best = [t for t in result.trials if t.val_score == result.val_score]
    assert len(best) > 1
    assert result.chosen == best[0].params


def test_a_diverged_trial_scores_worst():
    inputs = make_inputs(1.0)
    weight, bias = torch.zeros(1, 4, 16), torch.full((1, 4), float("nan"))
    heads = Heads((Trial(0.5, 0.01, "dataset", "mean"),), weight, bias)
    assert tuning._validation_score(inputs, heads, 0, "accuracy") == 0.0


def test_another_study_or_a_damaged_file_is_refused(undisturbed, tmp_path):
    inputs, settings, _, journal = undisturbed
    path = tmp_path / "study.log"
    path.write_bytes(journal)
    with pytest.raises(UserError, match="other settings"):
        tune_linear(inputs, settings, 8, path)
    path.write_bytes(b"no journal\n" + journal)
    with pytest.raises(UserError, match="damaged"):
        tune_linear(inputs, settings, 7, path)


def test_an_unwritable_study_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    settings = LinearSettings(trials=2, training=Training(epochs=1))
    with pytest.raises(UserError, match=r"study\.log cannot be written"):
        tune_linear(make_inputs(1.0), settings, 0, tmp_path / "file" / "study.log")


def test_a_full_disk_is_the_machines_fault_and_names_the_file(undisturbed, tmp_path, monkeypatch):
    """A worker that hears of a mistake would give the cell up; another machine has room."""
    inputs, settings, result, _ = undisturbed
    path = tmp_path / "study.log"
    append = JournalFileBackend.append_logs

    def full(self, logs):
        if path.read_bytes().count(b"\n") >= 6:
            with path.open("ab") as file:
                file.write(b'{"op_code":4,"worker')  # as far as there was room
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, logs)

    with monkeypatch.context() as patch:
        patch.setattr(JournalFileBackend, "append_logs", full)
        with pytest.raises(OSError, match="No space left") as found:
            tune_linear(inputs, settings, 7, path)
    assert (found.value.errno, found.value.filename) == (errno.ENOSPC, str(path))
    assert as_bytes(tune_linear(inputs, settings, 7, path)) == as_bytes(result)


def test_a_file_server_that_is_away_is_no_mistake(undisturbed, tmp_path, monkeypatch):
    inputs, settings, _, _ = undisturbed

    def stale(*_):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(JournalFileBackend, "append_logs", stale)
    with pytest.raises(AwayError, match=r"^the study file .*study\.log cannot be written: Stale"):
        tune_linear(inputs, settings, 7, tmp_path / "study.log")


def test_settings_outside_the_protocol_are_refused():
    for wrong in ({"sampler": "tpee"}, {"trials": 0}, {"select_by": "acuracy"}):
        with pytest.raises(UserError, match="llowed"):
            LinearSettings(**wrong)


def test_tuning_leaves_optunas_verbosity_alone_and_warns_of_nothing(tmp_path):
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            settings = LinearSettings(trials=4, round_size=2, training=Training(epochs=1))
            tune_linear(make_inputs(1.0), settings, 0, tmp_path / "s.log")
        assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    finally:
        optuna.logging.set_verbosity(optuna.logging.INFO)


@pytest.mark.parametrize("select_by", ["micro_f1", "macro_map", "rmse"])
def test_labels_and_numbers_are_tuned_by_their_own_metric(select_by, tmp_path):
    kind = metric(select_by).kind
    classes = make_inputs(1.0)
    hot = torch.nn.functional.one_hot
    every = draw_labels(torch.Generator().manual_seed(0))
    if kind == "labels":
        made = [hot(y, 4).to(torch.uint8) for y in every]
    else:
        made = [100.0 + 10 * y.double() for y in every]
    inputs = ProbeInputs(classes.views, Labels(*made[:2]), 4 if kind == "labels" else 1, kind)
    settings = LinearSettings(trials=12, round_size=4, select_by=select_by, training=SHORT)
    result = tune_linear(inputs, settings, 7, tmp_path / "study.log")
    assert (result.chosen["normalisation"], result.chosen["pooling"]) == ("dataset", "mean")
    values = [trial.val_score for trial in result.trials]
    assert result.val_score == (max(values) if metric(select_by).higher_is_better else min(values))
    said = result.probabilities if metric(select_by).from_probabilities else result.predictions
    got = metric(select_by).value(made[2].numpy(), said.numpy())
    nothing = metric(select_by).value(made[2].numpy(), constant_answer(made[2], kind))
    assert got > 0.7 if kind == "labels" else got < 0.8 * nothing
    assert as_bytes(tune_linear(inputs, settings, 7, tmp_path / "again.log")) == as_bytes(result)


def constant_answer(targets, kind):
    if kind == "values":
        return torch.full_like(targets, float(targets.mean())).numpy()
    return torch.ones_like(targets).numpy()
