"""`nox -s bench`: every speed figure of docs/benchmarks.md, side by side in one run.

python -m benchmarks [encoder] [galileo] [croma_satmae] [probes] [sweep] [macs] [suite] [report]
    [check] [tracking] [pretraining] [plan] [scheduling] [scaling] [objects]
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from importlib.metadata import version

PARTS = (
    "encoder",
    "galileo",
    "croma_satmae",
    "probes",
    "sweep",
    "macs",
    "suite",
    "report",
    "check",
    "tracking",
    "pretraining",
    "plan",
    "scheduling",
    "scaling",
    "objects",
)


def main() -> None:
    """Run the parts that are named, or all."""
    wanted = sys.argv[1:] or list(PARTS)
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        sys.exit(f"There is no benchmark {unknown[0]}; allowed: {', '.join(PARTS)}.")
    sys.argv = sys.argv[:1]
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        # Not imported: it would be in the memory of what is measured.
        f"Python {platform.python_version()}, torch {version('torch')}"
    )
    for name in wanted:
        print(f"\n## {name}\n", flush=True)
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
