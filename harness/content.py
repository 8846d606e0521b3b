"""Content keys: what makes two computations the same one.

A key is a SHA-256 over canonical JSON of everything that can change a result, the code
that computes it included. Equal key, equal result: that is the cache, the resume and
the reproducibility claim. It must know nothing of what the keys stand for.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from models.code import normalised_source

# Modules whose code can change an embedding, whichever family's (its own modules come on top,
# `models.families.code_of`), and those which can change a probe's score. A test compares both
# lists with what the modules really import.
EMBEDDING_CODE = (
    "harness.cores",
    "harness.data_code",
    "harness.embed",
    "harness.encoders",
    "harness.feeding",
    "harness.inputs",
    "harness.memory",
    "harness.model_input",
    "harness.pixels",
    "harness.precision",
    "models.encodings",
    "models.initialisation",
    "models.normalisation",
    "models.patches",
    "models.renaming",
    "models.sensors",
    "models.study_weights",
    "models.tokens",
    "models.transformer",
    "models.visible",
    "models.weights",
)
# What decides the weights that a pretraining ends with.
PRETRAINING_CODE = (
    "models.encodings",
    "models.initialisation",
    "models.normalisation",
    "models.olmoearth.config",
    "models.olmoearth.encoder",
    "models.olmoearth.patches",
    "models.pretraining.band_dropout",
    "models.pretraining.batches",
    "models.pretraining.crops",
    "models.pretraining.distributed",
    "models.pretraining.job",
    "models.pretraining.loop",
    "models.pretraining.masking",
    "models.pretraining.normalising",
    "models.pretraining.objectives",
    "models.pretraining.predictor",
    "models.pretraining.pretrainer",
    "models.pretraining.schedule",
    "models.pretraining.stepping",
    "models.pretraining.targets",
    "models.sensors",
    "models.tokens",
    "models.transformer",
    "models.visible",
)
PROBE_CODE = (
    "harness.cell",
    "harness.finetuning",
    "harness.metrics.average_precision",
    "harness.metrics.catalogue",
    "harness.metrics.metric",
    "harness.metrics.scoring",
    "harness.probe_inputs",
    "harness.probes.answers",
    "harness.probes.attention",
    "harness.probes.base",
    "harness.probes.finetune",
    "harness.probes.finetune_model",
    "harness.probes.finetune_tuning",
    "harness.probes.knn",
    "harness.probes.linear",
    "harness.probes.map_objective",
    "harness.probes.objective",
    "harness.probes.segmentation",
    "harness.probes.side_by_side",
    "harness.probes.stored_patches",
    "harness.probes.linear_program",
    "harness.probes.study",
    "harness.probes.tuning",
    "harness.sketches",
)


def canonical_json(data: Any) -> str:
    """One text per value: sorted keys, no spaces, exact floats. NaN is refused."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_key(data: Any) -> str:
    """SHA-256 (hex) of the canonical JSON."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()


def canonical_parts(data: Mapping[str, Any]) -> dict[str, str]:
    """A mapping's entries in canonical JSON, one by one; `key_of_parts` makes a key of them."""
    return {name: canonical_json({name: value})[1:-1] for name, value in data.items()}


def key_of_parts(parts: Mapping[str, str]) -> str:
    """The `content_key` of a mapping whose entries are canonical JSON already.

    What many keys have in common is written out once, and hashed as often as need be.
    """
    text = ",".join(parts[name] for name in sorted(parts))
    return hashlib.sha256(f"{{{text}}}".encode()).hexdigest()


@lru_cache(maxsize=64)
def code_version(modules: tuple[str, ...]) -> str:
    """Hash of the modules' code, blind to comments, docstrings and layout.

    Rewording a comment must not recompute a week of results; changing a constant must.
    """
    digest = hashlib.sha256()
    for name in sorted(modules):
        digest.update(name.encode())
        path = module_file(name)
        status = path.stat()
        digest.update(_code(path, status.st_mtime_ns, status.st_size).encode())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=512)
def _code(path: Path, _mtime: int, _size: int) -> str:
    # Each family's version holds the shared modules too; they are parsed once.
    return normalised_source(path)


def pretraining_version() -> str:
    """Hash of all code that decides the weights that a pretraining ends with."""
    return code_version(PRETRAINING_CODE)


def reports_version() -> str:
    """Hash of the reports package: its modules' code and its templates' text."""
    folder = module_file("reports").parent
    modules = tuple(f"reports.{path.stem}" for path in folder.glob("[!_]*.py"))
    digest = hashlib.sha256(code_version(modules).encode())
    for path in sorted((folder / "templates").iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def module_file(name: str) -> Path:
    """Source file of a module, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source for module {name}")
    return Path(spec.origin)


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Installed versions, read from metadata: nothing is imported for it."""
    found: dict[str, str] = {}
    for name in names:
        try:
            # A local build tag (+cpu, +cu130) says where it runs, not what it computes.
            found[name] = _version(name).split("+")[0]
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


@lru_cache(maxsize=64)
def _version(name: str) -> str:
    # Looked up on disk each time otherwise, and every cell of a plan asks.
    return version(name)
