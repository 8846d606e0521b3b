"""Sessions: one per suite, and the checks. Each installs what it needs, pinned, once.

Two environments are shared by all sessions (``.nox/run`` and ``.nox/dev``); they are
rebuilt only when pyproject.toml or constraints.txt changes, so that a finished suite
comes back in seconds. Where tokenrank is installed already (a container, a cluster's
module), TOKENRANK_ENVIRONMENT names that environment's folder and nothing is installed.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox

ROOT = Path(__file__).parent
nox.options.default_venv_backend = "none"
nox.options.sessions = ["tests"]
WINDOWS = os.name == "nt"
# Tests that start whole services, or many processes: a session of their own.
REAL_SERVICES = (
    "tests/harness/cluster",
    "tests/harness/executors/test_clock.py",
    "tests/harness/executors/test_damaged_embedding.py",
    "tests/harness/executors/test_full_disk.py",
    "tests/harness/executors/test_local_pool.py",
    "tests/harness/executors/test_torchrun.py",
    "tests/harness/executors/test_unshared_store.py",
    "tests/harness/tracking_server",
)
# Much of a test's time is waiting, for a browser or another process.
TWO_FILES_AT_A_TIME = (
    *("-n", "2", "--dist", "loadscope", "--no-loadscope-reorder"),
    *("--durations", "25"),
)


def run(
    session: nox.Session,
    extra: str,
    program: str,
    *arguments: str,
    patient: bool = False,
    settings: Mapping[str, str] | None = None,
) -> None:
    """Run a program of a shared environment, which is made or refreshed first if need be.

    ``patient``: on Ctrl-C, wait until it has stopped processes of its own. ``settings``: further
    environment variables.
    """
    scripts = _environment(session, extra)
    path = f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"
    env = {"PATH": path, "TOKENRANK_UI_COMMAND": "nox -s ui", **(settings or {})}
    # Containers often forbid bytecode; here that would compile ten seconds of modules anew in each
    # process, as none is compiled when it is installed.
    env["PYTHONDONTWRITEBYTECODE"] = ""
    wait = {"interrupt_timeout": 60.0, "terminate_timeout": 60.0} if patient else {}
    session.run(str(scripts / program), *arguments, env=env, external=True, **wait)


def _environment(session: nox.Session, extra: str) -> Path:
    """The folder of an environment's programs; it is made or refreshed first if need be."""
    given = os.environ.get("TOKENRANK_ENVIRONMENT")
    folder = Path(given) if given else ROOT / ".nox" / (extra or "run")
    scripts = folder / ("Scripts" if WINDOWS else "bin")
    if not given:
        _install(session, folder, scripts / "python", extra)
    return scripts


def _install(session: nox.Session, folder: Path, python: Path, extra: str) -> None:
    inputs = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    stamp = hashlib.sha256(b"".join([*inputs, str(ROOT).encode(), extra.encode()])).hexdigest()
    mark = folder / "installed"
    if mark.exists() and mark.read_text() == stamp:
        return
    session.log(f"installing into {folder.relative_to(ROOT)} (once; a few minutes)")
    session.run(sys.executable, "-m", "venv", "--clear", str(folder), external=True)
    # The local path, with the extras of this environment; all versions are pinned. Most of what
    # they hold is never imported: each module is compiled when it is first.
    target = f"{ROOT}[{extra}]" if extra else str(ROOT)
    session.run(
        *(str(python), "-m", "pip", "install", "--no-compile", "--quiet"),
        "--disable-pip-version-check",
        *("--constraint", str(ROOT / "constraints.txt"), "--editable", target),
        external=True,
    )
    mark.write_text(stamp)


def _suite_session(name: str) -> None:
    @nox.session(name=f"suite-{name}")
    def suite(session: nox.Session) -> None:
        run(session, "", "tokenrank", "run", name, *session.posargs)

    suite.func.__doc__ = f"Run suites/{name}.yaml: `tokenrank run {name}`; options after --."


for _path in sorted((ROOT / "suites").glob("*.yaml")):
    _suite_session(_path.stem)


def _study_session(name: str) -> None:
    @nox.session(name=f"study-{name}")
    def study(session: nox.Session) -> None:
        run(session, "", "tokenrank", "study", name, *session.posargs, patient=True)

    study.func.__doc__ = (
        f"Train and rank suites/studies/{name}.yaml: `tokenrank study {name}`; options after --, "
        "chips by --data or TOKENRANK_CHIPS."
    )


for _path in sorted((ROOT / "suites" / "studies").glob("*.yaml")):
    _study_session(_path.stem)


@nox.session
def tests(session: nox.Session) -> None:
    """All checks: style, types, layers, tests; all but `cluster`."""
    if session.posargs:
        run(session, "dev", "pytest", *session.posargs)
        return
    run(session, "dev", "ruff", "check", ".")
    run(session, "dev", "ruff", "format", "--check", ".")
    run(session, "dev", "lint-imports")
    # Each with one thread: two workers with two each would fight over two cores.
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    elsewhere = [f"--ignore={place}" for place in REAL_SERVICES]
    # Types are checked beside the first tests.
    with ThreadPoolExecutor(1) as beside:
        types = beside.submit(run, session, "dev", "mypy")
        run(session, "dev", "pytest", *TWO_FILES_AT_A_TIME, *elsewhere, settings=one)
        types.result()


@nox.session
def install(session: nox.Session) -> None:
    """Make the environment that the checks run in, and nothing else."""
    _environment(session, "dev")


@nox.session
def cluster(session: nox.Session) -> None:
    """Real Ray, Slurm, PostgreSQL and S3 services on this machine, and workers on a bad day."""
    run(session, "dev", "pytest", *(session.posargs or (*TWO_FILES_AT_A_TIME, *REAL_SERVICES)))


@nox.session
def regression(session: nox.Session) -> None:
    """Is this checkout worse than its baseline? Simulated data, no download, about a minute."""
    baseline = str(ROOT / "reports" / "baselines" / "regression.json")
    run(session, "", "tokenrank", "check", "--baseline", baseline, *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed side by side with the references, in one run; prints the tables."""
    run(session, "dev", "python", "-m", "benchmarks", *session.posargs)


@nox.session
def ui(session: nox.Session) -> None:
    """Open the MLflow UI on loopback: `tokenrank ui`."""
    run(session, "", "tokenrank", "ui", *session.posargs)
