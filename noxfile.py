"""Sessions: one per suite, and the checks. Each installs what it needs, pinned, once.

Two environments are shared by all sessions (``.nox/run`` and ``.nox/dev``); they are
rebuilt only when pyproject.toml or constraints.txt changes, so that a finished suite
comes back in seconds.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
nox.options.default_venv_backend = "none"
nox.options.sessions = ["tests"]
WINDOWS = os.name == "nt"


def environment(session: nox.Session, extra: str = "") -> dict[str, str]:
    """Create or refresh a shared environment; returns the variables that select it."""
    folder = ROOT / ".nox" / (extra or "run")
    scripts = folder / ("Scripts" if WINDOWS else "bin")
    python = scripts / ("python.exe" if WINDOWS else "python")
    inputs = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    stamp = hashlib.sha256(b"".join([*inputs, str(ROOT).encode(), extra.encode()])).hexdigest()
    mark = folder / "installed"
    if not mark.exists() or mark.read_text() != stamp:
        session.log(f"installing into {folder.relative_to(ROOT)} (once; a few minutes)")
        session.run(sys.executable, "-m", "venv", "--clear", str(folder), external=True)
        # The local path, with the extras of this environment; all versions are pinned.
        target = f"{ROOT}[{extra}]" if extra else str(ROOT)
        session.run(
            *(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--constraint", str(ROOT / "constraints.txt"), "--editable", target),
            external=True,
        )
        mark.write_text(stamp)
    path = f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"
    return {"PATH": path, "TOKENRANK_UI_COMMAND": "nox -s ui"}


def _suite_session(name: str) -> None:
    @nox.session(name=f"suite-{name}")
    def suite(session: nox.Session) -> None:
        session.run("tokenrank", "run", name, *session.posargs, env=environment(session))

    suite.func.__doc__ = f"Run suites/{name}.yaml: `tokenrank run {name}`; options after --."


for _path in sorted((ROOT / "suites").glob("*.yaml")):
    _suite_session(_path.stem)


@nox.session
def tests(session: nox.Session) -> None:
    """All checks: style, types, layers, tests. What CI runs."""
    env = environment(session, "dev")
    if not session.posargs:
        session.run("ruff", "check", ".", env=env)
        session.run("ruff", "format", "--check", ".", env=env)
        session.run("mypy", env=env)
        session.run("lint-imports", env=env)
    session.run("pytest", *session.posargs, env=env)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed side by side with the references, in one run; prints the tables."""
    env = environment(session, "dev")
    session.run("python", "-m", "benchmarks", *session.posargs, env=env)


@nox.session
def ui(session: nox.Session) -> None:
    """Open the MLflow UI on loopback: `tokenrank ui`."""
    session.run("tokenrank", "ui", *session.posargs, env=environment(session))
