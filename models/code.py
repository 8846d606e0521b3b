"""Source code as what it computes: the text of a module without comments, docstrings, layout.

Content keys and the keys of users' own models are made from it: rewording a comment must not
recompute a week of results; changing a constant must. It must know nothing of keys.
"""

from __future__ import annotations

import ast
from pathlib import Path


def normalised_source(path: Path) -> str:
    """The module's syntax tree as text. Raises `SyntaxError` when it is no Python."""
    return ast.unparse(without_docstrings(ast.parse(path.read_text(encoding="utf-8"))))


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
