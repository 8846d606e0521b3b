"""What is counted while chips are packed: what was assumed, what was left out, when to give up.

It decides whether a decoded chip belongs to the set, and words the error when too few do. It
must know nothing of files or the packed copy.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.errors import UserError
from models.pretraining.chips import Chip
from suites.chips.canonical import UNNAMED
from suites.chips.decoding import Decoded

_NAMED = 3  # chips that an error names for each reason


@dataclass
class Ledger:
    """Counts over the chips of ``folder``, of which the share ``tolerate`` may be unusable.

    The first usable chip settles which modalities the set has.
    """

    folder: Path
    total: int
    tolerate: float
    seen: int = 0
    modalities: tuple[str, ...] = ()
    skipped: list[list[str]] = field(default_factory=list)
    remarks: Counter[str] = field(default_factory=Counter)
    formats: set[str] = field(default_factory=set)

    @property
    def assumes_order(self) -> bool:
        """Whether any chip's band order was taken for granted."""
        return any(remark.startswith(UNNAMED) for remark in self.remarks)

    def take(self, decoded: Decoded) -> Chip | None:
        """The chip if it belongs to the set. Raises `UserError` once too many do not."""
        self.seen += 1
        reason = decoded.reason
        if decoded.chip is not None:
            modalities = tuple(sorted(decoded.chip.images))
            self.modalities = self.modalities or modalities
            if modalities == self.modalities:
                self.remarks.update(decoded.remarks)
                self.formats |= decoded.formats
                return decoded.chip
            held, needed = ", ".join(modalities), ", ".join(self.modalities)
            reason = f"holds {held}, where the chips before it hold {needed}"
        self.skipped.append([decoded.name, reason])
        check_share(self.folder, self.skipped, self.total, self.tolerate, self.seen)
        return None


def check_share(
    folder: Path, skipped: Sequence[Sequence[str]], total: int, tolerate: float, seen: int
) -> None:
    """Raise `UserError` when more than the share ``tolerate`` of the chips is unusable, or all.

    ``seen`` of the ``total`` chips have been looked at: the outcome may be clear before the end.
    """
    if len(skipped) <= tolerate * total and len(skipped) < total:
        return
    names: dict[str, list[str]] = defaultdict(list)
    for name, reason in skipped:
        names[reason].append(name)
    told = "; ".join(_told(reason, of) for reason, of in list(names.items())[:_NAMED])
    more = f"; and {len(names) - _NAMED} other reasons" if len(names) > _NAMED else ""
    limit = "" if len(skipped) == total else f" (at most {tolerate:.0%} may be)"
    of = f"{total:,}" if seen == total else f"the first {seen:,} of {total:,}"
    raise UserError(f"{folder}: {len(skipped):,} of {of} chips are unusable{limit}: {told}{more}.")


def _told(reason: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}: {reason}"
