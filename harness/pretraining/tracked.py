"""Trainings that were mirrored, and how each stands on each tracking server.

A note for each in the store (``trainings/``) says what its run is made of and where its folder is,
so that one that nobody closed is found: by the same command, by whoever launched it, and by
`tokenrank sync`. It must not know how training works, or what a run looks like in MLflow.
"""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from harness.content import content_key
from harness.pretraining.curves import Training
from harness.store import Store, as_json
from harness.tracking import TRAININGS, is_gone, place_of, tracking_uri
from models.errors import UserError
from models.study_cards import StudyCard, StudyFiles, read_card

GUARD = ".guard"
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Tracked:
    """A training, its folder as ``host`` calls it, and what each server was told last, by place."""

    training: Training
    folder: Path
    host: str
    told: Mapping[str, Status]

    @property
    def card(self) -> StudyCard | None:
        """The card of its weights, if they are there: others may have taken the folder since."""
        if not StudyFiles.in_folder(self.folder).card.is_file():
            return None
        with contextlib.suppress(UserError):
            card = read_card(self.folder)
            if training_key(card.recipe_hash, card.data.fingerprint, card.seed, card.steps) == (
                self.training.key
            ):
                return card
        return None

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody trains there any more, as far as this machine can tell."""
        if self.host != platform.node():
            return False
        if not self.folder.is_dir():
            return True
        try:
            with FileLock(self.folder / GUARD, timeout=0):
                return True
        except Timeout:
            return False


def training_key(recipe_hash: str, data: str, seed: int, steps: int) -> str:
    """What a training is found by on a server: the same for whoever trains it, wherever."""
    return f"{recipe_hash}-{data}-{seed}-{steps}"


def note(store: Store, training: Training, folder: Path, status: Status) -> None:
    """The server that is used now has been told this."""
    name = _name(training.key)
    before = _read(store.files.read(name))
    told = {**(before.told if before else {}), place_of(tracking_uri(store)): status}
    data = {
        "training": asdict(training),
        "folder": str(folder.resolve()),
        "host": platform.node(),
        "told": told,
    }
    store.files.write(name, as_json(data))


def standing(store: Store, key: str) -> Status | None:
    """What the server that is used now was told last; None: nothing, as far as is known."""
    found, uri = _read(store.files.read(_name(key))), tracking_uri(store)
    return None if found is None or is_gone(uri) else found.told.get(place_of(uri))


def tracked(store: Store) -> list[Tracked]:
    """All of them."""
    names = [f"{TRAININGS}/{name}" for name in store.files.names(TRAININGS)]
    found = map(_read, store.files.read_many(names).values())
    return [each for each in found if each is not None]


def _name(key: str) -> str:
    return f"{TRAININGS}/{content_key(key)[:32]}.json"


def _read(text: bytes | None) -> Tracked | None:
    """A note; None where there is none, or it is damaged: a server is asked once more then."""
    try:
        found = json.loads(text or b"")
        training = Training(**found["training"])
        return Tracked(training, Path(found["folder"]), found["host"], dict(found["told"]))
    except (ValueError, KeyError, TypeError):
        return None
