"""Where a suite run came from: commit, command, packages, hardware; noted once, at its start.

The manifest is kept with the run, so a resumed or repeated run tells the same story as
an undisturbed one. It must know nothing of results.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.content import package_versions
from harness.plan import Plan
from harness.store import Store, write_json

MANIFEST = "manifest.json"
# Packages that can change a number in the report.
PACKAGES = ("torch", "numpy", "optuna", "scipy", "polars", "fvcore")


@dataclass(frozen=True)
class Manifest:
    """Facts about one suite run. ``hardware`` is for the tracking server, not the report.

    ``precision``: in which encoders take their products; written down where it is not float32 for
    every task.
    """

    run_key: str
    suite: str
    command: str
    git_commit: str
    versions: Mapping[str, str]
    hardware: Mapping[str, str]
    precision: str = "float32"

    def facts(self) -> dict[str, Any]:
        """As it is written down."""
        facts = asdict(self)
        if self.precision == Manifest.precision:
            del facts["precision"]
        return facts


def load_or_create_manifest(store: Store, plan: Plan, command: str) -> Manifest:
    """The manifest of this run: as first written, whoever asks again."""
    path = store.run_folder(plan.key) / MANIFEST
    try:
        return Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        pass  # none yet, or damaged: it is written anew
    manifest = Manifest(
        run_key=plan.key,
        suite=plan.suite.name,
        command=command,
        git_commit=git_commit(),
        versions=package_versions(PACKAGES),
        hardware=hardware(),
        precision=", ".join(sorted({task.precision for task in plan.suite.tasks})),
    )
    write_json(path, manifest.facts())
    return manifest


def git_commit() -> str:
    """Commit of the checkout the code runs from, with ``+changes`` when files differ from it."""
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "not in a git checkout"
    return f"{commit}+changes" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()


def hardware() -> dict[str, str]:
    """Processor, cores, accelerators and Python of this machine."""
    return {
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(os.cpu_count() or 1),
        "accelerators": _accelerators(),
    }


def _accelerators() -> str:
    """Names of NVIDIA GPUs as the driver tells them; asking torch would cost its import."""
    names = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = path.read_text(encoding="utf-8").splitlines()
        names += [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
    return ", ".join(names) or "none"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
