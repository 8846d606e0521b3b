"""A profile: settings of a machine or cluster, in a file of their own, so that suites have none.

It must know nothing of suites, and import no engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.executors.driving import Policy
from models import config_file
from models.errors import UserError, did_you_mean

EXECUTORS = ("local", "ray", "slurm")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LocalSection(_Section):
    """One machine. ``workers``: processes; none given: one for each GPU, else one."""

    workers: Annotated[int, Field(ge=1)] | None = None


class RaySection(_Section):
    """A Ray cluster.

    ``address``: of its head (``host:port``), "auto" for the one that runs here, or none, for one
    that lives as long as the run. ``cpus``: of each worker. ``gpus``: whether items are computed
    on GPUs; none given: where the cluster has any. ``items_per_gpu``: the most that share one.
    ``gpu_memory_gb``: of each GPU; none given: what nvidia-smi says on its node.
    """

    address: str | None = None
    cpus: Annotated[float, Field(gt=0)] = 1.0
    gpus: bool | None = None
    items_per_gpu: Annotated[int, Field(ge=1)] = 4
    gpu_memory_gb: Annotated[float, Field(gt=0)] | None = None
    slots: Annotated[int, Field(ge=1)] | None = None


class SlurmSection(_Section):
    """A Slurm cluster.

    Time and memory are estimates times ``time_factor`` and ``memory_factor``, and at least
    ``minutes`` and ``memory_gb`` (of 1024 MB). ``jobs``: elements of one array at the same time.
    ``setup``: shell lines before the worker. ``options``: further ``sbatch`` options, by name.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    jobs: Annotated[int, Field(ge=1)] = 64
    cpus: Annotated[int, Field(ge=1)] = 4
    gpus: Annotated[int, Field(ge=0)] = 0
    minutes: Annotated[int, Field(ge=1)] = 30
    memory_gb: Annotated[float, Field(gt=0)] = 4.0
    time_factor: Annotated[float, Field(ge=1)] = 4.0
    memory_factor: Annotated[float, Field(ge=1)] = 2.0
    setup: tuple[str, ...] = ()
    options: dict[str, str | int] = Field(default_factory=dict)


class PretrainingSection(_Section):
    """The shape of one training: ``processes`` on each of ``nodes``, joined by torchrun.

    ``processes``: none given: one for each GPU of a node, else one. ``minutes`` and ``memory_gb``:
    of its Slurm job on each node, where they differ from the section slurm's; a job that runs out
    of time goes on in its next turn.
    """

    nodes: Annotated[int, Field(ge=1)] = 1
    processes: Annotated[int, Field(ge=1)] | None = None
    minutes: Annotated[int, Field(ge=1)] | None = None
    memory_gb: Annotated[float, Field(gt=0)] | None = None


class Profile(_Section):
    """How and where a run is computed; nothing in it can change a result.

    ``timeout``: seconds without any progress after which a worker is taken for hung.
    """

    executor: Literal["local", "ray", "slurm"] = "local"
    retries: Annotated[int, Field(ge=0)] = 2
    timeout: Annotated[float, Field(gt=0)] = 1800.0
    local: LocalSection = LocalSection()
    ray: RaySection = RaySection()
    slurm: SlurmSection = SlurmSection()
    pretraining: PretrainingSection = PretrainingSection()

    @property
    def policy(self) -> Policy:
        """What the driver's loop reads of it."""
        return Policy(self.retries, self.timeout)


def load_profile(path: Path | None) -> Profile:
    """The profile of a file, or the plain one. Raises `UserError` with file and line."""
    if path is None:
        return Profile()
    return config_file.validate(Profile, config_file.read(path))


def profile_of(executor: str | None, path: Path | None) -> Profile:
    """A file's profile, with the executor that the command line names. Raises `UserError`."""
    profile = load_profile(path)
    found = executor or profile.executor
    if found not in EXECUTORS:
        raise UserError(f'--executor "{found}" is not known: {did_you_mean(found, EXECUTORS)}.')
    return profile.model_copy(update={"executor": found})


def with_workers(profile: Profile, workers: int | None) -> Profile:
    """The profile with as many workers as the command line asks for, whichever the executor."""
    if workers is None:
        return profile
    return profile.model_copy(
        update={
            "local": profile.local.model_copy(update={"workers": workers}),
            "ray": profile.ray.model_copy(update={"slots": workers}),
            "slurm": profile.slurm.model_copy(update={"jobs": workers}),
        }
    )
