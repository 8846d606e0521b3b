"""The whole path, timed from outside as its user meets it: help, cold and finished suite, memory.

Every figure is of a process of its own, started from a shell's point of view, so imports
count. Prints a markdown table.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SMALL = """\
name: memory
title: Memory against the number of samples
protocol: {{patch_size: 8, normalisations: [pretraining], bootstrap: 100}}
variants: [olmoearth-v1-nano]
tasks:
  - {{name: knn, dataset: simulated, data: {{size: {size}}}, probe: {{kind: knn}}}}
"""


@dataclass(frozen=True)
class Ran:
    """Wall seconds, peak memory (MiB), output and processor seconds of one process."""

    seconds: float
    peak: float
    output: str
    busy: float = 0.0


def main() -> None:
    """Measure and print."""
    print("| what | measured |")
    print("| --- | --- |")
    helps = sorted(run_command(["--help"], watched=False).seconds for _ in range(5))
    print(f"| `tokenrank --help`, median of 5 | {helps[2]:.2f} s |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["run", "eurosat", "--store", folder]
        cold = run_command(arguments)
        print(f"| `tokenrank run eurosat`, cold | {cold.seconds:.0f} s |")
        encoders, probes = (
            float(re.search(rf"{name} (\d+) s", cold.output)[1])  # type: ignore[index]
            for name in ("encoders", "probes")
        )
        rest = cold.seconds - encoders - probes
        print(f"| of it encoders, probes | {encoders:.0f} s, {probes:.0f} s |")
        print(f"| everything else, imports included | {rest:.0f} s, {rest / cold.seconds:.0%} |")
        finished = sorted(run_command(arguments).seconds for _ in range(3))
        print(f"| the same, finished, median of 3 | {finished[1]:.1f} s |", flush=True)
    for size in (400, 6400):
        ran = _sized(size)
        print(f"| peak memory, one variant, {size:,} samples | {ran.peak:.0f} MiB |", flush=True)


def _sized(size: int) -> Ran:
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "memory.yaml"
        suite.write_text(SMALL.format(size=size))
        return run_command(["run", str(suite), "--store", f"{folder}/store"])


def run_command(
    arguments: list[str], *, watched: bool = True, settings: Mapping[str, str] | None = None
) -> Ran:
    """Run the command line in a process of its own; ``settings``: environment variables."""
    code = "import sys; sys.argv[0] = 'tokenrank'; from harness.cli import main; main()"
    return run_process(["-c", code, *arguments], watched=watched, settings=settings)


def run_process(
    arguments: list[str], *, watched: bool = True, settings: Mapping[str, str] | None = None
) -> Ran:
    """Run Python with these arguments; unless ``watched``, nobody looks at its memory meanwhile."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TOKENRANK_")}
    # Mapped files count towards a process's peak as long as nobody else needs the memory;
    # what matters is what the process has allocated: anonymous memory.
    before, started = _busy(), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**environment, "COLUMNS": "200", **(settings or {})},
        stdout=subprocess.PIPE,
        text=True,
    )
    peak = 0.0
    while process.poll() is None:
        if watched:
            peak = max(peak, _anonymous(process.pid))
        time.sleep(0.01)
    seconds = time.perf_counter() - started
    output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"python {' '.join(arguments)} failed:\n{output}")
    peak = peak or resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Ran(seconds, peak, output, _busy() - before)


def _busy() -> float:
    """Processor seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _anonymous(pid: int) -> float:
    """MiB of memory that is not a mapped file; 0 where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    found = re.search(r"RssAnon:\s+(\d+) kB", text)
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    main()
