"""`tokenrank models`: the registry as a table, with tokens and MACs at a chosen input.

It shows what the registry and the counter say and adds nothing of its own.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from harness.costs import Cost, cost_of
from harness.terminal import plain_table, si
from models.registry import Registry, Variant, load_registry
from models.tokens import InputShape


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
    shapes = tuple(InputShape(height, width, steps, name) for name in modalities)
    rows = []
    for variant in variants:
        cost = cost_of(variant, shapes, patch_size, None)
        rows.append(_row(variant, modalities, cost, published_axis))
    plural = "s" if steps > 1 else ""
    console = Console()
    families = ", ".join(dict.fromkeys(variant.family for variant in variants))
    console.print(
        f"{families}; one sample: {' + '.join(modalities)}, {height} x {width} pixels, "
        f"{steps} time step{plural}, patch size {patch_size}",
        soft_wrap=True,
    )
    headers = ["variant\n[dim]scheme\nweights[/]", "groups", "tokens", "params", "MACs"]
    headers += ["of it\nattn.", "attn.-\nblind"]
    headers += ["mean,\n13"] if published_axis else []
    console.print(plain_table(headers, rows, numeric=1))
    console.print(
        "MACs include attention. Attention-blind is what counters report that never see its two "
        "matrix products (attn.); the published v1 and v1.1 figures were counted so.",
        style="dim",
    )
    if published_axis:
        console.print(
            "Mean of 13: MACs over the 13 inputs of the published cost axis (docs/protocols.md), "
            "here with attention; it does not depend on the shape chosen above.",
            style="dim",
        )
    for family in sorted({variant.family for variant in variants}):
        licence = known.families[family].licence
        console.print(f"Licence of {family}'s official weights: {licence}.", style="dim")


def _with_every_scheme(registry: Registry, variant: Variant) -> list[Variant]:
    schemes = registry.families[variant.family].schemes
    base = f"{variant.family}-{variant.version}-{variant.size}"
    return [registry.variant(f"{base}:{scheme}") for scheme in schemes]


def _row(variant: Variant, modalities: list[str], cost: Cost, published: bool) -> list[str]:
    groups = " + ".join(str(len(variant.scheme.of(name))) for name in modalities)
    tiers = "official, random" if variant.hub else "random"
    row = [
        f"{escape(variant.name.partition('-')[2])}\n[dim]{escape(variant.scheme.name)}\n{tiers}[/]",
        groups,
        str(cost.tokens),
        si(cost.params),
        si(cost.macs),
        f"{100 * cost.attention / cost.macs:.0f}%",
        si(cost.macs - cost.attention),
    ]
    return row + ([si(_published(variant))] if published else [])


def _published(variant: Variant) -> float:
    """Mean MACs over the 13 published task inputs (`models.cost.PUBLISHED_TASK_SHAPES`)."""
    from models.cost import PUBLISHED_TASK_SHAPES  # noqa: PLC0415

    total = sum(
        task.weight * cost_of(variant, task.inputs(), task.patch_size, None).macs
        for task in PUBLISHED_TASK_SHAPES
    )
    return total / sum(task.weight for task in PUBLISHED_TASK_SHAPES)
