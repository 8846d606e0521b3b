"""A design for the terminal: which bands share a token, in the order of their wavelengths.

It must know nothing of tables or files.
"""

from __future__ import annotations

from rich.markup import escape

from reports.atlas import Channel, Design, Entry, Kind, Strip
from reports.token_diagram_parts import lettered
from reports.token_diagram_svg import REGION_COLOURS
from reports.token_diagram_words import arithmetic, shape_text

_LABEL, _MOST_CELLS = 12, 16


def strip_lines(design: Design) -> list[str]:
    """Lines of rich markup, at most 80 columns wide for up to `_MOST_CELLS` channels."""
    entry = design.first
    lines = [f"[bold]{escape(design.name)}[/]  [dim]{escape(design.title)}[/]"]
    letters = lettered(entry)
    for strip in entry.strips:
        lines.append(f"  [dim]{escape(shape_text(strip))}[/]")
        lines += _rows(entry, strip, letters)
    for kind in (k for k in letters if k.modality is None):
        lines.append(f"  {_label(letters[kind], kind)}{escape(kind.name)}")
    left_out = [c.name for strip in entry.strips for c in strip.channels if not c.read]
    if left_out:
        lines.append(f"  [dim]not read: {escape(' '.join(left_out))}[/]")
    lines += [f"  [dim]{c.name} = made from {', '.join(c.made_from)}[/]" for c in _derived(entry)]
    return [*lines, *(f"  [bold]{escape(line)}[/]" for line in arithmetic(entry)), ""]


def _derived(entry: Entry) -> list[Channel]:
    return [c for strip in entry.strips for c in strip.channels if c.made_from]


def _rows(entry: Entry, strip: Strip, letters: dict[Kind, str]) -> list[str]:
    kinds = [kind for kind in letters if kind.modality == strip.modality]
    if len(strip.channels) > _MOST_CELLS:
        return [f"  {_label(letters[k], k)}{escape(' '.join(k.bands))}" for k in kinds]
    names = "".join(_styled(f"{c.name[:4]:>5}", c) for c in strip.channels)
    metres = "".join(f"{c.resolution:>5g}" if c.resolution else "    -" for c in strip.channels)
    lines = [f"  {'':{_LABEL}}{names}", f"  [dim]{'metres':<{_LABEL}}{metres}[/]"]
    for kind in kinds:
        cells = "".join(_cell(c, kind) for c in strip.channels)
        lines.append(f"  {_label(letters[kind], kind)}{cells}")
    return lines


def _label(letter: str, kind: Kind) -> str:
    return f"{f'{letter}  {kind.count:,}':<{_LABEL}}"


def _styled(text: str, channel: Channel) -> str:
    return escape(text) if channel.read else f"[dim strike]{escape(text)}[/]"


def _cell(channel: Channel, kind: Kind) -> str:
    if channel.name in kind.bands:
        return f"   [{REGION_COLOURS[channel.region]}]\N{BLACK SQUARE}\N{BLACK SQUARE}[/]"
    return "    [dim].[/]" if channel.read else "     "
