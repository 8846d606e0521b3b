"""What Galileo cannot encode, said before anything is computed.

It must not know weights or how tokens are made.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from models.errors import UserError, did_you_mean
from models.galileo.sources import MAX_STEPS, Source
from models.tokens import InputShape, patch_grid


def check_inputs(
    sources: Mapping[str, Source],
    values: Mapping[str, Tensor],
    timestamps: Tensor,
    patch_size: int,
) -> None:
    """See `models.galileo.encoder.GalileoEncoder.forward` for the shapes.

    Raises:
        UserError: nothing given, an unknown source, a shape that is not the source's, too many
            steps, timestamps of other steps, or a patch size that does not divide an image.
    """
    if not values:
        raise UserError("The encoder was given no images; pass at least one modality.")
    for name, given in values.items():
        if name not in sources:
            raise UserError(
                f'This encoder does not read modality "{name}": {did_you_mean(name, sources)}.'
            )
        source = sources[name]
        if given.ndim != source.ndim or given.shape[-1] != len(source.channels):
            raise UserError(
                f"{name} has shape {list(given.shape)}; expected {source.axes}, channels "
                f"{', '.join(source.channels)}."
            )
        if source.in_space:
            patch_grid(InputShape(given.shape[1], given.shape[2], modality=name), patch_size)
        if source.in_time:
            _check_steps(name, given, timestamps)


def _check_steps(name: str, given: Tensor, timestamps: Tensor) -> None:
    steps = given.shape[-2]
    if steps > MAX_STEPS:
        raise UserError(f"{name} has {steps} time steps; this encoder takes at most {MAX_STEPS}.")
    expected = [given.shape[0], steps, 3]
    if list(timestamps.shape) != expected:
        raise UserError(
            f"Timestamps have shape {list(timestamps.shape)} but {name} needs "
            f"{expected}: day, month (0-based) and year of each step."
        )
