"""Trainings on a Ray cluster: a placement group each, with one task on every node of it.

A task starts its node's processes and stays until they end; one that is killed takes them with it.
It must not know what a training is made of.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.executors.profile import PretrainingSection, RaySection
from harness.executors.ray_cluster import alive, connect, exceptions, largest, ray
from harness.launching.launch import (
    Exit,
    Launch,
    Shape,
    Sight,
    node_command,
    node_environment,
    write_proof,
)
from harness.launching.node import unshared
from harness.launching.processes import NodeProcess
from models.errors import UserError

SLOTS = 1000  # Ray keeps the queue
ENDED_WITHIN = 30.0  # seconds for the nodes of one that is stopped


@dataclass
class _Flight:
    launch: Launch
    proof: Path
    group: Any
    ready: Any
    meets: Any = None
    nodes: list[Any] = field(default_factory=list)


class RayLauncher:
    """Implements `harness.launching.launch.Launcher`."""

    name = "ray"

    def __init__(
        self, section: RaySection, pretraining: PretrainingSection, workers: int | None
    ) -> None:
        """Connect, and see that there are nodes for it. Raises `UserError`."""
        connect(section.address)
        try:
            gpus = int(largest("GPU"))
            processes = pretraining.processes or gpus or 1
            self._shape = Shape(pretraining.nodes, processes, max(1, int(section.cpus)))
            self._bundle = {"CPU": processes * section.cpus, **({"GPU": processes} if gpus else {})}
            _require_nodes(self._shape, self._bundle)
        except BaseException:
            ray.shutdown()
            raise
        self.slots = workers or section.slots or SLOTS
        self._flying: dict[str, _Flight] = {}

    def start(self, launch: Launch) -> None:
        """Ask for its nodes; `look` starts it when they are there."""
        from ray.util.placement_group import placement_group  # noqa: PLC0415

        proof = write_proof(launch)
        group = placement_group([self._bundle] * self._shape.nodes, strategy="STRICT_SPREAD")
        self._flying[launch.key] = _Flight(launch, proof, group, group.ready())

    def look(self) -> Mapping[str, Sight]:
        """One step for each: its nodes are there, the first one's address is known, it ended."""
        found: dict[str, Sight] = {}
        for key, flight in list(self._flying.items()):
            try:
                found[key] = self._step(flight)
            except exceptions.RayError as error:
                found[key] = Exit(None, _reason(error))
            if isinstance(found[key], Exit):
                self._end(self._flying.pop(key))
        return found

    def stop(self, key: str) -> None:
        """Kill its tasks, and their processes with them."""
        self._end(self._flying.pop(key))

    def close(self) -> None:
        """End all, and let go of the cluster; one that was started for them ends."""
        for key in list(self._flying):
            with contextlib.suppress(exceptions.RayError):
                self.stop(key)
        ray.shutdown()

    def _step(self, flight: _Flight) -> Sight:
        if flight.meets is None:
            if not _is_ready(flight.ready):
                return "waits"
            flight.meets = self._on(flight, 0, _meeting_place)
        if not flight.nodes:
            if not _is_ready(flight.meets):
                return "waits"
            meet = ray.get(flight.meets)
            flight.nodes = [
                self._on(flight, rank, _run_node, *self._told(flight, rank, meet))
                for rank in range(self._shape.nodes)
            ]
        ready, waiting = ray.wait(flight.nodes, num_returns=len(flight.nodes), timeout=0)
        for reference in ready:
            ended = ray.get(reference)
            if ended.code != 0:
                return Exit(ended.code, ended.reason)
        return "runs" if waiting else Exit(0)

    def _told(self, flight: _Flight, rank: int, meet: str) -> tuple[Any, ...]:
        launch, proof = flight.launch, flight.proof
        command = node_command(launch, self._shape, proof, rank=rank, meet=meet, watched=True)
        settings = node_environment(self._shape.threads)
        return command[1:], str(launch.log(rank)), str(launch.cwd), settings, str(proof)

    def _on(self, flight: _Flight, rank: int, function: Any, *arguments: Any) -> Any:
        from ray.util.scheduling_strategies import (  # noqa: PLC0415
            PlacementGroupSchedulingStrategy,
        )

        place = PlacementGroupSchedulingStrategy(flight.group, placement_group_bundle_index=rank)
        task = ray.remote(max_retries=0)(function).options(
            num_cpus=self._bundle["CPU"],
            num_gpus=self._bundle.get("GPU", 0),
            scheduling_strategy=place,
        )
        return task.remote(*arguments)

    def _end(self, flight: _Flight) -> None:
        from ray.util.placement_group import remove_placement_group  # noqa: PLC0415

        waiting = flight.nodes
        if waiting:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        for reference in waiting:
            # The task is interrupted, and ends its processes; the next start finds none of them.
            with contextlib.suppress(exceptions.RayError):
                ray.cancel(reference)
        if waiting:
            ray.wait(waiting, num_returns=len(waiting), timeout=ENDED_WITHIN)
        flight.proof.unlink(missing_ok=True)
        remove_placement_group(flight.group)


def _meeting_place() -> str:
    """HOST:PORT of this node, where the others meet it."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return f"{host}:{port}"


def _run_node(
    command: list[str], log: str, folder: str, settings: dict[str, str], proof: str
) -> Exit:
    """Start a node's processes, and stay until they end."""
    import sys  # noqa: PLC0415

    sentence = unshared(Path(proof))
    if sentence:
        return Exit(2, sentence)
    here = {**settings, "PYTHONPATH": os.environ.get("PYTHONPATH") or settings["PYTHONPATH"]}
    node = NodeProcess([sys.executable, *command], Path(log), Path(folder), here)
    try:
        while (code := node.poll()) is None:
            time.sleep(0.2)
    except BaseException:
        node.end()
        raise
    return Exit(code)


def _is_ready(reference: Any) -> bool:
    ready, _ = ray.wait([reference], timeout=0)
    return bool(ready)


def _reason(error: Exception) -> str:
    if isinstance(error, exceptions.NodeDiedError):
        return "a node of it is gone"
    if isinstance(error, exceptions.WorkerCrashedError | exceptions.OwnerDiedError):
        return "a worker of it was killed"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"


def _require_nodes(shape: Shape, bundle: Mapping[str, float]) -> None:
    """What no node can hold would wait for ever."""
    for name, what in (("GPU", "GPUs"), ("CPU", "cores")):
        asked = bundle.get(name, 0)
        if asked > largest(name):
            raise UserError(
                f"{shape.processes} processes (pretraining: processes) need {asked:g} {what} of a "
                f"node, and the largest of the Ray cluster has {largest(name):g}."
            )
    fit = sum(
        all(node["Resources"].get(name, 0) >= asked for name, asked in bundle.items())
        for node in alive()
    )
    if shape.nodes > fit:
        raise UserError(
            f"The profile asks for {shape.nodes} nodes (pretraining: nodes), and the Ray cluster "
            f"has {fit} that hold its processes."
        )
