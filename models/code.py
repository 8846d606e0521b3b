"""Source code as what it computes: the text of a module without comments, docstrings, layout.

Content keys and the keys of users' own models are made from it: rewording a comment must not
recompute a week of results; changing a constant must. It must know nothing of keys.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import sys
from pathlib import Path

from models.cache import cache_folder
from models.replacing import replacing

NORMALISED = "normalised-1"
"""How a source is normalised; another way is another name."""


def normalised_source(path: Path) -> str:
    """The module's syntax tree as text. Raises `SyntaxError` when it is no Python.

    Parsing a package takes a second, so the text is kept, named by the source that it was made of.
    """
    source = path.read_text(encoding="utf-8")
    made_of = f"{NORMALISED} {sys.version_info[:2]}\n{source}"
    try:
        kept = cache_folder() / "sources" / f"{_hash(made_of)}.txt"
    except RuntimeError:  # a user without a home
        return _normalised(source)
    with contextlib.suppress(OSError, ValueError):
        written, _, text = kept.read_text(encoding="utf-8").partition("\n")
        if written == _hash(text):
            return text
    text = _normalised(source)
    with contextlib.suppress(OSError):  # it only saves time
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as temporary:
            temporary.write_text(f"{_hash(text)}\n{text}", encoding="utf-8")
    return text


def _normalised(source: str) -> str:
    return ast.unparse(without_docstrings(ast.parse(source)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree itself, its docstrings removed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return tree
