"""A folder of chips as one readable set: found, decoded once, then memory-mapped.

`open_chips` is the way in. It finds the files, recognises a packed copy or makes one, counts
what cannot be used and says what was assumed. It must know nothing of any one format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.pretraining.chips import Chip
from models.sensors import MODALITIES
from suites.chips.card import ChipCard
from suites.chips.decoding import decode, sources
from suites.chips.finding import Found, find, signature
from suites.chips.formats import FOLDER_SUFFIXES
from suites.chips.ledger import Ledger, check_share
from suites.chips.packed import Index, PackedChips, keeping, packing, repeated
from suites.chips.plausibility import Sample, doubts
from suites.chips.sidecar import Layout, read_layout
from suites.datasets.base import Origin
from suites.datasets.digests import Progress, fingerprint

READER = "chips-1"
"""Raised whenever the same files would give other pixels: packed copies are then made anew."""
TOLERATED = 0.05
"""Share of chips that may be unusable, unless somebody allows more."""


class ChipFolder:
    """The chips of one folder. Implements `models.pretraining.chips.Chips`."""

    def __init__(self, name: str, layout: Layout, packed: PackedChips, index: Index) -> None:
        self._name, self._layout, self._packed, self._index = name, layout, packed, index

    def __len__(self) -> int:
        return len(self._packed)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over ids, pixels, band names and dates."""
        return self._index.fingerprint

    @property
    def origin(self) -> Origin:
        """As chips.yaml says; real without one."""
        return self._layout.origin

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """``[N, 3]``: H, W, T of each chip."""
        return self._packed.sizes

    @cached_property
    def bands(self) -> Mapping[str, tuple[str, ...]]:
        """Modality -> band names, canonical and complete."""
        return {name: tuple(bands) for name, bands in self._index.bands.items()}

    @property
    def ids(self) -> tuple[str, ...]:
        """The chips' names: the file within the folder, with ``[row]`` where it holds many."""
        return tuple(self._index.ids)

    @property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 of each chip's pixels and dates, as the packed copy keeps them."""
        return tuple(self._index.digests)

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Id and reason of each chip that cannot be used."""
        return tuple((name, reason) for name, reason in self._index.skipped)

    def chip(self, row: int) -> Chip:
        """Chip number ``row``, as read-only views of the packed copy."""
        return self._packed.chip(row)

    @cached_property
    def card(self) -> ChipCard:
        """What a reader must know of these chips."""
        sides, steps = self.sizes[:, :2], self.sizes[:, 2]
        return ChipCard(
            title=self._layout.title or f"{len(self):,} chips from {self._name}",
            folder=self._name,
            count=len(self),
            origin=self.origin,
            licence=self._layout.licence,
            bands=self.bands,
            sides=(int(sides.min()), int(sides.max())),
            steps=(int(steps.min()), int(steps.max())),
            formats=tuple(sorted(self._index.facts["formats"])),
            notes=_notes(self._index, self.origin),
            skipped=len(self._index.skipped),
        )


def _notes(index: Index, origin: Origin) -> tuple[str, ...]:
    total = len(index.ids)
    notes = [
        f"{'All' if count == total else f'{count:,} of {total:,}'} chips {remark}."
        for remark, count in sorted(index.facts["remarks"].items())
    ]
    notes += index.facts["doubts"]
    twins = repeated(index.digests)
    if twins:
        notes.append(f"{twins:,} chips repeat the pixels and dates of another.")
    if index.skipped:
        notes.append(f"{len(index.skipped):,} chips could not be used and are left out.")
    if origin == "simulated":
        notes.insert(0, "SIMULATED: no pixel of this set was measured by a satellite.")
    return tuple(notes)


def open_chips(
    folder: Path, *, cache_dir: Path, tolerate: float = TOLERATED, progress: Progress | None = None
) -> ChipFolder:
    """The chips of a folder (or of one file or Zarr store) as one set.

    The first call decodes every chip into ``cache_dir``; later ones, while names, sizes and
    modification times of the files stay the same, read an index only. Two processes may call
    it at once: the second waits. Chips that cannot be used are left out and listed in
    `ChipFolder.skipped`.

    Raises `UserError` when the folder holds no chips or cannot be listed, for a mistake in
    chips.yaml, when more than the share ``tolerate`` of the chips cannot be used, and when the
    packed copy cannot be written.
    """
    root, only = _root(folder)
    layout = read_layout(root)
    found = find(root, layout, only)
    place = cache_dir / f"chips-{fingerprint([str(folder.resolve())])[:16]}"
    wanted = signature(found, layout, READER)
    packed, index = keeping(
        place, wanted, lambda: _pack(root, found, layout, Index(wanted), place, tolerate, progress)
    )
    total = len(index.ids) + len(index.skipped)
    check_share(root, index.skipped, total, tolerate, total)
    return ChipFolder(folder.resolve().name, layout, packed, index)


def _root(folder: Path) -> tuple[Path, str | None]:
    """The folder to search, and the one entry meant where a file or store is given itself."""
    if folder.is_file() or folder.suffix.lower() in FOLDER_SUFFIXES:
        return folder.parent, folder.name
    return folder, None


def _pack(
    root: Path,
    found: Sequence[Found],
    layout: Layout,
    index: Index,
    place: Path,
    tolerate: float,
    progress: Progress | None,
) -> Index:
    chips = sources(root, found, layout)
    ledger = Ledger(root, len(chips), tolerate)
    sample = Sample(len(chips))
    with packing(place, index) as writer:
        for done, decoded in enumerate(decode(root, chips, layout), start=1):
            chip = ledger.take(decoded)
            if chip is not None:
                writer.add(decoded.name, chip)
                sample.offer(done - 1, chip)
            if progress is not None:
                progress(done, len(chips))
        index.bands = {name: list(MODALITIES[name].band_names) for name in ledger.modalities}
        index.skipped = ledger.skipped
        index.facts = {
            "formats": sorted(ledger.formats),
            "remarks": dict(ledger.remarks),
            "doubts": doubts(root, sample, layout.origin, order_is_assumed=ledger.assumes_order),
        }
    return index
