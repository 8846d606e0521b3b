"""How a suite names a user's own model, and which Python module that is.

    my.module:Class            a module on Python's path, or beside the suite
    path/to/file.py:Class      a file; the path is relative to the suite
    timm:NAME, torchgeo:NAME   a model of a library, by an adapter (`models.adapters`)
    NAME                       an installed package's entry point of the group `GROUP`

each with ``,option=value`` for its constructor. Nothing is imported here: planning a finished
suite needs no more than a name and a file. It must not know what the class is.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import yaml

from models.errors import UserError

GROUP = "tokenrank.models"
PROJECT = Path(__file__).parent.parent.parent
ADAPTERS = {
    "timm": ("models.adapters.timm", "TimmModel"),
    "torchgeo": ("models.adapters.torchgeo", "TorchgeoModel"),
}
_IN_FILE = re.compile(r"(?P<path>[^,]+\.py):(?P<name>\w+)")
_IN_MODULE = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<name>[A-Za-z_]\w*)")
_ADAPTED = re.compile(rf"(?P<library>{'|'.join(ADAPTERS)}):(?P<name>[\w./-]+)")

OptionValue = bool | int | float | str


@dataclass(frozen=True)
class Reference:
    """Where a class is.

    Args:
        module: dotted name under which it is imported.
        qualname: the class in it.
        file: its source.
        root: folder that ``module`` is relative to.
        options: keyword arguments of its constructor, as the user gave them.
        fixed: those that the adapter adds (which model of the library).
        name: what the variant is called, where the reference says so; else the class does.
    """

    module: str
    qualname: str
    file: Path
    root: Path
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    fixed: Mapping[str, OptionValue] = field(default_factory=dict)
    name: str | None = None

    @property
    def arguments(self) -> dict[str, OptionValue]:
        """All keyword arguments of the constructor."""
        return {**self.fixed, **self.options}

    @property
    def shown(self) -> str:
        """The class as error sentences name it."""
        return self.name or f"{self.qualname} ({self.file.name})"


def find_reference(text: str, options: Mapping[str, OptionValue], folder: Path) -> Reference | None:
    """What ``text`` refers to, or None when it has the form of a registry's variant.

    Args:
        text: as written, maybe with ``,option=value``.
        options: further options for the constructor.
        folder: where paths are relative to, and where modules are looked for first.

    Raises:
        UserError: there is no such file or module.
    """
    place, _, inline = text.partition(",")
    found = _adapted(place) or _in_file(place, folder) or _in_module(place, folder)
    found = found or _entry_point(place)
    if found is None:
        return None
    given = _inline_options(text, inline)
    twice = next((name for name in given if name in options), None)
    if twice is not None:
        raise UserError(f'"{text}" gives the option {twice}, and its options do too; keep one.')
    return Reference(
        found.module, found.qualname, found.file, found.root,
        {**given, **options}, found.fixed, found.name,
    )  # fmt: skip


def _inline_options(text: str, inline: str) -> dict[str, OptionValue]:
    found: dict[str, OptionValue] = {}
    for part in inline.split(",") if inline else ():
        name, equals, value = part.partition("=")
        if not equals or not name.isidentifier() or not value:
            raise UserError(f'"{text}": "{part}" is not of the form option=value.')
        read = yaml.safe_load(value)
        found[name] = read if isinstance(read, OptionValue) else value
    return found


def _adapted(place: str) -> Reference | None:
    match = _ADAPTED.fullmatch(place)
    if match is None:
        return None
    module, qualname = ADAPTERS[match["library"]]
    file = PROJECT / Path(*module.split(".")).with_suffix(".py")
    return Reference(module, qualname, file, PROJECT, fixed={"model": match["name"]}, name=place)


def _in_file(place: str, folder: Path) -> Reference | None:
    match = _IN_FILE.fullmatch(place)
    if match is None:
        return None
    file = (folder / match["path"]).resolve()
    if not file.is_file():
        raise UserError(f'"{place}": there is no file {file}; paths are relative to {folder}.')
    # A file of a package is imported as that package's module, so that relative imports hold.
    root, parts = file.parent, [file.stem]
    while (root / "__init__.py").is_file():
        root, parts = root.parent, [root.name, *parts]
    if not all(part.isidentifier() for part in parts):
        raise UserError(f'"{place}": {file.name} is no name that Python can import; rename it.')
    return Reference(".".join(parts), match["name"], file, root)


def _in_module(place: str, folder: Path) -> Reference | None:
    match = _IN_MODULE.fullmatch(place)
    return _module(place, match["module"], match["name"], folder) if match else None


def _module(place: str, module: str, qualname: str, folder: Path | None) -> Reference:
    for path in ([str(folder.resolve())] if folder else None, None):
        file = _module_file(module, path)
        if file is not None:
            parents = len(module.split(".")) + (file.name == "__init__.py")
            return Reference(module, qualname, file, file.parents[parents - 1])
    where = f" in {folder.resolve()} or" if folder else ""
    raise UserError(
        f'"{place}": there is no module {module}{where} on Python\'s path; a variant is '
        "family-version-size[:scheme], module:Class or path/to/file.py:Class."
    )


def _module_file(module: str, path: list[str] | None) -> Path | None:
    """Source of a module on ``path`` (None: Python's), without importing its package."""
    name, spec = "", None
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = top_level_spec(name) if path is None else PathFinder.find_spec(name, path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    origin = spec.origin if spec else None
    return Path(origin) if origin and origin.endswith(".py") else None


def top_level_spec(name: str) -> ModuleSpec | None:
    """Where a top-level module is, editable installations included; it is not imported."""
    try:
        return importlib.util.find_spec(name)
    except ValueError:  # a module that was made by hand
        return None


def entry_point_names() -> list[str]:
    """Models that installed packages offer."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def _entry_point(place: str) -> Reference | None:
    offered = entry_points(group=GROUP, name=place)
    points: list[EntryPoint] = list({point.value: point for point in offered}.values())
    if not points:
        return None
    if len(points) > 1:
        values = " and ".join(point.value for point in points)
        raise UserError(f'"{place}" is offered by two installed packages ({values}); remove one.')
    found = _module(points[0].value, points[0].module, points[0].attr, None)
    return Reference(found.module, found.qualname, found.file, found.root, name=place)
