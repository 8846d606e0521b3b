"""Trainings on this machine, whose cores and GPUs are divided among those at a time.

It must not know what a training is made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.executors.profile import PretrainingSection
from harness.launching.launch import (
    Exit,
    Launch,
    Shape,
    Sight,
    node_command,
    node_environment,
    write_proof,
)
from harness.launching.processes import NodeProcess
from models.errors import UserError

MOST = 4  # trainings at a time, unless asked for: each holds a gigabyte
HANGS_WITHIN = 5.0  # seconds for one that hangs already


def local_shape(
    section: PretrainingSection, workers: int | None, count: int, cores: int, gpus: int
) -> tuple[Shape, int]:
    """The shape of each of ``count`` trainings, and how many run at a time.

    Raises `UserError` for more processes than the machine has GPUs (cores, where it has none).
    """
    if section.nodes > 1:
        raise UserError(
            f"The profile asks for {section.nodes} nodes (pretraining: nodes), and the executor "
            "local has this one; use ray or slurm."
        )
    room, what = (gpus, "GPUs") if gpus else (cores, "processor cores")
    processes = section.processes or max(1, gpus // (workers or 1))
    slots = workers or max(1, min(count, room // processes, count if gpus else MOST))
    if processes * slots > room:
        raise UserError(
            f"{slots} training{'s' if slots > 1 else ''} at a time with {processes} "
            f"process{'es' if processes > 1 else ''} each would share {room} {what}; ask for fewer "
            "(--workers, or pretraining: processes in the profile)."
        )
    slots = min(slots, max(1, count))
    return Shape(1, processes, max(1, cores // (processes * slots))), slots


@dataclass(frozen=True)
class _Running:
    process: NodeProcess
    gpus: list[str]
    proof: Path


class LocalLauncher:
    """Implements `harness.launching.launch.Launcher`."""

    name = "local"

    def __init__(self, shape: Shape, slots: int, gpus: list[str]) -> None:
        """``gpus``: their names, for the environment of who may see them."""
        self._shape, self.slots, self._free = shape, slots, list(gpus)
        self._running: dict[str, _Running] = {}

    def start(self, launch: Launch) -> None:
        """A process, which sees its own GPUs only."""
        gpus = [self._free.pop(0) for _ in range(min(self._shape.processes, len(self._free)))]
        settings = node_environment(self._shape.threads)
        if gpus:
            settings["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        proof = write_proof(launch)
        command = node_command(launch, self._shape, proof, rank=0, watched=True)
        process = NodeProcess(command, launch.log(), launch.cwd, settings)
        self._running[launch.key] = _Running(process, gpus, proof)

    def look(self) -> Mapping[str, Sight]:
        """What the system says of the processes."""
        found: dict[str, Sight] = {}
        for key, running in list(self._running.items()):
            code = running.process.poll()
            found[key] = "runs" if code is None else Exit(code)
            if code is not None:
                self._over(self._running.pop(key))
        return found

    def stop(self, key: str) -> None:
        """End one that hangs, soon."""
        running = self._running.pop(key)
        running.process.end(HANGS_WITHIN)
        self._over(running)

    def close(self) -> None:
        """Ask all to end, at once, and wait for each."""
        for running in self._running.values():
            running.process.ask_to_end()
        for running in self._running.values():
            running.process.end()
            self._over(running)
        self._running = {}

    def _over(self, running: _Running) -> None:
        running.proof.unlink(missing_ok=True)
        self._free += running.gpus
