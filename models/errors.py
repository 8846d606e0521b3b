"""The one error that a user can cause and is expected to read, and what no user causes.

`UserError` carries a single sentence: what is wrong, in which file or setting, what is
allowed, what to do. The command line prints it and exits with code 2. So it does where a
service is away or a disk is full; anything else that is raised is a bug and may show its
traceback. Knows nothing of where it is raised or printed.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from difflib import get_close_matches

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a full disk, or of a user's full share of one."""


class UserError(Exception):
    """A mistake in what the user gave us: a file, a setting, an argument.

    The message is one clear sentence without a traceback's vocabulary.
    """


class AwayError(OSError):
    """A service that keeps results does not answer; its message says which, and why.

    Nothing is wrong with what the user gave us: another try may get past it.
    """

    def __str__(self) -> str:
        return str(self.strerror)


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """The closing half of an "unknown name" sentence: the closest valid name, then all of them.

    Returns e.g. ``'did you mean "linear"? Allowed: knn, linear'``.
    """
    names = sorted(allowed)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f'did you mean "{close[0]}"? Allowed' if close else "allowed"
    return f"{hint}: {', '.join(names)}"
