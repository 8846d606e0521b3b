"""Runs `tokenrank` commands in processes of their own, each forked from one that has imported all.

    python pretraining_driver.py JSON    a list of {"arguments": [...], "fault": [NAME, NUMBER]}

A fault is planted in the process: it kills itself (SIGKILL) at a step, finds its disk full, or is
slow while the next command runs. With "port", two processes share the command. The answer, on
stdout, is JSON: exit status (negative: by that signal), and what was said on stdout and stderr.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from harness import cli
from harness.commands import pretrain
from models.pretraining import checkpoint
from models.pretraining.checkpoint import Record
from models.pretraining.loop import Habits

Asked = dict[str, Any]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_after_record(step: int) -> None:
    append = checkpoint.append_history

    def fatal(folder: Path, record: Record) -> None:
        append(folder, record)
        if record.step == step:
            kill()

    checkpoint.append_history = fatal


def kill_while_saving(step: int) -> None:
    save = torch.save

    def fatal(content: Any, file: Any) -> None:
        save(content, file)
        if content["step"] == step:
            file.truncate(2000)
            kill()

    torch.save = fatal


def kill_while_logging(step: int) -> None:
    def fatal(folder: Path, record: Record) -> None:
        with (folder / checkpoint.HISTORY).open("a") as file:
            line = json.dumps(vars(record))
            file.write(line[: len(line) // 2] if record.step == step else line + "\n")
        if record.step == step:
            kill()

    checkpoint.append_history = fatal


def full_disk(limit: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    append = checkpoint.append_history

    def later(folder: Path, record: Record) -> None:  # what comes before training is in order
        append(folder, record)
        if record.step == 8:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    checkpoint.append_history = later


def slow(_: int) -> None:
    append = checkpoint.append_history

    def later(folder: Path, record: Record) -> None:
        append(folder, record)
        (folder / "began").touch()
        time.sleep(20)

    checkpoint.append_history = later


FAULTS = {
    fault.__name__: fault
    for fault in (kill_after_record, kill_while_saving, kill_while_logging, full_disk, slow)
}


def child(arguments: list[str], fault: tuple[str, int] | None, said: Path) -> None:
    """Become the command; never returns."""
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(said / name, os.O_CREAT | os.O_WRONLY), stream)
    torch.set_num_threads(1)
    pretrain.Habits = partial(_habits, Habits)  # type: ignore[misc]
    if fault:
        FAULTS[fault[0]](fault[1])
    sys.argv = ["tokenrank", *arguments]
    code = 0
    try:
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if sys.exc_info()[0] is None else 1)


def _habits(kind: Any, **given: Any) -> Habits:
    return Habits(**{**given, "log_every": 2, "save_seconds": 0.0})


def started(asked: Asked, rank: int) -> tuple[int, Path]:
    """A process of the command, and the folder for what it says."""
    said = Path(tempfile.mkdtemp())
    process = os.fork()
    if process == 0:
        if "port" in asked:  # as torchrun does
            world = {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
            os.environ.update(world, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(asked["port"]))
        child(asked["arguments"], asked.get("fault"), said)
    return process, said


def ended(processes: list[tuple[int, Path]]) -> dict[str, Any]:
    """Status of the worst, and what all of them said."""
    statuses = [os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for number, _ in processes]
    out, err = ("".join((p / name).read_text() for _, p in processes) for name in ("out", "err"))
    return {"status": max(statuses, key=abs), "out": out, "err": err}


def main() -> None:
    """Answer what is asked for, one after another."""
    answers = []
    slow_one: list[tuple[int, Path]] = []
    for asked in json.loads(sys.argv[1]):
        if asked.get("fault", [""])[0] == "slow":  # goes on beside the next one
            slow_one.append(started(asked, 0))
            while not Path(asked["watch"]).exists():
                time.sleep(0.05)
            continue
        ranks = (0, 1) if "port" in asked else (0,)
        answers.append(ended([started(asked, rank) for rank in ranks]))
        while slow_one:
            os.kill(slow_one[0][0], signal.SIGKILL)
            ended([slow_one.pop()])
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main()
