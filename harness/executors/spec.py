"""What a worker is given to make the driver's plan again by itself, and the proof that it did.

Data, weights and code are not sent: the worker reads its own, and an equal plan key means that
they are the same. It must not know how cells are computed.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.claims import is_dead_here, this_process
from harness.content import EMBEDDING_CODE, PROBE_CODE, code_version, package_versions
from harness.plan import Places, Plan, Progress, make_plan
from harness.provenance import PACKAGES
from harness.store import Store
from harness.store_place import open_store
from harness.suite import SUITES_FOLDER, Overrides, load_suite, suite_path
from models.errors import DISK_FULL, UserError

SHAKES = "handshakes"
SHAKEN_WITHIN = 5  # seconds


@dataclass(frozen=True)
class Spec:
    """A run, for workers; all paths are absolute, and the same for every worker.

    ``suite`` is a shipped suite's name, or a path.
    ``shake`` names a file in the store that only this run's driver wrote.
    """

    suite: str
    overrides: dict[str, Any]
    data: str | None
    weights: str | None
    store: str
    folder: str
    plan_key: str
    shake: str
    sees: dict[str, Any]

    @classmethod
    def of(cls, plan: Plan, overrides: Overrides, places: Places, store: Store, shake: str) -> Spec:
        """The spec of a plan that this process made."""
        return cls(
            suite=_named(plan.suite.path),
            overrides=_plain(overrides),
            data=_absolute(places.data),
            weights=_absolute(places.weights),
            store=store.place,
            folder=str(Path.cwd()),
            plan_key=plan.key,
            shake=shake,
            sees=_sees(plan),
        )

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self), sort_keys=True)

    def require_shared(self) -> None:
        """Raises `UserError` where this machine does not see what the driver wrote to the store.

        A full disk is raised as it is: it is this machine's, and another may have room.
        """
        store = open_store(self.store)
        try:
            for _ in range(SHAKEN_WITHIN):  # a network file system may be a few seconds behind
                if store.files.read(f"{SHAKES}/{self.shake}") is not None:
                    store.require_same()
                    return
                time.sleep(1)
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            file = f": {error.filename}" if error.filename else ""
            raise UserError(
                f"The store {self.store} cannot be used on {os.uname().nodename} "
                f"({error.strerror or error}{file}); every node needs access to it, and for an "
                "object store credentials of its own and a folder for its copy (TOKENRANK_MIRROR)."
            ) from None
        raise UserError(
            f"The store {self.store} on {os.uname().nodename} is not the one that the run was "
            "started on; give a folder that all nodes share (--store)."
        )

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """What `to_json` wrote."""
        return cls(**json.loads(text))


def shake_hands(store: Store, token: str) -> str:
    """Write the file that workers must find; its name. Those of drivers that died here go."""
    for name, note in store.files.read_many(
        f"{SHAKES}/{name}" for name in store.files.names(SHAKES)
    ).items():
        if is_dead_here(note):
            store.files.remove(name)
    store.files.write(f"{SHAKES}/{token}", json.dumps(this_process()).encode())
    return token


def forget_hands(store: Store, token: str) -> None:
    """Remove it, at the end of the run."""
    store.files.remove(f"{SHAKES}/{token}")


def plan_of(spec: Spec, progress: Progress | None = None) -> tuple[Plan, Store]:
    """The driver's plan, made here. Raises `UserError` where this worker sees something else.

    ``progress`` is told how far the reading of data is that this machine never read before.
    """
    store = open_store(spec.store)
    spec.require_shared()
    os.chdir(spec.folder)
    suite = load_suite(suite_path(spec.suite), _overrides(spec.overrides))
    places = Places(_path(spec.data), _path(spec.weights), store.cache_folder)
    plan = make_plan(suite, places, progress)
    if plan.key != spec.plan_key:
        raise UserError(
            f"{os.uname().nodename} would compute something else than was planned "
            f"({_difference(spec.sees, _sees(plan))}); give every node the same code, packages, "
            "data and weights."
        )
    return plan, store


def _named(path: Path) -> str:
    """A shipped suite's name, as it may be installed elsewhere on other machines; else its path."""
    shipped = path.resolve().parent == SUITES_FOLDER.resolve()
    return path.stem if shipped else str(path.resolve())


def _sees(plan: Plan) -> dict[str, Any]:
    """What most often differs between machines, to be named when a plan does."""
    return {
        "code": code_version((*EMBEDDING_CODE, *PROBE_CODE)),
        **{f"package {name}": v for name, v in package_versions(PACKAGES).items()},
        **{f"data {d.card.name}": d.fingerprint[:12] for d in plan.datasets.values()},
        "cells": len(plan.cells),
    }


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    found = [
        f"{name} is {ours.get(name, 'not there')} here and {theirs.get(name, 'not there')} there"
        for name in sorted({*theirs, *ours})
        if theirs.get(name) != ours.get(name)
    ]
    return "; ".join(found) or "its weights or the variants that can be had differ"


def _plain(overrides: Overrides) -> dict[str, Any]:
    return {
        **asdict(overrides),
        "registry": [str(path.resolve()) for path in overrides.registry],
        "weights": [[name, str(path.resolve())] for name, path in overrides.weights],
    }


def _overrides(plain: dict[str, Any]) -> Overrides:
    def listed(name: str) -> Any:
        return None if plain[name] is None else tuple(plain[name])

    return Overrides(
        variants=listed("variants"),
        tier=plain["tier"],
        seeds=listed("seeds"),
        patch_size=plain["patch_size"],
        registry=tuple(Path(path) for path in plain["registry"]),
        weights=tuple((name, Path(path)) for name, path in plain["weights"]),
    )


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
