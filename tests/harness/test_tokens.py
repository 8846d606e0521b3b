"""`tokenrank tokens`: the registry's designs, drawn; memory's closed form against allocations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.atlas.collect import default_variants, entry_of, parameters, shapes_for
from harness.atlas.measure import Subject, measured_entry, peak_bytes
from harness.atlas.memory import activation_bytes
from models.families import design_of
from models.registry import Variant, load_registry
from models.tokens import InputShape
from reports.io import load_results

CPU = torch.device("cpu")
FLOAT = 4  # bytes


def shapes_of(variant: Variant, side: int, steps: int = 1) -> tuple[InputShape, ...]:
    return shapes_for(design_of(variant), (), side, side, steps)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Kernels take scratch memory for each thread, which the closed form leaves out."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("name", "side", "patch_size"),
    [
        ("olmoearth-v1-nano", 64, 4),
        ("olmoearth-v1-nano:per-band", 64, 8),
        ("olmoearth-v1.1-tiny", 64, 4),  # whose per-pixel layer is wider than its blocks
        ("olmoearth-v1.2-tiny", 64, 4),  # which keeps the rotations of every block
        ("galileo-v1-nano", 128, 8),
        ("croma-v1-base", 128, 8),  # whose penalty on attention is 16 x N x N
        ("croma-v1-base:joint", 128, 8),
    ],
)
def test_closed_form_of_memory_is_what_torch_allocates(
    name: str, side: int, patch_size: int
) -> None:
    variant = load_registry().variant(name)
    shapes = shapes_of(variant, side)
    subject = Subject(variant, shapes, CPU)
    given = subject.inputs(shapes, 1)
    measured = peak_bytes(lambda: subject.encode(given, patch_size), CPU)
    closed = activation_bytes(variant, design_of(variant), shapes, patch_size)
    assert closed is not None
    # What kernels scratch on is left out, so the form is never above what was measured.
    assert 0.91 * measured < closed < measured


def test_peak_memory_is_counted_to_the_byte() -> None:
    kept: list[torch.Tensor] = []

    def forward() -> torch.Tensor:
        if not kept:
            scratch = torch.empty(500_000)  # to make a table, once
            kept.append(scratch[:1000].clone())  # for all passes
            del scratch
        first = torch.empty(50_000)
        second = torch.empty(20_000)
        del first
        return torch.cat([second, torch.empty(10_000)])

    assert peak_bytes(forward, CPU) == pytest.approx(FLOAT * (1000 + 70_000), abs=64 * 4)


def test_parameters_are_those_of_the_real_encoder() -> None:
    variant = load_registry().variant("olmoearth-v1-nano")
    subject = Subject(variant, shapes_of(variant, 16), CPU)
    counted = sum(weight.numel() for weight in subject.encoder.parameters())
    assert parameters(variant, shapes_of(variant, 16)) == counted


def test_measurements_lie_on_the_curves_and_include_the_own_input() -> None:
    registry = load_registry()
    variant = registry.variant("olmoearth-v1.1-nano")
    shapes = shapes_of(variant, 32, steps=2)
    entry = entry_of(variant, shapes, 8, None)
    found = measured_entry(entry, variant, shapes, seconds=0.0).measured
    places = {(m.axis, m.value) for m in found}
    assert {("side", 32), ("steps", 2), ("patch_size", 8)} <= places
    assert places <= {(point.axis, point.value) for point in entry.curves}
    own = [m for m in found if (m.axis, m.value) in {("side", 32), ("steps", 2)}]
    assert len({(m.peak_bytes, m.samples_per_second) for m in own}) == 1  # measured once
    assert all(m.samples_per_second > 0 for m in found)


def test_every_version_and_scheme_of_the_registry_is_in_the_default_set() -> None:
    registry = load_registry()
    shown = default_variants(registry)
    for family in registry.families.values():
        mine = [variant for variant in shown if variant.family == family.name]
        assert {v.version for v in mine} == set(family.versions)
        assert {v.scheme.name for v in mine} == set(family.schemes)


def test_the_drawn_tokens_are_those_that_the_encoder_gives() -> None:
    registry = load_registry()
    for name in ("olmoearth-v1-nano", "galileo-v1-nano:with-ndvi"):
        variant = registry.variant(name)
        shapes = shapes_of(variant, 16, steps=2)
        entry = entry_of(variant, shapes, 4, None)
        subject = Subject(variant, shapes, CPU)
        given = subject.encode(subject.inputs(shapes, 1), 4)
        assert entry.tokens == sum(tokens[..., 0].numel() for tokens in given.values())


# --- the command ------------------------------------------------------------------------------

Command = Callable[..., Any]


def test_what_a_family_cannot_cut_is_told_and_the_others_are_drawn(
    tokenrank: Command, tmp_path: Path
) -> None:
    names = ("olmoearth-v1-nano", "satmae-pretrain-base")
    ended = tokenrank("tokens", *names, "--patch-size", "4", "--out", str(tmp_path / "atlas"))
    assert ended.code == 0
    assert "64/4 × 64/4 × 1 step × 3 groups = 768 tokens" in ended.out
    assert "satmae-pretrain-base cannot: " in " ".join(ended.out.split())
    record = json.loads((tmp_path / "atlas" / "atlas.json").read_text())["atlas"]
    assert [e["variant"] for e in record["entries"]] == ["olmoearth-v1-nano"]
    assert [r["variant"] for r in record["refused"]] == ["satmae-pretrain-base"]
    page = (tmp_path / "atlas" / "atlas.html").read_text()
    assert "satmae-pretrain-base cannot: " in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("olmoerth-v1-nano",), "olmoearth"),
        (("satmae-pretrain-base", "--patch-size", "4"), "satmae-pretrain-base cannot be shown"),
        (("--modality", "sentinel3"), "sentinel"),
        (("olmoearth-v1-nano", "--height", "60"), "60"),
        (("olmoearth-v1-nano", "--steps", "13"), "at most 12 time steps"),
        (("croma-v1-base", "--modality", "landsat"), "landsat"),
    ],
)
def test_mistakes_end_in_one_sentence(
    tokenrank: Command, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    ended = tokenrank("tokens", *arguments, "--out", str(tmp_path / "atlas"))
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not (tmp_path / "atlas").exists()


def test_a_folder_that_cannot_be_written_is_a_sentence(tokenrank: Command, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    ended = tokenrank("tokens", "olmoearth-v1-nano", "--out", str(tmp_path / "taken"))
    assert ended.code == 2
    assert "--out" in ended.err


def test_a_users_own_scheme_is_drawn_like_any_other(tokenrank: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "family: olmoearth\n"
        "schemes:\n"
        "  mine:\n"
        "    title: water, and the rest\n"
        "    sentinel2_l2a:\n"
        "      - [B03, B11]\n"
        "      - [B02, B04, B08, B05, B06, B07, B8A, B12, B01, B09]\n"
    )
    registry = ("--registry", str(tmp_path / "mine.yaml"))
    out = tmp_path / "atlas"
    ended = tokenrank("tokens", "olmoearth-v1-nano:mine", *registry, "--out", str(out))
    assert ended.code == 0
    svg = (out / "atlas_tokens_olmoearth.svg").read_text()
    assert "water, and the rest" in svg
    assert "B03 B11: 64 tokens" in svg


def test_the_results_of_a_run_hold_its_atlas(small_run: Any) -> None:
    atlas = load_results(small_run.results).atlas
    assert atlas is not None
    found = {entry.variant: entry for entry in atlas.entries}
    three = found["olmoearth-three-pico"]
    assert three.tokens == 3 * (atlas.height // 8) * (atlas.width // 8) * atlas.steps
    assert three.params == parameters(
        load_registry((small_run.suite.parent / "pico.yaml",)).variant("olmoearth-three-pico"),
        shapes_of(load_registry().variant("olmoearth-v1-nano"), 64),
    )
    assert not atlas.is_measured
