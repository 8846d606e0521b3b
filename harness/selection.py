"""Variants by expression: ``family == "olmoearth" and size in [nano, tiny]``.

A small language of comparisons, read with Python's own parser and evaluated by hand: nothing in
it can call, index or import anything. It must not know suites or weights.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from models.errors import UserError, did_you_mean
from models.registry import Variant

FACTS: Mapping[str, Callable[[Variant], Any]] = {
    "name": lambda v: v.name,
    "family": lambda v: v.family,
    "version": lambda v: v.version,
    "size": lambda v: v.size,
    "scheme": lambda v: v.scheme.name,
    "dim": lambda v: v.dim,
    "depth": lambda v: v.depth,
}
"""What an expression may ask of a variant; any other word stands for itself (nano, tiny)."""

_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


def select(expression: str, variants: Sequence[Variant]) -> list[Variant]:
    """The variants for which the expression holds, in their order.

    Raises `UserError` for what is no such expression, and where none fits.
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _refused(expression, "it is no expression") from None
    found = [v for v in variants if _holds(tree, v, expression)]
    if not found:
        raise UserError(
            f'No variant fits "{expression}"; "tokenrank models" lists them. Words: '
            f"{', '.join(FACTS)}."
        )
    return found


def _holds(node: ast.expr, variant: Variant, text: str) -> bool:
    if isinstance(node, ast.BoolOp):
        parts = [_holds(part, variant, text) for part in node.values]
        return all(parts) if isinstance(node.op, ast.And) else any(parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not _holds(node.operand, variant, text)
    if isinstance(node, ast.Compare):
        return _compared(node, variant, text)
    raise _refused(text, f'"{ast.unparse(node)}" compares nothing')


def _value(node: ast.expr, variant: Variant, text: str) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(part, variant, text) for part in node.elts]
    if isinstance(node, ast.Name):
        return FACTS[node.id](variant) if node.id in FACTS else node.id
    raise _refused(text, f'"{ast.unparse(node)}" is not allowed')


def _compared(node: ast.Compare, variant: Variant, text: str) -> bool:
    sides = (node.left, *node.comparators)
    if not any(isinstance(side, ast.Name) and side.id in FACTS for side in sides):
        asked = ast.unparse(node.left)
        hint = did_you_mean(asked, FACTS)
        raise _refused(text, f'"{asked}" is nothing to ask of a variant: {hint}')
    left = _value(node.left, variant, text)
    for op, comparator in zip(node.ops, node.comparators, strict=True):
        compare, right = _COMPARISONS.get(type(op)), _value(comparator, variant, text)
        if compare is None:
            raise _refused(text, f'"{ast.unparse(node)}" is no such comparison')
        try:
            if not compare(left, right):
                return False
        except TypeError:
            raise _refused(text, f'"{ast.unparse(node)}" compares unlike things') from None
        left = right
    return True


def _refused(text: str, why: str) -> UserError:
    return UserError(
        f'"{text}" cannot select variants: {why}. Write e.g. family == "olmoearth" and size in '
        f"[nano, tiny]; words: {', '.join(FACTS)}."
    )
