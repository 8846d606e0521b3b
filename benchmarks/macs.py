"""How long does counting MACs take? The whole registry over the 13 published task inputs.

Prints a markdown table: the mean over those inputs, with attention and blind to it.
"""

from __future__ import annotations

import time
from functools import partial

from harness.macs import MacCounter
from models.families import encoder_code
from models.registry import load_registry


def main() -> None:
    """Count and print."""
    started = time.perf_counter()
    print("| variant | mean MACs | attention-blind | counted too few |")
    print("| --- | --- | --- | --- |")
    for variant in load_registry().variants():
        axis = MacCounter(partial(encoder_code(variant).build, variant, {})).published_axis()
        blind = axis.attention_blind
        print(
            f"| {variant.name} | {axis.total / 1e9:.3f} G | {blind / 1e9:.3f} G | "
            f"{axis.total / blind:.2f}x |"
        )
    print(f"\nCounted in {time.perf_counter() - started:.1f} s.")


if __name__ == "__main__":
    main()
