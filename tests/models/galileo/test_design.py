"""The closed form of the cost against a trace of the real module, and what the design says."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from harness.costs import with_channels
from harness.macs import count_macs
from models.errors import UserError
from models.families import design_of, encoder_code
from models.registry import load_registry
from models.tokens import InputShape

S2, S1 = "sentinel2_l2a", "sentinel1"


@pytest.mark.parametrize("scheme", ["", ":with-ndvi"])
@pytest.mark.parametrize("names", [(S2,), (S1,), (S2, S1)])
@pytest.mark.parametrize(
    ("height", "width", "steps", "p"),
    [(64, 64, 1, 8), (32, 16, 1, 4), (12, 12, 3, 1), (1, 1, 24, 1), (14, 21, 2, 7), (10, 5, 1, 5)],
)
def test_the_closed_form_is_the_trace(
    scheme: str, names: tuple[str, ...], height: int, width: int, steps: int, p: int
) -> None:
    shapes = [InputShape(height, width, steps, name) for name in names]
    assert_counted(f"galileo-v1-nano{scheme}", shapes, p)


@pytest.mark.parametrize("size", ["tiny", "base"])
@pytest.mark.parametrize("scheme", ["", ":with-ndvi"])
def test_the_closed_form_is_the_trace_of_every_size(size: str, scheme: str) -> None:
    shapes = [InputShape(14, 21, 2, name) for name in (S2, S1)]
    assert_counted(f"galileo-v1-{size}{scheme}", shapes, 7)


def assert_counted(name: str, shapes: list[InputShape], patch_size: int) -> None:
    variant = load_registry().variant(name)
    given = with_channels(design_of(variant), shapes)
    traced = count_macs(partial(encoder_code(variant).build, variant, {}), given, patch_size)
    assert design_of(variant).macs(shapes, patch_size) == traced


def test_nano_on_a_eurosat_tile_by_hand() -> None:
    design = design_of(load_registry().variant("galileo-v1-nano"))
    count = design.macs([InputShape(64, 64)], 8)
    assert count.patch_embedding == 64 * 64 * 10 * 128  # every pixel of ten bands once
    assert count.linear == 4 * 320 * 12 * 128**2
    assert count.attention == 4 * 2 * 320**2 * 128


def test_groups_are_named_for_a_reader_and_ndvi_is_left_as_it_is() -> None:
    design = design_of(load_registry().variant("galileo-v1-nano:with-ndvi"))
    layout = design.layout([InputShape(16, 8, 2, S2), InputShape(16, 8, 2, S1)], 4)
    assert [kind.name for kind in layout.kinds] == [
        "RGB (B02 B03 B04)",
        "red edge (B05 B06 B07)",
        "near infrared, 10 m (B08)",
        "near infrared, 20 m (B8A)",
        "short wave infrared (B11 B12)",
        "vegetation index (NDVI of B08 and B04)",
        "radar (VV VH)",
    ]
    assert layout.groups == 6
    assert layout.tokens == 4 * 2 * 2 * 7
    optical = design.needs.modalities[S2]
    assert " ".join(optical.channels) == "B02 B03 B04 B05 B06 B07 B08 B8A B11 B12 NDVI"
    assert optical.fixed == ("NDVI",)
    assert optical.shift is not None
    assert optical.divisor is not None
    assert (optical.shift[-1], optical.divisor[-1]) == (0.0, 1.0)


def test_the_weights_and_their_licence_are_known_for_both_schemes() -> None:
    for name in ("galileo-v1-tiny", "galileo-v1-tiny:with-ndvi"):
        official = load_registry().variant(name).official
        assert official is not None
        assert (official.hub, official.licence) == ("nasaharvest/galileo", "MIT")
        assert official.file == "models/tiny/encoder.pt"
        assert official.config == "models/tiny/config.json"


@pytest.mark.parametrize(
    ("shape", "p", "words"),
    [
        (InputShape(8, 8, 25, S2), 4, "at most 24 time steps.*25"),
        (InputShape(8, 10, 1, S2), 4, "does not divide"),
        (InputShape(8, 8, 1, "landsat"), 4, "landsat.*covers sentinel2_l2a, sentinel1"),
    ],
)
def test_what_it_cannot_cut_is_said_in_a_sentence(shape: InputShape, p: int, words: str) -> None:
    design = design_of(load_registry().variant("galileo-v1-nano"))
    for ask in (design.layout, design.macs):
        with pytest.raises(UserError, match=words):
            ask([shape], p)


def test_a_scheme_with_bands_that_galileo_was_never_given_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "family: galileo\nschemes:\n"
        "  everything: {sentinel2_l2a: all}\n"
        "  landsat: {landsat: all}\n"
        "  single: {sentinel2_l2a: [[B02, B03, B04, B05, B06, B07, B08, B8A, B11, B12]],"
        " ignored: {sentinel2_l2a: [B01, B09]}}\n"
    )
    registry = load_registry([file])
    with pytest.raises(UserError, match=r"B01.*ignored"):
        _ = design_of(registry.variant("galileo-v1-nano:everything")).needs
    with pytest.raises(UserError, match="never given landsat"):
        _ = design_of(registry.variant("galileo-v1-nano:landsat")).needs
    single = registry.variant("galileo-v1-nano:single")
    assert single.official is None
    shapes = [InputShape(16, 16)]
    assert design_of(single).layout(shapes, 8).tokens == 4
    given = with_channels(design_of(single), shapes)
    traced = count_macs(partial(encoder_code(single).build, single, {}), given, 8)
    assert design_of(single).macs(shapes, 8) == traced


def test_the_design_needs_no_tensor_library() -> None:
    code = (
        "import sys; from models.families import design_of; from models.registry import "
        "load_registry; design_of(load_registry().variant('galileo-v1-nano')).needs; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
