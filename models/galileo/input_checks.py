"""What Galileo cannot encode, said before anything is computed.

It must not know weights or how tokens are made.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from models.errors import UserError
from models.galileo.sources import MAX_STEPS, Source
from models.needs import check_known, check_times
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
        check_known(name, sources)
        source = sources[name]
        if given.ndim != source.ndim or given.shape[-1] != len(source.channels):
            raise UserError(
                f"{name} has shape {list(given.shape)}; expected {source.axes}, channels "
                f"{', '.join(source.channels)}."
            )
        if source.in_space:
            patch_grid(InputShape(given.shape[1], given.shape[2], modality=name), patch_size)
        if source.in_time:
            check_times(name, len(given), given.shape[-2], MAX_STEPS, timestamps)
