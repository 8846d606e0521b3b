"""A run's state on disk: written in one step, so that the last good one always survives.

``checkpoint.pt`` holds weights, optimiser and where the run is; ``history.jsonl`` one line per
logged step. It must not know how a step is made.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from models.errors import UserError
from models.pretraining.lines import append_line, read_lines, write_lines
from models.replacing import replacing

CHECKPOINT, HISTORY = "checkpoint.pt", "history.jsonl"
_CHANGED = {
    "data": " (the chips have changed since)",
    "architecture": " (the registry's entry of the variant has changed since)",
    "code": " (this program's training code has changed since)",
}


@dataclass(frozen=True)
class Record:
    """One logged step; means are over the steps since the record before it.

    ``spread`` and ``effective_rank`` are of the pooled encodings of the last batch. Nothing of
    it depends on when or how fast it was computed.
    """

    step: int
    samples: int
    loss: float
    discrimination: float
    contrast: float
    gradient_norm: float
    learning_rate: float
    spread: float
    effective_rank: float


@dataclass(frozen=True)
class State:
    """Where a run is: so many steps done, with these weights and this optimiser."""

    step: int
    model: Mapping[str, Any]
    optimiser: Mapping[str, Any]


def save(folder: Path, identity: Mapping[str, Any], state: State) -> None:
    """Write the checkpoint in one step; on a full disk the one before it stays.

    Raises `UserError` when it cannot be written, as the history's functions below do.
    """
    content = {
        "identity": dict(identity),
        "step": state.step,
        "model": dict(state.model),
        "optimiser": dict(state.optimiser),
    }

    def write(path: Path) -> None:
        try:
            with path.open("wb") as file:
                torch.save(content, file)
        except RuntimeError as error:
            # Torch says that its file has the wrong length; why is what the system said before.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise

    with _writing(folder):
        for left in folder.glob(f".{CHECKPOINT}.*.tmp"):
            left.unlink()  # by a process that was killed while it saved
        with replacing(folder / CHECKPOINT, sync=True) as temporary:
            write(temporary)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """What a disk does to a run, in a sentence."""
    try:
        yield
    except OSError as error:
        kept = (folder / CHECKPOINT).exists()
        then = "goes on from the last checkpoint" if kept else "begins anew"
        raise UserError(
            f"The run cannot be kept in {folder} ({error.strerror or error}); make room there and "
            f"give the same command again: it {then}."
        ) from None


def load(folder: Path, identity: Mapping[str, Any]) -> State | None:
    """The state of an earlier, unfinished run of the same command; None where there is none.

    Raises:
        UserError: the checkpoint is damaged, or that of another run (recipe, data, seed, ...).
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with ZipFile(path) as archive:  # torch does not look at the checksums that it writes
            if archive.testzip() is not None:
                raise BadZipFile
        data = torch.load(path, map_location="cpu", weights_only=True)
        found = dict(data["identity"])
        state = State(data["step"], data["model"], data["optimiser"])
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, BadZipFile,
            pickle.UnpicklingError) as error:  # fmt: skip
        raise UserError(
            f"The checkpoint {path} is damaged ({type(error).__name__}); remove {folder} to start "
            "over, or put back a copy."
        ) from None
    for key, wanted in identity.items():
        if found.get(key) != wanted:
            why = _CHANGED.get(key, "")
            raise UserError(
                f"The checkpoint in {folder} is of another run: its {key} is {found.get(key)}, "
                f"this command's is {wanted}{why}; choose another folder with --out, or remove it."
            )
    return state


def read_history(folder: Path, up_to: int | None = None) -> list[Record]:
    """Logged steps up to a step (None: all); what a killed run logged past it is dropped."""
    records = read_lines(folder / HISTORY, Record)
    return [record for record in records if up_to is None or record.step <= up_to]


def write_history(folder: Path, records: Sequence[Record]) -> None:
    """Replace the history by these records."""
    with _writing(folder):
        write_lines(folder / HISTORY, records)


def append_history(folder: Path, record: Record) -> None:
    """Add one record, which is on the disk before a checkpoint that counts on it."""
    with _writing(folder):
        append_line(folder / HISTORY, record)
