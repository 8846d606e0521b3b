"""The code that decides what a data set's images and labels are, for keys.

A loader's module alone is not all of it: helpers decode, cut and average, and a cut set has the
loader of the whole behind it. What is followed are imports within `suites`. It must know nothing of
what the keys stand for.
"""

from __future__ import annotations

import ast
from functools import lru_cache

from harness.content import code_version, content_key, module_file
from suites.datasets.base import Dataset
from suites.datasets.cut import Cut


def data_code(dataset: Dataset) -> str:
    """Hash of the code of a data set's loader and of all of `suites` that it imports."""
    loaders = [type(dataset).__module__]
    while isinstance(dataset, Cut):
        dataset = dataset.whole
        loaders.append(type(dataset).__module__)
    return code_version(tuple(sorted({name for each in loaders for name in _reached(each)})))


def pixels_key(dataset: Dataset) -> str:
    """The name of decoded images: what a loader made of the same files before may differ."""
    return content_key({"data": dataset.fingerprint, "code": data_code(dataset)})


@lru_cache(maxsize=64)
def _reached(loader: str) -> frozenset[str]:
    found: set[str] = set()
    todo = [loader]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += _imported(name)
    return frozenset(found)


def _imported(name: str) -> list[str]:
    """Modules of `suites` that a module imports by name, wherever in it."""
    tree = ast.parse(module_file(name).read_text(encoding="utf-8"))
    said: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            said += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            said += [alias.name for alias in node.names]
    return [each for each in said if each.startswith("suites.") and _is_module(each)]


def _is_module(name: str) -> bool:
    try:
        return module_file(name).suffix == ".py"
    except ModuleNotFoundError:  # a class or a function
        return False
