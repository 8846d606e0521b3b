"""Where a tuning study lives: opened, guarded, repaired after a kill.

An Optuna journal, one record per line, so that Optuna's own tools can read it; or, where
``TOKENRANK_TUNING`` names one, a database that several machines share. With ``tuning.py`` and
``finetune_tuning.py`` this is Optuna's only home. Must not know what is tuned or how.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Literal

import optuna
from filelock import FileLock
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from models.errors import UserError

Direction = Literal["maximize", "minimize"]
DATABASE = "TOKENRANK_TUNING"


@contextmanager
def study_at(path: Path, name: str, direction: Direction) -> Iterator[optuna.Study]:
    """The persistent study at ``path``, ours alone while the block lasts.

    The guard is an operating-system lock, which dies with its process; Optuna's own lock
    is a file, which does not, and would keep a resumed study waiting for half a minute.

    In a database the study is named after the file as well: its name alone does not tell the
    embeddings apart. There, who tunes a cell holds the store's claim of it.
    """
    if os.environ.get(DATABASE):
        with _quiet():
            yield _in_database(os.environ[DATABASE], f"{path.stem}/{name}", direction)
        return
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        guard = FileLock(f"{path}.guard")
        guard.acquire()
    try:
        with _quiet():
            with writing(path):
                study = _open_study(path, name, direction)
            yield study
    finally:
        guard.release()


def _in_database(address: str, name: str, direction: Direction) -> optuna.Study:
    """Create or resume a study there. Raises `UserError` where the database cannot be used."""
    try:
        return optuna.create_study(
            storage=_database(address), study_name=name, load_if_exists=True, direction=direction
        )
    except (SQLAlchemyError, ImportError) as error:
        _database.cache_clear()
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise UserError(
            f"The database of tuning studies ({DATABASE}) cannot be used ({said}); check its "
            "address, postgresql+psycopg2://USER@HOST/DATABASE, and that the server runs."
        ) from None


@lru_cache(maxsize=1)
def _database(address: str) -> RDBStorage:
    """Opened once: Optuna looks at its tables each time."""
    return RDBStorage(address, engine_kwargs={"pool_pre_ping": True})


def _open_study(path: Path, name: str, direction: Direction) -> optuna.Study:
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
        return optuna.create_study(
            storage=storage, study_name=name, load_if_exists=True, direction=direction
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"The study file {path} is damaged ({type(error).__name__}: {error}); "
            "delete it and run again."
        ) from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system refuses (rights, space) into a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The study file {path} cannot be written: {error.strerror or error}; "
            "free some space or choose another folder with --store, then run again."
        ) from None


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
