"""The registry: which variants exist, read from YAML; a variant is data, never code.

``Variant = family x version x size x token scheme``. The shipped files are in
``variants/``; a user's own files may add sizes, versions and schemes to a family
without touching Python. It must know nothing of suites, data sets or results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models import config_file
from models.checkpoints import CONFIG_FILE, WEIGHTS_FILE
from models.design import Official
from models.errors import UserError, did_you_mean
from models.sensors import modality
from models.tokens import MAX_PATCH_SIZE, TokenScheme, token_scheme

VARIANTS_FOLDER = Path(__file__).parent / "variants"
USERS_OWN = "own"  # the code behind users' own classes, which no file names (`models.own`)
Groups = Literal["all", "each"] | list[list[str]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Option = bool | int | float | str


class SizeEntry(_Strict):
    """Width, depth and heads of one size; MLP width is ``mlp_ratio * dim``.

    ``options`` are what else shapes the family's encoder; only its own code knows them.
    """

    dim: int = Field(gt=0)
    depth: int = Field(ge=0)
    heads: int = Field(gt=0)
    mlp_ratio: float = Field(default=4.0, gt=0)
    options: dict[str, Option] = {}


class WeightsEntry(_Strict):
    """Where published weights are: a hub repository or an address, and the files in it."""

    hub: str | None = None
    url: str | None = None
    file: str = WEIGHTS_FILE
    config: str | None = None
    licence: str | None = None
    source: str | None = None


class VersionEntry(_Strict):
    """One version of a family: its own scheme, the sizes it comes in, where weights live.

    ``weights_fit`` names further schemes that the same weights hold for: a scheme that only
    hides or shows tokens of a model trained with both.
    """

    scheme: str
    sizes: list[str]
    pixel_hidden: dict[str, int] | None = None
    options: dict[str, Option] = {}
    weights: dict[str, str | WeightsEntry] = {}
    weights_fit: list[str] = []


class SchemeEntry(BaseModel):
    """Band groups per modality, under the modality's name; ``ignored`` ones are left out."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Groups]
    title: str = ""
    ignored: dict[str, list[str]] = {}


class FamilyFile(_Strict):
    """What a registry file may say. A user's file may leave out what it does not add."""

    family: str
    encoder: str | None = None
    licence: str | None = None
    source: str | None = None
    sizes: dict[str, SizeEntry] = {}
    versions: dict[str, VersionEntry] = {}
    schemes: dict[str, SchemeEntry] = {}

    @field_validator("encoder")
    @classmethod
    def _known_encoder(cls, name: str | None) -> str | None:
        if name is not None and name not in encoder_names():
            raise ValueError(f'there is no encoder "{name}": {did_you_mean(name, encoder_names())}')
        return name

    @field_validator("family")
    @classmethod
    def _name_without_separators(cls, name: str) -> str:
        if "-" in name or ":" in name:
            raise ValueError('a family name holds no "-" or ":"')
        return name


def encoder_names() -> list[str]:
    """Names of the families' code: every folder here that says what its tokens are."""
    folders = {path.parent.name for path in Path(__file__).parent.glob("*/design.py")}
    return sorted(folders - {USERS_OWN})


@dataclass(frozen=True)
class Variant:
    """One model variant. ``official`` is the published weights' home, where they fit it."""

    name: str
    family: str
    version: str
    size: str
    scheme: TokenScheme
    departs: bool
    encoder: str
    dim: int
    depth: int
    heads: int
    mlp_ratio: float
    pixel_hidden: int | None
    official: Official | None
    licence: str
    options: Mapping[str, Option] = field(default_factory=dict)

    @property
    def max_patch_size(self) -> int:
        """Side of the patch that the embedding's weights stand for, pixels."""
        return MAX_PATCH_SIZE

    @property
    def brought(self) -> str | None:
        """Where weights are from that come with the code itself; None when none do."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that a reader of its scores must know."""
        return ()

    @property
    def architecture(self) -> dict[str, Any]:
        """All that shapes the encoder, as plain data: part of every content key."""
        return {
            "encoder": self.encoder,
            "dim": self.dim,
            "depth": self.depth,
            "heads": self.heads,
            "mlp_ratio": self.mlp_ratio,
            "pixel_hidden": self.pixel_hidden,
            "options": dict(self.options),
            "groups": {m: [list(g) for g in gs] for m, gs in sorted(self.scheme.groups.items())},
        }


@dataclass(frozen=True)
class Family:
    """A family's data after all of its files are merged, in the order of the files."""

    name: str
    encoder: str
    licence: str
    source: str
    sizes: Mapping[str, SizeEntry]
    versions: Mapping[str, VersionEntry]
    schemes: Mapping[str, TokenScheme]


class Registry:
    """All families. `variant` resolves a name; `variants` lists each version at its own scheme."""

    def __init__(self, families: Mapping[str, Family]) -> None:
        self.families = families

    def variants(self) -> list[Variant]:
        """Every version and size with its version's own scheme, in declared order."""
        return [
            self._build(family, version, size, None)
            for family in self.families.values()
            for version, entry in family.versions.items()
            for size in entry.sizes
        ]

    def variant(
        self,
        name: str,
        options: Mapping[str, Option] = MappingProxyType({}),
        folder: Path | None = None,
    ) -> Variant:
        """Resolve ``family-version-size[:scheme]``, or a user's own class (`models.own`).

        ``options`` go to the constructor of such a class; ``folder`` (None: the current one)
        is where its file is looked for.

        Raises `UserError` naming the closest valid name for an unknown family, version,
        size or scheme, and for a size that the version does not come in.
        """
        if name.partition(":")[0] not in self.names():
            from models.own.variant import own_variant  # noqa: PLC0415  (it builds on this module)

            own = own_variant(name, options, folder or Path())
            if own is not None and own.name in self.names():
                raise UserError(
                    f'"{name}" calls itself {own.name}, which is a variant of the registry; '
                    "choose another name."
                )
            if own is not None:
                return own
        if options:
            raise UserError(
                f'"{name}" takes no options; they are for a class of your own. Sizes and schemes '
                "are data of a registry file."
            )
        base, _, scheme = name.partition(":")
        parts = base.split("-")
        if len(parts) != 3 or (":" in name and not scheme):
            raise UserError(
                f'Unknown variant "{name}": {did_you_mean(name, self.names())}. '
                "A variant is family-version-size, with :scheme to depart from its version's own, "
                "or module:Class."
            )
        family_name, version, size = parts
        family = self.families.get(family_name)
        if family is None:
            hint = did_you_mean(family_name, self.families)
            raise UserError(f'Variant "{name}": unknown family "{family_name}": {hint}.')
        if version not in family.versions:
            hint = did_you_mean(version, family.versions)
            raise UserError(f'Variant "{name}": unknown version "{version}": {hint}.')
        if size not in family.versions[version].sizes:
            hint = did_you_mean(size, family.versions[version].sizes)
            raise UserError(
                f'Variant "{name}" does not exist: {family_name} {version} has no size '
                f'"{size}": {hint}.'
            )
        if scheme and scheme not in family.schemes:
            hint = did_you_mean(scheme, family.schemes)
            raise UserError(f'Variant "{name}": unknown token scheme "{scheme}": {hint}.')
        return self._build(family, version, size, scheme or None)

    def names(self) -> list[str]:
        """Names of `variants`."""
        return [variant.name for variant in self.variants()]

    def _build(self, family: Family, version: str, size: str, scheme: str | None) -> Variant:
        entry, shape = family.versions[version], family.sizes[size]
        departs = scheme is not None and scheme != entry.scheme
        fits = not departs or scheme in entry.weights_fit
        base = f"{family.name}-{version}-{size}"
        return Variant(
            name=f"{base}:{scheme}" if departs else base,
            family=family.name,
            version=version,
            size=size,
            scheme=family.schemes[scheme or entry.scheme],
            departs=departs,
            encoder=family.encoder,
            dim=shape.dim,
            depth=shape.depth,
            heads=shape.heads,
            mlp_ratio=shape.mlp_ratio,
            pixel_hidden=entry.pixel_hidden[size] if entry.pixel_hidden else None,
            # No official checkpoint exists for a scheme that was never trained.
            official=_official(family, entry, size) if fits else None,
            licence=_licence(family, entry, size),
            options={**entry.options, **shape.options},
        )


def _weights_entry(entry: VersionEntry, size: str) -> WeightsEntry | None:
    given = entry.weights.get(size)
    if isinstance(given, str):
        return WeightsEntry(hub=given, config=CONFIG_FILE)
    return given


def _official(family: Family, entry: VersionEntry, size: str) -> Official | None:
    given = _weights_entry(entry, size)
    if given is None:
        return None
    return Official(
        hub=given.hub,
        url=given.url,
        file=given.file,
        config=given.config,
        licence=given.licence or family.licence,
        source=given.source or family.source,
    )


def _licence(family: Family, entry: VersionEntry, size: str) -> str:
    given = _weights_entry(entry, size)
    return given.licence if given is not None and given.licence else family.licence


def load_registry(extra: Sequence[Path] = ()) -> Registry:
    """The shipped registry, with the user's own files added to it.

    Raises `UserError` (file and line) for a mistake in a file, or for a name that an
    earlier file already gives: results must not change meaning by a redefinition.
    """
    return _load(tuple(path.resolve() for path in extra))


@lru_cache(maxsize=8)
def _load(extra: tuple[Path, ...]) -> Registry:
    families: dict[str, Family] = {}
    for path in (*sorted(VARIANTS_FOLDER.glob("*.yaml")), *extra):
        document = config_file.read(path)
        entry = config_file.validate(FamilyFile, document)
        families[entry.family] = _merge(families.get(entry.family), entry, document)
    return Registry(families)


def _merge(old: Family | None, entry: FamilyFile, document: config_file.Document) -> Family:
    if old is None and (entry.encoder is None or entry.licence is None):
        raise document.error(
            ("family",),
            f'a new family ("{entry.family}") needs the keys encoder and licence; '
            "to add to a shipped family, use its name.",
        )
    for section in ("sizes", "versions", "schemes"):
        for name in getattr(entry, section):
            if old is not None and name in getattr(old, section):
                raise document.error(
                    (section, name),
                    f'"{name}" is already among the {section} of {entry.family}; '
                    "choose another name.",
                )
            if "-" in name and section != "schemes":
                raise document.error(
                    (section, name), f'"{name}": names of {section} hold no "-"; use "_" or ".".'
                )
    schemes = {name: _scheme(name, s, document) for name, s in entry.schemes.items()}
    merged = Family(
        name=entry.family,
        encoder=entry.encoder or (old.encoder if old else ""),
        licence=entry.licence or (old.licence if old else ""),
        source=entry.source or (old.source if old else ""),
        sizes={**(old.sizes if old else {}), **entry.sizes},
        versions={**(old.versions if old else {}), **entry.versions},
        schemes={**(old.schemes if old else {}), **schemes},
    )
    _check_references(merged, entry, document)
    return merged


def _scheme(name: str, entry: SchemeEntry, document: config_file.Document) -> TokenScheme:
    groups: dict[str, Sequence[Sequence[str]]] = {}
    for modality_name, given in (entry.__pydantic_extra__ or {}).items():
        try:
            bands = modality(modality_name).band_names
            wanted = {"all": [list(bands)], "each": [[band] for band in bands]}
            groups[modality_name] = wanted[given] if isinstance(given, str) else given
            unused = {modality_name: entry.ignored.get(modality_name, [])}
            token_scheme(name, {modality_name: groups[modality_name]}, unused)
        except UserError as error:
            raise document.error(("schemes", name, modality_name), str(error)) from None
    if not groups:
        raise document.error(("schemes", name), f'scheme "{name}" names no modality; add one.')
    try:
        return replace(token_scheme(name, groups, entry.ignored), title=entry.title or name)
    except UserError as error:
        raise document.error(("schemes", name), str(error)) from None


def _check_references(family: Family, entry: FamilyFile, document: config_file.Document) -> None:
    for name, size in entry.sizes.items():
        if size.dim % size.heads or size.dim % 4:
            raise document.error(
                ("sizes", name),
                f"dim {size.dim} must be divisible by its {size.heads} heads and by 4 "
                "(the four parts of the position encoding).",
            )
    for version, item in entry.versions.items():
        at = ("versions", version)
        if item.scheme not in family.schemes:
            hint = did_you_mean(item.scheme, family.schemes)
            raise document.error((*at, "scheme"), f'unknown token scheme "{item.scheme}": {hint}.')
        for i, size_name in enumerate(item.sizes):
            if size_name not in family.sizes:
                hint = did_you_mean(size_name, family.sizes)
                raise document.error((*at, "sizes", i), f'unknown size "{size_name}": {hint}.')
        for key, table in (("pixel_hidden", item.pixel_hidden), ("weights", item.weights)):
            for size_name in table or {}:
                if size_name not in item.sizes:
                    hint = did_you_mean(size_name, item.sizes)
                    raise document.error(
                        (*at, key, size_name), f'{version} has no size "{size_name}": {hint}.'
                    )
        if item.pixel_hidden is not None and set(item.pixel_hidden) != set(item.sizes):
            raise document.error(
                (*at, "pixel_hidden"),
                f"give the hidden width of every size ({', '.join(item.sizes)}) or of none.",
            )
