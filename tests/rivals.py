"""Many who want one claim at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from harness.claims import Claims


def taken_by(rivals: Sequence[Claims]) -> int:
    """How many got it: all ask at once, each in a thread of its own."""
    start = threading.Barrier(len(rivals))
    got: list[bool] = []

    def try_it(mine: Claims) -> None:
        start.wait()
        got.append(mine.take("cell"))

    threads = [threading.Thread(target=try_it, args=(mine,)) for mine in rivals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(got)
