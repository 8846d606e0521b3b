"""Splits for data sets that come without one, and the duplicates that a split must not straddle.

A split is stratified (every class keeps its share in train, val and test) and seeded.
Samples with identical pixels form one group, and a group goes into one split whole, so
that no test image has been seen in training. Published splits are never rearranged:
there, duplicates are only reported. Knows nothing of files or of models.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from models.errors import UserError
from suites.datasets.base import SPLITS, Dataset, TargetKind
from suites.datasets.digests import Progress, pixel_digest

Rows = npt.NDArray[np.int64]

DEFAULT_FRACTIONS = (0.5, 0.2, 0.3)
"""Train, val, test. Test is large because it is what every claim rests on: the standard
error of an accuracy falls with the root of the test size, and at a few hundred samples
30% is what keeps a five-point difference visible. Half remains for training, where a
20-neighbour vote needs at least some 20 samples a class; a fifth tunes the probes."""

SPLIT_RULE = (
    "stratified by class, seeded, {0:.0%} train / {1:.0%} val / {2:.0%} test; "
    "samples with identical pixels stay in one split"
)


@runtime_checkable
class HasDigests(Protocol):
    """A data set that knows its pixel digests without being read again."""

    def digests(self, progress: Progress | None = None) -> Sequence[str]:
        """One SHA-256 of the pixels per sample, in row order."""
        ...


@dataclass(frozen=True)
class DuplicateReport:
    """Samples with identical pixels.

    ``groups``: ids of each set of two or more identical samples. ``straddling``: those
    groups whose members stand in more than one split. ``conflicting``: those whose
    members carry different labels.
    """

    groups: tuple[tuple[str, ...], ...]
    straddling: tuple[tuple[str, ...], ...]
    conflicting: tuple[tuple[str, ...], ...]

    @property
    def samples(self) -> int:
        """How many samples have a twin."""
        return sum(len(group) for group in self.groups)


def split_rule(fractions: tuple[float, float, float] = DEFAULT_FRACTIONS) -> str:
    """The sentence a card shows for a split made here."""
    return SPLIT_RULE.format(*fractions)


def stratified_split(
    labels: npt.NDArray[np.int64],
    seed: int,
    fractions: tuple[float, float, float] = DEFAULT_FRACTIONS,
    groups: Sequence[str] | None = None,
) -> dict[str, Rows]:
    """Row numbers of train, val and test, each sorted; together they are all rows once.

    ``labels`` is ``[N]``; ``groups`` gives samples that must stay together the same name
    (default: none do). A group is counted under its first member's class. Raises
    `UserError` when a class has too few independent samples to stand in all three splits.
    """
    members = _members(len(labels), groups)
    by_class: dict[int, list[list[int]]] = defaultdict(list)
    for rows in members:
        by_class[int(labels[rows[0]])].append(rows)
    generator = np.random.default_rng([seed, 0x5EED])
    split: dict[str, list[int]] = {name: [] for name in SPLITS}
    for label in sorted(by_class):
        blocks = by_class[label]
        if len(blocks) < len(SPLITS):
            raise UserError(
                f"Class number {label} has {len(blocks)} distinct sample(s), too few to stand in "
                "train, val and test; give each class at least 3 different images."
            )
        shuffled = [blocks[i] for i in generator.permutation(len(blocks))]
        for name, part in _deal(shuffled, fractions).items():
            split[name].extend(row for rows in part for row in rows)
    return {name: np.array(sorted(rows), dtype=np.int64) for name, rows in split.items()}


def split_of_groups(groups: Sequence[str], share: float, seed: int) -> tuple[Rows, Rows]:
    """Rows of two parts, each sorted; every group goes into one of them whole.

    The second holds about ``share`` of the samples: groups are drawn in a seeded order, and each
    is taken that brings it nearer to that; where none does, the smallest. What belongs together
    (a site, a field, a scene) never stands on both sides. `UserError` for fewer than two groups.
    """
    members = _members(len(groups), groups)
    if len(members) < 2:
        raise UserError("All samples belong to one group; a split needs at least two.")
    generator = np.random.default_rng([seed, 0x6120])
    wanted, second = share * len(groups), list[int]()
    order = [members[i] for i in generator.permutation(len(members))]
    for rows in order:
        gain = abs(len(second) - wanted) - abs(len(second) + len(rows) - wanted)
        if gain > 0:
            second += rows
    second = second or min(order, key=len)
    first = np.setdiff1d(np.arange(len(groups)), second)
    return first.astype(np.int64), np.array(sorted(second), dtype=np.int64)


def three_of_groups(
    groups: Sequence[str], fractions: tuple[float, float, float], seed: int
) -> dict[str, Rows]:
    """Rows of train, val and test by `split_of_groups`: every group stands in one of them whole.

    `UserError` for fewer than three groups.
    """
    if (count := len(set(groups))) < 3:
        raise UserError(
            f"What stays together makes {count} group{'s'[: count - 1]} of all samples; train, "
            "val and test need three: make them smaller."
        )
    others, test = split_of_groups(groups, fractions[2], seed)
    share = fractions[1] / (fractions[0] + fractions[1])
    train, val = split_of_groups([groups[row] for row in others], share, seed)
    return {"train": others[train], "val": others[val], "test": test}


def few_labels(
    labels: npt.NDArray[Any], kind: TargetKind, rows: Rows, fraction: float, seed: int
) -> Rows:
    """A seeded share of some rows, sorted; of classes the same share of each, at least one.

    Larger shares of one seed hold the smaller ones: a curve over label counts adds labels, and
    does not draw others.
    """
    generator = np.random.default_rng([seed, 0xFE3])
    order = rows[generator.permutation(len(rows))]
    if kind != "classes":
        return np.sort(order[: max(1, round(fraction * len(rows)))])
    kept = []
    for label in np.unique(labels[rows]):
        mine = order[labels[order] == label]
        kept.append(mine[: max(1, round(fraction * len(mine)))])
    return np.sort(np.concatenate(kept))


def joined(groups: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """Groups of what belongs together by either naming, directly or through others."""
    parent = list(range(len(groups)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for names in (groups, others):
        for rows in _members(len(names), names):
            for row in rows[1:]:
                parent[root(row)] = root(rows[0])
    return tuple(str(root(row)) for row in range(len(groups)))


def _members(count: int, groups: Sequence[str] | None) -> list[list[int]]:
    if groups is None:
        return [[row] for row in range(count)]
    together: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        together[group].append(row)
    return list(together.values())


def _deal(
    blocks: list[list[int]], fractions: tuple[float, float, float]
) -> dict[str, list[list[int]]]:
    """Deal the blocks of one class: val and test get their rounded share, at least one each."""
    total = len(blocks)
    val = max(1, round(fractions[1] * total))
    test = max(1, round(fractions[2] * total))
    train = total - val - test
    if train < 1:  # three or four blocks with rounding against train
        train, val, test = total - 2, 1, 1
    return {
        "train": blocks[:train],
        "val": blocks[train : train + val],
        "test": blocks[train + val :],
    }


def find_duplicates(
    dataset: Dataset, seed: int = 0, progress: Progress | None = None
) -> DuplicateReport:
    """Groups of samples with identical pixels, and which of them straddle the splits of a seed."""
    digests = dataset.digests(progress) if isinstance(dataset, HasDigests) else _digest_all(dataset)
    return duplicates_among(digests, dataset.ids, dataset.labels, dataset.splits(seed))


def duplicates_among(
    digests: Sequence[str],
    ids: Sequence[str],
    labels: npt.NDArray[Any],
    split: Mapping[str, Rows],
) -> DuplicateReport:
    """The report, from one pixel digest per sample, all in row order."""
    place = {int(row): name for name, rows in split.items() for row in rows}
    twins = [rows for rows in _members(len(digests), digests) if len(rows) > 1]
    differ = [r for r in twins if not all(_equal(labels[i], labels[r[0]]) for i in r)]
    return DuplicateReport(
        groups=_named(twins, ids),
        straddling=_named([r for r in twins if len({place.get(i) for i in r} - {None}) > 1], ids),
        conflicting=_named(differ, ids),
    )


def _equal(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    """Whether two labels are the same; in maps of numbers NaN (nobody is asked) equals NaN."""
    return bool(np.array_equal(a, b, equal_nan=np.issubdtype(a.dtype, np.floating)))


def _named(groups: Sequence[Sequence[int]], ids: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(ids[row] for row in rows) for rows in groups)


def _digest_all(dataset: Dataset, batch: int = 64) -> list[str]:
    digests: list[str] = []
    for start in range(0, len(dataset.ids), batch):
        rows = range(start, min(start + batch, len(dataset.ids)))
        images = dataset.read(rows).images
        for i in range(len(rows)):
            digests.append("".join(pixel_digest(images[name][i]) for name in sorted(images)))
    return digests
