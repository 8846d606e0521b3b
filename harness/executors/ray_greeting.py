"""Every node of a Ray cluster is greeted before it gets work: does it see the store, has it GPUs?

Known at the start, not after hours. It must not know what runs on the nodes.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from typing import Any

from harness.executors.ray_cluster import NodeAffinitySchedulingStrategy, alive, exceptions, ray
from harness.executors.spec import Spec
from models.errors import UserError

GREET_WITHIN = 120.0  # seconds
SMI = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
SMI_WITHIN = 30.0  # seconds: drivers that are not kept loaded take some
LOST = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
)


@dataclass(frozen=True)
class Greeting:
    """A node's answer: why it cannot take part, if so; bytes of its smallest GPU, 0 if unknown."""

    refusal: str = ""
    gpu_memory: int = 0


def hello(spec: str) -> Greeting:
    """What a node says of itself."""
    try:
        Spec.from_json(spec).require_shared()
    except UserError as error:
        return Greeting(refusal=str(error))
    except OSError:
        pass  # its disk is full: it sees the store, and tells of the disk when it is given work
    return Greeting(gpu_memory=gpu_memory())


def gpu_memory() -> int:
    """Bytes of the smallest GPU of this machine, as nvidia-smi tells; 0 where it does not."""
    try:
        done = subprocess.run(SMI, capture_output=True, text=True, timeout=SMI_WITHIN, check=True)
        return min(int(line) for line in done.stdout.split("\n") if line.strip()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0


def greet_all(spec: str) -> dict[str, Greeting]:
    """Answers of all nodes, by node. Raises `UserError` where one cannot take part.

    Ray lists a node for a while that is gone already; those are not waited for.
    """
    deadline = time.monotonic() + GREET_WITHIN
    found: dict[str, Greeting] = {}
    to_greet = _node_ids()
    while to_greet:
        answers = {node: _greeting(node, spec) for node in to_greet}
        lost = set()
        for node, answer in answers.items():
            try:
                said: Greeting = ray.get(answer, timeout=max(0.0, deadline - time.monotonic()))
            except exceptions.TaskUnschedulableError:
                continue  # Ray has no such node any more
            except LOST:
                lost.add(node)
                continue
            except exceptions.GetTimeoutError:
                raise UserError(
                    f"Not all {len(answers)} nodes of the Ray cluster answer within "
                    f"{GREET_WITHIN:g} seconds; check them with ray status."
                ) from None
            except exceptions.RayTaskError as error:
                line = str(error).strip().splitlines()[-1]
                raise UserError(
                    f"A node of the Ray cluster cannot run tokenrank ({line}); install the same "
                    "version of it on every node."
                ) from None
            if said.refusal:
                raise UserError(said.refusal)
            found[node] = said
        to_greet = lost & _node_ids()
    if not found:
        raise UserError("No node of the Ray cluster answers; check them with ray status.")
    return found


def _node_ids() -> set[str]:
    return {node["NodeID"] for node in alive()}


def _greeting(node: str, spec: str) -> Any:
    greet = ray.remote(num_cpus=0, max_retries=0)(hello)
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return greet.options(scheduling_strategy=there).remote(spec)
