"""A tiny pretraining by `tokenrank pretrain`, launched as its users do, and what came of it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from harness.tracking import URI_VARIABLE
from tests.disturbed import begin, ended, environment
from tests.harness.test_pretrain import SETTING, Place, place_in

STEPS = 60  # a record and a checkpoint every 20


@dataclass(frozen=True)
class Training:
    """A place to train in, and the sha256 of the weights that nothing happened to."""

    place: Place
    sha256: str

    def start(self, out: str, *more: str, **settings: str) -> subprocess.Popen[str]:
        """The command, as a process that tests do something to."""
        return start(self.place, out, *more, **settings)

    def folder(self, out: str) -> Path:
        return self.place.run(out)

    def profile(self, **content: object) -> Path:
        """A file of settings; two processes unless it says otherwise."""
        path = self.place.folder / f"{content['executor']}.yaml"
        path.write_text(yaml.safe_dump({"pretraining": {"processes": 2}, **content}))
        return path


def training_in(folder: Path) -> Training:
    """Trained by torchrun, typed by hand, with two processes."""
    place = place_in(folder)
    place.write("setting.yaml", {**SETTING, "samples": STEPS * 4})
    ended(start_by_hand(place, "out", 2))
    return Training(place, weights(place.run()))


def start_by_hand(place: Place, out: str, processes: int) -> subprocess.Popen[str]:
    """As `start`, by torchrun itself, which does not ask how many cores there are."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), "-m", "harness.cli"]
    command += place.command("--no-track", "--save-every", "0", out=out)
    return begin(command, environment(OMP_NUM_THREADS="1"))


def start(place: Place, out: str, *more: str, **settings: str) -> subprocess.Popen[str]:
    """Tracked where the settings say in which MLflow."""
    untracked = () if URI_VARIABLE in settings else ("--no-track",)
    arguments = place.command(*untracked, "--save-every", "0", *more, out=out)
    return begin([sys.executable, "-m", "harness.cli", *arguments], environment(**settings))


def weights(folder: Path) -> str:
    """Sha256 of the weights that a training left."""
    return hashlib.sha256((folder / "encoder.safetensors").read_bytes()).hexdigest()


def ranks(folder: Path) -> list[int]:
    """Process numbers of those who train in a folder, by rank."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                said = (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            mine = str(folder.parent.parent).encode() in command.split(b"\0")
            rank = [int(text[5:]) for text in said if text.startswith(b"RANK=")]
            if mine and rank and b"--nproc-per-node" not in command:
                found[rank[0]] = int(entry.name)
    return [found[rank] for rank in sorted(found)]


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def gone(processes: list[int]) -> bool:
    """Whether none of them is left."""
    return not any(Path(f"/proc/{each}").exists() for each in processes)
