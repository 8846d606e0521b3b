"""What a variant costs on a task's input: tokens, MACs by part, parameters.

Counted by `macs.py` (fvcore) once per architecture and shape, then kept in the store and in the
user's cache, so that a finished suite, and a table of models, need no tensor library. It must know
nothing of scores.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from harness.content import code_version, content_key, package_versions
from harness.store import Store
from models.cache import cache_folder
from models.cost import MacCount
from models.design import Design
from models.errors import UserError, did_you_mean
from models.families import code_of, design_of, encoder_code
from models.own import counting
from models.own.counting import UncountableError
from models.registry import Variant
from models.tokens import InputShape

if TYPE_CHECKING:
    from torch import nn

COUNTING_CODE = (
    "harness.macs",
    "models.cost",
    "models.encodings",
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


def with_channels(design: Design, shapes: Sequence[InputShape]) -> tuple[InputShape, ...]:
    """Shapes with the channels that the design asks for, where they name none.

    Raises `UserError` for a modality that it does not read.
    """
    needs = design.needs.modalities
    for shape in shapes:
        if shape.modality not in needs:
            raise UserError(
                f"it does not read {shape.modality}: {did_you_mean(shape.modality, needs)}."
            )
    return tuple(
        replace(shape, bands=shape.bands or needs[shape.modality].channels) for shape in shapes
    )


def cost_of(
    variant: Variant, shapes: tuple[InputShape, ...], patch_size: int, store: Store | None
) -> Cost:
    """Cost of one sample of these shapes; counted unless the store or the user's cache knows it."""
    key = content_key(
        {
            "architecture": variant.architecture,
            "shapes": [asdict(shape) for shape in shapes],
            "patch_size": patch_size,
            "code": code_version((*COUNTING_CODE, *code_of(variant))),
            "packages": package_versions(["torch", "fvcore"]),
        }
    )
    # Counting loads torch and traces, for seconds: another store is no reason to do so again.
    places = [Store(cache_folder()), *([store] if store else [])]
    for place in reversed(places):
        known = place.cached("costs", key)
        if known is not None:
            return Cost(**known)
    cost = _count(variant, shapes, patch_size)
    for place in places:
        with contextlib.suppress(OSError):  # it only saves time
            place.cache("costs", key, asdict(cost))
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

    A model without one (a user's own) is traced at each point, once.

    All modalities of ``shapes`` grow together; what does not vary stays as given. Sides are
    rounded to a multiple of the patch size; steps end where the model's do.
    """
    sides = [max(1, round(side / patch_size)) * patch_size for side in CURVE_SIDES]
    for side in dict.fromkeys(sides):
        grown = [replace(shape, height=side, width=side) for shape in shapes]
        yield from _curve_point("side", side, variant, grown, patch_size)
    for steps in CURVE_STEPS[: design_of(variant).needs.max_steps]:
        grown = [replace(shape, steps=steps) for shape in shapes]
        yield from _curve_point("steps", steps, variant, grown, patch_size)


def _curve_point(
    axis: Literal["side", "steps"],
    value: int,
    variant: Variant,
    shapes: Sequence[InputShape],
    patch_size: int,
) -> Iterator[CurvePoint]:
    """One point, or none where the model takes no such input."""
    design = design_of(variant)
    try:
        tokens = design.layout(shapes, patch_size).tokens
        yield CurvePoint(axis, value, tokens, design.macs(shapes, patch_size))
    except UserError:
        return


def _count_users_own(encoder: nn.Module, shapes: Sequence[InputShape], patch_size: int) -> MacCount:
    """Trace a user's own class. Raises `UncountableError`, with a way out."""
    from harness.macs import UnknownOperatorError, count_macs  # noqa: PLC0415

    try:
        return count_macs(encoder, shapes, patch_size)
    except UnknownOperatorError as error:
        raise UncountableError(
            f"{error}; build the class of other operators, or give it a method macs(shapes, "
            "patch_size) that says what one sample costs."
        ) from None


counting.COUNTER.count = _count_users_own
counting.COUNTER.version = lambda: code_version(COUNTING_CODE)


def _count(variant: Variant, shapes: tuple[InputShape, ...], patch_size: int) -> Cost:
    from harness.macs import build_on_meta, count_macs  # noqa: PLC0415  (torch loads with it)

    design = design_of(variant)
    given = with_channels(design, shapes)
    channels = {shape.modality: shape.bands or () for shape in given}
    encoder = build_on_meta(lambda: encoder_code(variant).build(variant, channels))
    closed = getattr(design, "closed_form", True)
    found = count_macs(encoder, given, patch_size) if closed else design.macs(given, patch_size)
    return Cost(
        tokens=design.layout(given, patch_size).tokens,
        params=sum(parameter.numel() for parameter in encoder.parameters()),
        patch_embedding=found.patch_embedding,
        linear=found.linear,
        attention=found.attention,
    )
