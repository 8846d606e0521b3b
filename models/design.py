"""What a family says of itself before any tensor exists: its tokens, their cost, its inputs.

Each family has a `Design` in ``models/<family>/design.py``; tables of costs, plans and the
token-design atlas are made from these alone, so nothing here may import a tensor library.
It must not know any particular family, data set or checkpoint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from models.cost import MacCount
from models.tokens import InputShape


@dataclass(frozen=True)
class TokenKind:
    """Tokens of one kind: those of one band group over the grid of patches and steps.

    Args:
        name: what one token stands for, e.g. ``"B02 B03 B04 B08"`` or ``"class token"``.
        modality: whose pixels they hold; None for tokens that hold none (a class token).
        bands: channels that share the token.
        rows, columns, steps: the grid; ``rows * columns * steps`` tokens.
        sequence: tokens attend to one another within a sequence (CROMA has several).
    """

    name: str
    modality: str | None
    bands: tuple[str, ...]
    rows: int
    columns: int
    steps: int
    sequence: str = "tokens"

    @property
    def count(self) -> int:
        """How many tokens."""
        return self.rows * self.columns * self.steps


@dataclass(frozen=True)
class Layout:
    """How one sample becomes tokens, in the order of the sequence."""

    kinds: tuple[TokenKind, ...]

    @property
    def tokens(self) -> int:
        """All tokens that the transformer holds for one sample."""
        return sum(kind.count for kind in self.kinds)

    def is_on_grid(self, rows: int, columns: int) -> bool:
        """Whether its tokens belong to the patches of that grid; those of no modality aside."""
        placed = [kind for kind in self.kinds if kind.modality is not None]
        return bool(placed) and all((k.rows, k.columns) == (rows, columns) for k in placed)

    @property
    def groups(self) -> int:
        """Tokens per place and step of the modality that has most of them in a sequence (G)."""
        found = Counter((k.modality, k.sequence) for k in self.kinds if k.modality is not None)
        return max(found.values(), default=1)


@dataclass(frozen=True)
class ModalityNeeds:
    """What one modality's images must be when they reach the encoder, on the last axis.

    Args:
        channels: in the model's order; bands of `models.sensors`, or of its ``DERIVED``.
        shift, divisor: the pretraining's normalisation, ``(x - shift) / divisor`` per
            channel, in digital numbers or dB; None when the model has no statistics of its
            own and takes the data set's (mean - 2 std and 4 std of the training split).
        clip: values are cut to [0, 1] after that.
        levels: and truncated to this many steps (255: as if kept in 8 bits).
        whichever: the model takes those of its channels that the data hold (a baseline);
            else a channel that the data lack is refused or imputed, as the protocol says.
        z_scores: the encoder itself turns what `two_sigma` brought to 0..1 back into z-scores,
            ``(x - 0.5) * 4``, and sees those.
        fixed: channels whose normalisation is the pretraining's, whatever the protocol.
    """

    channels: tuple[str, ...]
    shift: tuple[float, ...] | None = None
    divisor: tuple[float, ...] | None = None
    clip: bool = False
    levels: int | None = None
    whichever: bool = False
    z_scores: bool = False
    fixed: tuple[str, ...] = ()


@dataclass(frozen=True)
class InputNeeds:
    """What an encoder must be fed; the harness brings a sample to it, or refuses.

    Args:
        modalities: those that it can read. It is given all of them that the data hold.
        required: modalities without which it cannot run; at least one must be there.
        patch_sizes: pixels a side that it can cut.
        max_steps: most time steps of one sample.
        square: only images as high as wide.
        native_side: image side of its pretraining, pixels; None when it saw many.
        level: processing level of the Sentinel-2 data that it was trained on.
    """

    modalities: Mapping[str, ModalityNeeds]
    required: tuple[str, ...] = ()
    patch_sizes: tuple[int, ...] = tuple(range(1, 9))
    max_steps: int = 12
    square: bool = False
    native_side: int | None = None
    level: Literal["L1C", "L2A", "any"] = "L2A"


class Design(Protocol):
    """One variant's design. Shapes are of what the encoder is given, after any resizing."""

    @property
    def needs(self) -> InputNeeds:
        """What it must be fed."""
        ...

    def layout(self, shapes: Sequence[InputShape], patch_size: int) -> Layout:
        """Its tokens for one sample; `UserError` for a shape that it cannot cut."""
        ...

    def width(self, shapes: Sequence[InputShape]) -> int:
        """Numbers per token, and so per embedding."""
        ...

    def macs(self, shapes: Sequence[InputShape], patch_size: int) -> MacCount:
        """MACs of one sample, in closed form."""
        ...


@dataclass(frozen=True)
class Official:
    """Where a variant's published weights are, and under which licence.

    Args:
        hub: repository on the Hugging Face hub, or None.
        url: address of the weights file where there is no hub repository, or None.
        file: path of the weights file inside the repository (or its name).
        config: path of the configuration beside it; None when the publisher has none.
        licence: what the publisher lets a user do with the weights.
        source: page on which the publisher says so.
    """

    hub: str | None
    url: str | None
    file: str
    config: str | None
    licence: str
    source: str = ""
