"""Which variants a table row or a mark of a figure is about, so that a reader can filter them.

A row is about the variants that its cells name. A mark says so in its description, which
starts with the variant's name (see `described`): hovering shows it, a screen reader says it.
It must know nothing of what else is in a table or figure.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from reports import words
from reports.tables import Cell

_LENGTH = 80
_LABEL = re.compile(r'(<(?:path|line|text|rect)\b[^>]*?) aria-label="([^"]*)"([^>]*)')
_ROLES = re.compile(r' (?:role|aria-roledescription)="[^"]*"')
_CUT = re.compile(r": | on | against |, |:$")


def described(variant: str, text: str = "") -> str:
    """A mark's description; without text it is a mark that only a filter needs to know."""
    return f"{words.clip(variant, _LENGTH)}: {text}" if text else silent(variant)


def silent(variant: str) -> str:
    """The description of a mark that nobody needs to hear of: an interval, a label."""
    return f"{words.clip(variant, _LENGTH)}:"


class Marker:
    """Knows the variants of a page by number, and finds them in rows and drawings."""

    def __init__(self, variants: Sequence[str]) -> None:
        self._rows: dict[str, list[int]] = {}
        self._marks: dict[str, list[int]] = {}
        for i, name in enumerate(variants):
            self._rows.setdefault(name, []).append(i)
            self._marks.setdefault(words.clip(name, _LENGTH), []).append(i)

    def indices(self, row: Sequence[Cell | str]) -> str:
        """Numbers of the variants that cells (or plain names) are, e.g. ``"0 3"``."""
        texts = [cell if isinstance(cell, str) else cell.text for cell in row]
        return _spaced([i for text in texts for i in self._rows.get(text, ())])

    def marked(self, svg: str) -> str:
        """A drawing whose marks carry their variants' numbers, silent ones without a voice."""
        return _LABEL.sub(self._mark, svg)

    def _mark(self, found: re.Match[str]) -> str:
        before, label, after = found.groups()
        text = html.unescape(label)
        ends = [cut.start() for cut in _CUT.finditer(text)]
        name = next((text[:end] for end in reversed(ends) if text[:end] in self._marks), None)
        if name is None:
            return found.group(0)
        numbers = f' data-variants="{_spaced(self._marks[name])}"'
        if text == f"{name}:":
            hushed = _ROLES.sub("", before), _ROLES.sub("", after)
            return f'{hushed[0]}{numbers} aria-hidden="true"{hushed[1]}'
        return f'{before}{numbers} aria-label="{label}"{after}'


def _spaced(numbers: Sequence[int]) -> str:
    return " ".join(map(str, dict.fromkeys(numbers)))
