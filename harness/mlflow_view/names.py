"""Names and texts in the form that MLflow and the databases under it accept.

Variant and task names may be anything a user or an imported table came up with. What does
not fit is replaced visibly, and where two names could fall together a short hash keeps
them apart. It must know nothing of what is logged.
"""

from __future__ import annotations

import hashlib
import html
import re

RUN_NAME_LENGTH = 250  # the database's column; SQLite lets longer ones pass, PostgreSQL does not
KEY_LENGTH = 250
PARAM_LENGTH = 6000
TAG_LENGTH = 8000
EXPERIMENT_TAG_LENGTH = 20_000
EXPERIMENT_LENGTH = 256
DATASET_LENGTH = 500
_NOT_IN_KEYS = re.compile(r"[^\w.\- ]")
_NOT_IN_MODEL_NAMES = re.compile(r"[/:.%\"'\\]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$])")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u2028\u2029\ud800-\udfff]")


def one_line(text: str, length: int = RUN_NAME_LENGTH) -> str:
    """Printable, on one line, at most ``length`` characters; never empty."""
    return clipped(" ".join(_UNPRINTABLE.sub(" ", text).split()) or "(no name)", length)


def clipped(text: str, length: int) -> str:
    """At most ``length`` characters; an ellipsis marks what was cut. NULs are dropped."""
    text = _UNPRINTABLE.sub("", text)
    return text if len(text) <= length else text[: length - 1] + "…"


def metric_key(group: str, name: str) -> str:
    """``group/name`` in MLflow's alphabet; a name that had to change ends in a hash of itself."""
    tidy = _NOT_IN_KEYS.sub("_", name).strip()
    room = KEY_LENGTH - len(group) - 1
    if tidy != name or len(name) > room or not name.strip("."):
        mark = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:6]
        tidy = f"{tidy[: room - 7].strip('. ')}-{mark}"
    return f"{group}/{tidy}"


def model_name(variant: str) -> str:
    """A logged model's name: MLflow refuses ``/ : . % " '`` there, so v1.1 reads v1_1."""
    return _NOT_IN_MODEL_NAMES.sub("_", one_line(variant))


def in_markdown(text: str, length: int = 300) -> str:
    """Text that markdown, and HTML within it, shows as it is."""
    return _MARKDOWN.sub(r"\\\1", html.escape(one_line(text, length), quote=False))


def in_code(text: str) -> str:
    """A markdown code span; backticks within it cannot end it."""
    line = one_line(text, 600)
    ticks = "`" * (1 + max((len(run) for run in re.findall(r"`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"
