"""Results and embeddings on disk, by content key: the truth that all else is a view of.

Every file is written beside its place and renamed into it, so a killed run leaves
nothing half-written that could be taken for a result. It must know nothing of how
results are computed, ranked or shown.

    cells/<kk>/<key>.json + .parquet      a cell's scores, and its per-sample predictions
    embeddings/<kk>/<key>.safetensors     one array [N, ..., dim] per pooling; .json beside it
    pixels/<fingerprint>/                 a data set's decoded images
    studies/<key>.journal                 Optuna's trials
    runs/<key>/                           a suite run: manifest, report
    claims/                               who computes what now (`harness.claims`)
    work/<key>/                           workers' notes and logs (`harness.executors.board`)
    trainings/<key>.json                  pretrainings that were mirrored into MLflow
    remade/<key>                          embeddings that were made again, until somebody is told
    timings.jsonl                         seconds spent; never part of a result
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from harness.claims import Claims
from harness.shared_files import FolderFiles, SharedFiles
from models.errors import UserError
from models.replacing import replacing

Array = npt.NDArray[Any]
Grid = tuple[int, int]
_TYPES: Mapping[str, np.dtype[Any]] = {
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
}


@dataclass(frozen=True)
class CellResult:
    """What one cell found: plain data, without any trace of when, where or for whom it ran.

    Names of variants, tasks and suites are the plan's: two suites may call one cell
    differently. ``inputs`` is what the key is the hash of.

    ``scores`` maps a metric to value, low and high (bootstrap 95% interval).
    ``predictions`` has one row per test sample: sample, label, prediction, value, and the
    class probabilities ``p0 .. pC``. ``trials`` are the tuning trials in the order they were
    asked (number, params, val_score); ``sketch`` is a small random projection of a few test
    embeddings, by which another run can tell whether its encoder computes the same.
    """

    key: str
    metric: str
    scores: Mapping[str, tuple[float, float, float]]
    val_score: float
    chosen: Mapping[str, str | int | float]
    n_train: int
    n_val: int
    n_test: int
    inputs: Mapping[str, Any]
    trials: Sequence[Mapping[str, Any]]
    sketch: Sequence[float]
    predictions: pl.DataFrame


@dataclass(frozen=True)
class Draft:
    """An embedding that is being written: its arrays, and what is to be recorded with them."""

    arrays: Mapping[str, Array]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Embedding:
    """Embeddings of a whole data set, memory-mapped.

    ``poolings[name]`` is ``[N, dim]``, or ``[N, h, w, dim]`` where patches are kept apart.
    """

    key: str
    poolings: Mapping[str, Array]


REMADE = "remade"
_CELL_FIELDS = {each.name for each in fields(CellResult)} - {"predictions"}


class Store:
    """A folder of results, which any number of processes may read and write at once.

    ``place`` is what other machines call it. ``claims`` are seen by everyone, ``claims_here`` by
    whoever shares ``root``, which for a folder are the same. ``notes_every``: seconds between two
    notes of one worker.
    """

    notes_every = 1.0

    def __init__(self, root: Path) -> None:
        self.root = root
        self.place = str(root.resolve())
        self.files: SharedFiles = FolderFiles(root)
        self.claims = self.claims_here = Claims(self.files)

    def __str__(self) -> str:
        return str(self.root)

    def prepare(self) -> None:
        """Create the folder and prove that it can be written to; `UserError` otherwise."""
        probe = self.root / f".probe-{os.getpid()}.tmp"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"tokenrank")
            probe.unlink()
        except OSError as error:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)
            raise UserError(
                f"The store {self.root} cannot be written to ({error.strerror}); "
                f"choose another folder with {self._chosen_by}."
            ) from None

    def require_same(self) -> None:
        """Raises `UserError` where this machine's copy of the store is of another store."""

    _chosen_by = "--store or TOKENRANK_STORE"

    # --- cells -----------------------------------------------------------------

    def cell(self, key: str, *, with_predictions: bool = True) -> CellResult | None:
        """A finished cell, or None. A damaged one counts as not computed.

        Without predictions their table is empty, and the file that holds them is not looked at.
        """
        read = self._read_cell(key, with_predictions)
        if read is None:
            return None
        data, raw = read
        try:
            data["scores"] = {name: tuple(score) for name, score in data["scores"].items()}
            table = pl.DataFrame() if raw is None else pl.read_parquet(raw)
            return CellResult(**data, predictions=table)
        except (KeyError, TypeError):  # written by a version with other fields
            return None

    def has_cell(self, key: str) -> bool:
        """Whether it is at hand, whole: its files are read and their hash compared, no more.

        Where cells are kept elsewhere, `fetch_cells` comes first.
        """
        read = self._read_cell(key, with_predictions=True)
        return read is not None and read[0].keys() == _CELL_FIELDS

    def _read_cell(
        self, key: str, with_predictions: bool
    ) -> tuple[dict[str, Any], bytes | None] | None:
        path = self._cell_path(key)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            expected = data.pop("predictions_sha256")
            raw = path.with_suffix(".parquet").read_bytes() if with_predictions else None
        except (FileNotFoundError, ValueError, KeyError):
            return None
        if raw is not None and hashlib.sha256(raw).hexdigest() != expected:
            return None
        return data, raw

    def cells_mark(self, keys: Iterable[str]) -> str | None:
        """A hash of sizes and times of cells' files; None where a file is missing.

        With the same mark nobody has written to them since. Nothing is read for it.
        """
        digest = hashlib.sha256()
        for key in sorted(set(keys)):
            path = self._cell_path(key)
            for file in (path, path.with_suffix(".parquet")):
                try:
                    found = file.stat()
                except OSError:
                    return None
                digest.update(f"{key} {found.st_size} {found.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def cells_mark_there(self, keys: Iterable[str]) -> str | None:
        """The same of where cells are kept for all machines, if that is elsewhere; else None."""

    def put_cell(self, result: CellResult) -> None:
        """Write a finished cell: predictions first, then the JSON that commits them."""
        path = self._cell_path(result.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        table = path.with_suffix(".parquet")
        raw = io.BytesIO()  # polars reports a full disk as an error of its own kind
        result.predictions.write_parquet(raw, compression="zstd", statistics=False)
        with replacing(table) as temporary:
            temporary.write_bytes(raw.getvalue())
        data = {k: v for k, v in asdict_shallow(result).items() if k != "predictions"}
        data["predictions_sha256"] = file_sha256(table)
        self._commit(path, data, table)

    def fetch_cells(self, keys: Iterable[str]) -> None:
        """Have finished cells at hand, where they are kept elsewhere."""

    def _cell_path(self, key: str) -> Path:
        return self.root / "cells" / key[:2] / f"{key}.json"

    # --- embeddings ------------------------------------------------------------

    def embedding(self, key: str) -> Embedding | None:
        """A stored embedding, or None. Checked against its recorded hash on every load."""
        path = self._embedding_path(key)
        try:
            meta = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            expected = meta["sha256"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        if not path.exists() or file_sha256(path) != expected:
            return None
        return Embedding(key, _map_safetensors(path))

    def has_embedding(self, key: str) -> bool:
        """Whether one was stored; it is read, and checked, by `embedding`."""
        return self._embedding_path(key).with_suffix(".json").exists()

    def embeddings_of(self, keys: Iterable[str]) -> set[str]:
        """Those of many that were stored."""
        return {key for key in keys if self.has_embedding(key)}

    @contextmanager
    def embedding_writer(
        self, key: str, rows: int, dim: int, poolings: tuple[str, ...], grid: Grid | None = None
    ) -> Iterator[Draft]:
        """Arrays mapped onto the file that becomes the embedding.

        Float32 ``[rows, dim]``; with a ``grid`` (rows and columns of patches) float16
        ``[rows, h, w, dim]``, of which there are hundreds of times more. Rows go to disk as they
        are written; on an exception nothing is left behind.
        """
        path = self._embedding_path(key)
        stood = self.has_embedding(key)  # and could not be used: else nobody would make it
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{path.name}.*.tmp"):
            left.unlink(missing_ok=True)  # of a process that was killed: who writes holds the claim
        with replacing(path) as temporary:
            shape = (rows, *grid, dim) if grid else (rows, dim)
            kind: Literal["F16", "F32"] = "F16" if grid else "F32"
            _allocate_safetensors(temporary, dict.fromkeys(poolings, shape), kind)
            arrays = _map_safetensors(temporary, mode="r+")
            draft = Draft(arrays)
            yield draft
            for array in arrays.values():
                array.flush()
            digest = file_sha256(temporary)
        meta = {"sha256": digest, "rows": rows, "dim": dim, "poolings": list(poolings)}
        self._commit(path.with_suffix(".json"), meta | draft.facts, path)
        if stood:
            with contextlib.suppress(OSError):  # a run is not lost for what it would say
                self.files.write(f"{REMADE}/{key}", b"")

    def remade(self, keys: Iterable[str]) -> list[str]:
        """Which of these were damaged and made again, since somebody was told last."""
        return sorted(set(keys) & set(self.files.names(REMADE)))

    def told_remade(self, keys: Iterable[str]) -> None:
        """Somebody was."""
        for key in keys:
            self.files.remove(f"{REMADE}/{key}")

    def _commit(self, path: Path, data: Any, beside: Path) -> None:
        """Write what makes the file ``beside`` it count."""
        write_json(path, data)

    def _embedding_path(self, key: str) -> Path:
        return self.root / "embeddings" / key[:2] / f"{key}.safetensors"

    # --- the rest --------------------------------------------------------------

    def pixels_folder(self, fingerprint: str) -> Path:
        """Where a data set's decoded images are kept."""
        return self.root / "pixels" / fingerprint[:32]

    def study_path(self, key: str) -> Path:
        """Optuna's journal of one tuned cell."""
        path = self.root / "studies" / f"{key}.journal"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def keep_study(self, key: str) -> None:
        """The journal has grown: a store that is elsewhere takes it there."""

    def run_folder(self, run_key: str) -> Path:
        """Folder of one suite run."""
        return self.root / run_name(run_key)

    def fetch_folder(self, folder: str, only: Collection[str] = ("*",)) -> None:
        """Have a folder's files at hand (those that ``only`` matches), if they are elsewhere."""

    def keep_folder(self, folder: str) -> None:
        """A folder's files are as they shall be: a store that is elsewhere takes them there."""

    def keep_file(self, name: str) -> None:
        """The same for one file, if there is one."""

    def keep_once(self, name: str) -> None:
        """The same for one that is there; what is as it is here stays untouched."""

    def cached(self, kind: str, key: str) -> Any | None:
        """Something small that only saves time, if it is known."""
        try:
            return json.loads((self.cache_folder / kind / f"{key}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def cache(self, kind: str, key: str, data: Any) -> None:
        """Remember something small that can be computed again."""
        write_json(self.cache_folder / kind / f"{key}.json", data)

    def note_timing(self, entry: Mapping[str, Any]) -> None:
        """Append one line of timings. They are never read back into a result."""
        with (self.root / "timings.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, sort_keys=True) + "\n")

    def timings(self) -> str:
        """The lines that were noted; the last one may be torn."""
        try:
            return (self.root / "timings.jsonl").read_text(encoding="utf-8")
        except OSError:
            return ""

    @property
    def cache_folder(self) -> Path:
        """Small caches that only save time (file hashes)."""
        return self.root / "cache"


def asdict_shallow(result: CellResult) -> dict[str, Any]:
    """The fields of a result; unlike `dataclasses.asdict` it does not copy the table."""
    return dict(vars(result))


def run_name(run_key: str) -> str:
    """A suite run's folder, relative to the store."""
    return f"runs/{run_key[:16]}"


def as_json(data: Any) -> bytes:
    """Readable, canonical JSON."""
    return (json.dumps(data, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def write_json(path: Path, data: Any) -> None:
    """Write readable, canonical JSON in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(as_json(data))


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reserve(path: Path) -> None:
    """Give a file that is about to be mapped all of its blocks.

    A full disk must fail here, in a call that can say so, not later as a bus error in a
    mapped page, which kills the process.
    """
    with path.open("r+b") as file:
        _reserve(file.fileno(), path.stat().st_size)


def scratch_matrix(folder: Path, rows: int, columns: int) -> np.memmap[Any, Any]:
    """A float32 matrix on disk, in a file without a name: it is gone when nobody maps it."""
    with tempfile.TemporaryFile(dir=folder) as file:
        size = rows * columns * 4
        file.truncate(size)
        _reserve(file.fileno(), size)
        return np.memmap(file, dtype=np.float32, mode="r+", shape=(rows, columns))


def _reserve(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate") and size:
        os.posix_fallocate(descriptor, 0, size)


def _allocate_safetensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], kind: Literal["F16", "F32"]
) -> None:
    """Write a safetensors header for arrays of one type, and room for their rows.

    The library's own writer wants all tensors in memory at once; the format (8 bytes of
    header length, a JSON header, raw data) is simple enough to lay out ahead instead.
    """
    header: dict[str, Any] = {}
    offset = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * _TYPES[kind].itemsize
        header[name] = {
            "dtype": kind,
            "shape": list(shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + offset)
    reserve(path)


def _map_safetensors(path: Path, mode: str = "r") -> dict[str, np.memmap[Any, Any]]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return {
        name: np.memmap(
            path,
            dtype=_TYPES[entry["dtype"]],
            mode=mode,  # type: ignore[call-overload]
            offset=8 + length + entry["data_offsets"][0],
            shape=tuple(entry["shape"]),
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }
