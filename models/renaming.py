"""Copy published tensors into an encoder whose own tensors have other names or layouts.

A family says for each of its tensors where it comes from; what is absent, of another shape,
or left over is answered here, in the publisher's own names. It must not know any family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, cat, nn

from models.errors import UserError


@dataclass(frozen=True)
class Source:
    """Where one of our tensors comes from.

    Args:
        names: published tensors; several are stacked along the first axis.
        layout: turns that into our layout.
        absent: the value where a publisher's file may lack it; None where it must be there.
    """

    names: tuple[str, ...]
    layout: Callable[[Tensor], Tensor] | None = None
    absent: Tensor | None = None


def load_renamed(
    encoder: nn.Module,
    state: Mapping[str, Tensor],
    source_of: Callable[[str], Source],
    ignored: Callable[[str], bool],
    model: str,
) -> None:
    """Fill every tensor of ``encoder`` from ``state``.

    Args:
        encoder: it is unchanged if anything is wrong.
        state: published tensors by name.
        source_of: from the name of one of the encoder's tensors.
        ignored: whether a published tensor is left out on purpose, by its name.
        model: what the sentences call it, e.g. ``"CROMA"``.

    Raises:
        UserError: naming the first published tensor that is absent, of another shape, or
            unknown.
    """
    filled: dict[str, Tensor] = {}
    used: set[str] = set()
    for name, own in encoder.state_dict().items():
        source = source_of(name)
        used.update(source.names)
        filled[name] = _fill(own, source, state, model)
    for name in state:
        if name not in used and not ignored(name):
            raise UserError(
                f'The checkpoint holds tensor "{name}", which this variant has no place for; '
                f"check that it is {model}'s, and of this version and size."
            )
    encoder.load_state_dict(filled, strict=True)


def _fill(own: Tensor, source: Source, state: Mapping[str, Tensor], model: str) -> Tensor:
    absent = [name for name in source.names if name not in state]
    if absent and source.absent is not None:
        return source.absent
    if absent:
        raise UserError(
            f'The checkpoint lacks tensor "{absent[0]}"; it is incomplete, or not of this '
            f"version and size of {model}."
        )
    parts = [state[name] for name in source.names]
    try:
        found = parts[0] if len(parts) == 1 else cat(parts)
        found = source.layout(found) if source.layout else found
        fits = found.shape == own.shape
    except RuntimeError:  # so far from the layout that it cannot even be rearranged
        fits = False
    if not fits:
        shapes = " and ".join(str(list(part.shape)) for part in parts)
        raise UserError(
            f'The checkpoint does not fit this variant: tensor "{source.names[0]}" has shape '
            f"{shapes}, which is not that of {model} at this size; choose the version and size "
            "that it was trained with."
        )
    return found
