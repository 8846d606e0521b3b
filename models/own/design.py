"""A user's class as a design: its tokens, cost and inputs, from notes of what it once answered.

It must not import a tensor library; one is loaded only for a class or shape never seen before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from models.cost import MacCount
from models.design import InputNeeds, Layout, ModalityNeeds, TokenKind
from models.errors import UserError
from models.own import counting
from models.own.notes import noted
from models.own.variant import OwnVariant
from models.registry import Variant
from models.tokens import InputShape

# Widths that answers for some patch size have told, by code, variant and shapes: a design is
# asked for its width without one.
_WIDTHS: dict[tuple[str, str, tuple[InputShape, ...]], int] = {}


@dataclass(frozen=True)
class OwnDesign:
    """See `models.design.Design`; no closed form is known, MACs are counted by tracing."""

    variant: OwnVariant
    closed_form = False

    @property
    def needs(self) -> InputNeeds:
        """As the class declares."""
        said = self.variant.declaration
        return InputNeeds(
            modalities={name: self._modality(name) for name in said.bands},
            required=tuple(name for name in said.bands if name not in said.optional),
            patch_sizes=said.patch_sizes,
            max_steps=said.max_steps,
            native_side=said.native_side or (said.sides[0] if len(said.sides) == 1 else None),
            level=said.level,  # type: ignore[arg-type]  # one of the three: checked when read
        )

    def _modality(self, name: str) -> ModalityNeeds:
        """Two deviations either side of the mean become 0 and 1, as for every other family.

        `models.own.encoder` makes z-scores of that, whether the statistics are the class's
        or the data set's.
        """
        said = self.variant.declaration
        channels = said.bands[name]
        if name not in said.statistics:
            return ModalityNeeds(channels, z_scores=True)
        pairs = said.statistics[name]
        return ModalityNeeds(
            channels,
            z_scores=True,
            shift=tuple(mean - 2 * deviation for mean, deviation in pairs),
            divisor=tuple(4 * deviation for _, deviation in pairs),
        )

    def layout(self, shapes: Sequence[InputShape], patch_size: int) -> Layout:
        """Tokens as the class returned them for a sample of these shapes."""
        answer = self._answer(shapes, patch_size)
        return Layout(
            tuple(
                kind
                for name, (rows, columns, steps, groups) in answer["tokens"].items()
                for kind in self._kinds(name, rows, columns, steps, groups, shapes)
            )
        )

    def _kinds(
        self,
        name: str,
        rows: int,
        columns: int,
        steps: int,
        groups: int,
        shapes: Sequence[InputShape],
    ) -> list[TokenKind]:
        given = [shape.modality for shape in shapes]
        modality = name if name in given else given[0]
        held = (modality,) if name in given else tuple(given)
        bands = tuple(band for each in held for band in self.variant.declaration.bands[each])
        declared = self.variant.declaration.groups[modality]
        if len(held) == 1 and len(declared) == groups:
            return [
                TokenKind(" ".join(group), modality, group, rows, columns, steps)
                for group in declared
            ]
        names = [" ".join(bands)] if groups == 1 else [f"token {i + 1}" for i in range(groups)]
        return [TokenKind(each, modality, bands, rows, columns, steps) for each in names]

    def width(self, shapes: Sequence[InputShape]) -> int:
        """Width of the class's tokens, as it returned them."""
        given = self._with_bands(shapes)
        known = _WIDTHS.get((self.variant.code, self.variant.name, given))
        if known is not None:
            return known
        fit = [p for p in self.variant.declaration.patch_sizes if _divides(p, given)]
        return int(self._answer(given, fit[-1] if fit else 1)["width"])

    def macs(self, shapes: Sequence[InputShape], patch_size: int) -> MacCount:
        """MACs of one sample, by tracing."""
        given = self._with_bands(shapes)
        self._check(given)
        return counting.count(self.variant, given, patch_size)

    def _answer(self, shapes: Sequence[InputShape], patch_size: int) -> dict[str, Any]:
        given = self._with_bands(shapes)
        self._check(given)
        about = {
            "answer": self.variant.identity,
            "shapes": [asdict(shape) for shape in given],
            "patch_size": patch_size,
        }
        answer = noted(about, lambda: _answered(self.variant, given, patch_size))
        _WIDTHS[self.variant.code, self.variant.name, given] = int(answer["width"])
        return answer

    def _check(self, shapes: Sequence[InputShape]) -> None:
        said = self.variant.declaration
        for shape in shapes:
            if said.sides and (shape.height != shape.width or shape.height not in said.sides):
                allowed = " or ".join(f"{side} x {side}" for side in said.sides)
                raise UserError(
                    f"{self.variant.name} takes images of {allowed} pixels, not {shape.height} x "
                    f'{shape.width}; resize them, with "resize: native" in the protocol.'
                )

    def _with_bands(self, shapes: Sequence[InputShape]) -> tuple[InputShape, ...]:
        bands = self.variant.declaration.bands
        return tuple(replace(shape, bands=shape.bands or bands[shape.modality]) for shape in shapes)


def _divides(patch_size: int, shapes: Sequence[InputShape]) -> bool:
    return all(not (s.height % patch_size or s.width % patch_size) for s in shapes)


def _answered(variant: OwnVariant, shapes: Sequence[InputShape], patch_size: int) -> dict[str, Any]:
    from models.own.examination import answer_of  # noqa: PLC0415  (torch loads with it)

    return answer_of(variant, shapes, patch_size)


def design(variant: Variant) -> OwnDesign:
    """The variant's design."""
    assert isinstance(variant, OwnVariant)
    return OwnDesign(variant)
