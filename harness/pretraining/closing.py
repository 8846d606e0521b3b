"""Runs of trainings that were left open, closed from what the trainings' folders hold.

Their process was killed before it could do so, or the server was away at their end. It must not
know who asks: the same command, a launcher, or `tokenrank sync`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from harness.pretraining.curves import Training
from harness.pretraining.mirror import MlflowWatcher
from harness.pretraining.tracked import Status, Tracked, standing, tracked
from harness.store import Store

WEIGHTS_TAG, STOPPED_TAG = "tokenrank.weights_sha256", "tokenrank.stopped"
GONE = "its process is gone"


def finish_trained(store: Store, folder: Path, training: Training, sha256: str) -> str:
    """Have a training that is done stand as FINISHED, with its curves; why not, if it cannot."""
    if standing(store, training.key) == "FINISHED":
        return ""
    mirror = MlflowWatcher(store, folder, training)
    mirror.catch_up("FINISHED", {WEIGHTS_TAG: sha256})
    return mirror.reason


def close_left(store: Store, folders: Iterable[Path], status: Status, why: str) -> None:
    """Close runs of these folders that nobody closed: whoever trained in them is gone.

    Those whose weights are there are finished. Where the server is away they stay as they are;
    the same command or `tokenrank sync` meets them again.
    """
    wanted = {folder.resolve() for folder in folders}
    with contextlib.suppress(OSError):  # the store is away: what was to be said goes before
        for each in tracked(store):
            if each.folder in wanted and standing(store, each.training.key) == "RUNNING":
                _close(store, each, status, why)


def sync(store: Store, training: Tracked) -> tuple[bool, str]:
    """Close what is done or abandoned; whether that went well, and how it stands, in words."""
    told = standing(store, training.training.key)
    if training.card is None and told != "RUNNING":
        return True, "not finished; the same command goes on with it"
    if training.card is None and not training.is_abandoned:
        return True, f"goes on in {training.folder} on {training.host}, or was killed there"
    if told == "FINISHED":
        return True, "already there"
    reason = _close(store, training, "KILLED", GONE)
    if reason:
        return False, f"not mirrored: {reason}"
    return True, f"closed: {GONE}" if training.card is None else "mirrored now"


def _close(store: Store, left: Tracked, status: Status, why: str) -> str:
    card = left.card
    if card is not None:
        return finish_trained(store, left.folder, left.training, card.weights_sha256)
    mirror = MlflowWatcher(store, left.folder, left.training)
    mirror.catch_up(status, {STOPPED_TAG: why})
    return mirror.reason
