"""A training to be launched: its command, the shape of its processes, its logs, how it ended.

It must not know which launcher starts it, or how weights are trained.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from harness.content import content_key, pretraining_version
from models.errors import UserError

LOG = "training.log"
PROOF = ".launch-"  # and a token: each launch has a file of its own
NODE = "harness.launching.node"
_ENDS_WITH = 20_000  # bytes of a log that its last sentence is looked for in
_EXIT_CODE = re.compile(r"exitcode\s*:\s*-(\d+)")  # in what torchrun says of its processes


@dataclass(frozen=True)
class Shape:
    """``processes`` on each of ``nodes``, with so many threads each."""

    nodes: int = 1
    processes: int = 1
    threads: int = 1


@dataclass(frozen=True)
class Launch:
    """One training: ``arguments`` for `tokenrank`, which are relative to ``cwd``; its folder.

    ``key`` is the same for whoever launches the training of this folder. ``total``: samples.
    ``is_done``: whether the weights asked for are in the folder; `UserError` where others are.
    """

    key: str
    title: str
    folder: Path
    arguments: tuple[str, ...]
    total: int = 0
    cwd: Path = field(default_factory=Path.cwd)
    is_done: Callable[[], bool] = lambda: False

    @property
    def asked(self) -> str:
        """The same for launches of the same arguments and code, from the same folder."""
        return content_key([list(self.arguments), str(self.cwd), pretraining_version()])

    def log(self, node: int = 0) -> Path:
        """Where a node's processes print to; the first node's has the word of the training."""
        name = LOG if node == 0 else f"training-node{node}.log"
        return (self.cwd / self.folder / name).absolute()

    def logs(self) -> list[Path]:
        """All nodes' logs that are there."""
        return sorted(self.log().parent.glob("training*.log"))


@dataclass(frozen=True)
class Exit:
    """A launch has ended: ``code`` 0 is well; None: it is gone and nobody knows how."""

    code: int | None
    reason: str = ""


Sight = Literal["waits", "runs"] | Exit


class TakenError(UserError):
    """Something else trains in the folder of this launch; launches of other folders can start."""


class Launcher(Protocol):
    """Starts trainings somewhere; one module per kind. ``slots``: how many at a time."""

    name: str
    slots: int

    def start(self, launch: Launch) -> None:
        """Start it, or ask for it to be started. Raises `TakenError` for this one alone."""

    def look(self) -> Mapping[str, Sight]:
        """How each is that was started, by key. One that ended is told once."""

    def stop(self, key: str) -> None:
        """End it, and tell nothing more of it."""

    def close(self) -> None:
        """End all that run; nothing is left behind."""


def node_command(
    launch: Launch, shape: Shape, proof: Path, *, rank: int | None = None, meet: str = "",
    watched: bool = False,
) -> list[str]:  # fmt: skip
    """The command of one node: a launcher starts it on each.

    ``proof``: the file that it must find. ``rank``: the node's; None: Slurm tells it. ``meet``:
    HOST:PORT of the first node, where there are several. ``watched``: it ends when its standard
    input does.
    """
    command = [sys.executable, "-m", NODE]
    command += ["--nodes", str(shape.nodes), "--processes", str(shape.processes)]
    command += [] if rank is None else ["--rank", str(rank)]
    command += ["--meet", meet] if meet else []
    command += ["--watched"] if watched else []
    return [*command, "--proof", str(proof), "--", *launch.arguments]


def node_environment(threads: int) -> dict[str, str]:
    """Settings of a node's processes: their threads, and this very code whatever a folder holds."""
    own = str(Path(__file__).parents[2])
    path = os.environ.get("PYTHONPATH")
    return {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join([own, path] if path else [own]),
        # A folder of the user's that is called `models` must not be taken for ours.
        "PYTHONSAFEPATH": "1",
    }


def write_proof(launch: Launch) -> Path:
    """Leave in the folder a file that every node must find, and that no other launch has.

    It is the launcher's to remove when this launch is over.
    """
    proof = launch.log().with_name(PROOF + uuid.uuid4().hex)
    proof.parent.mkdir(parents=True, exist_ok=True)
    proof.touch()
    return proof


def forget_proofs(launch: Launch) -> None:
    """Remove what drivers that were killed left: the training is done."""
    for path in launch.log().parent.glob(f"{PROOF}*"):
        path.unlink(missing_ok=True)


# --- how it ended --------------------------------------------------------------------------------


def log_sizes(launch: Launch) -> dict[Path, int]:
    """How long the logs are now; what comes after is of the next start."""
    return {path: path.stat().st_size for path in launch.logs()}


def said_since(launch: Launch, sizes: Mapping[Path, int]) -> list[str]:
    """Last lines of the logs since then, the first node's at the end."""
    lines: list[str] = []
    for path in sorted(launch.logs(), key=lambda each: each == launch.log()):
        with path.open("rb") as file:
            start = max(sizes.get(path, 0), path.stat().st_size - _ENDS_WITH)
            file.seek(start)
            lines += file.read().decode(errors="replace").splitlines()
    return lines


def sentence_in(lines: Sequence[str]) -> str | None:
    """The sentence that `tokenrank` ended with, if it did."""
    for line in reversed(lines):
        if line.startswith("tokenrank: "):
            return line.removeprefix("tokenrank: ")
    return None


def end_of(launch: Launch, ended: Exit, lines: Sequence[str]) -> str:
    """How a launch ended that said no sentence of its own."""
    killed = _EXIT_CODE.findall("\n".join(lines))
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    if ended.reason:
        how = f"{ended.reason} ({last})"
    elif killed:
        how = f"one of its processes was killed by {_signal(int(killed[0]))}"
    elif ended.code is None:
        how = f"it is gone ({last})"
    elif ended.code < 0:
        how = f"it was killed by {_signal(-ended.code)} ({last})"
    else:
        how = f"it ended with code {ended.code} ({last})"
    return f"{how}; its log is {launch.log()}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
