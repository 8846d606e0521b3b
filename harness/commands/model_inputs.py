"""`tokenrank models --inputs DATASET`: what each model will really see of a data set.

Bands, order, units, normalisation and size come from `harness.model_input`, the same code
that feeds a run; the values are of real samples that went through it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.markup import escape

from harness.commands.models import allowed_patch_size
from harness.inputs import InputRule, apply_rule, channels_of, make_rules
from harness.model_input import (
    InputPolicy,
    MissingBands,
    ModalityInput,
    ModelInput,
    Resize,
    level_mismatch,
    resolve,
)
from harness.terminal import plain_table
from models.errors import UserError, did_you_mean
from models.families import design_of
from models.registry import Variant, load_registry
from suites.datasets import catalogue
from suites.datasets.base import Dataset, DatasetCard

SAMPLED = 64  # training samples whose values are shown
CHOICES = {"missing-bands": ("refuse", "nearest"), "resize": ("refuse", "fit", "native")}


@dataclass(frozen=True)
class SampledPixels:
    """A few samples of a data set in memory, in the interface of `harness.pixels.Pixels`."""

    arrays: dict[str, npt.NDArray[np.float32]]
    stamps: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.stamps)

    def images(self, modality: str, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Images ``[B, H, W, T, D]`` as stored."""
        return self.arrays[modality][start:stop]


def model_inputs_command(
    *,
    dataset: str,
    names: list[str],
    data_dir: Path | None,
    patch_size: int,
    missing_bands: str,
    resize: str,
    registry: list[Path],
) -> None:
    """Print one table per distinct input. Raises `UserError` for a name that is not known."""
    known = load_registry(registry)
    variants = [known.variant(name) for name in names] if names else known.variants()
    policy = _policy(missing_bands, resize)
    found = catalogue.resolve(dataset, data_dir)
    card = found.card
    console = Console()
    console.print(
        f"[bold]{escape(card.title)}[/] ({card.name}): {card.origin} data, {card.level}, "
        f"{card.height} x {card.width} pixels, {card.steps} time step{'s' * (card.steps > 1)}, "
        f"digital number = stored value x {card.units_per_dn:g}; stored "
        + "; ".join(f"{name}: {' '.join(bands)}" for name, bands in card.bands.items()),
        soft_wrap=True,
    )
    sample = _sample(found)
    refusals: dict[str, list[str]] = {}
    groups = _same_inputs(variants, card, policy, patch_size, refusals)
    if not groups:
        raise UserError(f"None of the variants can take part: {next(iter(refusals))}")
    for group in groups:
        _show(console, group, found, sample, patch_size)
    for sentence, who in refusals.items():
        console.print(f"\n[yellow]Cannot take part: {', '.join(who)}.[/] {escape(sentence)}")


@dataclass(frozen=True)
class _Group:
    """Variants that see the same."""

    variants: list[Variant]
    given: ModelInput
    patch_size: int


def _policy(missing_bands: str, resize: str) -> InputPolicy:
    for option, value in (("missing-bands", missing_bands), ("resize", resize)):
        if value not in CHOICES[option]:
            hint = did_you_mean(value, CHOICES[option])
            raise UserError(f'--{option} "{value}" is not known: {hint}.')
    missing: MissingBands = "nearest" if missing_bands == "nearest" else "refuse"
    size: Resize = {"fit": "fit", "native": "native"}.get(resize, "refuse")  # type: ignore[assignment]
    return InputPolicy(missing, size)


def _same_inputs(
    variants: Sequence[Variant],
    card: DatasetCard,
    policy: InputPolicy,
    patch_size: int,
    refusals: dict[str, list[str]],
) -> list[_Group]:
    groups: dict[str, _Group] = {}
    for variant in variants:
        design = design_of(variant)
        cut = allowed_patch_size(design, patch_size)
        try:
            given = resolve("the model", design, card, policy, cut)
        except UserError as error:
            sentence = str(error)
            refusals.setdefault(sentence[0].upper() + sentence[1:], []).append(variant.name)
            continue
        group = groups.setdefault(f"{given.identity}", _Group([], given, cut))
        group.variants.append(variant)
    return list(groups.values())


def _sample(dataset: Dataset) -> SampledPixels:
    """Training samples, evenly spaced."""
    train = dataset.splits(0)["train"]
    rows = train[np.linspace(0, len(train) - 1, min(SAMPLED, len(train))).astype(np.int64)]
    batch = dataset.read(sorted(int(row) for row in rows))
    return SampledPixels(dict(batch.images), batch.timestamps)


def _show(
    console: Console, group: _Group, dataset: Dataset, sample: SampledPixels, asked: int
) -> None:
    normalisation = "pretraining" if group.given.has_statistics else "dataset"
    every = np.arange(len(sample), dtype=np.int64)
    rules = make_rules(dataset.card, group.given, normalisation, sample, every)
    console.print(f"\n[bold]{', '.join(v.name for v in group.variants)}[/]", soft_wrap=True)
    for each in group.given.modalities:
        console.print(_sentence(each, group, dataset.card, len(sample), asked), soft_wrap=True)
        rows = list(_rows(each, dataset.card, rules[each.name], sample))
        headers = ["channel", "stored as", "stored\nmean", "sees:\nmean", "min", "max"]
        console.print(plain_table(headers, rows, numeric=2))


def _sentence(
    each: ModalityInput, group: _Group, card: DatasetCard, samples: int, asked: int
) -> str:
    """Size, normalisation and caveats in a line."""
    needs, given = each.needs, each.given
    if needs.shift is not None:
        how = "normalised with the model's own statistics"
    else:
        how = f"normalised with the data set's own statistics (here of {samples} samples)"
    patches = f"patches of {group.patch_size}"
    if group.patch_size != asked:
        patches += f" [yellow](it cannot cut {asked}, a run with that refuses it)[/]"
    parts = [f"{given.height} x {given.width} pixels", patches, how]
    if needs.z_scores:
        parts.append("as z-scores")
    if needs.clip:
        parts.append("cut to 0..1")
    if needs.levels is not None:
        parts.append(f"kept in {needs.levels + 1} levels")
    design = design_of(group.variants[0])
    if level_mismatch(design.needs, card):
        parts.append(f"[yellow]made for {design.needs.level} data, given {card.level}[/]")
    read = {band for source in each.sources for band in source.bands}
    unread = [band for band in card.bands[each.name] if band not in read]
    if unread:
        parts.append(f"never looks at {', '.join(unread)}")
    return f"{each.name}: {'; '.join(parts)}."


def _rows(
    each: ModalityInput, card: DatasetCard, rule: InputRule, sample: SampledPixels
) -> Iterator[list[str]]:
    stored_order = card.bands[each.name]
    images = sample.arrays[each.name]
    stored, seen = channels_of(images, rule.positions), apply_rule(images, rule)
    for i, source in enumerate(each.sources):
        places = ", ".join(f"{band} (no. {stored_order.index(band) + 1})" for band in source.bands)
        label = {"stored": "", "imputed": "copy of ", "derived": "index of "}[source.how]
        values = (seen[..., i] - 0.5) * 4 if each.needs.z_scores else seen[..., i]
        yield [
            source.channel if source.how == "stored" else f"[yellow]{source.channel}[/]",
            f"{label}{places}",
            f"{float(stored[..., i].mean(dtype=np.float64)):.5g}",
            f"{float(values.mean(dtype=np.float64)):.3f}",
            f"{float(values.min()):.3f}",
            f"{float(values.max()):.3f}",
        ]
