"""Content keys: they change with what can change a result, and with nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from harness.content import (
    EMBEDDING_CODE,
    PRETRAINING_CODE,
    PROBE_CODE,
    code_version,
    content_key,
    module_file,
)
from models.code import normalised_source
from models.families import code_of
from models.registry import load_registry

OURS = ("harness", "suites", "models", "reports")

# Reached by the computing modules, but unable to change a number: they pass data on,
# keep it, show it or complain about it.
CANNOT_CHANGE_A_RESULT = {
    "harness.claims",
    "harness.content",
    "harness.entrants",
    "harness.inclusion",
    "harness.plan",
    "harness.probes.study_database",
    "harness.shared_files",
    "harness.store",
    "harness.selection",
    "harness.suite",
    "harness.suite_file",
    "harness.sweeps",
    "harness.weights",
    "models.cache",
    "models.checkpoints",
    "models.code",
    "models.config_file",
    "models.cost",
    "models.design",
    "models.errors",
    "models.families",
    "models.fetching",
    "models.needs",
    "models.registry",
    "models.replacing",
    "models.servers",
    "models.study_cards",
}


def test_keys_do_not_depend_on_the_order_of_writing() -> None:
    assert content_key({"a": 1, "b": [1, 2]}) == content_key({"b": [1, 2], "a": 1})
    assert content_key({"a": 1}) != content_key({"a": 2})
    with pytest.raises(ValueError, match="Out of range"):
        content_key({"a": float("nan")})


def test_code_version_sees_constants_and_not_comments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {
        "as written": '"""Doc."""\nX = 1\n\ndef f():\n    """Doc."""\n    return X\n',
        "reworded": "# a comment\nX   =   1\ndef f(): return X\n",
        "changed": "X = 2\ndef f(): return X\n",
    }
    versions = {}
    for label, source in sources.items():
        file = tmp_path / "some_module.py"
        file.write_text(source)
        monkeypatch.setattr("harness.content.module_file", lambda _, file=file: file)
        code_version.cache_clear()
        versions[label] = code_version(("some_module",))
    code_version.cache_clear()
    assert versions["as written"] == versions["reworded"] != versions["changed"]


def test_the_code_lists_hold_every_module_that_can_change_a_result() -> None:
    reached: set[str] = set()
    families = {name for variant in load_registry().variants() for name in code_of(variant)}
    todo = [*EMBEDDING_CODE, *PROBE_CODE, *families]
    while todo:
        name = todo.pop()
        # Data sets are keyed by plan.py, users' own classes as every family (`code_of`).
        if name in reached or name.startswith(("suites.", "models.own.")):
            continue
        reached.add(name)
        todo += [m for m in _imports(name) if m.split(".")[0] in OURS]
    assert reached - CANNOT_CHANGE_A_RESULT == {*EMBEDDING_CODE, *PROBE_CODE, *families}


CANNOT_CHANGE_TRAINED_WEIGHTS = CANNOT_CHANGE_A_RESULT | {
    "models.olmoearth.rotary",  # not pretrained here
    "models.pretraining.checkpoint",
    "models.pretraining.chips",
    "models.pretraining.diagnostics",
    "models.pretraining.lines",
    "models.pretraining.recipe",  # all that it says is hashed by itself
    "models.weights",
}


def test_the_code_of_a_pretraining_holds_every_module_that_can_change_a_weight() -> None:
    reached: set[str] = set()
    todo = list(PRETRAINING_CODE)
    while todo:
        name = todo.pop()
        if name in reached or name.startswith("models.own."):
            continue
        reached.add(name)
        todo += [m for m in _imports(name) if m.split(".")[0] in OURS]
    assert reached - CANNOT_CHANGE_TRAINED_WEIGHTS == set(PRETRAINING_CODE)


def test_a_familys_keys_hold_its_own_code_and_not_anothers() -> None:
    registry = load_registry()
    own = code_of(registry.variant("olmoearth-v1-nano"))
    assert "models.olmoearth.encoder" in own
    assert all(name.startswith("models.olmoearth.") for name in own)


def _imports(name: str) -> set[str]:
    tree = ast.parse(module_file(name).read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {m for m in found if _is_module(m)}


def _is_module(name: str) -> bool:
    try:
        return module_file(name).suffix == ".py" and module_file(name).name != "__init__.py"
    except (ModuleNotFoundError, ValueError):
        return False


def test_a_kept_source_that_is_damaged_or_of_another_text_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENRANK_CACHE", str(tmp_path / "cache"))
    module = tmp_path / "module.py"
    module.write_text('"""Words."""\nx = 1  # one\n')
    assert normalised_source(module) == "x = 1"
    (kept,) = (tmp_path / "cache").rglob("*.txt")
    kept.write_text(kept.read_text().replace("x = 1", "x = 2"))
    assert normalised_source(module) == "x = 1"
    module.write_text("x = 3\n")
    assert normalised_source(module) == "x = 3"
