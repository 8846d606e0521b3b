"""One node of a launch: `tokenrank` in this process, or torchrun for several.

It ends, with all processes that it started, when its driver is gone or asks for it: both are the
end of its standard input. It must not know who launched it.

    python -m harness.launching.node --nodes 2 --processes 8 --rank 0 --meet HOST:PORT -- pretrain …
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

SEEN_WITHIN = 5  # seconds: a network file system may be behind
ENDED_WITHIN = 20.0  # seconds for the step in work
FOR_DRIVERS = ("TOKENRANK_PROFILE",)  # a training must not launch itself again


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this node's share of a training to its end."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    place = given.index("--")
    asked, command = _parser().parse_args(given[:place]), given[place + 1 :]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    if asked.watched:
        threading.Thread(target=_end_with_input, daemon=True).start()
    for name in FOR_DRIVERS:
        os.environ.pop(name, None)
    sentence = unshared(asked.proof)
    if sentence:
        sys.stderr.write(f"tokenrank: {sentence}{os.linesep}")
        sys.exit(2)
    if asked.nodes * asked.processes == 1:
        from harness import cli  # noqa: PLC0415

        sys.argv = ["tokenrank", *command]
        cli.main()
        return
    _torchrun(asked, command)


def _torchrun(asked: argparse.Namespace, command: Sequence[str]) -> None:
    from torch.distributed import run  # noqa: PLC0415  (seconds)

    options = ["--nproc-per-node", str(asked.processes)]
    if asked.nodes == 1:
        options += ["--standalone"]
    else:
        host, _, port = asked.meet.rpartition(":")
        rank = os.environ["SLURM_NODEID"] if asked.rank is None else str(asked.rank)
        options += ["--nnodes", str(asked.nodes), "--node-rank", rank]
        options += ["--master-addr", host, "--master-port", port]
    run.main([*options, "-m", "harness.cli", *command])


def unshared(proof: Path) -> str:
    """A sentence where this node does not see what the driver wrote; else nothing."""
    for _ in range(SEEN_WITHIN):
        try:
            proof.read_bytes()  # opening it asks the server, where a look may not
        except OSError:
            time.sleep(1)
        else:
            return ""
    return (
        f"The folder {proof.parent} on {os.uname().nodename} is not the one that the training was "
        "started on; give a folder that all nodes share (--out)."
    )


def _end_with_input() -> None:
    """Whoever holds the other end of the pipe is gone, or wants this to end."""
    while os.read(0, 1024):  # not sys.stdin, whose lock would be missed at the end
        pass
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(ENDED_WITHIN)
    os._exit(1)  # its processes end with it, see `end_with_torchrun`


def end_with_torchrun() -> None:
    """Have this process end when the torchrun that started it is killed.

    torchrun gives each process a session of its own, so that none would hear of it: they would go
    on to train in a folder in which the next start finds them.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    parent = os.getppid()
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415

        set_death_signal = 1  # PR_SET_PDEATHSIG: works on a process that is stopped, too
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="harness.launching.node")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rank", type=int)
    parser.add_argument("--meet", default="")
    parser.add_argument("--watched", action="store_true")
    parser.add_argument("--proof", type=Path, required=True)
    return parser


if __name__ == "__main__":
    main()
