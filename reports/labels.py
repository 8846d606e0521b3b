"""Where to put the labels of a scatter plot so that none overlaps, is cut, or hides a point.

Greedy placement over candidate positions around each point, then rounds of improvement:
plain geometry in pixels, y downwards, deterministic. It must know nothing of what the
points mean or of how they are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_ROUNDS = 12
_DISTANCES = (5.0, 11.0, 20.0, 32.0, 48.0, 68.0, 92.0)
_DIRECTIONS = 16
_LEADER_FROM = 9.0

# Advance widths in thousandths of the size (Arial's metrics), by letter; the rest by kind.
_ADVANCES = {
    letter: width
    for letters, width in (
        ("ijl'", 222), ("ft!.,:;/|[] ", 278), ("-r()", 333), ("ckvsxyz", 500),
        ("w", 722), ("mM%", 860), ("W@", 1000), ("GOQ", 778), ("I", 278), ("…", 1000),
    )
    for letter in letters
}  # fmt: skip


@dataclass(frozen=True)
class Box:
    """An axis-parallel rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Placed:
    """A label's centre, and where its leader line ends (``None``: it stands close enough)."""

    x: float
    y: float
    box: Box
    leader: tuple[float, float] | None


def text_width(text: str, size: float) -> float:
    """A text's width in pixels in Liberation Sans, a little over rather than under."""
    widths = (_ADVANCES.get(c, 556 if c.islower() or c.isdigit() else 722) for c in text)
    return size * sum(widths) / 1000 + 2


def cut_to_width(text: str, width: float, size: float) -> str:
    """A text cut to so many pixels, an ellipsis marking what is gone; four letters stay."""
    length = len(text)
    while length > 4 and text_width(text[: length - 1] + "…", size) > width:
        length -= 1
    return text if text_width(text, size) <= width else text[: length - 1] + "…"


def pushed_apart(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending places on a line, moved as little as possible so that neighbours keep a gap.

    They stay within (low, high); where there is no room for all, they run on beyond ``high``.
    Least squares under an order, hence isotonic regression of what exceeds the gaps.
    """
    from scipy.optimize import isotonic_regression  # noqa: PLC0415  (slow; needed to draw only)

    if not places:
        return []
    steps = gap * np.arange(len(places))
    fitted = isotonic_regression(np.asarray(places) - steps).x
    return [float(y) for y in np.clip(fitted, low, max(low, high - steps[-1])) + steps]


def side_by_side(boxes: Sequence[Box], spacing: float) -> list[float]:
    """New x for each of some upright lines, so that those which would cover each other do not.

    Lines closer than half the ``spacing`` that meet in height form a cluster; a cluster is
    spread evenly around its middle, in the given order.
    """
    cluster = list(range(len(boxes)))
    for i, a in enumerate(boxes):
        for j, b in enumerate(boxes[:i]):
            if abs(a.left - b.left) < spacing / 2 and a.top < b.bottom and b.top < a.bottom:
                old, new = cluster[i], cluster[j]
                cluster = [new if c == old else c for c in cluster]
    spread = [box.left for box in boxes]
    for key in set(cluster):
        members = [i for i, c in enumerate(cluster) if c == key]
        middle = sum(boxes[i].left for i in members) / len(members)
        if len(members) > 1:
            for place, i in enumerate(members):
                spread[i] = middle + (place - (len(members) - 1) / 2) * spacing
    return spread


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    area: Box,
    obstacles: Sequence[Box] = (),
    radius: float = 6.0,
) -> list[Placed]:
    """One place per point, for labels of the given (width, height), inside ``area``.

    ``obstacles`` (lines as thin boxes) are avoided where that is possible; other labels
    and points weigh more.
    """
    if not points:
        return []
    boxes = np.stack([_candidates(p, s, radius) for p, s in zip(points, sizes, strict=True)])
    fixed = np.array([[x - radius, y - radius, x + radius, y + radius] for x, y in points])
    lines = np.array([[o.left, o.top, o.right, o.bottom] for o in obstacles]).reshape(-1, 4)
    cost = _distance_cost() + 40 * _overlap(boxes, fixed) + 4 * _overlap(boxes, lines)
    cost += 1000 * _outside(boxes, area)
    leaders = _leaders(np.array(points, dtype=np.float64), boxes, radius)
    for i in range(len(points)):
        cost[i] += 30 * _inside(leaders[i], np.delete(fixed, i, axis=0))
    chosen = _choose(boxes, leaders, cost)
    return [
        _placed(boxes[i, c], point, radius)
        for i, (c, point) in enumerate(zip(chosen, points, strict=True))
    ]


def _candidates(point: tuple[float, float], size: tuple[float, float], radius: float) -> Floats:
    """Boxes ``[C, 4]`` in every direction at every distance, right-hand side first."""
    x, y = point
    width, height = size
    rows = []
    for distance in _DISTANCES:
        for step in range(_DIRECTIONS):
            angle = 2 * np.pi * step / _DIRECTIONS
            dx, dy = np.cos(angle), -np.sin(angle)
            reach = radius + distance
            # The box touches the circle of this reach with its nearest side or corner.
            cx = x + dx * reach + np.clip(dx * 1.6, -1, 1) * width / 2
            cy = y + dy * reach + np.clip(dy * 1.6, -1, 1) * height / 2
            rows.append([cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2])
    return np.array(rows)


def _distance_cost() -> Floats:
    """Near beats far; right, left, above and below beat slanted ones, in this order."""
    quarter = _DIRECTIONS // 4
    preference = {0: 0.0, 2 * quarter: 0.6, quarter: 0.8, 3 * quarter: 0.8}
    slants = np.array([preference.get(step, 1.2) for step in range(_DIRECTIONS)])
    return np.concatenate([distance / 4 + slants for distance in _DISTANCES])


def _overlap(boxes: Floats, others: Floats) -> Floats:
    """For boxes ``[..., 4]``: how many of ``others`` ``[M, 4]`` each meets, weighted by depth."""
    if not len(others):
        return np.zeros(boxes.shape[:-1])
    return np.asarray(_meeting(boxes, others).sum(axis=-1), dtype=np.float64)


def _meeting(boxes: Floats, others: Floats) -> Floats:
    """``[..., M]``: 0 where two boxes are apart, 1 and more where they meet."""
    mine = boxes[..., None, :]
    wide = np.minimum(mine[..., 2], others[:, 2]) - np.maximum(mine[..., 0], others[:, 0])
    high = np.minimum(mine[..., 3], others[:, 3]) - np.maximum(mine[..., 1], others[:, 1])
    depth = np.minimum(wide, high)
    return np.where((wide > 0) & (high > 0), 1 + np.maximum(depth, 0) / 4, 0.0)


def _outside(boxes: Floats, area: Box) -> Floats:
    out = np.maximum(area.left - boxes[..., 0], 0) + np.maximum(boxes[..., 2] - area.right, 0)
    out += np.maximum(area.top - boxes[..., 1], 0) + np.maximum(boxes[..., 3] - area.bottom, 0)
    return np.asarray(out, dtype=np.float64)


def _leaders(points: Floats, boxes: Floats, radius: float) -> Floats:
    """Points along each candidate's leader line ``[N, C, K, 2]``; all NaN where it needs none."""
    spots = points[:, None, :]
    near = np.clip(spots, boxes[..., :2], boxes[..., 2:])
    far = np.hypot(*np.moveaxis(near - spots, -1, 0)) - radius > _LEADER_FROM
    along = np.linspace(0, 1, 9)[1:-1, None]
    line = spots[..., None, :] + along * (near - spots)[..., None, :]
    return np.where(far[..., None, None], line, np.nan)


def _inside(spots: Floats, boxes: Floats) -> Floats:
    """How many of the boxes ``[M, 4]`` hold any of the points ``[..., K, 2]``."""
    x, y = spots[..., None, 0], spots[..., None, 1]
    within = (x > boxes[:, 0]) & (x < boxes[:, 2]) & (y > boxes[:, 1]) & (y < boxes[:, 3])
    return np.asarray(within.any(axis=-2).sum(axis=-1), dtype=np.float64)


def _crossed(boxes: Floats, lines: Floats) -> Floats:
    """How many of the leader lines ``[M, K, 2]`` run through each of the boxes ``[C, 4]``."""
    x, y = lines[None, ..., 0], lines[None, ..., 1]
    left, top, right, bottom = (boxes[:, i, None, None] for i in range(4))
    within = (x > left) & (x < right) & (y > top) & (y < bottom)
    return np.asarray(within.any(axis=-1).sum(axis=-1), dtype=np.float64)


def _choose(boxes: Floats, leaders: Floats, cost: Floats) -> list[int]:
    """Candidate per label: most cramped first, then each in turn moved while that helps."""
    n = len(boxes)
    padded = boxes + np.array([-1.5, -0.5, 1.5, 0.5])
    order = sorted(range(n), key=lambda i: (-float(np.sort(cost[i])[:8].mean()), i))
    chosen: dict[int, int] = {}
    for _ in range(_ROUNDS):
        before = dict(chosen)
        for i in order:
            rest = [(j, c) for j, c in chosen.items() if j != i]
            others = np.array([padded[j, c] for j, c in rest]).reshape(-1, 4)
            lines = np.array([leaders[j, c] for j, c in rest]).reshape(-1, *leaders.shape[2:])
            crowd = 60 * _overlap(padded[i], others)
            crossing = 25 * (_inside(leaders[i], others) + _crossed(boxes[i], lines))
            chosen[i] = int(np.argmin(cost[i] + crowd + crossing))
        if chosen == before:
            break
    return [chosen[i] for i in range(n)]


def _placed(box: Floats, point: tuple[float, float], radius: float) -> Placed:
    left, top, right, bottom = (float(v) for v in box)
    x, y = point
    near = min(max(x, left), right), min(max(y, top), bottom)
    far = float(np.hypot(near[0] - x, near[1] - y)) - radius > _LEADER_FROM
    return Placed(
        (left + right) / 2, (top + bottom) / 2, Box(left, top, right, bottom), near if far else None
    )
