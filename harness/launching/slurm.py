"""Trainings as Slurm jobs: one each, whose nodes' processes torchrun joins.

A job of this folder and these arguments that is queued or runs already is taken up, as a driver
that was killed left it. A preempted job is requeued by Slurm, one out of time requeues itself, and
both go on from their checkpoint. It must not know what a training is made of.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.executors.profile import PretrainingSection, SlurmSection
from harness.executors.slurm_commands import nodes_of, quietly, refused
from harness.launching.launch import (
    Launch,
    Shape,
    Sight,
    TakenError,
    node_command,
    node_environment,
    write_proof,
)
from harness.launching.slurm_jobs import LOOK_EVERY, RUNS, exit_of, jobs_of, name_of, queue
from models.errors import UserError
from models.pretraining.checkpoint import CHECKPOINT

NOTICE = 90  # seconds from the signal to the end of the time: three checkpoints
BEGAN = ".began-"  # and the job: when its turn began
PORTS = 20_000  # the first of as many, by the job's number

SCRIPT = """\
#!/bin/bash
# One training. Its time nearly up, the job goes on in a next turn if it has come any further.
began={folder}/{began}"$SLURM_JOB_ID"
rm -f {folder}/{began}*  # of jobs that were killed: no other runs in this folder
trap 'rm -f "$began"' EXIT
touch "$began"
out_of_time() {{
  told=yes
  if [ -e "$began" ] && [ {checkpoint} -nt "$began" ]; then scontrol requeue "$SLURM_JOB_ID"; fi
}}
trap out_of_time USR1
{setup}
meet="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):{port}"
srun --kill-on-bad-exit=1 --ntasks-per-node=1 --cpus-per-task={cpus} {command} &
srun=$!
while told=; wait "$srun"; code=$?; [ "$told" ]; do :; done  # a signal ends a wait: wait again
exit "$code"
"""


@dataclass
class _Flight:
    job: str
    began: Path
    proof: Path | None = None  # of one that is taken up, whoever wrote it is gone
    state: str = "PENDING"


class SlurmLauncher:
    """Implements `harness.launching.launch.Launcher`."""

    name = "slurm"

    def __init__(
        self, section: SlurmSection, pretraining: PretrainingSection, workers: int | None
    ) -> None:
        """Check the cluster. Raises `UserError` for what it does not have."""
        self._section, self._pretraining = section, pretraining
        self._shape = slurm_shape(section, pretraining)
        self._memory = pretraining.memory_gb or section.memory_gb
        _require_nodes(section, self._shape, self._memory)
        self.slots = workers or section.jobs
        self._flying: dict[str, _Flight] = {}
        self._over: set[str] = set()  # jobs that were ended, and may be in the queue for a moment
        self._looked = float("-inf")

    def start(self, launch: Launch) -> None:
        """A job of its own, or the one of before.

        Raises `TakenError` where a job of this folder was given other arguments.
        """
        left = _left(launch, self._over)
        if left is None:
            self._submit(launch)
        else:
            self._flying[launch.key] = _Flight(left, _began(launch, left))

    def look(self) -> Mapping[str, Sight]:
        """What squeue says, and slurmctld of those that have left; the same until the next look."""
        ended: dict[str, Sight] = {}
        if time.monotonic() - self._looked > LOOK_EVERY and self._flying:
            states = {job.number: job.state for job in queue()}
            for key, flight in list(self._flying.items()):
                flight.state = states.get(flight.job, "")
                exited = None if flight.state else exit_of(flight.job)
                if exited is not None:
                    ended[key] = exited
                    self._end(self._flying.pop(key))
            self._looked = time.monotonic()
        return ended | {
            key: "runs" if flight.state in RUNS else "waits"
            for key, flight in self._flying.items()
            if flight.state
        }

    def stop(self, key: str) -> None:
        """Cancel its job; the next one of the same name waits for its end."""
        flight = self._flying.pop(key)
        quietly("scancel", flight.job)
        self._end(flight)

    def close(self) -> None:
        """Cancel all jobs."""
        for key in list(self._flying):
            self.stop(key)

    def _end(self, flight: _Flight) -> None:
        """Nothing of it is left in the folder."""
        self._over.add(flight.job)
        flight.began.unlink(missing_ok=True)
        if flight.proof is not None:
            flight.proof.unlink(missing_ok=True)

    def _submit(self, launch: Launch) -> None:
        proof = write_proof(launch)
        settings = node_environment(self._section.cpus)
        try:
            done = subprocess.run(
                ["sbatch", *self._options(launch)],
                input=self._script(launch, proof), env={**os.environ, **settings},
                capture_output=True, text=True, check=True,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            proof.unlink(missing_ok=True)
            raise refused(error.stderr) from None
        job = done.stdout.strip().partition(";")[0]
        self._flying[launch.key] = _Flight(job, _began(launch, job), proof)

    def _options(self, launch: Launch) -> list[str]:
        section, shape = self._section, self._shape
        cores = section.cpus * shape.processes
        given = {
            "job-name": name_of(launch),
            "dependency": "singleton",  # of its name, should two drivers ask for it at once
            "chdir": str(launch.cwd),
            "output": str(launch.log()).replace("%", "%%"),
            "open-mode": "append",
            "nodes": shape.nodes,
            "ntasks-per-node": 1,
            "cpus-per-task": cores,
            "mem": f"{round(self._memory * 1024)}M",
            "time": self._pretraining.minutes or section.minutes,
            "signal": f"B:USR1@{NOTICE}",
            **({"partition": section.partition} if section.partition else {}),
            **({"account": section.account} if section.account else {}),
            **({"qos": section.qos} if section.qos else {}),
            **({"gpus-per-node": shape.processes} if section.gpus else {}),
            **section.options,
        }
        return ["--parsable", "--requeue", *(f"--{name}={value}" for name, value in given.items())]

    def _script(self, launch: Launch, proof: Path) -> str:
        folder = launch.log().parent
        command = shlex.join(node_command(launch, self._shape, proof, meet="MEET"))
        return SCRIPT.format(
            folder=shlex.quote(str(folder)),
            began=BEGAN,
            checkpoint=shlex.quote(str(folder / CHECKPOINT)),
            setup="\n".join(self._section.setup),
            port=f"$(({PORTS} + SLURM_JOB_ID % {PORTS}))",
            cpus=self._section.cpus * self._shape.processes,
            command=command.replace("--meet MEET", '--meet "$meet"'),
        )


def slurm_shape(section: SlurmSection, pretraining: PretrainingSection) -> Shape:
    """One process for each GPU that a job asks for, unless the profile says how many."""
    return Shape(pretraining.nodes, pretraining.processes or section.gpus or 1, section.cpus)


def _require_nodes(section: SlurmSection, shape: Shape, memory: float) -> None:
    kinds = nodes_of(section.partition)
    where = f'partition "{section.partition}"' if section.partition else "the cluster"
    cores = section.cpus * shape.processes
    if cores > (most := max((kind.cores for kind in kinds), default=0)):
        raise UserError(
            f"{shape.processes} processes of {section.cpus} cores (pretraining: processes, slurm: "
            f"cpus) do not fit a node: the largest of {where} has {most} cores."
        )
    gpus = shape.processes if section.gpus else 0
    if gpus > (most := max((kind.gpus for kind in kinds), default=0)):
        raise UserError(
            f"{shape.processes} processes (pretraining: processes) need a GPU each, and the node "
            f"of {where} with the most has {most}."
        )
    if memory * 1024 > (most := max((kind.memory for kind in kinds), default=0)):
        raise UserError(
            f"The profile asks for {memory:g} GB of memory on each node (pretraining: memory_gb), "
            f"and the largest of {where} has {most / 1024:.1f} GB."
        )
    fit = sum(k.count for k in kinds if k.cores >= cores and k.gpus >= gpus)
    if shape.nodes > fit:
        raise UserError(
            f"The profile asks for {shape.nodes} nodes (pretraining: nodes), and {where} has {fit} "
            "that hold its processes."
        )


def _began(launch: Launch, job: str) -> Path:
    return launch.log().with_name(BEGAN + job)


def _left(launch: Launch, over: Collection[str]) -> str | None:
    """The job of this launch that is there, those left out that were ended.

    Raises `TakenError` where there is one of this folder with other arguments.
    """
    found = None
    for job in jobs_of(launch.key, queue()):
        if job.number in over:
            continue
        if job.name != name_of(launch):
            raise TakenError(
                f"Slurm's job {job.number} trains in {launch.log().parent} with other arguments or "
                f"other code; wait for its end, or cancel it (scancel {job.number})."
            )
        found = found or job.number
    return found
