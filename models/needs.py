"""Refuse what an encoder cannot take, by the needs that its design declares.

One sentence each, before anything is computed. It must not import a tensor library, nor know
any family: ``who`` is the name that the sentence gives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from models.design import InputNeeds
from models.errors import UserError, did_you_mean
from models.tokens import InputShape, patch_grid

if TYPE_CHECKING:
    from torch import Tensor


def check_shapes(
    who: str, needs: InputNeeds, shapes: Sequence[InputShape], patch_size: int
) -> None:
    """`UserError` unless one sample of these shapes can be cut and encoded."""
    if patch_size not in needs.patch_sizes:
        raise UserError(
            f"{who} cannot cut patches of {patch_size} pixels; "
            f"allowed: {', '.join(map(str, needs.patch_sizes))}."
        )
    given = [shape.modality for shape in shapes]
    for name in given:
        if name not in needs.modalities:
            raise UserError(
                f'{who} does not read modality "{name}": {did_you_mean(name, needs.modalities)}.'
            )
    missing = [name for name in needs.required if name not in given]
    if missing or not given:
        raise UserError(
            f"{who} needs images of {' and '.join(needs.required or needs.modalities)}; "
            f"given: {', '.join(given) or 'none'}."
        )
    for shape in shapes:
        _check_shape(who, needs, shape, patch_size)


def _check_shape(who: str, needs: InputNeeds, shape: InputShape, patch_size: int) -> None:
    if shape.steps > needs.max_steps:
        raise UserError(
            f"{who} takes at most {needs.max_steps} time step{'s' if needs.max_steps > 1 else ''} "
            f"and the {shape.modality} images have {shape.steps}; give fewer."
        )
    if needs.square and shape.height != shape.width:
        raise UserError(
            f"{who} takes square images only; these are {shape.height} x {shape.width} pixels."
        )
    if min(shape.height, shape.width) < patch_size:
        raise UserError(
            f"{who} cuts patches of {patch_size} pixels and the {shape.modality} images are "
            f"{shape.height} x {shape.width}; give images of at least one patch."
        )
    patch_grid(shape, patch_size)


def check_images(
    who: str, needs: InputNeeds, images: Mapping[str, Tensor], patch_size: int
) -> tuple[InputShape, ...]:
    """Shapes of a batch ``[B, H, W, T, D]`` per modality.

    `UserError` as `check_shapes`, and where the last axis does not hold the channels that the
    design asks for.
    """
    shapes = []
    for name, image in images.items():
        wanted = needs.modalities[name].channels if name in needs.modalities else ()
        if len(image.shape) != 5 or (wanted and image.shape[-1] != len(wanted)):
            raise UserError(
                f"{name} images have shape {list(image.shape)}; {who} expects "
                f"[B, H, W, T, {len(wanted)}] with {' '.join(wanted)}."
            )
        # While an encoder is traced, sizes are tensors.
        height, width, steps = (int(size) for size in image.shape[1:4])
        shapes.append(InputShape(height, width, steps, name))
    check_shapes(who, needs, shapes, patch_size)
    return tuple(shapes)


def check_known(name: str, known: Iterable[str]) -> None:
    """`UserError` for a modality or other source that an encoder does not read."""
    if name not in known:
        raise UserError(
            f'This encoder does not read modality "{name}": {did_you_mean(name, known)}.'
        )


def check_times(name: str, batch: int, steps: int, most: int, timestamps: Tensor) -> None:
    """`UserError` for more than ``most`` steps, or timestamps that are not ``[B, T, 3]``."""
    if steps > most:
        raise UserError(f"{name} has {steps} time steps; this encoder takes at most {most}.")
    expected = [batch, steps, 3]
    if list(timestamps.shape) != expected:
        raise UserError(
            f"Timestamps have shape {list(timestamps.shape)} but {name} needs {expected}: day, "
            "month (0-based) and year of each step."
        )
