"""Do the pixels look like the bands and units that are claimed? Judged once, while packing.

A few chips, spread over the set, go through the band-order audit of `suites.datasets`. What
it doubts becomes a note on the card; an order that nobody stated and the pixels contradict is
an error. It must know nothing of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from models.pretraining.chips import Chip
from models.sensors import MODALITIES
from suites.chips.sidecar import how_to_name
from suites.datasets.audit import AuditReport, Images, check_images

_S2 = "sentinel2_l2a"
_MOST = 100  # chips looked at; 20 suffice to recognise a band order
_SIDE = 64


@dataclass
class Sample:
    """Sentinel-2 cuttings ``[<=64, <=64, 12]`` of chips spread over a set of ``total``."""

    total: int
    cuttings: list[npt.NDArray[np.float32]] = field(default_factory=list)

    def offer(self, place: int, chip: Chip) -> None:
        """Take a cutting of chip number ``place`` if it is one of those to look at."""
        image = chip.images.get(_S2)
        if image is None or place % max(1, -(-self.total // _MOST)):
            return
        top, left = ((side - min(side, _SIDE)) // 2 for side in image.shape[:2])
        cut = image[top : top + _SIDE, left : left + _SIDE, 0]
        if (cut.max(axis=(0, 1)) > cut.min(axis=(0, 1))).all():
            self.cuttings.append(cut.astype(np.float32))


def doubts(folder: Path, sample: Sample, origin: str, *, order_is_assumed: bool) -> tuple[str, ...]:
    """Sentences for the card on what the pixels contradict; none where nothing is odd.

    Raises `UserError` when the pixels contradict a band order that was only assumed.
    """
    if not sample.cuttings or origin != "real":
        return ()
    report = _report(sample.cuttings)
    order = report.band_order
    if order is not None and order.verdict == "mismatch" and order_is_assumed:
        raise UserError(
            f"{folder}: its chips carry no band names, and the usual order is not theirs. "
            f"{order.sentence} Name the bands: {how_to_name(_S2)}."
        )
    return tuple(
        finding.sentence
        for finding in report.findings
        if finding.level != "ok" and finding.topic in ("bands", "units")
    )


def _report(cuttings: Sequence[npt.NDArray[np.float32]]) -> AuditReport:
    stream = (Images((str(i),), cut[None, :, :, None]) for i, cut in enumerate(cuttings))
    return check_images("chips", stream, MODALITIES[_S2].band_names, len(cuttings))
