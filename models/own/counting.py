"""MACs of a user's class: counted by tracing it, once per shape, and noted by content.

The counter is the harness's, which models must not import: `harness.costs` hands it in. It
must not import a tensor library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from models.cost import MacCount
from models.errors import UserError
from models.own.notes import noted
from models.own.variant import OwnVariant
from models.tokens import InputShape

if TYPE_CHECKING:
    from torch import nn


@dataclass
class Counter:
    """What counts a module's MACs, and the version of the code that does."""

    count: Callable[[nn.Module, Sequence[InputShape], int], MacCount] | None = None
    version: Callable[[], str] = str


COUNTER = Counter()


class UncountableError(UserError):
    """A class uses an operator that the counter does not know."""


def count(variant: OwnVariant, shapes: Sequence[InputShape], patch_size: int) -> MacCount:
    """MACs of one sample.

    Raises:
        UncountableError: the class uses an operator whose MACs nobody can vouch for.
    """
    about = {
        "macs": variant.identity,
        "shapes": [asdict(shape) for shape in shapes],
        "patch_size": patch_size,
        "counter": COUNTER.version(),
    }
    return MacCount(**noted(about, lambda: asdict(_count(variant, shapes, patch_size))))


def _count(variant: OwnVariant, shapes: Sequence[InputShape], patch_size: int) -> MacCount:
    from models.own.examination import encoder_of, meta_copy  # noqa: PLC0415

    encoder = encoder_of(variant)
    if variant.declaration.counts_itself:
        return _declared(variant, encoder.model, shapes, patch_size)
    if COUNTER.count is None:
        raise RuntimeError("harness.costs hands the counter in; import it first")
    try:
        return COUNTER.count(meta_copy(encoder), shapes, patch_size)
    except UncountableError:
        raise
    except Exception:
        # Code that makes tensors on the CPU cannot be traced without memory.
        return COUNTER.count(encoder, shapes, patch_size)


def _declared(
    variant: OwnVariant, model: Any, shapes: Sequence[InputShape], patch_size: int
) -> MacCount:
    given = {s.modality: (s.height, s.width, s.steps, len(s.bands or ())) for s in shapes}
    macs = model.macs(given, patch_size)
    if isinstance(macs, bool) or not isinstance(macs, int) or macs < 0:
        raise UserError(f"macs of {variant.shown} returns {macs!r}; it must be an integer.")
    return MacCount(patch_embedding=0, linear=macs, attention=0)
