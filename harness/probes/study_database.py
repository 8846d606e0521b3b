"""The database that tuning studies may share: waited for, and told apart from a mistake.

A server that restarts is asked again for a minute; after that it is away, which another try may get
past. Credentials and names that it refuses are the user's to put right, at once. It must not know
what is in a study.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import lru_cache
from time import sleep
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import exc

from models.errors import AwayError, UserError

DATABASE = "TOKENRANK_TUNING"
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds before it is asked again
AT_START = (1.0,)
Answer = TypeVar("Answer")

_PASSING = (
    exc.OperationalError,
    exc.InterfaceError,
    exc.InternalError,  # of a server that only reads while another takes over
    exc.IntegrityError,  # somebody else makes the tables now
    exc.TimeoutError,
)
_TABLE_IS_THERE = "42P07"  # the same
# Classes of PostgreSQL's codes: who is let in, to which database, with which rights.
_MISTAKES = ("28", "3D", "42")
# A refused connection has no code, so these are known by their words. In another language they
# are taken for an outage.
_MISTAKES_IN_WORDS = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "permission denied",
    "not permitted to log in",
    "unable to open database file",
)


def storage_at(address: str, pauses: tuple[float, ...] = PAUSES) -> RDBStorage:
    """The database, its tables made if need be. Raises as `asked` does."""
    return asked(lambda: _storage(address), pauses)


def asked(ask: Callable[[], Answer], pauses: tuple[float, ...] = PAUSES) -> Answer:
    """Its answer, waiting while it is away.

    What was written may be written twice: the answer can be lost on the way. Raises `AwayError`
    after a minute, `UserError` for what no second question changes.
    """
    for pause in (*pauses, None):
        try:
            return ask()
        except (exc.SQLAlchemyError, StorageInternalError, ImportError, RuntimeError) as error:
            cause = _cause(error)
            said = _said(cause)
            if _is_mistake(cause):
                raise UserError(
                    f"The database of tuning studies ({DATABASE}) cannot be used ({said}); check "
                    "its address, postgresql+psycopg2://USER@HOST/DATABASE, and the user's rights."
                ) from None
            if pause is None:
                raise AwayError(
                    errno.EIO,
                    f"the database of tuning studies ({DATABASE}) does not answer: {said}",
                ) from error
        sleep(pause)
    raise AssertionError("unreachable")


def require_database(address: str) -> None:
    """Raises `UserError`, soon, where it does not answer."""
    try:
        storage_at(address, AT_START)
    except AwayError as error:
        raise UserError(
            f"{str(error)[0].upper()}{str(error)[1:]}; check its address, and that the server runs."
        ) from None


@lru_cache(maxsize=1)
def _storage(address: str) -> RDBStorage:
    """Opened once: Optuna looks at its tables each time."""
    # Without a limit a machine that is gone is waited for as long as the system likes.
    limits = {"connect_timeout": 10, "tcp_user_timeout": 30_000}
    is_libpq = address.startswith(("postgresql://", "postgresql+psycopg"))
    settings = {"connect_args": limits} if is_libpq else {}
    return RDBStorage(address, engine_kwargs={"pool_pre_ping": True, **settings})


def _cause(error: Exception) -> BaseException:
    """What Optuna has wrapped."""
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        return error.__cause__
    return error


def _said(error: BaseException) -> str:
    """The line that says most: a host may have several addresses, each with a line of its own."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines() or [""]
    return next((line for line in lines if "FATAL" in line), lines[0]).strip().rstrip(".")


def _is_mistake(error: BaseException) -> bool:
    original = getattr(error, "orig", None)
    code = getattr(original, "pgcode", None) or getattr(original, "sqlstate", None) or ""
    if code == _TABLE_IS_THERE:
        return False
    if not isinstance(error, _PASSING) or code.startswith(_MISTAKES):
        return True
    return any(words in str(original).lower() for words in _MISTAKES_IN_WORDS)
