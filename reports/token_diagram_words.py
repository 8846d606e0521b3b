"""What a token diagram says in words: the arithmetic, and the description of a whole figure.

Pure text. It must know nothing of drawing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from reports import words
from reports.atlas import Design, Entry, Kind, Strip

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Term:
    """One product of the arithmetic: ``"64/8 x 64/8 x 1 step x 3 groups"`` and what it makes."""

    sequence: str
    text: str
    count: int


def terms(entry: Entry) -> tuple[Term, ...]:
    """The sequence length, one product per modality and per kind that holds no pixels."""
    found = []
    grids = groupby(entry.kinds, key=lambda k: (k.sequence, k.modality, _grid(k)))
    for (sequence, modality, _), alike in grids:
        kinds = tuple(alike)
        count = sum(kind.count for kind in kinds)
        if modality is None:
            found += [Term(sequence, _without_pixels(kind), kind.count) for kind in kinds]
        else:
            strip = next((s for s in entry.strips if s.modality == modality), None)
            found.append(Term(sequence, _product(kinds, strip, entry.patch_size), count))
    return tuple(found)


def _grid(kind: Kind) -> tuple[int, int, int]:
    return kind.rows, kind.columns, kind.steps


def _product(kinds: tuple[Kind, ...], strip: Strip | None, patch_size: int) -> str:
    first = kinds[0]
    if first.count == 1 and len(kinds) == 1:
        return first.name
    sides = [str(first.rows), str(first.columns)]
    if strip and (first.rows * patch_size, first.columns * patch_size) == (
        strip.height,
        strip.width,
    ):
        sides = [f"{strip.height}/{patch_size}", f"{strip.width}/{patch_size}"]
    steps, groups = words.number(first.steps, "step"), words.number(len(kinds), "group")
    return f" {TIMES} ".join([*sides, steps, groups])


def _without_pixels(kind: Kind) -> str:
    if kind.count == 1:
        return kind.name
    return f"{kind.rows} {TIMES} {kind.columns} ({kind.name})"


def arithmetic(entry: Entry) -> tuple[str, ...]:
    """Lines of the arithmetic: one, or one per sequence and the sum."""
    by_sequence: dict[str, list[Term]] = {}
    for term in terms(entry):
        by_sequence.setdefault(term.sequence, []).append(term)
    if len(by_sequence) == 1:
        return (_line(next(iter(by_sequence.values()))),)
    lines = [f"{name}: {_line(mine)}" for name, mine in by_sequence.items()]
    sums = [words.count(sum(t.count for t in mine)) for mine in by_sequence.values()]
    return (
        *lines,
        f"N = {' + '.join(sums)} = {words.count(entry.tokens)}, in {len(sums)} sequences",
    )


def _line(found: list[Term]) -> str:
    total = tokens_text(sum(term.count for term in found))
    pixels = [term for term in found if TIMES in term.text]
    lone = [term for term in found if TIMES not in term.text]
    if not pixels:
        return f"{' + '.join(term.text for term in lone)} = {total}"
    products = " + ".join(f"({term.text})" if len(pixels) > 1 else term.text for term in pixels)
    if not lone:
        return f"{products} = {total}"
    made = words.count(sum(term.count for term in pixels))
    extra = " + ".join(f"1 {term.text}" for term in lone)
    return f"{products} = {made}, + {extra} = {total}"


def tokens_text(count: int) -> str:
    """``"1,536 tokens"``."""
    return f"{words.count(count)} token{'s' * (count != 1)}"


def shape_text(strip: Strip) -> str:
    """One modality's input: ``"Sentinel-2, 64 x 64 pixels, 1 step"``."""
    return (
        f"{strip.title}, {strip.height} {TIMES} {strip.width} pixels, "
        f"{words.number(strip.steps, 'step')}, {len(_read(strip))} channels"
    )


def _read(strip: Strip) -> list[str]:
    return [channel.name for channel in strip.channels if channel.read]


def spoken(designs: tuple[Design, ...]) -> str:
    """A figure's designs one after another, for those who hear it."""
    return " ".join(_spoken(design) for design in designs)


def _spoken(design: Design) -> str:
    entry = design.first
    groups = "; ".join(
        f"{', '.join(kind.bands) or kind.name}: {tokens_text(kind.count)}" for kind in entry.kinds
    )
    ignored = [c.name for s in entry.strips for c in s.channels if not c.read]
    left_out = f" Not read: {', '.join(ignored)}." if ignored else ""
    return f"{design.name}. {'. '.join(arithmetic(entry))}. {groups}.{left_out}"


def share_of_attention(design: Design) -> str:
    """How much of the MACs attention takes, of the smallest size: ``"49% of MACs (nano)"``."""
    entry = min(design.entries, key=lambda e: e.macs.total)
    return f"{words.percent(entry.macs.attention_share)} of MACs ({entry.size})"
