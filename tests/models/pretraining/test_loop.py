"""The loop: resuming, what is on disk when it stops, and that it stops when it should."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.errors import UserError
from models.pretraining import checkpoint
from models.pretraining.batches import Batch, BatchMaker, Share
from models.pretraining.checkpoint import CHECKPOINT, HISTORY, State
from models.pretraining.diagnostics import COLLAPSED_SPREAD
from models.pretraining.distributed import Group
from models.pretraining.job import Job
from models.pretraining.loop import Habits, build, of_modalities, train
from models.pretraining.normalising import statistics_of
from models.pretraining.pretrainer import View
from models.pretraining.schedule import adamw
from models.pretraining.stepping import make_step
from tests.models.pretraining import small
from tests.models.pretraining.small import EACH_STEP, S1, S2, Watched

GENTLE = {"learning_rate": 1e-3, "weight_decay": 0.0, "warmup_steps": 0, "clip": 1e9}


class KilledError(Exception):
    """Stands for whatever ends a process between two steps."""


def kill(_: nn.Module) -> None:
    raise KilledError


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Everything that draws at random is on: drop path, factors, two parts a step, band dropout."""
    views = {"crop": "own", "brightness": 0.1, "band_gain": 0.1}
    setting = small.setting(accumulate=2, drop_path=0.3, views=views)
    return small.job(tmp_path, small.recipe(**small.V11), setting, small.chips())


def weights(encoder: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in encoder.state_dict().items()}


@pytest.mark.parametrize("habits", [EACH_STEP, Habits(log_every=2, save_seconds=0.0, workers=3)])
def test_a_run_goes_on_as_if_it_had_not_stopped(job: Job, tmp_path: Path, habits: Habits) -> None:
    whole = small.run(job, tmp_path / "whole", habits=habits)
    folder = tmp_path / "parts"
    for step in (2, 4):
        with pytest.raises(KilledError):  # after the record, before its checkpoint
            small.run(job, folder, Watched({step: kill}), habits)
        torch.manual_seed(step)  # nothing may hang on torch's own state
    last = Watched()
    parts = small.run(job, folder, last, habits)
    assert last.began == [3 if habits is EACH_STEP else 2]
    assert weights(parts.encoder) == weights(whole.encoder)
    assert parts.history == whole.history
    lines = [(tmp_path / name / HISTORY).read_bytes() for name in ("whole", "parts")]
    assert lines[0] == lines[1]
    assert len(lines[0].splitlines()) == 6 // habits.log_every


def test_a_finished_run_has_nothing_left_to_do(job: Job, tmp_path: Path) -> None:
    first = small.run(job, tmp_path / "run")
    again = small.run(job, tmp_path / "run", watch := Watched())
    assert watch.began == [6]
    assert not watch.records
    assert weights(again.encoder) == weights(first.encoder)
    assert again.history == first.history


@pytest.mark.parametrize("rest", ["", '{"step": 4, "sam', "\0" * 40])
def test_a_history_line_that_was_being_written_is_written_again(
    job: Job, tmp_path: Path, rest: str
) -> None:
    whole = small.run(job, tmp_path / "whole")
    folder = tmp_path / "parts"
    with pytest.raises(KilledError):
        small.run(job, folder, Watched({4: kill}))
    lines = (folder / HISTORY).read_text().splitlines(keepends=True)
    (folder / HISTORY).write_text("".join(lines[:3]) + rest)
    assert small.run(job, folder).history == whole.history
    assert (folder / HISTORY).read_bytes() == (tmp_path / "whole" / HISTORY).read_bytes()


def other_runs(job: Job, tmp_path: Path) -> dict[str, tuple[Job, str]]:
    chips, setting = small.chips(), job.setting
    changed = replace(chips, fingerprint="e" * 64)
    rate = setting.optimiser.model_copy(update={"learning_rate": 0.1})
    loss = job.recipe.model_copy(update={"temperature": 0.2})
    return {
        "recipe": (replace(job, recipe=loss), "its recipe hash is"),
        "name": (replace(job, recipe=job.recipe.model_copy(update={"name": "b"})), "its recipe is"),
        "setting": (
            replace(job, setting=setting.model_copy(update={"optimiser": rate})),
            "its recipe hash is",
        ),
        "data": (replace(job, chips=changed), "its data is f+, .*the chips have changed since"),
        "seed": (replace(job, seed=1), "its seed is 0, this command's is 1"),
        "length": (replace(job, samples=40), "its steps is 6, this command's is 10"),
        "code": (replace(job, code="new"), "its code is , .*training code has changed since"),
    }


def test_another_runs_checkpoint_is_refused(job: Job, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        small.run(job, tmp_path / "run", Watched({3: kill}))
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    for other, sentence in other_runs(job, tmp_path).values():
        with pytest.raises(UserError, match=f"another run: {sentence}"):
            small.run(other, tmp_path / "run")
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before


def test_a_checkpoint_of_an_encoder_that_has_changed_is_refused(job: Job, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        small.run(job, tmp_path / "run", Watched({3: kill}))
    wider = replace(job, variant=replace(job.variant, dim=64))
    with pytest.raises(UserError, match="registry's entry of the variant has changed since"):
        small.run(wider, tmp_path / "run")


class Planted:
    """A pickle that would write a file where it is loaded freely."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_damaged_checkpoint_is_named_and_never_run(job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(KilledError):
        small.run(job, folder, Watched({2: kill}))
    path = folder / CHECKPOINT
    whole = path.read_bytes()
    damaged: list[bytes] = [b"", b"x", whole[:100], whole[: len(whole) // 2], whole[:-1]]
    damaged += [bytes(len(whole)), pickle.dumps(Planted(tmp_path / "planted"))]
    damaged.append(pickle.dumps({"identity": {}}))
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 12):
        middle = bytes(255 - b for b in whole[place : place + 64])
        damaged.append(whole[:place] + middle + whole[place + 64 :])
    expected = checkpoint.load(folder, job.identity)
    assert expected is not None
    noticed = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            state = checkpoint.load(folder, job.identity)
        except UserError as error:
            noticed += f"The checkpoint {path} is damaged" in str(error)
        else:  # what fills the gaps between a zip file's members may hold anything
            assert state is not None
            for name, value in state.model.items():
                assert torch.equal(value, expected.model[name])
            noticed += 1
    assert noticed == len(damaged)
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("at", ["write", "sync", "rename"])
def test_what_fails_while_saving_leaves_the_last_checkpoint(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(KilledError):
        small.run(job, folder, Watched({3: kill}))
    before = (folder / CHECKPOINT).read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if at == "write":
        save = torch.save

        def half(content: Any, file: Any) -> None:
            save(content, tmp_path / "aside")
            file.write((tmp_path / "aside").read_bytes()[:5000])
            fail()

        monkeypatch.setattr(torch, "save", half)
    elif at == "sync":
        # The history's own calls come first: only the checkpoint's fails.
        sync, fine = os.fsync, iter([True, True])
        monkeypatch.setattr(os, "fsync", lambda n: sync(n) if next(fine, False) else fail())
    else:
        rename = Path.replace
        monkeypatch.setattr(
            Path, "replace", lambda a, b: fail() if b.name == CHECKPOINT else rename(a, b)
        )
    with pytest.raises(UserError, match=r"cannot be kept in .*run \(No space left.*goes on from"):
        small.run(job, folder)
    assert (folder / CHECKPOINT).read_bytes() == before
    assert not list(folder.glob(".*"))
    monkeypatch.undo()
    whole = small.run(job, tmp_path / "whole")
    assert weights(small.run(job, folder).encoder) == weights(whole.encoder)


_FULL = """
import resource, signal, sys
from pathlib import Path
import torch
from models.errors import UserError
from models.pretraining import checkpoint
from models.pretraining.checkpoint import State
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
checkpoint.save(folder, {"seed": 0}, State(1, {"w": torch.ones(10)}, {}))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    checkpoint.save(folder, {"seed": 0}, State(2, {"w": torch.ones(1000000)}, {}))
except UserError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("limit", [2_000, 3_999_000])
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, limit: int) -> None:
    """Torch itself says only that its file has an unexpected position."""
    command = [sys.executable, "-c", _FULL, str(tmp_path), str(limit)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"The run cannot be kept in {tmp_path} (File too large)")
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    state = checkpoint.load(tmp_path, {"seed": 0})
    assert state is not None
    assert state.step == 1


def test_what_a_killed_process_was_saving_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f".{CHECKPOINT}.1234.tmp"
    left.write_bytes(b"half")
    checkpoint.save(tmp_path, {}, State(1, {}, {}))
    assert not left.exists()


def checkpoint_step(folder: Path, job: Job) -> int:
    state = checkpoint.load(folder, job.identity)
    assert state is not None
    assert all(bool(torch.isfinite(v).all()) for v in state.model.values())
    return state.step


@pytest.mark.parametrize("clip", [1.0, 1e9])
def test_too_high_a_learning_rate_is_a_divergence(tmp_path: Path, clip: float) -> None:
    rate = {"learning_rate": 1e6, "weight_decay": 0.0, "warmup_steps": 0, "clip": clip}
    setting = small.setting(samples=80, optimiser=rate)
    job = small.job(tmp_path, small.recipe(), setting, small.chips())
    with pytest.raises(
        UserError, match=r"small.*\(seed 0\) (diverged|collapsed) at step \d+"
    ) as said:
        small.run(job, tmp_path / "run")
    records = checkpoint.read_history(tmp_path / "run", job.steps)
    step = checkpoint_step(tmp_path / "run", job)
    assert step <= records[-1].step
    assert records[step - 1].loss < records[0].loss + 1 + records[0].loss
    assert f"the checkpoint before it is in {tmp_path / 'run'}" in str(said.value)


def test_a_gradient_that_is_not_finite_stops_the_run(job: Job, tmp_path: Path) -> None:
    """The loss before it is finite, and every weight after it NaN."""

    def poison(encoder: nn.Module) -> None:
        encoder.norm.weight.register_hook(lambda g: g * float("nan"))  # type: ignore[operator, union-attr]

    with pytest.raises(UserError, match=r"diverged at step 4: .* gradient not finite"):
        small.run(job, tmp_path / "run", Watched({3: poison}))
    assert checkpoint_step(tmp_path / "run", job) == 3
    assert len((tmp_path / "run" / HISTORY).read_text().splitlines()) == 3


def test_a_failure_before_any_checkpoint_does_not_promise_one(job: Job, tmp_path: Path) -> None:
    def poison(encoder: nn.Module) -> None:
        encoder.norm.weight.register_hook(lambda g: g * float("nan"))  # type: ignore[operator, union-attr]

    late = Habits(log_every=1, save_seconds=1000)
    with pytest.raises(UserError, match="no checkpoint had been written before"):
        small.run(job, tmp_path / "run", Watched({2: poison}), late)
    assert not (tmp_path / "run" / CHECKPOINT).exists()


def collapse(encoder: nn.Module) -> None:
    """Whatever it sees, the encoder says the same from now on."""
    with torch.no_grad():
        encoder.norm.weight.zero_()  # type: ignore[operator, union-attr]
        encoder.norm.bias.fill_(1.0)  # type: ignore[operator, union-attr]


def test_a_collapse_stops_the_run_and_leaves_a_checkpoint_of_before(tmp_path: Path) -> None:
    setting = small.setting(samples=48)
    job = small.job(tmp_path, small.recipe(contrast_weight=0.0), setting, small.chips())
    with pytest.raises(UserError, match=r"collapsed at step 7: .*spread 0\.0") as said:
        small.run(job, tmp_path / "run", Watched({4: collapse}))
    assert "raise contrast_weight" in str(said.value)
    # Steps 5 and 6 were the first two of three: they are records, and nothing to go on from.
    records = checkpoint.read_history(tmp_path / "run", job.steps)
    assert [record.spread < COLLAPSED_SPREAD for record in records] == [False] * 4 + [True] * 2
    path = tmp_path / "run" / CHECKPOINT
    assert torch.load(path, weights_only=True)["step"] <= 4


def test_the_last_record_needs_no_other_to_be_a_collapse(tmp_path: Path) -> None:
    """Nothing comes after it that could tell an odd batch from a failure."""
    job = small.job(
        tmp_path, small.recipe(contrast_weight=0.0), small.setting(samples=20), small.chips()
    )
    with pytest.raises(UserError, match=r"collapsed at step 5: .*spread 0\.0"):
        small.run(job, tmp_path / "run", Watched({4: collapse}))
    assert checkpoint_step(tmp_path / "run", job) <= 4


def parts_of(job: Job) -> tuple[list[Batch], Batch]:
    """A step's two parts, and the two as one."""
    scheme = of_modalities(job.variant.scheme, job.modalities)
    statistics = statistics_of("family", job.chips, job.modalities)
    maker = BatchMaker(job.recipe, job.setting, scheme, job.chips, statistics, job.seed)
    parts = [maker.make(0, part) for part in (0, 1)]

    def joined(a: View, b: View) -> View:
        def of(x: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: torch.cat([x[name], y[name]]) for name in x}

        time = torch.cat([a.timestamps, b.timestamps])
        return View(of(a.images, b.images), of(a.seen, b.seen), time, of(a.roles, b.roles))

    a, b = parts
    views = joined(a.views[0], b.views[0]), joined(a.views[1], b.views[1])
    return parts, Batch(views, a.shape)


def stepped(job: Job, batches: list[Batch]) -> tuple[Tensor, dict[str, Tensor]]:
    """Readings and weights after one plain step (a gradient times one, clipped)."""
    model = build(job, small.ALONE)
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    return make_step(
        model, optimiser, batches, job, 0, small.ALONE, False
    ).terms, model.state_dict()


def test_two_parts_make_the_step_that_their_batch_makes(tmp_path: Path) -> None:
    """Patch discrimination alone: contrast tells apart what is in one part, by definition."""
    recipe = small.recipe(contrast_weight=0.0)
    setting = small.setting(batch=8, accumulate=2)
    job = small.job(tmp_path, recipe, setting, small.chips(steps=2))
    parts, whole = parts_of(job)
    (a, one), (b, other) = stepped(job, parts), stepped(job, [whole])
    torch.testing.assert_close(a[[0, 1, 3]], b[[0, 1, 3]], rtol=1e-5, atol=1e-6)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-6)


def test_two_parts_weigh_the_same(tmp_path: Path) -> None:
    """All of the loss: readings and gradients are the mean over the parts."""
    setting = small.setting(batch=8, accumulate=2, optimiser=GENTLE)
    job = small.job(tmp_path, small.recipe(), setting, small.chips((S2, S1), steps=2))
    parts, _ = parts_of(job)
    both, alone = stepped(job, parts), [stepped(job, [part]) for part in parts]
    torch.testing.assert_close(both[0][:3], (alone[0][0][:3] + alone[1][0][:3]) / 2)
    for name, value in both[1].items():
        mean = (alone[0][1][name] + alone[1][1][name]) / 2
        torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-6)


def test_gradients_are_sent_once_a_step(tmp_path: Path) -> None:
    """Of two parts, the first adds up in silence (`no_sync`)."""
    setting = small.setting(batch=8, accumulate=2)
    job = small.job(tmp_path, small.recipe(), setting, small.chips())
    parts, _ = parts_of(job)
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        plain = build(job, small.ALONE)
        wrapped = nn.parallel.DistributedDataParallel(build(job, small.ALONE))
        sent: list[int] = []

        def count(_, bucket):  # type: ignore[no-untyped-def]  # (torch reads annotations)
            sent.append(bucket.index())
            done = torch.futures.Future()
            done.set_result(2 * bucket.buffer())
            return done

        wrapped.register_comm_hook(None, count)
        norms = []
        for model in (plain, wrapped):
            optimiser = adamw(model, job.setting.optimiser)
            norms.append(make_step(model, optimiser, parts, job, 0, small.ALONE, False).terms[3])
        assert sent.count(0) == 1
        # All of the gradient went that way, the first part's too: what came back is twice it.
        torch.testing.assert_close(norms[1], 2 * norms[0])
    finally:
        dist.destroy_process_group()


def test_processes_that_cannot_share_a_batch_are_told(job: Job, tmp_path: Path) -> None:
    group = Group(Share(0, 3), torch.device("cpu"))
    with pytest.raises(UserError, match="3 processes cannot share a batch of 2"):
        train(job, tmp_path / "run", group, EACH_STEP, Watched())
    assert not (tmp_path / "run").exists()


def test_fewer_samples_than_a_batch_are_refused(job: Job) -> None:
    with pytest.raises(UserError, match="3 samples do not fill a batch of 4"):
        replace(job, samples=3)
    assert replace(job, samples=7).steps == 1
    factor = job.recipe.model_copy(update={"samples_factor": 3})
    assert replace(job, recipe=factor, samples=3).steps == 2


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
