"""The registry: names resolve to what the field means by them, mistakes are answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import UserError
from models.registry import load_registry
from models.sensors import DERIVED, modality
from models.tokens import InputShape, token_count


@pytest.mark.parametrize(
    ("name", "groups", "tokens"),
    # FIELD: tokens = (H/p) (W/p) T G; 64 x 64 pixels at patch 4 are 256 patches.
    [
        ("olmoearth-v1-nano", 3, 768),
        ("olmoearth-v1-nano:single", 1, 256),
        ("olmoearth-v1.1-base", 1, 256),
        ("olmoearth-v1.1-tiny:per-resolution", 3, 768),
        ("olmoearth-v1-tiny:per-band", 12, 3072),
        ("olmoearth-v1-large:two-groups", 2, 512),
    ],
)
def test_names_resolve_to_band_groups_and_tokens(name: str, groups: int, tokens: int) -> None:
    variant = load_registry().variant(name)
    assert len(variant.scheme.of("sentinel2_l2a")) == groups
    assert token_count(variant.scheme, [InputShape(64, 64)], 4) == tokens


def test_every_shipped_scheme_covers_every_band_once_or_says_that_it_ignores_it() -> None:
    for family in load_registry().families.values():
        for scheme in family.schemes.values():
            for name, groups in scheme.groups.items():
                derived = DERIVED.get(name, {})
                bands = [band for group in groups for band in group if band not in derived]
                bands += scheme.ignored.get(name, ())
                assert sorted(bands) == sorted(modality(name).band_names)


def test_own_scheme_is_no_departure_and_keeps_its_official_weights() -> None:
    registry = load_registry()
    assert registry.variant("olmoearth-v1-nano:per-resolution").name == "olmoearth-v1-nano"
    assert registry.variant("olmoearth-v1-nano").official.hub == "allenai/OlmoEarth-v1-Nano"
    assert registry.variant("olmoearth-v1-nano:single").official is None


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("olmoearth-v1.1-large", 'has no size "large"'),
        ("olmoearth-v1-nani", 'did you mean "nano"'),
        ("olmoearht-v1-nano", 'did you mean "olmoearth"'),
        ("olmoearth-v1-nano:singel", 'did you mean "single"'),
        ("olmoearth-v3-nano", 'unknown version "v3"'),
        ("nano", "family-version-size"),
    ],
)
def test_unknown_names_are_answered_with_what_is_allowed(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_registry().variant(name)


USER_FILE = """\
family: olmoearth
sizes:
  pico: {dim: 64, depth: 2, heads: 4}
versions:
  mine:
    scheme: visible-first
    sizes: [pico]
schemes:
  visible-first:
    sentinel2_l2a:
      - [B04, B03, B02]
      - [B08, B05, B06, B07, B8A, B11, B12, B01, B09]
"""


def test_a_user_adds_a_variant_without_python(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(USER_FILE)
    variant = load_registry([file]).variant("olmoearth-mine-pico")
    assert variant.dim == 64
    # The order inside a group is the user's: it decides the layout of the weights.
    assert variant.scheme.band_indices("sentinel2_l2a")[0] == (2, 1, 0)


@pytest.mark.parametrize(
    ("old", "new", "line", "sentence"),
    [
        ("[B04, B03, B02]", "[B04, B03]", 10, "leaves out B02"),
        ("[B04, B03, B02]", "[B04, B03, B02, B04]", 10, "names band B04"),
        ("[B04, B03, B02]", "[B04, B03, B2]", 10, 'no band "B2".*did you mean'),
        ("sentinel2_l2a", "sentinel3", 10, 'Unknown modality "sentinel3"'),
        ("heads: 4", "heads: 5", 3, "divisible by its 5 heads"),
        ("sizes: [pico]", "sizes: [pica]", 7, 'did you mean "pico"'),
        ("visible-first:", "single:", 9, "choose another name"),
        ("dim: 64", "dims: 64", 3, 'unknown key "dims".*did you mean "dim"'),
    ],
)
def test_mistakes_in_a_registry_file_name_file_and_line(
    tmp_path: Path, old: str, new: str, line: int, sentence: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(USER_FILE.replace(old, new, 1))
    with pytest.raises(UserError, match=f"mine.yaml:{line}: .*{sentence}"):
        load_registry([file])


def test_all_that_shapes_an_encoder_is_in_its_architecture() -> None:
    # The architecture stands for the encoder in every content key: equal ones share results.
    variants = {v.name: v for v in load_registry().variants()}
    projection = variants["baseline-projection-512"].architecture
    assert projection != variants["baseline-convolutions-512"].architecture
    v1, merged = (
        load_registry().variant(f"olmoearth-v1-nano{scheme}") for scheme in ("", ":single")
    )
    assert v1.architecture != merged.architecture != variants["olmoearth-v1.1-nano"].architecture
