"""Variants' designs as the plain data that the atlas is drawn from.

Everything comes from `models.design.Design`, so a user's own model is drawn like any other. It
must not import a tensor library, nor know any family.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.atlas.memory import activation_bytes
from harness.costs import with_channels
from models.cost import MacCount
from models.design import Design
from models.errors import UserError
from models.families import design_of
from models.needs import check_shapes
from models.registry import Registry, Variant
from models.sensors import DERIVED, MODALITIES, Band
from models.tokens import InputShape
from reports.atlas import (
    Axis,
    Channel,
    CurvePoint,
    Entry,
    Kind,
    Macs,
    Region,
    Strip,
)

SIDES = (8, 16, 32, 64, 96, 128, 192, 256)  # pixels
STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
PATCH_SIZES = tuple(range(1, 9))

ATMOSPHERE = ("B01", "B09", "B10")
"""Sentinel-2's bands for aerosols, water vapour and cirrus, whatever their wavelength."""


def default_variants(registry: Registry) -> list[Variant]:
    """The smallest variant of each version, and of each further scheme of a family.

    A scheme that no version has for its own is put on the family's first version. What has no
    transformer blocks comes last.
    """
    found = []
    for family in registry.families.values():
        own = {entry.scheme for entry in family.versions.values()}
        for version, entry in family.versions.items():
            size = min(
                entry.sizes, key=lambda name: (family.sizes[name].dim, entry.sizes.index(name))
            )
            base = f"{family.name}-{version}-{size}"
            found.append(registry.variant(base))
            if version == next(iter(family.versions)):
                others = (name for name in family.schemes if name not in own)
                found += [registry.variant(f"{base}:{name}") for name in others]
    return sorted(found, key=lambda variant: not variant.depth)


def shapes_for(
    design: Design, modalities: Sequence[str], height: int, width: int, steps: int
) -> tuple[InputShape, ...]:
    """One sample's shapes with the channels that the design asks for.

    Without ``modalities``: Sentinel-2 where the design reads it, and what it cannot do without.
    Raises `UserError` for a modality that it does not read.
    """
    wanted = tuple(dict.fromkeys(modalities)) or _usual(design)
    return with_channels(design, [InputShape(height, width, steps, name) for name in wanted])


def _usual(design: Design) -> tuple[str, ...]:
    needs = design.needs
    if needs.required:
        return needs.required
    names = tuple(needs.modalities)
    return ("sentinel2_l2a",) if "sentinel2_l2a" in names else names[:1]


def entry_of(
    variant: Variant,
    shapes: Sequence[InputShape],
    patch_size: int,
    params: int | None,
    name: str = "",
) -> Entry:
    """The variant at this input; `UserError` where its design cannot cut it."""
    design = design_of(variant)
    check_shapes(variant.name, design.needs, shapes, patch_size)
    layout = design.layout(shapes, patch_size)
    return Entry(
        variant=name or variant.name,
        family=variant.family,
        version=variant.version,
        size=variant.size,
        scheme=variant.scheme.name,
        scheme_title=variant.scheme.title,
        dim=variant.dim or design.width(shapes),
        depth=variant.depth,
        heads=variant.heads,
        patch_size=patch_size,
        strips=tuple(strip_of(design, shape) for shape in shapes),
        kinds=tuple(
            Kind(k.name, k.modality, k.bands, k.rows, k.columns, k.steps, k.sequence)
            for k in layout.kinds
        ),
        macs=_macs(design.macs(shapes, patch_size)),
        activation_bytes=activation_bytes(variant, design, shapes, patch_size),
        params=params,
        curves=tuple(_curves(variant, design, shapes, patch_size)),
    )


def _macs(count: MacCount) -> Macs:
    return Macs(count.patch_embedding, count.linear, count.attention)


# --- channels -------------------------------------------------------------------------------


def strip_of(design: Design, shape: InputShape) -> Strip:
    """All bands of the shape's modality, read or not, and the derived channels that are read."""
    sensor = MODALITIES.get(shape.modality)
    derived = DERIVED.get(shape.modality, {})
    asked = design.needs.modalities[shape.modality].channels
    read = shape.bands or asked
    bands = sorted(sensor.bands if sensor else (), key=_place)
    channels = [
        # Some resolutions are written as whole numbers. Read again from a file, they are not, and
        # the same results must be the same bytes.
        Channel(b.name, region_of(shape.modality, b), float(b.resolution), b.name in read)
        for b in bands
    ]
    known = {channel.name for channel in channels}
    for name in (channel for channel in read if channel not in known):
        made_from = derived.get(name, ())
        channels.append(Channel(name, "derived" if made_from else "other", None, True, made_from))
    title = sensor.title if sensor else shape.modality
    return Strip(shape.modality, title, shape.height, shape.width, shape.steps, tuple(channels))


def _place(band: Band) -> tuple[float, str]:
    return (band.wavelength or 0.0, band.name)


def region_of(modality_name: str, band: Band) -> Region:
    """Part of the spectrum, by centre wavelength (ESA's and USGS's user guides of the sensors)."""
    if band.wavelength is None:
        return "radar"
    if modality_name.startswith("sentinel2") and band.name in ATMOSPHERE:
        return "atmosphere"
    if modality_name == "landsat" and band.name in ("B1", "B9"):
        return "atmosphere"  # coastal aerosol, cirrus
    limits: tuple[tuple[float, Region], ...] = (
        (690, "visible"),
        (800, "red edge"),
        (1300, "near infrared"),
        (3000, "short wave"),
    )
    return next((region for limit, region in limits if band.wavelength < limit), "thermal")


# --- curves -----------------------------------------------------------------------------------


def changed(
    shapes: Sequence[InputShape], patch_size: int, axis: Axis, value: int
) -> tuple[tuple[InputShape, ...], int]:
    """The input with one thing changed: shapes and patch size."""
    if axis == "patch_size":
        return tuple(shapes), value
    if axis == "steps":
        return tuple(replace(shape, steps=value) for shape in shapes), patch_size
    return tuple(replace(shape, height=value, width=value) for shape in shapes), patch_size


def values_of(
    design: Design, shapes: Sequence[InputShape], patch_size: int, axis: Axis
) -> list[int]:
    """Values at which an axis is drawn, that the design can be asked for; the input's own too."""
    needs = design.needs
    if axis == "patch_size":
        sides = {side for shape in shapes for side in (shape.height, shape.width)}
        sizes = [size for size in PATCH_SIZES if not any(side % size for side in sides)]
        return [size for size in sizes if size in needs.patch_sizes]
    if axis == "steps":
        return [n for n in sorted({*STEPS, shapes[0].steps}) if n <= needs.max_steps]
    first = shapes[0]
    own = {first.height} if first.height == first.width else set()
    sides = {max(1, round(side / patch_size)) * patch_size for side in SIDES}
    return sorted(sides | own)


def _curves(
    variant: Variant, design: Design, shapes: Sequence[InputShape], patch_size: int
) -> Iterator[CurvePoint]:
    axes: tuple[Axis, ...] = ("side", "steps", "patch_size")
    for axis in axes:
        for value in values_of(design, shapes, patch_size, axis):
            grown, cut = changed(shapes, patch_size, axis, value)
            try:
                tokens = design.layout(grown, cut).tokens
                macs = _macs(design.macs(grown, cut))
            except UserError:
                continue  # the curve ends where the design does
            held = activation_bytes(variant, design, grown, cut)
            yield CurvePoint(axis, value, tokens, macs, held)


def parameters(variant: Variant, shapes: Sequence[InputShape]) -> int:
    """Counted on an encoder that has no memory; torch loads for it."""
    from harness.macs import build_on_meta  # noqa: PLC0415
    from models.families import encoder_code  # noqa: PLC0415

    channels = {shape.modality: shape.bands or () for shape in shapes}
    code = encoder_code(variant)
    encoder = build_on_meta(lambda: code.build(variant, channels))
    return sum(parameter.numel() for parameter in encoder.parameters())
