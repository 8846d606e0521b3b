"""What a variant costs on a task's input: tokens, MACs by part, parameters.

Counted by `macs.py` (fvcore) once per architecture and shape, then kept in the store,
so that a finished suite needs no tensor library to be shown again. It must know nothing
of scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from harness.content import code_version, content_key, package_versions
from harness.store import Store
from models.cost import MacCount, closed_form_macs
from models.registry import Variant
from models.tokens import InputShape, token_count
from suites.datasets.base import DatasetCard

COUNTING_CODE = (
    "harness.macs",
    "models.cost",
    "models.encodings",
    "models.olmoearth",
    "models.tokens",
    "models.transformer",
)


@dataclass(frozen=True)
class Cost:
    """Cost of encoding one sample; MACs are multiply-accumulate operations."""

    tokens: int
    params: int
    patch_embedding: int
    linear: int
    attention: int

    @property
    def macs(self) -> int:
        """All MACs, attention's two matrix products included."""
        return self.patch_embedding + self.linear + self.attention


def input_shapes(card: DatasetCard) -> tuple[InputShape, ...]:
    """The input shapes that a data set gives an encoder, one per modality."""
    return tuple(InputShape(card.height, card.width, card.steps, name) for name in card.bands)


def cost_of(
    variant: Variant, shapes: tuple[InputShape, ...], patch_size: int, store: Store | None
) -> Cost:
    """Cost of one sample of these shapes; counted now unless the store knows it."""
    key = content_key(
        {
            "architecture": variant.architecture,
            "shapes": [asdict(shape) for shape in shapes],
            "patch_size": patch_size,
            "code": code_version(COUNTING_CODE),
            "packages": package_versions(["torch", "fvcore"]),
        }
    )
    known = store.cached("costs", key) if store else None
    if known is not None:
        return Cost(**known)
    cost = _count(variant, shapes, patch_size)
    if store:
        store.cache("costs", key, asdict(cost))
    return cost


CURVE_SIDES = (16, 32, 64, 96, 128, 192, 256)  # pixels
CURVE_STEPS = tuple(range(1, 13))


@dataclass(frozen=True)
class CurvePoint:
    """Cost of one sample at another image side (pixels) or number of time steps."""

    axis: Literal["side", "steps"]
    value: int
    tokens: int
    macs: MacCount


def cost_curve(
    variant: Variant, shapes: Sequence[InputShape], patch_size: int
) -> Iterator[CurvePoint]:
    """How a variant's cost grows with the image's side, and with time steps, by closed form.

    All modalities of ``shapes`` grow together; what does not vary stays as given. Sides are
    rounded to a multiple of the patch size.
    """
    sides = [max(1, round(side / patch_size)) * patch_size for side in CURVE_SIDES]
    for side in dict.fromkeys(sides):
        grown = [replace(shape, height=side, width=side) for shape in shapes]
        yield _curve_point("side", side, variant, grown, patch_size)
    for steps in CURVE_STEPS:
        grown = [replace(shape, steps=steps) for shape in shapes]
        yield _curve_point("steps", steps, variant, grown, patch_size)


def _curve_point(
    axis: Literal["side", "steps"],
    value: int,
    variant: Variant,
    shapes: Sequence[InputShape],
    patch_size: int,
) -> CurvePoint:
    tokens = token_count(variant.scheme, shapes, patch_size)
    return CurvePoint(axis, value, tokens, closed_form_macs(variant, shapes, patch_size))


def _count(variant: Variant, shapes: tuple[InputShape, ...], patch_size: int) -> Cost:
    from harness.macs import count_macs  # noqa: PLC0415  (torch loads with it)
    from models.olmoearth.encoder import OlmoEarthEncoder, parameter_count  # noqa: PLC0415

    config = variant.config()
    found = count_macs(lambda: OlmoEarthEncoder(config), shapes, patch_size)
    return Cost(
        tokens=token_count(variant.scheme, shapes, patch_size),
        params=parameter_count(config),
        patch_embedding=found.patch_embedding,
        linear=found.linear,
        attention=found.attention,
    )
