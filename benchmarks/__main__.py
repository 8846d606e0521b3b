"""`nox -s bench`: every speed figure of docs/benchmarks.md, side by side in one run.

python -m benchmarks [encoder] [galileo] [croma_satmae] [probes] [sweep] [macs] [suite] [report]
    [check] [tracking] [pretraining] [plan] [scheduling] [scaling] [objects] [gpu]

Options after the name of one part are that part's.
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
    "gpu",
)


def main() -> None:
    """Run the parts that are named, or all."""
    options = next((i for i, each in enumerate(sys.argv) if each.startswith("-")), len(sys.argv))
    wanted = sys.argv[1:options] or list(PARTS)
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        sys.exit(f"There is no benchmark {unknown[0]}; allowed: {', '.join(PARTS)}.")
    if sys.argv[options:] and len(wanted) > 1:
        sys.exit("Options are one part's; name one.")
    sys.argv = [sys.argv[0], *sys.argv[options:]]
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
