"""Fine-tuning against a plain loop in torch, and a study that no kill and no bad rate disturbs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.costs import with_channels
from harness.embed import pool
from harness.metrics import metric
from harness.probes import finetune, finetune_tuning
from harness.probes.answers import answers_of
from harness.probes.finetune import FinetuneSettings, train
from harness.probes.finetune_model import FinetuneInputs, Trial, TunedModel, untouched
from harness.probes.finetune_tuning import tune_finetune
from harness.probes.linear import Training, initial_linear, learning_rate_factors, minibatches
from models.errors import UserError
from models.families import design_of, encoder_code, is_trainable
from models.registry import Variant, load_registry
from models.tokens import InputShape
from tests.harness.test_tuning import without_locks

N, SIDE, PATCH, CLASSES = 72, 8, 4, 3
SPLITS = {"train": np.arange(32), "val": np.arange(32, 52), "test": np.arange(52, 72)}
CPU = torch.device("cpu")
VARIANT = replace(load_registry().variant("olmoearth-v1.1-nano"), dim=32, depth=1, heads=4)
BRIGHT = np.random.default_rng(0).integers(0, CLASSES, N)
NOISE = torch.rand(N, SIDE, SIDE, 1, 12, generator=torch.Generator().manual_seed(0))
TIMES = torch.tensor([[[1, 6, 2020]]])
SHORT = FinetuneSettings(trials=4, epochs=3, frozen_epochs=1, batch_size=8)


def new_encoder() -> nn.Module:
    code = encoder_code(VARIANT)
    return code.init_random(code.build(VARIANT, {}), 0).eval()


def images_of(normalisation: str, rows: np.ndarray) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The brighter the image's left half, the higher its class; ``dataset`` holds noise alone."""
    images = NOISE[rows]
    if normalisation == "pretraining":
        images[:, :, : SIDE // 2] += 0.5 * torch.from_numpy(BRIGHT[rows])[:, None, None, None, None]
    return {"sentinel2_l2a": images}, TIMES.expand(len(rows), -1, -1)


def doubles_of(
    normalisation: str, rows: np.ndarray
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    images, times = images_of(normalisation, rows)
    return {name: x.double() for name, x in images.items()}, times


def make_inputs(kind: str = "classes") -> FinetuneInputs:
    maps = np.repeat(BRIGHT[:, None, None], SIDE, axis=1).repeat(SIDE, axis=2)
    maps[:, :, SIDE // 2 :] = 0
    maps[:, 0] = maps[::3, 1] = maps[:4] = -1  # of some images fewer pixels count, of some none
    targets: dict[str, Any] = {
        "classes": BRIGHT,
        "labels": np.stack([BRIGHT == 0, BRIGHT > 1], axis=1).astype(np.uint8),
        "values": BRIGHT * 10.0 + 3,
        "maps": maps,
    }
    return FinetuneInputs(
        encoder=new_encoder,
        read=images_of,
        targets=targets[kind],
        splits=SPLITS,
        kind=kind,
        outputs={"classes": CLASSES, "labels": 2, "values": 1, "maps": CLASSES}[kind],
        normalisations=("pretraining",),
        poolings=("mean",),
        patch_size=PATCH,
        width=VARIANT.dim,
        grid=(SIDE // PATCH,) * 2 if kind == "maps" else None,
    )


class Plain(nn.Module):
    """The model, written once more."""

    def __init__(self, outputs: int, seed: int, grid: tuple[int, int] | None) -> None:
        super().__init__()
        self.encoder, self.grid = new_encoder(), grid
        self.head = nn.Linear(VARIANT.dim, outputs)
        self.register_buffer("mean", torch.zeros(VARIANT.dim))
        self.register_buffer("deviation", torch.ones(VARIANT.dim))
        weight, bias = initial_linear(VARIANT.dim, outputs, seed)
        self.head.weight.data.copy_(weight)
        self.head.bias.data.copy_(bias)
        self.double()

    def forward(self, images: dict[str, torch.Tensor], times: torch.Tensor) -> torch.Tensor:
        tokens = self.encoder(images, times, PATCH)["sentinel2_l2a"]  # [B, h, w, 1, G, dim]
        x = tokens.flatten(3, 4).mean(3)  # [B, h, w, dim]
        if self.grid is None:
            x = x.mean((1, 2))
        if self.training:
            self.mean = x.flatten(0, -2).mean(0).detach()
            self.deviation = x.flatten(0, -2).std(0, correction=0).detach()
        y = self.head((x - self.mean) / self.deviation)
        if self.grid is None:
            return y
        return nn.functional.pixel_shuffle(y.permute(0, 3, 1, 2), PATCH)


def plain_loss(kind: str, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if kind == "labels":
        return nn.functional.binary_cross_entropy_with_logits(outputs, y.double())
    if kind == "values":
        return nn.functional.mse_loss(outputs[:, 0], y.double())
    return nn.functional.cross_entropy(outputs, y.long(), ignore_index=-1)


def plain_states(
    inputs: FinetuneInputs, settings: FinetuneSettings, rate: float
) -> list[dict[str, torch.Tensor]]:
    """Weights after each epoch: two optimisers, the encoder's made when its turn comes."""
    y = torch.from_numpy(inputs.targets)
    if inputs.kind == "values":
        mine = y[SPLITS["train"]]
        y = (y - mine.mean()) / mine.std(correction=0)
    model = Plain(inputs.outputs * (PATCH**2 if inputs.grid else 1), 3, inputs.grid)
    decay = {"weight_decay": settings.weight_decay}
    model.train()(*doubles_of("pretraining", SPLITS["train"]))  # finds the scale
    model.eval()
    head = torch.optim.AdamW(model.head.parameters(), **decay)
    encoder = torch.optim.AdamW(model.encoder.parameters(), **decay)
    batches = minibatches(len(SPLITS["train"]), Training(settings.epochs, settings.batch_size), 3)
    steps = len(batches) // settings.epochs
    frozen = settings.frozen_epochs * steps
    rising = round(0.1 * (len(batches) - frozen))
    states = []
    for number, factor in enumerate(learning_rate_factors(len(batches), 0.1)):
        model.zero_grad()
        rows = batches[number].numpy()
        plain_loss(inputs.kind, model(*doubles_of("pretraining", rows)), y[rows]).backward()
        head.param_groups[0]["lr"] = rate * factor
        head.step()
        if number >= frozen:
            ramp = (number - frozen) / rising if rising else 1.0
            encoder.param_groups[0]["lr"] = rate * min(factor, ramp)
            encoder.step()
        if (number + 1) % steps == 0:
            states.append({k: v.detach().clone() for k, v in model.state_dict().items()})
    return states


def answer(inputs: FinetuneInputs, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    model = Plain(inputs.outputs * (PATCH**2 if inputs.grid else 1), 3, inputs.grid)
    model.load_state_dict(state)
    with torch.no_grad():
        return model.eval()(*doubles_of("pretraining", SPLITS["test"]))


class InDouble(TunedModel):
    """AdamW enlarges the rounding of gradients that are zero but for it (of keys' biases, say)."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.double()


@pytest.mark.parametrize("at_once", [None, 3, 1])
@pytest.mark.parametrize("kind", ["classes", "labels", "values", "maps"])
def test_every_epoch_ends_where_a_plain_loop_ends(kind, at_once, monkeypatch) -> None:
    """Where memory holds no whole batch too: it is learned in parts."""
    monkeypatch.setattr(finetune, "TunedModel", InDouble)
    inputs = replace(make_inputs(kind), read=doubles_of, at_once=at_once)
    settings = replace(SHORT, epochs=4, batch_size=7)
    expected = plain_states(inputs, settings, 3e-3)
    scores = iter(range(100))
    monkeypatch.setattr(finetune, "_validated", lambda *_: float(next(scores)))
    trial = Trial(3e-3, "pretraining", "mean")
    settings = replace(settings, select_by={"maps": "miou"}.get(kind, "accuracy"))
    for epoch in (1, 4):  # the last is the best
        kept = train(inputs, settings, trial, 3, CPU, last=epoch)
        assert kept.epoch == epoch
        torch.testing.assert_close(
            *(answer(inputs, state) for state in (kept.state, expected[epoch - 1])),
            rtol=1e-5,
            atol=1e-6,
        )
    start = new_encoder().double().state_dict()
    moved = {n for n, v in start.items() if not torch.equal(v, kept.state[f"encoder.{n}"])}
    assert any(name.startswith("blocks.") for name in moved)
    first = train(inputs, settings, trial, 3, CPU, last=1).state
    assert all(torch.equal(v, first[f"encoder.{name}"]) for name, v in start.items())


def test_a_trial_ends_after_patience_and_keeps_its_best_epoch(monkeypatch) -> None:
    settings = replace(SHORT, epochs=9, frozen_epochs=2, patience=2)
    trial, seen = Trial(1e-3, "pretraining", "mean"), []
    # The second epoch is frozen: patience counts from when the encoder learns.
    scores = [0.6, 0.2, 0.3, 0.7, 0.7, 0.5, 0.9, 0.9, 0.9]
    monkeypatch.setattr(finetune, "_validated", lambda *_: scores[len(seen)])
    kept = train(make_inputs(), settings, trial, 0, CPU, lambda *found: seen.append(found))
    assert (kept.epoch, kept.score, len(seen)) == (4, 0.7, 6)
    seen.clear()
    alone = train(make_inputs(), settings, trial, 0, CPU, lambda *found: seen.append(found), last=4)
    assert alone.epoch == 4
    assert all(torch.equal(value, alone.state[name]) for name, value in kept.state.items())


def as_bytes(result) -> tuple:
    return (
        result.predictions.numpy().tobytes(),
        b"" if result.probabilities is None else result.probabilities.numpy().tobytes(),
        dict(result.chosen),
        result.val_score,
        [(t.number, dict(t.params), t.val_score) for t in result.trials],
    )


@pytest.mark.parametrize(
    ("kind", "score"), [("classes", "accuracy"), ("labels", "micro_f1"), ("maps", "miou")]
)
def test_what_is_there_to_learn_is_learned_and_the_seed_decides(
    kind, score, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(finetune_tuning, "RATE_RANGE", (3e-3, 1e-2))
    settings = replace(SHORT, trials=2, epochs=12, frozen_epochs=2, select_by=score)
    inputs = make_inputs(kind)
    if kind == "classes":  # and the view with the signal is found
        inputs = replace(inputs, normalisations=("dataset", "pretraining"))
        settings = replace(settings, trials=4)
    found = tune_finetune(inputs, settings, 0, tmp_path / "a")
    truth = inputs.targets[SPLITS["test"]]
    assert metric(score).value(truth, found.predictions.numpy()) > 0.8
    assert found.chosen["normalisation"] == "pretraining"
    assert 1 <= int(found.chosen["epoch"]) <= 12
    short = replace(settings, epochs=2, frozen_epochs=1, trials=1)
    same = [as_bytes(tune_finetune(inputs, short, 1, tmp_path / name)) for name in "bc"]
    assert same[0] == same[1]
    assert same[0] != as_bytes(tune_finetune(inputs, short, 2, tmp_path / "d"))


def test_a_killed_study_ends_where_an_undisturbed_one_ends(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # one trial after another
    inputs = replace(make_inputs(), poolings=("mean", "max"))
    whole = tune_finetune(inputs, SHORT, 5, tmp_path / "whole")
    journal = (tmp_path / "whole").read_bytes().splitlines(keepends=True)

    def killed(done: int, _total: int) -> None:
        if done >= 2 * SHORT.epochs + 2:
            raise KeyboardInterrupt

    path = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        tune_finetune(inputs, SHORT, 5, path, killed)
    trained: list[Trial] = []
    original = finetune_tuning.train

    def counting(*given: Any, **more: Any) -> Any:
        trained.append(given[2])
        return original(*given, **more)

    monkeypatch.setattr(finetune_tuning, "train", counting)
    assert as_bytes(tune_finetune(inputs, SHORT, 5, path)) == as_bytes(whole)
    assert 2 <= len(trained) <= 3  # the two that were left, and the best where it was gone
    path.write_bytes(b"".join(journal))  # all trials were done, nothing was scored on test
    trained.clear()
    assert as_bytes(tune_finetune(inputs, SHORT, 5, path)) == as_bytes(whole)
    assert len(trained) == 1
    with pytest.raises(UserError, match="was made with other settings"):
        tune_finetune(inputs, replace(SHORT, patience=3), 5, path)


def test_two_processes_that_tune_one_cell_find_what_one_finds(tmp_path: Path, monkeypatch) -> None:
    """While the first trains its first trial, another trains all, and is killed at the last."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # one trial after another
    inputs, settings = make_inputs(), replace(SHORT, trials=6)
    whole = tune_finetune(inputs, settings, 5, tmp_path / "whole")
    path, original = tmp_path / "both", finetune_tuning.train
    trained: list[Trial] = []

    def killed(done: int, total: int) -> None:
        if done > total - settings.epochs:
            raise KeyboardInterrupt

    def beside(*given: Any, **more: Any) -> Any:
        monkeypatch.setattr(finetune_tuning, "train", counting)
        with pytest.raises(KeyboardInterrupt):
            tune_finetune(inputs, settings, 5, path, killed)
        return counting(*given, **more)

    def counting(*given: Any, **more: Any) -> Any:
        trained.append(given[2])
        return original(*given, **more)

    monkeypatch.setattr(finetune_tuning, "train", beside)
    with without_locks(monkeypatch):
        assert as_bytes(tune_finetune(inputs, settings, 5, path)) == as_bytes(whole)
    journal = path.read_text().splitlines()
    numbers = [json.loads(line)["user_attrs"]["number"] for line in journal if '"params"' in line]
    assert numbers == [0, 1, 2, 3, 4, 0, 1, 2, 3, 5]
    # The other's six, one of them in vain; the first round again, the last, the best of the other.
    assert 11 <= len(trained) <= 12
    assert as_bytes(tune_finetune(inputs, settings, 5, path)) == as_bytes(whole)


def test_the_number_of_cores_changes_no_byte(tmp_path: Path) -> None:
    inputs, threads = make_inputs(), torch.get_num_threads()
    found = []
    try:
        for cores in (1, 2):
            torch.set_num_threads(cores)
            found.append(as_bytes(tune_finetune(inputs, SHORT, 0, tmp_path / str(cores))))
            assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1]


def test_a_rate_that_diverges_is_a_failed_trial(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(finetune_tuning, "RATE_RANGE", (1e-4, 1e38))
    settings = replace(SHORT, trials=6, select_by="rmse")
    found = tune_finetune(make_inputs("values"), settings, 0, tmp_path / "some")
    states = {trial.number: trial.params["state"] for trial in found.trials}
    assert len(states) == 6
    assert {"failed", "complete"} <= set(states.values())
    failed = [t for t in found.trials if t.params["state"] == "failed"]
    assert {t.val_score for t in failed} == {metric("rmse").worst}
    assert found.val_score == min(t.val_score for t in found.trials)
    assert found.chosen["learning_rate"] not in [t.params["learning_rate"] for t in failed]


def test_when_every_rate_diverges_it_is_said_in_a_sentence(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(finetune_tuning, "RATE_RANGE", (1e36, 1e38))
    with pytest.raises(UserError, match=r"diverged at every learning rate that was tried \(.*e\+3"):
        tune_finetune(make_inputs(), replace(SHORT, trials=2), 0, tmp_path / "all")


def test_a_trial_that_falls_behind_is_pruned_and_kept_in_the_record(
    tmp_path: Path, monkeypatch
) -> None:
    levels = [0.6, 0.8, 0.3, 0.7, 0.2, 0.9]  # a round of four, and two of the next
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # in this order

    def scripted(_inputs, settings, _trial, _seed, _device, after_epoch, *_rest) -> Any:
        level = levels.pop(0)
        for epoch in range(1, settings.epochs + 1):
            after_epoch(epoch, level)
        return finetune.Kept(
            1, level, finetune.TunedModel(make_inputs(), Trial(0, "", "mean"), 0).state_dict()
        )

    monkeypatch.setattr(finetune_tuning, "train", scripted)
    found = tune_finetune(make_inputs(), replace(SHORT, trials=6), 0, tmp_path / "study")
    states = [trial.params["state"] for trial in found.trials]
    assert states == ["complete"] * 4 + ["pruned", "complete"]
    assert [trial.val_score for trial in found.trials] == [0.6, 0.8, 0.3, 0.7, 0.2, 0.9]
    assert found.val_score == 0.9


def test_maps_of_resized_images_are_answered_at_their_own_size() -> None:
    g = torch.Generator().manual_seed(0)
    maps = torch.randint(-1, CLASSES, (5, 11, 11), generator=g)
    answers = answers_of("maps", maps.numpy(), np.arange(5), CLASSES, (3, 3))
    outputs = torch.randn(2, 3, 3, answers.outputs(4), generator=g, requires_grad=True)
    whole = nn.functional.pixel_shuffle(outputs.permute(0, 3, 1, 2), 4)
    logits = nn.functional.interpolate(whole, (11, 11), mode="bilinear")
    rows = np.array([1, 4])
    expected = nn.functional.cross_entropy(logits, maps[rows], ignore_index=-1)
    [expected_gradient] = torch.autograd.grad(expected, outputs)
    [gradient] = torch.autograd.grad(answers.loss(outputs, rows), outputs)
    torch.testing.assert_close(gradient, expected_gradient)
    assert torch.equal(answers.found(outputs.detach())[0].long(), logits.argmax(dim=1))
    nobody = answers_of("maps", np.full((5, 11, 11), -1), np.arange(5), CLASSES, (3, 3))
    [gradient] = torch.autograd.grad(nobody.loss(outputs, rows), outputs)
    assert not gradient.any()


class Fixed(nn.Module):
    """An encoder whose author has switched gradients off."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = new_encoder()

    @torch.no_grad()
    def forward(self, *given: Any) -> Any:
        return self.inner(*given)


def test_an_encoder_that_no_gradient_reaches_is_refused(tmp_path: Path) -> None:
    inputs = replace(make_inputs(), encoder=Fixed)
    with pytest.raises(UserError, match="no gradient reaches its weights"):
        tune_finetune(inputs, replace(SHORT, trials=1), 0, tmp_path / "study")


def _small(change: Callable[..., Variant] = replace) -> list[Variant]:
    registry, found = load_registry(), {}
    for variant in registry.variants():
        width = {"croma": (64, 16), "satmae": (288, 4)}.get(variant.family, (64, 4))
        found[variant.family, variant.version] = change(
            variant, dim=width[0], heads=width[1], depth=2
        )
    return [v for v in found.values() if is_trainable(v)]


@pytest.mark.parametrize("variant", _small(), ids=lambda v: f"{v.family}-{v.version}")
def test_gradients_of_every_family_are_those_of_its_forward_pass(variant: Variant) -> None:
    """The families' paths for inference work in place; here they must not."""
    design, code = design_of(variant), encoder_code(variant)
    patch = max(design.needs.patch_sizes)
    names = design.needs.required or tuple(design.needs.modalities)[:1]
    shapes = with_channels(design, [InputShape(16, 16, 1, name) for name in names])
    encoder = code.build(variant, {s.modality: s.bands or () for s in shapes})
    code.init_random(encoder, 0).eval().double()
    g = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    images = {s.modality: random(2, 16, 16, 1, len(s.bands or ())) for s in shapes}
    seen = random(2, design.width(shapes))

    def value() -> torch.Tensor:
        tokens = encoder(images, TIMES.expand(2, -1, -1), patch)
        return (pool(tokens, "mean") * seen).sum()

    learned = [p for p in encoder.parameters() if p.requires_grad]
    value().backward()
    ways = [random(*p.shape) for p in learned]
    slope = sum(
        float((p.grad * way).sum())
        for p, way in zip(learned, ways, strict=True)
        if p.grad is not None
    )
    ends = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            for p, way in zip(learned, ways, strict=True):
                p.add_(way, alpha=step)
            ends.append(float(value()))
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4)


def test_maps_of_numbers_are_learned_by_squared_error_and_read_off_in_their_unit() -> None:
    rng = np.random.default_rng(0)
    maps = (290 + 5 * rng.standard_normal((4, 8, 8))).astype(np.float32)
    maps[1, :3] = np.nan
    answers = answers_of("value_maps", maps, np.array([0, 1, 2]), 1, (2, 2))
    assert answers.outputs(4) == 16
    outputs = torch.from_numpy(rng.standard_normal((2, 2, 2, 16)).astype(np.float32))
    outputs.requires_grad_()
    found, likely = answers.found(outputs)
    mean, deviation = np.nanmean(maps[:3], dtype=float), np.nanstd(maps[:3], dtype=float)
    by_hand = outputs.view(2, 2, 2, 4, 4).permute(0, 1, 3, 2, 4).reshape(2, 8, 8)
    expected = by_hand.detach().double() * deviation + mean
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    assert likely is None
    wanted = torch.from_numpy((maps[[1, 3]] - mean) / deviation)
    asked = ~wanted.isnan()
    squared = torch.nn.functional.mse_loss(by_hand[asked], wanted[asked].float())
    [expected_gradient] = torch.autograd.grad(squared, outputs, retain_graph=True)
    [gradient] = torch.autograd.grad(answers.loss(outputs, np.array([1, 3])), outputs)
    torch.testing.assert_close(gradient, expected_gradient)


def test_bfloat16_is_taken_where_it_is_asked_for_and_said(tmp_path: Path) -> None:
    half = replace(make_inputs(), precision="bfloat16")
    [single], [halved] = (untouched(i, SPLITS["test"], CPU) for i in (make_inputs(), half))
    assert halved.dtype == np.float32
    assert 1e-5 < np.abs(halved - single).max() < 0.02 * np.abs(single).max()
    settings = replace(SHORT, trials=1, epochs=2)
    chosen = [
        tune_finetune(inputs, settings, 0, tmp_path / name).chosen
        for name, inputs in (("single", make_inputs()), ("half", half))
    ]
    assert [each.get("precision") for each in chosen] == [None, "bfloat16"]
