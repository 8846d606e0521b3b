"""`tokenrank tokens`: the token-design atlas, in the terminal and as a page with its figures.

It shows what designs say of an input, and with ``--measure`` what this machine takes for it. It
decides nothing: `harness.atlas` computes, `reports` draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from harness.atlas.collect import default_variants, entry_of, parameters, shapes_for
from harness.atlas.strips import strip_lines
from harness.terminal import plain_table
from models.errors import UserError
from models.families import design_of
from models.registry import Registry, Variant, load_registry
from models.sensors import modality
from models.tokens import InputShape
from reports.atlas import Atlas, Entry, Refusal, layouts
from reports.atlas_tables import measured_here
from reports.words import quantity


@dataclass(frozen=True)
class Asked:
    """The input that the atlas is of."""

    height: int
    width: int
    steps: int
    patch_size: int
    modalities: tuple[str, ...]


def tokens_command(
    names: Sequence[str], asked: Asked, out: Path, *, measure: bool, registry: Sequence[Path]
) -> None:
    """Print the atlas and write it to a folder.

    Raises `UserError` for an unknown variant or modality, and when no variant at all can be
    shown at this input; a single one that cannot is told of among the others.
    """
    for name in asked.modalities:
        modality(name)
    known = load_registry(registry)
    variants = [known.variant(name) for name in dict.fromkeys(names)] or default_variants(known)
    console = Console()
    atlas, shapes = _collected(known, variants, asked)
    if measure:
        atlas = _measured(console, atlas, {each.name: each for each in variants}, shapes)
    _show(console, atlas)
    _write(console, atlas, out)


Shapes = dict[str, tuple[InputShape, ...]]


def _collected(known: Registry, variants: Sequence[Variant], asked: Asked) -> tuple[Atlas, Shapes]:
    entries: list[Entry] = []
    refused: list[Refusal] = []
    given: Shapes = {}
    for variant in variants:
        try:
            shapes = shapes_for(
                design_of(variant), asked.modalities, asked.height, asked.width, asked.steps
            )
            # Refused before its parameters are counted, which builds it.
            entry = entry_of(variant, shapes, asked.patch_size, None)
            entries.append(replace(entry, params=parameters(variant, shapes)))
            given[variant.name] = shapes
        except UserError as error:
            refused.append(Refusal(variant.name, str(error)))
    if not entries:
        raise UserError(f"{refused[0].variant} cannot be shown: {refused[0].reason}")
    size = (asked.height, asked.width, asked.steps, asked.patch_size)
    return Atlas(tuple(entries), tuple(refused), *size), given


def _measured(
    console: Console, atlas: Atlas, known: Mapping[str, Variant], shapes: Shapes
) -> Atlas:
    from harness.atlas.measure import machine, measured_entry  # noqa: PLC0415  (torch)

    where = machine()  # before this command is what keeps it busy
    entries = []
    for entry in atlas.entries:
        with console.status(f"Measuring {escape(entry.variant)} (random weights)"):
            variant = known[entry.variant]
            entries.append(measured_entry(entry, variant, shapes[entry.variant]))
    return replace(atlas, entries=tuple(entries), machine=where)


# --- the terminal -----------------------------------------------------------------------------


def _show(console: Console, atlas: Atlas) -> None:
    for design in layouts(atlas.entries):
        for line in strip_lines(design):
            console.print(line, highlight=False, soft_wrap=True)
    headers = ["variant", "N", "MACs", "attn.", "activations", "weights"]
    console.print(plain_table(headers, [_row(entry) for entry in atlas.entries], numeric=1))
    console.print(
        "MACs, attention's share of them and peak activations (bytes, one sample, float32) are "
        "closed forms; weights: parameters in float32.",
        style="dim",
    )
    if atlas.is_measured:
        headers = ["variant", "samples per s", "batch", "peak measured", "closed form"]
        rows = [_measured_row(entry) for entry in atlas.entries]
        console.print(plain_table(headers, rows, numeric=1))
        told = ", ".join(filter(None, atlas.machine.values()))
        console.print(f"Measured on {told}; random weights.", style="dim", markup=False)
    for one in atlas.refused:
        console.print(
            f"[yellow]{escape(one.variant)} cannot: {escape(one.reason)}[/]", soft_wrap=True
        )


def _row(entry: Entry) -> list[str]:
    return [
        escape(entry.variant),
        f"{entry.tokens:,}",
        quantity(entry.macs.total),
        f"{entry.macs.attention_share:.0%}",
        _bytes(entry.activation_bytes),
        _bytes(entry.weights_bytes),
    ]


def _measured_row(entry: Entry) -> list[str]:
    found = measured_here(entry)
    if found is None:
        return [escape(entry.variant), "-", "-", "-", _bytes(entry.activation_bytes)]
    return [
        escape(entry.variant),
        quantity(found.samples_per_second),
        str(found.batch),
        _bytes(found.peak_bytes),
        _bytes(entry.activation_bytes),
    ]


def _bytes(value: int | None) -> str:
    if value is None:
        return "-"
    return f"{quantity(value)}B" if value >= 1000 else f"{value} B"


def _write(console: Console, atlas: Atlas, out: Path) -> None:
    from reports.atlas_page import write_atlas  # noqa: PLC0415  (draws; slow to import)

    try:
        written = write_atlas(atlas, out)
    except OSError as error:
        raise UserError(
            f"The atlas cannot be written to {out} ({error.strerror or error}); make room there "
            "or choose another folder with --out."
        ) from None
    console.print(f"Atlas: {written[-1]}", soft_wrap=True, highlight=False, markup=False)
