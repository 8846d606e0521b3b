"""Where a tuning study lives: opened, guarded, repaired after a kill, and read without trust.

An Optuna journal, one record per line, so that Optuna's own tools can read it; or, where
``TOKENRANK_TUNING`` names one, a database that several machines share. With ``tuning.py`` and
``finetune_tuning.py`` this is Optuna's only home. Must not know what is tuned or how.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from harness.probes.study_database import DATABASE, asked, storage_at
from models.errors import DISK_FULL, AwayError, UserError

Direction = Literal["maximize", "minimize"]
Answer = TypeVar("Answer")
NUMBER = "number"  # the attribute that tells what a trial was asked as
# What a network file system says while its server is away.
_PASSING = (
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ENOTCONN),
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH),
)


class Answers:
    """The ended trials of a study, whoever trained them.

    Two processes may have: one that was taken for dead, and its successor. So a trial is known by
    the number and parameters that it was asked with, and the first one that was kept counts: the
    trials of two are those of one.
    """

    def __init__(self, study: optuna.Study, do: Callable[[Callable[[], Any]], Any]) -> None:
        self._study, self._do = study, do

    def to(self, asked: Sequence[Mapping[str, Any]], first: int) -> list[FrozenTrial | None]:
        """The trials with these parameters, numbered from ``first``; None where one is missing."""
        kept: list[FrozenTrial] = self._do(lambda: self._study.get_trials(deepcopy=False))
        found: dict[int, FrozenTrial] = {}
        for trial in sorted(kept, key=lambda trial: trial.number):
            at = trial.user_attrs.get(NUMBER, -1) - first
            if trial.state.is_finished() and 0 <= at < len(asked) and trial.params == asked[at]:
                found.setdefault(at, trial)
        return [found.get(at) for at in range(len(asked))]

    def keep(self, number: int, trial: FrozenTrial) -> None:
        """Store one that has ended."""
        trial.set_user_attr(NUMBER, number)
        self._do(lambda: self._study.add_trial(trial))


@contextmanager
def study_at(path: Path, name: str, direction: Direction) -> Iterator[Answers]:
    """The persistent study at ``path``, ours alone while the block lasts.

    The guard is an operating-system lock, which dies with its process; Optuna's own lock
    is a file, which does not, and would keep a resumed study waiting for half a minute. Not every
    network file system has such locks.

    In a database the study is named after the file as well: its name alone does not tell the
    embeddings apart. There, who tunes a cell holds the store's claim of it.
    """
    address = os.environ.get(DATABASE)
    if address:
        with _quiet():
            storage = storage_at(address)
            study = asked(lambda: _study(storage, f"{path.stem}/{name}", direction))
            yield Answers(study, asked)
        return
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        guard = FileLock(f"{path}.guard")
        guard.acquire()
    try:
        with _quiet():
            with writing(path):
                study = _in_journal(path, name, direction)
            yield Answers(study, lambda do: _written(path, do))
    finally:
        guard.release()


def _study(storage: BaseStorage, name: str, direction: Direction) -> optuna.Study:
    return optuna.create_study(
        storage=storage, study_name=name, load_if_exists=True, direction=direction
    )


def _in_journal(path: Path, name: str, direction: Direction) -> optuna.Study:
    """Create or resume the study, after clearing away what a killed run left behind."""
    Path(f"{path}.lock").unlink(missing_ok=True)
    _drop_torn_line(path)
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        if optuna.get_all_study_names(storage) not in ([], [name]):
            raise UserError(
                f"The study in {path} was made with other settings; "
                "delete that file or give another path."
            )
        return _study(storage, name, direction)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"The study file {path} is damaged ({type(error).__name__}: {error}); "
            "delete it and run again."
        ) from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into a sentence.

    A full disk stays what it is, an `OSError` that names the file, and a server that is away
    becomes an `AwayError`: with either, another try or another machine may do better.
    """
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise OSError(error.errno, error.strerror, str(path)) from None
        said = f"study file {path} cannot be written: {error.strerror or error}"
        if error.errno in _PASSING:
            raise AwayError(error.errno, f"the {said}") from None
        raise UserError(
            f"The {said}; choose another folder with --store, then run again."
        ) from None


def _written(path: Path, do: Callable[[], Answer]) -> Answer:
    with writing(path):
        return do()


def _drop_torn_line(path: Path) -> None:
    """Cut a journal after its last whole line: a kill can tear the line being written."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


@contextmanager
def _quiet() -> Iterator[None]:
    """No log lines from Optuna inside; the user's verbosity outside stays as it was."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
