"""A user's class as a variant: what a suite's `variants:` or `--variant` resolves to.

It must not import a tensor library unless the class was never seen before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from models.own.declaration import Declaration
from models.own.notes import noted
from models.own.reference import OptionValue, Reference, find_reference
from models.own.source import Source, source_of
from models.registry import Variant
from models.sensors import modality
from models.tokens import TokenScheme

OWN = "own"


@dataclass(frozen=True)
class OwnVariant(Variant):
    """A variant whose code is the user's. Sizes that only the class knows are 0."""

    reference: Reference = None  # type: ignore[assignment]  # always given
    declaration: Declaration = None  # type: ignore[assignment]
    code: str = ""

    def __deepcopy__(self, _memo: dict[int, Any]) -> OwnVariant:
        """Itself: it is never changed."""
        return self

    @property
    def shown(self) -> str:
        """Name in error sentences, with the file for a class of the user's."""
        return self.reference.shown

    @property
    def brought(self) -> str | None:
        """Where the weights are from that the class itself brings; None when it brings none."""
        return self.declaration.weights

    @property
    def identity(self) -> dict[str, Any]:
        """All that the class's answers follow from, but weights and inputs."""
        return {
            "class": self.reference.qualname,
            "code": self.code,
            "options": dict(sorted(self.reference.arguments.items())),
        }

    @property
    def architecture(self) -> dict[str, Any]:
        """Part of every content key."""
        return {"encoder": OWN, **self.identity}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of a score must know of the class."""
        said = []
        if self.declaration.weights:
            said.append(
                f"Weights of {self.name} are brought by its class, which says of them: "
                f"{self.declaration.weights.rstrip('.')}. They are known by their hash."
            )
        if self.declaration.counts_itself:
            said.append(f"MACs of {self.name} are what its class declares; nobody counted them.")
        return tuple(said)


def own_variant(text: str, options: Mapping[str, OptionValue], folder: Path) -> OwnVariant | None:
    """The variant that ``text`` refers to, or None when it has a registry variant's form.

    Raises:
        UserError: there is no such class, or what it says of itself cannot be.
    """
    reference = find_reference(text, options, folder)
    if reference is None:
        return None
    source = source_of(reference)
    about = {
        "class": reference.qualname,
        "code": source.sha256,
        "options": dict(sorted(reference.arguments.items())),
    }
    declaration = Declaration.from_plain(
        noted({"declaration": about}, lambda: _declared(reference, source))
    )
    return _variant(reference, declaration, source)


def _declared(reference: Reference, source: Source) -> dict[str, Any]:
    from models.own.examination import examine  # noqa: PLC0415  (torch loads with it)

    return examine(reference, source).plain()


def _variant(reference: Reference, declaration: Declaration, source: Source) -> OwnVariant:
    name = reference.name or declaration.name
    options = "-".join(
        f"{option}-{_text(value)}" for option, value in sorted(reference.options.items())
    )
    return OwnVariant(
        name=f"{name}:{options}" if options else name,
        family=name,
        version=OWN,
        size=options or "-",
        scheme=_scheme(declaration),
        departs=False,
        encoder=OWN,
        dim=0,
        depth=0,
        heads=0,
        mlp_ratio=0.0,
        pixel_hidden=None,
        official=None,
        licence=declaration.licence,
        options=MappingProxyType(dict(reference.options)),
        reference=reference,
        declaration=declaration,
        code=source.sha256,
    )


def _text(value: OptionValue) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return "".join("_" if c.isspace() or c in ':@,="|' else c for c in text)


def _scheme(declaration: Declaration) -> TokenScheme:
    unused = {
        name: tuple(band for band in modality(name).band_names if band not in bands)
        for name, bands in declaration.bands.items()
    }
    return TokenScheme(
        OWN,
        MappingProxyType(dict(declaration.groups)),
        MappingProxyType({name: bands for name, bands in unused.items() if bands}),
    )
