"""The regression check, timed from outside: cold, and on a cached suite. Prints a table.

Every figure is of a process of its own, so imports count.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BASELINE = Path(__file__).parent.parent / "reports" / "baselines" / "regression.json"


def main() -> None:
    """Measure and print."""
    print("| what | measured |")
    print("| --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["check", "--baseline", str(BASELINE), "--store", folder]
        print(f"| the shipped regression suite, cold | {_seconds(arguments):.0f} s |", flush=True)
        cached = sorted(_seconds(arguments) for _ in range(5))
        print(f"| the same, cached, median of 5 | {cached[2]:.2f} s |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        baseline = f"{folder}/eurosat.json"
        store = ["--store", f"{folder}/store"]
        _seconds(["baseline", "eurosat", "--out", baseline, *store])
        size = Path(baseline).stat().st_size / 1024
        cached = sorted(_seconds(["check", "--baseline", baseline, *store]) for _ in range(5))
        print(f"| suite eurosat (52 cells), cached, median of 5 | {cached[2]:.2f} s |")
        print(f"| its baseline | {size:.0f} KiB |", flush=True)


def _seconds(arguments: list[str]) -> float:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TOKENRANK_")}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"tokenrank {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return seconds


if __name__ == "__main__":
    main()
