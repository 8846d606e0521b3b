"""`tokenrank models`: the registry as a table, with tokens and MACs at a chosen input.

It shows what the registry and the counter say and adds nothing of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from harness.costs import cost_of, with_channels
from harness.terminal import plain_table
from models.design import Design
from models.errors import UserError
from models.families import design_of
from models.needs import check_shapes
from models.registry import Registry, Variant, load_registry
from models.study_cards import shipped_cards
from models.tokens import InputShape
from reports.words import quantity

SENTINEL2 = "sentinel2_l2a"


def models_command(
    *,
    names: list[str],
    height: int,
    width: int,
    steps: int,
    patch_size: int,
    modalities: list[str],
    all_schemes: bool,
    published_axis: bool,
    registry: list[Path],
) -> None:
    """Print one row per variant. Raises `UserError` for an unknown name or a bad shape."""
    known = load_registry(registry)
    variants = [known.variant(name) for name in names] if names else known.variants()
    if all_schemes:
        variants = [each for variant in variants for each in _with_every_scheme(known, variant)]
    rows: list[list[str]] = []
    refused: list[str] = []
    for variant in variants:
        try:
            read = modalities or own_modalities(design_of(variant))
            shapes = tuple(InputShape(height, width, steps, name) for name in read)
            rows.append(_row(variant, shapes, patch_size, published_axis))
        except UserError as error:
            refused.append(f"{variant.name}: {error}")
    if not rows:
        raise UserError(refused[0])
    console = Console()
    steps_said = f"{steps} time step{'s' * (steps > 1)}"
    families = ", ".join(dict.fromkeys(variant.family for variant in variants))
    console.print(
        f"{families}; one sample: {' + '.join(modalities or [SENTINEL2])}, "
        f"{height} x {width} pixels, {steps_said}, patch size p = {patch_size}, "
        "unless a row says otherwise",
        soft_wrap=True,
    )
    headers = ["variant\n[dim]scheme\nweights[/]", "G", "tokens", "params", "MACs"]
    headers += ["of it\nattn.", "attn.-\nblind"]
    headers += ["mean,\n13"] if published_axis else []
    console.print(plain_table(headers, rows, numeric=1))
    _footnotes(console, published_axis)
    _licences(console, variants)
    _study_weights(console, variants)
    for sentence in refused:
        console.print(f"[yellow]Not shown: {escape(sentence)}[/]", soft_wrap=True)


def _footnotes(console: Console, published_axis: bool) -> None:
    console.print(
        "G: tokens per patch and time step. MACs include attention. Attention-blind is what "
        "counters report that never see its two matrix products (attn.); the published v1 and v1.1 "
        "figures were counted so.",
        style="dim",
    )
    if published_axis:
        console.print(
            "Mean of 13: MACs over the 13 inputs of the published cost axis (docs/protocols.md), "
            "here with attention; it does not depend on the shape chosen above. A dash: the model "
            "cannot take all 13.",
            style="dim",
        )


def _licences(console: Console, variants: Sequence[Variant]) -> None:
    """Licences of published weights, or of those that a class brings: they allow unlike things."""
    by_licence: dict[str, list[str]] = {}
    for variant in variants:
        if variant.official is not None or variant.brought is not None:
            name = f"{variant.family} {variant.version}"
            by_licence.setdefault(variant.licence, []).append(name)
    for licence, who in by_licence.items():
        console.print(
            f"Licence of the weights of {', '.join(dict.fromkeys(who))}: {licence}.",
            style="dim",
            soft_wrap=True,
        )


def _study_weights(console: Console, variants: Sequence[Variant]) -> None:
    """What the shipped study weights of these variants are: nobody published them."""
    names = {variant.name for variant in variants}
    by_data: dict[str, list[str]] = {}
    for card in shipped_cards().values():
        if card.variant in names:
            data = f"{card.data.count:,} {card.data.origin} images ({card.data.title})"
            said = f"{card.variant} by {card.recipe} ({card.samples_seen:,} samples seen)"
            by_data.setdefault(f"{data}, licence {card.licence}", []).append(said)
    for data, who in by_data.items():
        console.print(
            f"Study weights, trained by this project at small scale on {escape(data)}: "
            f"{escape(', '.join(who))}.",
            style="dim",
            soft_wrap=True,
        )


def _with_every_scheme(registry: Registry, variant: Variant) -> list[Variant]:
    if variant.family not in registry.families:  # a class of the user's own
        return [variant]
    schemes = registry.families[variant.family].schemes
    base = f"{variant.family}-{variant.version}-{variant.size}"
    return [registry.variant(f"{base}:{scheme}") for scheme in schemes]


Row = list[str]


def _row(variant: Variant, shapes: tuple[InputShape, ...], patch_size: int, published: bool) -> Row:
    design = design_of(variant)
    cut = allowed_patch_size(design, patch_size)
    given = with_channels(design, shapes)
    check_shapes("it", design.needs, given, cut)
    cost = cost_of(variant, given, cut, None)
    row: Row = [
        f"{escape(variant.name)}\n[dim]{escape(variant.scheme.name)}\n{_tiers(variant)}"
        f"{_read_instead(shapes)}[/]",
        str(design.layout(given, cut).groups),
        str(cost.tokens) if cut == patch_size else f"{cost.tokens}\n[yellow]p = {cut}[/]",
        quantity(cost.params),
        quantity(cost.macs),
        f"{100 * cost.attention / max(1, cost.macs):.0f}%",
        quantity(cost.macs - cost.attention),
    ]
    return row + ([_published(variant)] if published else [])


def own_modalities(design: Design) -> list[str]:
    """What a model is shown with unless asked: what it requires, else Sentinel-2 if it can."""
    needs = design.needs
    if needs.required:
        return list(needs.required)
    return [SENTINEL2] if SENTINEL2 in needs.modalities else list(needs.modalities)[:1]


def _read_instead(shapes: Sequence[InputShape]) -> str:
    names = [shape.modality for shape in shapes]
    return "" if names == [SENTINEL2] else f"\n{' + '.join(names)}"


def _tiers(variant: Variant) -> str:
    if variant.family == "baseline":
        return "nothing trained"
    if variant.brought is not None:
        return "its own"
    studied = any(name == variant.name for name, _ in shipped_cards())
    tiers = [("official", variant.official is not None), ("study", studied), ("random", True)]
    return ", ".join(tier for tier, has_some in tiers if has_some)


def allowed_patch_size(design: Design, wanted: int) -> int:
    """The patch size that a model can cut which is nearest to the one wanted."""
    return min(design.needs.patch_sizes, key=lambda size: (abs(size - wanted), size))


def _published(variant: Variant) -> str:
    """Mean MACs over the 13 published task inputs (`models.cost.PUBLISHED_TASK_SHAPES`)."""
    from models.cost import PUBLISHED_TASK_SHAPES  # noqa: PLC0415

    design = design_of(variant)
    total = 0
    for task in PUBLISHED_TASK_SHAPES:
        try:
            shapes = with_channels(design, task.inputs())
            check_shapes("it", design.needs, shapes, task.patch_size)
            total += task.weight * cost_of(variant, shapes, task.patch_size, None).macs
        except UserError:
            return "-"
    return quantity(total / sum(task.weight for task in PUBLISHED_TASK_SHAPES))
