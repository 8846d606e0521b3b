"""Which windows of an `rslearn` data set train, validate and test, and which must stay together.

It must know nothing of pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.errors import UserError, did_you_mean
from suites.datasets.base import SPLITS
from suites.datasets.rslearn_file import ByGroup, ByLocation, ByOption, BySeed, Parts, RslearnTask
from suites.datasets.rslearn_windows import Window
from suites.datasets.splits import split_rule

_USUAL = {"valid": "val", "validation": "val", **{name: name for name in SPLITS}}


def parts_of(windows: Sequence[Window], task: RslearnTask) -> tuple[str, ...] | None:
    """The part of each window, where the windows say it; None where they are dealt out.

    Raises `UserError` for a value that stands for no part, and a part that no window has.
    """
    split = task.split
    if not isinstance(split, (ByOption, ByGroup)):
        return None
    known = _known(split.names)
    found = []
    for window in windows:
        value = window.group if isinstance(split, ByGroup) else _option(window, split.key)
        if str(value) not in known:
            what = "its group" if isinstance(split, ByGroup) else f'its option "{split.key}"'
            raise UserError(
                f'{window.folder}: {what} is "{value}", which stands for no part; allowed: '
                f"{', '.join(known)}, or say names: {{train: ..., val: ..., test: ...}} under "
                "split:."
            )
        found.append(known[str(value)])
    missing = [name for name in SPLITS if name not in found]
    if missing:
        raise UserError(
            f"{windows[0].folder.parent.parent.parent}: no usable window belongs to "
            f"{', '.join(missing)}; correct split:, or let the windows be dealt out (by: seed)."
        )
    return tuple(found)


def together(windows: Sequence[Window], task: RslearnTask) -> tuple[str, ...] | None:
    """What must stay in one part: blocks of ground, or what shares an option; None: nothing."""
    split = task.split
    if isinstance(split, ByLocation):
        return tuple(window.block(split.cell) for window in windows)
    if isinstance(split, BySeed) and split.together is not None:
        return tuple(str(_option(window, split.together)) for window in windows)
    return None


def split_words(task: RslearnTask) -> str:
    """How the parts come about, for a card."""
    split, (train, val, test) = task.split, task.fractions
    shares = f"seeded, {train:.0%} train / {val:.0%} val / {test:.0%} test"
    if isinstance(split, ByOption):
        return f"as the windows' option {split.key} says"
    if isinstance(split, ByGroup):
        return "as the windows' groups say"
    if isinstance(split, ByLocation):
        return f"{shares}; blocks of {split.cell:g} m stay in one split"
    if split.together:
        return f"{shares}; windows that share {split.together} stay in one split"
    if task.kind == "classes":
        return split_rule(task.fractions)
    return f"{shares}; samples with identical pixels stay in one split"


def _option(window: Window, key: str) -> Any:
    options: Mapping[str, Any] = window.options
    if options.get(key) is None:
        has = did_you_mean(key, sorted(options)) if options else "it has none"
        raise UserError(f'{window.folder}: the window has no option "{key}": {has}.')
    return options[key]


def _known(names: Parts | None) -> Mapping[str, str]:
    if names is None:
        return _USUAL
    known = {}
    for part in SPLITS:
        said = getattr(names, part)
        known.update(dict.fromkeys([said] if isinstance(said, str) else said, part))
    return known
