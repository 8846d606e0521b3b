"""The data sets by name: which there are, where they lie, and how one becomes a `Dataset`.

The single place that decides between real and simulated data. It falls back to the
simulated set only where the caller allows it; a data directory that is missing or empty
is an error, because it is a mistake and not a wish. It must know nothing of suites or of
the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from models.errors import UserError, did_you_mean
from suites.datasets.base import Dataset, Origin, TargetKind
from suites.datasets.entries import ENTRIES, Entry
from suites.datasets.own import Own
from suites.datasets.own_file import read_own
from suites.datasets.rslearn import Rslearn
from suites.datasets.rslearn_file import is_rslearn, read_rslearn

DATA_DIR = "TOKENRANK_DATA"
"""Environment variable that names the data directory."""

Options = Mapping[str, object]


@dataclass(frozen=True)
class Availability:
    """A line of ``data list``: ``folder`` is where it lies, ``None`` when it is not there."""

    name: str
    title: str
    origin: Origin
    builtin: bool
    folder: Path | None
    layout: str

    @property
    def is_ready(self) -> bool:
        """Whether it can be used as it is."""
        return self.builtin or self.folder is not None


def entry_of(name: str) -> Entry:
    """Look a data set up; a `UserError` names the known ones."""
    try:
        return ENTRIES[name]
    except KeyError:
        raise UserError(f'Unknown data set "{name}": {did_you_mean(name, ENTRIES)}.') from None


def is_own(name: str) -> bool:
    """Whether a name is the file of a task of the user's own."""
    return name.endswith((".yaml", ".yml"))


def kind_of(name: str) -> TargetKind:
    """What a data set asks for; of a task of one's own, as its file says."""
    if not is_own(name):
        return entry_of(name).kind
    file = Path(name)
    return read_rslearn(file)[0].kind if is_rslearn(file) else read_own(file)[0].kind


def available(data_dir: Path | None) -> list[Availability]:
    """All known data sets, and where each lies under a data directory (if one is set)."""
    if data_dir is not None:
        _require_folder(data_dir)
    return [
        Availability(
            entry.name,
            entry.title,
            entry.origin,
            entry.find is None,
            entry.find(data_dir) if entry.find is not None and data_dir is not None else None,
            entry.layout,
        )
        for entry in ENTRIES.values()
    ]


def absence(name: str, data_dir: Path | None) -> str | None:
    """Why a data set cannot be used, in words that follow its name; None where it can.

    Raises `UserError` for an unknown name, and a data directory that is missing or empty.
    """
    if is_own(name):
        return None if Path(name).is_file() else "its file is not there"
    entry = entry_of(name)
    if entry.find is None:
        return None
    if data_dir is None:
        return f"no data directory is set ({DATA_DIR} or --data-dir)"
    _require_folder(data_dir)
    if entry.find(data_dir) is None:
        return f"the data directory does not hold {entry.layout}"
    return None


def resolve(
    name: str,
    data_dir: Path | None,
    options: Options | None = None,
    *,
    fallback: Literal["simulated"] | None = None,
    fallback_options: Options | None = None,
    cache_dir: Path | None = None,
) -> Dataset:
    """The data set a suite asks for.

    With ``fallback="simulated"``, a set that the data directory does not lead to (none is
    set, or it holds other sets) is replaced by the simulated one, whose card says so in
    every line a reader meets. A directory that is missing or empty is a mistake instead.
    A ``name`` that ends in ``.yaml`` is a task of the user's own (`suites.datasets.own`).
    ``options`` are the data set's own and never reach the fallback, which takes
    ``fallback_options``.
    ``cache_dir`` keeps pixel digests so that a second look costs about a second.

    Raises `UserError` for an unknown name or option, a data directory that is missing or
    empty, and a data directory that does not hold the set.
    """
    if is_own(name):
        return _own(Path(name), options or {}, cache_dir)
    entry = entry_of(name)
    checked = _checked_options(entry, options or {})
    if entry.find is None:
        return entry.open(Path(), Path(), checked, cache_dir)
    if data_dir is not None:
        _require_folder(data_dir)
    folder = entry.find(data_dir) if data_dir is not None else None
    if folder is None and fallback == "simulated":
        return resolve(fallback, None, fallback_options)
    if data_dir is None:
        raise UserError(
            f'Data set "{name}" needs a data directory: set {DATA_DIR} or the data-directory '
            f'option to a folder that holds {entry.layout}, or run "tokenrank data get {name}".'
        )
    if folder is None:
        raise UserError(
            f'The data directory {data_dir} does not hold data set "{name}" ({entry.layout}); '
            f'run "tokenrank data get {name}", correct {DATA_DIR}, or unset it to use what is '
            "built in."
        )
    return entry.open(folder, data_dir, checked, cache_dir)


def _own(file: Path, options: Options, cache_dir: Path | None) -> Dataset:
    if options:
        raise UserError(f"{file}: a task of one's own takes no data options; they are in its file.")
    if is_rslearn(file):
        return Rslearn(file, cache_dir=cache_dir)
    if cache_dir is None:
        raise ValueError("a task of one's own needs a cache folder for its decoded chips")
    return Own(file, cache_dir=cache_dir)


def _require_folder(data_dir: Path) -> None:
    if not data_dir.is_dir():
        raise UserError(
            f"The data directory {data_dir} does not exist; create it or correct {DATA_DIR}."
        )
    try:
        empty = next(data_dir.iterdir(), None) is None
    except OSError as error:
        raise UserError(
            f"The data directory {data_dir} cannot be listed: {error.strerror or error}."
        ) from None
    if empty:
        raise UserError(
            f"The data directory {data_dir} is empty; fetch a data set into it with "
            f'"tokenrank data get" or unset {DATA_DIR}.'
        )


def _checked_options(entry: Entry, options: Options) -> dict[str, Any]:
    for option, value in options.items():
        if option not in entry.options:
            allowed = did_you_mean(option, entry.options)
            raise UserError(f'Data set "{entry.name}" has no option "{option}": {allowed}.')
        wanted = entry.options[option]
        if not isinstance(value, wanted) or isinstance(value, bool):
            kind = "a whole number" if wanted is int else "a text"
            raise UserError(
                f'Option "{option}" of data set "{entry.name}" must be {kind}, not {value!r}.'
            )
    return dict(options)
