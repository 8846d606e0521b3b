"""Is a data set what its card says? Units, ranges, broken images, duplicates, balance, band order.

Everything is judged from the pixels and labels themselves, and reported as findings that
a person can act on; nothing is repaired here. It reads any `Dataset`, or any stream of
images with claimed band names, and must know nothing of file formats or of printing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from models.sensors import MODALITIES
from suites.datasets.band_order import BandOrder, recognise_features
from suites.datasets.base import Dataset
from suites.datasets.digests import Progress, pixel_digest
from suites.datasets.findings import Finding, HasFindings, Level
from suites.datasets.label_findings import label_findings
from suites.datasets.signatures import FEATURES, MIN_SIDE, tile_features
from suites.datasets.splits import DuplicateReport, duplicates_among
from suites.datasets.survey import BandStatistics, Survey, Units

ORDER_TILES = 200
"""Band order is judged on this many tiles at most: 20 already suffice."""
_BATCH = 32
_S2 = "sentinel2_l2a"


@dataclass(frozen=True)
class AuditReport:
    """All findings on one data set, with the figures they rest on.

    ``bands`` are per-channel statistics in stored units (empty when nothing was readable);
    ``band_order`` and ``units`` are ``None`` where they could not be judged at all.
    """

    name: str
    samples: int
    findings: tuple[Finding, ...]
    bands: tuple[BandStatistics, ...]
    units: Units | None
    band_order: BandOrder | None
    duplicates: DuplicateReport | None

    @property
    def level(self) -> Level:
        """The worst level among the findings."""
        levels = {finding.level for finding in self.findings}
        return "error" if "error" in levels else "warning" if "warning" in levels else "ok"


@dataclass(frozen=True)
class Images:
    """Some samples to audit: their ids and one modality's images ``[B, H, W, T, D]``.

    ``problem`` replaces the images of one sample that could not be read.
    """

    ids: tuple[str, ...]
    images: npt.NDArray[np.floating] | None
    problem: str = ""


def check(dataset: Dataset, progress: Progress | None = None) -> AuditReport:
    """Audit a whole data set: every sample is read once, in batches.

    A broken sample is a finding, not an exception. ``progress(done, total)`` counts samples.
    """
    card = dataset.card
    modality = _S2 if _S2 in card.bands else next(iter(card.bands))
    survey = _survey(_stream(dataset, modality), len(dataset.ids), progress)
    # Radar is in dB: below zero, and no reflectance.
    is_optical = MODALITIES[modality].is_optical
    findings = [
        *_image_findings(survey),
        *(_unit_findings(survey, card.units_per_dn, card.level) if is_optical else ()),
        *label_findings(dataset),
        *(dataset.findings if isinstance(dataset, HasFindings) else ()),
    ]
    duplicates = _duplicates(dataset, survey)
    findings.extend(_duplicate_findings(duplicates))
    order = _order(survey, card.bands[modality]) if modality == _S2 else None
    report = _report(card.name, survey, findings, card.bands[modality], order, duplicates)
    return report if is_optical else replace(report, units=None)


def check_images(
    name: str,
    stream: Iterable[Images],
    claimed: Sequence[str] | None,
    total: int,
    progress: Progress | None = None,
) -> AuditReport:
    """Audit loose Sentinel-2 images ``[B, H, W, T, D]`` with claimed band names, or ``None``."""
    survey = _survey(stream, total, progress)
    no_labels = np.zeros(len(survey.ids), dtype=np.int64)
    duplicates = duplicates_among(survey.digests, survey.ids, no_labels, {})
    order = _order(survey, claimed)
    bands = tuple(claimed) if claimed is not None else order.recognised if order else ()
    findings = [
        *_image_findings(survey),
        *_unit_findings(survey, None, order.level if order else ""),
        *_duplicate_findings(duplicates),
    ]
    return _report(name, survey, findings, bands, order, duplicates)


def _report(
    name: str,
    survey: Survey,
    findings: list[Finding],
    bands: Sequence[str],
    order: BandOrder | None,
    duplicates: DuplicateReport | None,
) -> AuditReport:
    if order is not None:
        findings.append(Finding("bands", _order_level(order), order.sentence))
    statistics = survey.statistics(bands)
    dead = [band.name for band in statistics if band.minimum == band.maximum]
    if dead:
        findings.append(
            Finding("values", "error", f"{', '.join(dead)} hold(s) one single value everywhere.")
        )
    units = survey.units() if survey.depth else None
    return AuditReport(name, len(survey.ids), tuple(findings), statistics, units, order, duplicates)


def _stream(dataset: Dataset, modality: str) -> Iterator[Images]:
    for start in range(0, len(dataset.ids), _BATCH):
        rows = range(start, min(start + _BATCH, len(dataset.ids)))
        try:
            yield Images(tuple(dataset.ids[r] for r in rows), dataset.read(rows).images[modality])
        except UserError:
            yield from (_single(dataset, row, modality) for row in rows)


def _single(dataset: Dataset, row: int, modality: str) -> Images:
    try:
        return Images((dataset.ids[row],), dataset.read([row]).images[modality])
    except UserError as error:
        return Images((dataset.ids[row],), None, str(error))


def _survey(stream: Iterable[Images], total: int, progress: Progress | None) -> Survey:
    survey = Survey(stride=max(1, -(-total // ORDER_TILES)))
    done = 0
    for part in stream:
        if part.images is None:
            survey.broken.append(part.problem)
        else:
            survey.add(part.ids, part.images, [pixel_digest(image) for image in part.images])
        done += len(part.ids)
        if progress is not None:
            progress(done, total)
    return survey


def _image_findings(survey: Survey) -> Iterator[Finding]:
    for problem in survey.broken[:20]:
        yield Finding("images", "error", problem)
    if len(survey.broken) > 20:
        yield Finding("images", "error", f"{len(survey.broken) - 20} more images are broken.")
    for ids, what in (
        (survey.not_numbers, "hold values that are not numbers"),
        (survey.constant, "are constant: they hold no image"),
    ):
        if ids:
            yield Finding("images", "error", f"{_listed(ids)} {what}.")
    if survey.odd_sizes:
        yield Finding(
            "images", "warning", f"{_listed(survey.odd_sizes)} differ in size from the first image."
        )
    if not survey.depth and not survey.broken:
        yield Finding("images", "error", "There are no images.")


def _unit_findings(survey: Survey, units_per_dn: float | None, level: str) -> Iterator[Finding]:
    if not survey.depth:
        return
    units = survey.units()
    if units_per_dn is None or np.isclose(units.units_per_dn, units_per_dn, rtol=0.5):
        yield Finding("units", "ok", f"The values look like {units.name}.")
    else:
        yield Finding(
            "units",
            "error",
            f"The values look like {units.name} ({units.units_per_dn:g} digital numbers per unit), "
            f"but the card says {units_per_dn:g}.",
        )
    mixed = survey.in_other_units()
    if mixed:
        yield Finding(
            "units",
            "error",
            f"Units are mixed: {_listed(mixed)} hold reflectance, others digital numbers.",
        )
    if survey.offset_suspected(level):
        yield Finding(
            "units",
            "warning",
            "No value lies much below 1000: these look like products of processing baseline 04.00 "
            "or later, whose offset of +1000 has not been subtracted.",
        )
    if survey.empty_share > 0.01:
        yield Finding(
            "values",
            "warning",
            f"{survey.empty_share:.1%} of the pixels are zero in every band (no data).",
        )
    if survey.negative:
        yield Finding("values", "warning", f"{survey.negative:,} values are negative.")


def _duplicates(dataset: Dataset, survey: Survey) -> DuplicateReport | None:
    row = {name: i for i, name in enumerate(dataset.ids)}
    try:
        rows = np.array([row[name] for name in survey.ids], dtype=np.int64)
        place = np.full(len(dataset.ids), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        split = {name: place[r][place[r] >= 0] for name, r in dataset.splits(0).items()}
        return duplicates_among(survey.digests, survey.ids, dataset.labels[rows], split)
    except UserError:
        return None  # already reported with the classes


def _duplicate_findings(found: DuplicateReport | None) -> Iterator[Finding]:
    if found is None:
        return
    if found.straddling:
        yield Finding(
            "duplicates",
            "error",
            f"{len(found.straddling)} groups of identical images stand in more than one split: "
            f"{_groups(found.straddling)}.",
        )
    if found.conflicting:
        yield Finding(
            "duplicates",
            "error",
            f"{len(found.conflicting)} groups of identical images carry different labels: "
            f"{_groups(found.conflicting)}.",
        )
    if found.groups and not found.straddling:
        yield Finding(
            "duplicates",
            "warning",
            f"{found.samples} images have an identical twin: {_groups(found.groups)}.",
        )
    if not found.groups:
        yield Finding("duplicates", "ok", "No two images have the same pixels.")


def _order(survey: Survey, claimed: Sequence[str] | None) -> BandOrder | None:
    if not survey.order_tiles:
        return None
    scale = survey.units().units_per_dn
    by_size: Mapping[tuple[int, int], list[npt.NDArray[np.float32]]] = defaultdict(list)
    shift = 1000.0 if survey.offset_suspected("") else 0.0
    for tile in survey.order_tiles:
        by_size[tile.shape[:2]].append(tile * np.float32(scale) - np.float32(shift))
    large = {size: tiles for size, tiles in by_size.items() if min(size) >= MIN_SIDE}
    if not large:
        side = next(iter(by_size))
        return recognise_features(np.zeros((1, survey.depth, len(FEATURES))), side, claimed)
    features = np.concatenate([tile_features(np.stack(tiles)) for tiles in large.values()])
    return recognise_features(features, min(large, key=min), claimed)


def _order_level(order: BandOrder) -> Level:
    if order.verdict == "mismatch":
        return "error"
    return "ok" if order.verdict in ("confirmed", "consistent", "recognised") else "warning"


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _groups(groups: Sequence[Sequence[str]]) -> str:
    return _listed([" = ".join(group) for group in groups], most=3)
