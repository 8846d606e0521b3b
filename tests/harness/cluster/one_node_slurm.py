"""A real Slurm of one node, as this user, in a folder of its own: munge, slurmctld, slurmd."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
READY_WITHIN = 30.0  # seconds
MEMORY = 8000  # megabytes that the node is said to have

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
MpiDefault=none
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
KillWait=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=9
PartitionName=short Nodes={host} MaxTime=30 State=UP
NodeName=small NodeAddr=127.0.0.1 Port=1 CPUs=1 RealMemory=1000 State=DOWN
NodeName=large NodeAddr=127.0.0.1 Port=2 CPUs=1024 RealMemory=60000 State=DOWN
PartitionName=mixed Nodes=small,large MaxTime=1-00:00:00 State=UP
"""


def missing() -> list[str]:
    """Programs that are not here."""
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


@contextmanager
def one_node_slurm(folder: Path, hidden: Path | None = None) -> Iterator[dict[str, str]]:
    """Environment variables of a cluster that lives while the block lasts.

    ``hidden``: a folder that the node does not see the files of (needs root).
    """
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir()
    (folder / "munge").chmod(0o700)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    settings = folder / "slurm.conf"
    settings.write_text(
        CONFIGURATION.format(
            folder=folder,
            host=socket.gethostname().partition(".")[0],
            user=subprocess.run(
                ["id", "-un"], capture_output=True, text=True, check=True
            ).stdout.strip(),
            ports=_free_ports(2),
            cpus=os.cpu_count() or 1,
            memory=MEMORY,
        )
    )
    env = {"SLURM_CONF": str(settings), "PATH": PATH}
    whole = {**os.environ, **env}
    munge = [f"--{name}={folder}/munge/{file}" for name, file in MUNGE_FILES.items()]
    node = ["slurmd", "-D"]
    if hidden is not None:
        blind = f"mount -t tmpfs tmpfs {shlex.quote(str(hidden))} && exec slurmd -D"
        node = ["unshare", "--mount", "sh", "-c", blind]
    daemons = [["munged", "--foreground", "--force", *munge], ["slurmctld", "-D"], node]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for daemon in daemons:
            with (folder / f"{daemon[0]}.out").open("wb") as out:
                running.append(
                    subprocess.Popen(daemon, env=whole, stdout=out, stderr=subprocess.STDOUT)
                )
            if daemon[0] == "munged":
                _wait_until((folder / "munge" / "socket").exists)
        _wait_until(lambda: "idle" in _said("sinfo", whole))
        yield env
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            process.wait(20)


def profile(folder: Path, timeout: float = 1800.0, **settings: object) -> Path:
    """A profile's file: settings of its section slurm."""
    path = folder / "profile.yaml"
    given = {"partition": "main", "cpus": 1, "memory_gb": 1, "memory_factor": 1, **settings}
    listed = ", ".join(f"{name}: {value}" for name, value in given.items())
    path.write_text(f"executor: slurm\ntimeout: {timeout}\nslurm: {{{listed}}}\n")
    return path


def job_ids(env: dict[str, str], state: str, form: str = "%A") -> list[str]:
    """Jobs in the queue; in the form "%i" elements that wait have names of their own."""
    done = subprocess.run(
        ["squeue", "--noheader", "--array", "--states", state, "--format", form],
        env={**os.environ, **env}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


MUNGE_FILES = {
    "key-file": "key",
    "socket": "socket",
    "pid-file": "pid",
    "log-file": "log",
    "seed-file": "seed",
}


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def _said(command: str, env: dict[str, str]) -> str:
    return subprocess.run([command], env=env, capture_output=True, text=True, check=False).stdout


def _wait_until(what: object) -> None:
    assert callable(what)
    deadline = time.monotonic() + READY_WITHIN
    while not what():
        assert time.monotonic() < deadline, "Slurm does not start; see its logs"
        time.sleep(0.1)
