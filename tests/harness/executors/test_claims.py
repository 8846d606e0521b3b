"""Claims: one owner at a time, a dead one's work is taken over, no two clocks are compared."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.claims import Claims
from harness.shared_files import FolderFiles
from tests.rivals import taken_by


def claims(folder: Path, stale_after: float = 60.0, beat_every: float = 0.05) -> Claims:
    """As another machine would have them: owners of this one are not looked up by number."""
    return Claims(FolderFiles(folder), stale_after, beat_every)


def gets_it(mine: Claims) -> bool:
    """In the end, looking all the time."""
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        if mine.take("cell"):
            return True
        time.sleep(0.01)
    return False


def test_of_many_who_want_it_one_gets_it(tmp_path: Path) -> None:
    assert taken_by([claims(tmp_path) for _ in range(16)]) == 1


def test_what_is_given_back_can_be_taken(tmp_path: Path) -> None:
    first, second = claims(tmp_path), claims(tmp_path)
    assert first.take("cell")
    assert not second.take("cell")
    first.release("cell")
    assert second.take("cell")


def test_a_living_owner_keeps_its_claim_however_long_it_takes(tmp_path: Path) -> None:
    owner, other = claims(tmp_path), claims(tmp_path, stale_after=0.5)
    assert owner.take("cell")
    ends = time.monotonic() + 1.5
    while time.monotonic() < ends:
        assert not other.take("cell")
        time.sleep(0.05)


@pytest.mark.parametrize("clock", [0.0, -3600.0, 3600.0])
def test_a_silent_owner_elsewhere_loses_it_whatever_its_clock_says(
    tmp_path: Path, clock: float
) -> None:
    """An owner of another machine that is gone; its file's times are an hour off."""
    import os  # noqa: PLC0415

    note = {"owner": "gone", "host": "elsewhere", "pid": 1, "started": "1", "count": 3}
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "cell").write_text(json.dumps(note))
    then = time.time() + clock
    os.utime(tmp_path / "claims" / "cell", (then, then))
    mine = claims(tmp_path, stale_after=0.3)
    assert not mine.take("cell")  # it may be alive, for all that is known yet
    assert gets_it(mine)


def test_time_in_which_nobody_looked_does_not_count(tmp_path: Path) -> None:
    """The store was away, for owner and watcher alike, or the watcher was stopped."""
    owner, mine = claims(tmp_path, beat_every=1e9), claims(tmp_path, stale_after=0.2)
    assert owner.take("cell")
    alive = (tmp_path / "claims" / "cell").read_text()
    (tmp_path / "claims" / "cell").write_text(alive.replace('"host": "', '"host": "elsewhere '))
    assert not mine.take("cell")
    time.sleep(0.3)
    assert not mine.take("cell")
    assert gets_it(mine)


def test_the_owner_that_lost_its_claim_does_not_take_it_back(tmp_path: Path) -> None:
    """A laptop that slept: somebody else has gone on, and its own beats must not say otherwise."""
    slept, other = claims(tmp_path, beat_every=1e9), claims(tmp_path, stale_after=0.2)
    assert slept.take("cell")
    (tmp_path / "claims" / "cell").write_text(
        (tmp_path / "claims" / "cell").read_text().replace('"host": "', '"host": "elsewhere ')
    )
    assert not other.take("cell")
    assert gets_it(other)
    slept.release("cell")
    assert not claims(tmp_path).take("cell")


KILLED = """
import os, signal, sys
from pathlib import Path
from harness.claims import Claims
from harness.shared_files import FolderFiles
assert Claims(FolderFiles(Path(sys.argv[1]))).take("cell")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_of_this_machine_is_not_waited_for(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert (tmp_path / "claims" / "cell").exists()
    assert claims(tmp_path).take("cell")


def test_who_waits_gets_what_the_other_found(tmp_path: Path) -> None:
    owner, other = claims(tmp_path), claims(tmp_path)
    found: list[str] = []
    answers: list[str | None] = []

    def wait_for_it() -> None:
        with other.first("cell", lambda: found[0] if found else None) as answer:
            answers.append(answer)

    with owner.first("cell", lambda: None) as answer:
        assert answer is None
        thread = threading.Thread(target=wait_for_it)
        thread.start()
        time.sleep(0.3)
        assert answers == []
        found.append("the result")
    thread.join(10)
    assert answers == ["the result"]


def test_a_failure_gives_the_claim_back(tmp_path: Path) -> None:
    owner, other = claims(tmp_path), claims(tmp_path)
    with pytest.raises(ZeroDivisionError), owner.first("cell", lambda: None):
        raise ZeroDivisionError
    assert other.take("cell")


def test_a_damaged_claim_is_nobodys_after_a_while(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir(exist_ok=True)
    (tmp_path / "claims" / "cell").write_bytes(b"\x00\xff")
    mine = claims(tmp_path, stale_after=0.2)
    assert not mine.take("cell")
    assert gets_it(mine)
