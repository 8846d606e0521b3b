"""Which windows of an `rslearn` data set are samples: complete, labelled, alike in steps and size.

What is left out is counted and named for the card. It must know nothing of pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.config_file import Document
from models.errors import UserError
from suites.datasets.base import MAP_KINDS
from suites.datasets.findings import Finding
from suites.datasets.rslearn_config import Config
from suites.datasets.rslearn_file import RslearnTask
from suites.datasets.rslearn_images import Source
from suites.datasets.rslearn_labels import mask_band, said_of
from suites.datasets.rslearn_steps import Series
from suites.datasets.rslearn_windows import Window, completed, windows_of

TOPIC = "windows"


@dataclass(frozen=True)
class Sample:
    """A usable window: its time steps by modality, and what its label says (of maps nothing)."""

    window: Window
    series: Mapping[str, Series]
    said: tuple[Any, ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Time steps of each modality."""
        return tuple(len(each.chosen) for each in self.series.values())


@dataclass(frozen=True)
class Samples:
    """``shape``: rows and columns to which all are brought; ``findings``: for the card."""

    samples: tuple[Sample, ...]
    shape: tuple[int, int]
    findings: tuple[Finding, ...]


def samples_of(
    root: Path, config: Config, task: RslearnTask, sources: Sequence[Source], document: Document
) -> Samples:
    """The samples of a task.

    Raises `UserError` when no window is left, and for windows of different sizes or numbers of time
    steps where the task's file does not settle them.
    """
    notes: list[Finding] = []
    windows = windows_of(root, task.groups)
    said = _labels(windows, config, task, notes)
    usable = _usable(windows, said, config, task, sources, notes)
    if task.steps is None:
        _require_one_length(usable, document)
    else:
        usable = _of_length(usable, task.steps, document, notes)
    _note_dates(usable, sources[0].modality, notes)
    return Samples(tuple(usable), _one_size(usable, task.side, document, notes), tuple(notes))


def _labels(
    windows: Sequence[Window], config: Config, task: RslearnTask, notes: list[Finding]
) -> Sequence[tuple[Any, ...] | None]:
    """What each window's label says; None of one without."""
    if task.kind in MAP_KINDS:
        layer = mask_band(config, task).layer
        return [() if completed(window, layer) else None for window in windows]
    said = said_of(windows, config, task)
    _note(notes, said.several, "have features of different labels", "the first is taken")
    return said.values


def _usable(
    windows: Sequence[Window],
    said: Sequence[tuple[Any, ...] | None],
    config: Config,
    task: RslearnTask,
    sources: Sequence[Source],
    notes: list[Finding],
) -> list[Sample]:
    """The windows that have a label, and all layers."""
    found, incomplete, unlabelled = [], [], []
    for window, label in zip(windows, said, strict=True):
        if label is None:
            unlabelled.append(window.id)
            continue
        series = {
            source.modality: each
            for source in sources
            if (each := source.series(window, config, task)) is not None
        }
        if len(series) < len(sources):
            incomplete.append(window.id)
        else:
            found.append(Sample(window, series, label))
    unusable = {"have no label": unlabelled, "lack a layer or its mark completed": incomplete}
    if not found:
        reasons = "; ".join(_told(names, what) for what, names in unusable.items() if names)
        raise UserError(
            f"No window of {config.path.parent} is usable: of {len(windows):,}, {reasons}."
        )
    for what, names in unusable.items():
        _note(notes, names, what, "they are left out")
    return found


def _require_one_length(samples: Sequence[Sample], document: Document) -> None:
    if len({length for sample in samples for length in sample.lengths}) == 1:
        return
    told = []
    for place, modality in enumerate(samples[0].series):
        counts = Counter(sample.lengths[place] for sample in samples)
        each = ", ".join(f"{n} in {counts[n]:,} windows" for n in sorted(counts)[:4])
        told.append(f"{modality} {each}")
    raise document.error(
        ("layers",),
        f"Its windows differ in time steps ({'; '.join(told)}); every sample needs the same "
        "number: give steps: N (windows with fewer are left out), or list item groups.",
    )


def _of_length(
    samples: Sequence[Sample], steps: int, document: Document, notes: list[Finding]
) -> list[Sample]:
    """The samples with as many steps, each cut to its first ones."""
    kept = [sample for sample in samples if min(sample.lengths) >= steps]
    if not kept:
        most = max(min(sample.lengths) for sample in samples)
        raise document.error(
            ("steps",), f"No window has {steps} time steps; the longest has {most}."
        )
    short = [sample.window.id for sample in samples if min(sample.lengths) < steps]
    _note(notes, short, f"have fewer than {steps} time steps", "they are left out")
    if any(max(sample.lengths) > steps for sample in kept):
        notes.append(_plain(f"The first {steps} time steps of each window are given."))
    return [
        replace(sample, series={name: _first(each, steps) for name, each in sample.series.items()})
        for sample in kept
    ]


def _first(series: Series, steps: int) -> Series:
    return replace(series, chosen=series.chosen[:steps], dates=series.dates[:steps])


def _note_dates(samples: Sequence[Sample], first: str, notes: list[Finding]) -> None:
    assumed = [sample.window.id for sample in samples if sample.series[first].is_assumed]
    _note(
        notes,
        assumed,
        "do not say when their images were taken",
        "time steps are spread evenly over the window's time range (1 July 2020 where there is "
        "none)",
    )
    if len(samples[0].series) > 1:
        notes.append(_plain(f"The dates are those of {first}."))


def _one_size(
    samples: Sequence[Sample], side: int | None, document: Document, notes: list[Finding]
) -> tuple[int, int]:
    if side is not None:
        done = f"Windows are cut around their middle, or mirrored, to {side} pixels a side."
        notes.append(_plain(done))
        return side, side
    sizes = sorted({sample.window.size for sample in samples})
    if len(sizes) > 1:
        told = ", ".join(f"{h} x {w}" for h, w in sizes[:3])
        raise document.error(
            ("rslearn",),
            f"Its windows differ in size ({told}{', ...' * (len(sizes) > 3)}); give side: N to "
            "bring them to N x N pixels.",
        )
    return sizes[0]


def _note(notes: list[Finding], names: Sequence[str], what: str, done: str) -> None:
    if names:
        notes.append(Finding(TOPIC, "warning", f"Windows: {_told(names, what)}; {done}."))


def _plain(sentence: str) -> Finding:
    return Finding(TOPIC, "ok", sentence)


def _told(names: Sequence[str], what: str) -> str:
    """A clause that counts windows and names the first ones."""
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return f"{len(names):,} {what} ({', '.join(names[:5])}{more})"
