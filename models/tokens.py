"""Token schemes: what one token stands for, and how many of them an input becomes.

A token is a patch of ``p x p`` pixels, at one time step, of one *band group*. A
scheme names the band groups of each modality; the arithmetic of sequence length
follows from it. This module is pure: it must know nothing of weights, of encoders
or of YAML files (``registry.py`` reads those and hands the groups over).

    tokens = (H / p) * (W / p) * T * G        (summed over modalities)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from models.errors import UserError
from models.sensors import DERIVED, modality

BandGroups = tuple[tuple[str, ...], ...]
MAX_PATCH_SIZE = 8  # pixels a side; what a patch embedding's weights stand for


@dataclass(frozen=True)
class TokenScheme:
    """Band groups per modality, e.g. one group per native resolution.

    ``groups[modality]`` is a tuple of band groups; each group is a tuple of band
    names, and every band of the modality stands in exactly one group, or among the
    ``ignored`` ones. A group may hold derived channels (`models.sensors.DERIVED`). Build it
    with `token_scheme`, which checks that.
    """

    name: str
    groups: Mapping[str, BandGroups]
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    title: str = ""

    def of(self, modality_name: str) -> BandGroups:
        """Band groups of one modality; a `UserError` when the scheme says nothing of it."""
        try:
            return self.groups[modality_name]
        except KeyError:
            raise UserError(
                f'Token scheme "{self.name}" defines no band groups for {modality_name}; '
                f"it covers {', '.join(self.groups)}."
            ) from None

    def band_indices(self, modality_name: str) -> tuple[tuple[int, ...], ...]:
        """For each group, the positions of its bands in the modality's canonical order."""
        sensor = modality(modality_name)
        return tuple(tuple(sensor.index(b) for b in group) for group in self.of(modality_name))


@dataclass(frozen=True)
class InputShape:
    """Shape of one modality's input: rows, columns (pixels), time steps.

    ``bands`` are the channels that an encoder is given where that is its choice (a baseline
    reads what the data hold); None stands for all that it asks for.
    """

    height: int
    width: int
    steps: int = 1
    modality: str = "sentinel2_l2a"
    bands: tuple[str, ...] | None = None


def token_scheme(
    name: str,
    groups: Mapping[str, Sequence[Sequence[str]]],
    ignored: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> TokenScheme:
    """Check and freeze a scheme. ``ignored`` names the bands that it leaves out on purpose.

    Raises `UserError` when a band is unknown, named twice or left out, or a group is
    empty: a scheme that drops a band silently would compare models on unequal inputs.
    """
    checked: dict[str, BandGroups] = {}
    for modality_name, group_list in groups.items():
        sensor = modality(modality_name)
        seen: set[str] = set()
        for group in group_list:
            if not group:
                raise UserError(
                    f'Token scheme "{name}" has an empty band group for {modality_name}; '
                    "remove it or name its bands."
                )
            for band in group:
                try:
                    if band not in DERIVED.get(modality_name, {}):
                        sensor.index(band)
                except UserError as error:
                    raise UserError(f'Token scheme "{name}": {error}') from None
                if band in seen:
                    raise UserError(
                        f'Token scheme "{name}" names band {band} of {modality_name} twice; '
                        "each band belongs to exactly one group."
                    )
                seen.add(band)
        unused = ignored.get(modality_name, ())
        for band in unused:
            if band in seen or band not in sensor.band_names:
                raise UserError(
                    f'Token scheme "{name}" cannot ignore {band} of {modality_name}: it is '
                    f"{'in one of its groups' if band in seen else 'no band of it'}."
                )
        missing = [b for b in sensor.band_names if b not in seen and b not in unused]
        if missing:
            raise UserError(
                f'Token scheme "{name}" leaves out {", ".join(missing)} of {modality_name}; '
                "each band belongs to exactly one group "
                f"({', '.join(sensor.band_names)}), or among those the scheme ignores."
            )
        checked[modality_name] = tuple(tuple(group) for group in group_list)
    for modality_name in ignored:
        if modality_name not in groups:
            raise UserError(
                f'Token scheme "{name}" ignores bands of {modality_name}, which it does not cover.'
            )
    dropped = {key: tuple(bands) for key, bands in ignored.items() if bands}
    return TokenScheme(name, MappingProxyType(checked), MappingProxyType(dropped))


def patch_grid(shape: InputShape, patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches; the patch size must divide both sides.

    Raises `UserError` otherwise: resizing would change the image without being asked.
    """
    if not 1 <= patch_size <= MAX_PATCH_SIZE:
        raise UserError(
            f"Patch size {patch_size} is out of range; allowed: 1 to {MAX_PATCH_SIZE} pixels."
        )
    if shape.height % patch_size or shape.width % patch_size:
        raise UserError(
            f"Patch size {patch_size} does not divide an image of {shape.height} x {shape.width} "
            "pixels; choose a divisor of both sides."
        )
    return shape.height // patch_size, shape.width // patch_size


def token_count(scheme: TokenScheme, shapes: Iterable[InputShape], patch_size: int) -> int:
    """Sequence length N of one sample: tokens of all its modalities together."""
    total = 0
    for shape in shapes:
        rows, columns = patch_grid(shape, patch_size)
        total += rows * columns * shape.steps * len(scheme.of(shape.modality))
    return total
