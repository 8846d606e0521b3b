"""Selecting variants by expression: what Python would select, and nothing else is understood."""

from __future__ import annotations

import pytest

from harness.selection import select
from models.errors import UserError
from models.registry import load_registry

VARIANTS = load_registry().variants()


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        (
            'family == "olmoearth" and size in [nano, tiny]',
            lambda v: v.family == "olmoearth" and v.size in ("nano", "tiny"),
        ),
        ('version == "v1.1"', lambda v: v.version == "v1.1"),
        ('version in ["v1", "v1.1"] and scheme != single', lambda v: v.version == "v1"),
        ("family != baseline and not dim > 400", lambda v: v.family != "baseline" and v.dim <= 400),
        ("100 < dim <= 192", lambda v: 100 < v.dim <= 192),
        (
            "nano == size or name == 'croma-v1-base'",
            lambda v: v.size == "nano" or v.name == "croma-v1-base",
        ),
        ("size not in (nano, base)", lambda v: v.size not in ("nano", "base")),
    ],
)
def test_it_selects_what_python_would(expression, wanted) -> None:
    assert select(expression, VARIANTS) == [v for v in VARIANTS if wanted(v)]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("size == giant", "No variant fits"),
        ("siz == nano", 'did you mean "size"'),
        ("size", "compares nothing"),
        ("size ==", "is no expression"),
        ("__import__('os').system('true') == size", "is not allowed"),
        ("__import__('os').system('true')", "compares nothing"),
        ("version == v1.1", "is no expression"),  # a dot needs quotes
        ("size[0] == n", "is nothing to ask of a variant"),
        ("dim < nano", "compares unlike things"),
        ("size is nano", "is no such comparison"),
        ("(lambda: 1)() == dim", "is not allowed"),
    ],
)
def test_nothing_else_is_understood(expression, said) -> None:
    with pytest.raises(UserError, match=said):
        select(expression, VARIANTS)
