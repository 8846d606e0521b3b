"""Every registered variant: its design's arithmetic is what its encoder really does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.costs import with_channels
from harness.macs import build_on_meta, count_macs
from models.design import Design
from models.families import design_of, encoder_code
from models.registry import Registry, Variant, load_registry
from models.tokens import InputShape


def _everything(registry: Registry) -> list[Variant]:
    """The smallest size of each version, in every scheme: sizes differ in numbers only."""
    found = []
    for family in registry.families.values():
        for version, entry in family.versions.items():
            sizes = sorted(entry.sizes, key=lambda s: family.sizes[s].depth * family.sizes[s].dim)
            base = f"{family.name}-{version}-{sizes[0]}"
            found += [registry.variant(f"{base}:{scheme}") for scheme in family.schemes]
    return found


EVERY = _everything(load_registry())


def _shapes(design: Design) -> list[tuple[InputShape, ...]]:
    """One input per modality, and all modalities together where they may come together."""
    needs = design.needs
    patch, steps = max(needs.patch_sizes), min(2, needs.max_steps)
    wide = 2 * patch if needs.square else 3 * patch
    each = [InputShape(2 * patch, wide, steps, name) for name in needs.modalities]
    alone = [] if len(needs.required) > 1 else [(shape,) for shape in each]
    return [*alone, tuple(each)]


@pytest.mark.parametrize("variant", EVERY, ids=lambda v: v.name)
def test_counted_macs_equal_the_closed_form(variant: Variant) -> None:
    design = design_of(variant)
    patch = max(design.needs.patch_sizes)
    for shapes in _shapes(design):
        given = with_channels(design, shapes)
        channels = {shape.modality: shape.bands or () for shape in given}

        def build(channels: dict[str, tuple[str, ...]] = channels) -> torch.nn.Module:
            return encoder_code(variant).build(variant, channels)

        counted = count_macs(build, given, patch)
        assert counted == design.macs(given, patch), shapes


@pytest.mark.parametrize("variant", EVERY, ids=lambda v: v.name)
def test_tokens_and_width_are_those_that_come_out(variant: Variant) -> None:
    design = design_of(variant)
    patch = max(design.needs.patch_sizes)
    for shapes in _shapes(design):
        given = with_channels(design, shapes)
        channels = {shape.modality: shape.bands or () for shape in given}
        encoder = build_on_meta(lambda c=channels: encoder_code(variant).build(variant, c))
        images = {
            s.modality: torch.zeros(1, s.height, s.width, s.steps, len(s.bands or ()))
            for s in given
        }
        encoder = encoder.to_empty(device="cpu").eval()
        with torch.inference_mode():
            stamps = torch.zeros(1, given[0].steps, 3, dtype=torch.int64)
            found = encoder(images, stamps, patch)
        layout = design.layout(given, patch)
        widths = {tokens.shape[-1] for tokens in found.values()}
        assert widths == {design.width(given)}
        came_out = sum(tokens[..., 0].numel() for tokens in found.values())
        last = layout.kinds[-1].sequence
        held = sum(k.count for k in layout.kinds if k.modality and k.sequence == last)
        assert came_out == held, layout


def test_channels_of_a_shape_are_the_designs_unless_it_names_its_own() -> None:
    design = design_of(load_registry().variant("baseline-projection-512"))
    (asked,) = with_channels(design, [InputShape(8, 8)])
    assert len(asked.bands or ()) == 12
    own = replace(asked, bands=("B02",))
    assert with_channels(design, [own]) == (own,)
