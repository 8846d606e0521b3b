"""Where a logarithmic axis is labelled. It must know nothing of what is drawn."""

from __future__ import annotations

import math


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` to ``high`` (above 0): 1, 2, 5 a decade, over many 1 alone."""
    a, b = math.log10(low), math.log10(high)
    steps = (1, 2, 5) if b - a < 2.2 else (1,)
    exponents = range(math.floor(a), math.ceil(b) + 1)
    ticks = [step * 10.0**e for e in exponents for step in steps]
    return [tick for tick in ticks if low <= tick <= high]
