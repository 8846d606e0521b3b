"""Where small things are kept that can be found out again: for this user, on this machine.

Whoever keeps something there names it by a hash of all that it depends on; the folder may be
deleted at any time. It must not know what is kept.
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``TOKENRANK_CACHE``, else the user's cache folder."""
    given = os.environ.get("TOKENRANK_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "tokenrank"
