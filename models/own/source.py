"""What a class's code is, for content keys: found by reading, nothing is imported.

The key holds the source of the class's module and of every module that it imports, directly
or through others, from its own package or from any folder that is no installed package; of
installed packages it holds the version. Comments and docstrings do not count. What cannot be
seen by reading (a module imported by a computed name, a data file that the code reads) is not
in it. Python's `ast` and `importlib` only; it must not know what the class does.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import distribution, packages_distributions, version
from pathlib import Path

from models.code import without_docstrings
from models.errors import UserError
from models.own.reference import PROJECT, Reference, top_level_spec

OURS = ("harness", "models", "reports", "suites")
IN_EVERY_KEY = ("numpy", "torch")  # their versions are in every embedding's key


@dataclass(frozen=True)
class Source:
    """A class's code: a hash over all of it, and the file of each module read for it."""

    sha256: str
    files: dict[str, Path]


def source_of(reference: Reference) -> Source:
    """Read the code behind a class. Raises `UserError` (file and line) for a syntax error."""
    reader = _Reader(reference)
    reader.read(reference.module, reference.file)
    digest = hashlib.sha256()
    for name, text in sorted(reader.texts.items()):
        digest.update(f"{name}\n{text}\n".encode())
    for package in sorted(reader.packages - set(IN_EVERY_KEY)):
        digest.update(f"{package} {_version(package)}\n".encode())
    return Source(digest.hexdigest(), reader.files)


class _Reader:
    def __init__(self, reference: Reference) -> None:
        self.own = reference.module.partition(".")[0]
        self.root = reference.root
        self.texts: dict[str, str] = {}
        self.files: dict[str, Path] = {}
        self.packages: set[str] = set()

    def read(self, module: str, file: Path) -> None:
        # Importing a module runs its packages first.
        todo = [(module, file), *self._modules(module)]
        while todo:
            name, path = todo.pop()
            if name in self.texts:
                continue
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            status = path.stat()
            text, imported = _parsed(path, package, status.st_mtime_ns, status.st_size)
            self.texts[name] = text
            self.files[name] = path
            todo += [found for each in sorted(imported) for found in self._modules(each)]

    def _modules(self, dotted: str) -> Iterator[tuple[str, Path]]:
        """The modules of one dotted name whose source counts: packages on the way included."""
        top = dotted.partition(".")[0]
        root = self._source_root(top)
        if root is None:
            return
        place, name = root, ""
        for part in dotted.split("."):
            name = f"{name}.{part}" if name else part
            file, folder = place / f"{part}.py", place / part
            if (folder / "__init__.py").is_file():
                yield name, folder / "__init__.py"
            elif file.is_file():
                yield name, file
                return
            elif not folder.is_dir():
                return  # a name inside the module
            place = folder

    def _source_root(self, top: str) -> Path | None:
        """The folder of a package whose source counts; None for one that goes by its version."""
        if top == self.own:
            return self.root
        if top in OURS:
            return PROJECT
        if top in sys.stdlib_module_names:
            return None
        if (self.root / f"{top}.py").is_file() or (self.root / top).is_dir():
            root: Path | None = self.root
        else:
            root = _folder_on_path(top)
        if root is None or _is_installed(root) or _is_distributed(top, root):
            self.packages.add(top)
            return None
        return root


@lru_cache(maxsize=1024)
def _parsed(path: Path, package: str, _mtime: int, _size: int) -> tuple[str, frozenset[str]]:
    """A module's code, and the names that it imports; read again when the file changed."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise UserError(f"{path}:{error.lineno}: {error.msg}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text ({error}).") from None
    imported = frozenset(_imported(tree, package))
    return ast.unparse(without_docstrings(tree)), imported


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Dotted names that a module imports, anywhere in it; relative ones made absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            if base:
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _folder_on_path(top: str) -> Path | None:
    spec = top_level_spec(top)
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or ())
    return Path(places[0]).parent if places else Path(spec.origin or ".").parent


def _is_installed(root: Path) -> bool:
    paths = sysconfig.get_paths()
    return any(root.is_relative_to(paths[key]) for key in ("purelib", "platlib", "stdlib"))


@lru_cache(maxsize=256)
def _is_distributed(top: str, root: Path) -> bool:
    """Installed into another folder than Python's own; an editable installation is not."""
    # Only what was installed from a wheel has a RECORD; a source folder's egg-info has none.
    found = [distribution(name) for name in _distributions().get(top, ())]
    return any(
        each.read_text("RECORD") is not None and Path(str(each.locate_file(""))) == root
        for each in found
    )


@lru_cache(maxsize=1)
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


@lru_cache(maxsize=64)
def _version(package: str) -> str:
    names = sorted(set(_distributions().get(package, ())))
    return ", ".join(f"{name} {version(name)}" for name in names) or "not installed"
