"""A store whose truth is in an object store, with a working copy on this machine.

Results are mapped into memory from files, so each machine keeps those that it works with in a
folder of its own, the mirror. What is made here is uploaded before it counts as made; what is
missing here is fetched. As keys name content, a copy is never out of date: it can only lack
something. Decoded images, caches that only save time and MLflow's local files stay here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from harness.claims import Claims
from harness.objects import Objects
from harness.shared_files import FolderFiles
from harness.store import CellResult, Embedding, Store, as_json, file_sha256
from models.cache import cache_folder
from models.errors import UserError

MIRROR = "TOKENRANK_MIRROR"
IDENTITY = "identity"
FEW = 32  # cells: fewer are asked for one by one, more are listed first
CHUNK = 256  # cells that are fetched before they are written, so that memory holds no more
LINES = 100  # of timings in one object
SHARED_NOTES = ("halvings", "tables-there")  # caches that others should know of


def mirror_of(address: str) -> Path:
    """Where this machine keeps its copy: in ``TOKENRANK_MIRROR``, else in the user's cache."""
    given = os.environ.get(MIRROR)
    base = Path(given) if given else cache_folder() / "stores"
    return base / hashlib.sha256(address.rstrip("/").encode()).hexdigest()[:16]


class ObjectStore(Store):
    """`Store`, for any number of machines that share nothing but an address."""

    notes_every = 5.0  # each is a request that is paid for
    _chosen_by = f"{MIRROR} (this machine's copy of the store)"

    def __init__(self, address: str, mirror: Path | None = None) -> None:
        super().__init__(mirror or mirror_of(address))
        self.objects = Objects(address)
        self.place = self.objects.address
        self.files = self.objects
        self.claims = Claims(self.objects, poll_every=2.0)
        self._mirror = FolderFiles(self.root)
        self.claims_here = Claims(self._mirror)
        self._lines: list[str] = []
        self._timings = ""
        self._is_same = False
        self._damaged: dict[str, str | None] = {}  # versions of objects, by embedding

    def __str__(self) -> str:
        return self.place

    def prepare(self) -> None:
        """Prove that both can be written to; `UserError` otherwise."""
        self.objects.require_usable()
        super().prepare()
        self.require_same()

    def require_same(self) -> None:
        """Raises `UserError` where this machine's copy is not of the store that is there now.

        A bucket may have been emptied, or another service may have the address: what the copy has
        and the store lacks would count as stored, and nobody else would ever see it.
        """
        if self._is_same:
            return
        here = self._mirror.read(IDENTITY)
        there = self.objects.read(IDENTITY)
        if there is None and here is None:
            fresh = uuid.uuid4().hex.encode()
            there = fresh if self.objects.create(IDENTITY, fresh) else self.objects.read(IDENTITY)
        if here is None and there is not None:
            self._mirror.write(IDENTITY, there)
        elif here != there:
            raise UserError(
                f"The copy of {self} in {self.root} is of another store (its bucket was emptied, "
                f"or another service has its address); remove that folder, or name another "
                f"with {MIRROR}."
            )
        self._is_same = True

    # --- cells -----------------------------------------------------------------

    def cell(self, key: str, *, with_predictions: bool = True) -> CellResult | None:
        """A finished cell, fetched if it is not here."""
        found = super().cell(key, with_predictions=with_predictions)
        if found is None and self._fetched([key]):
            found = super().cell(key, with_predictions=with_predictions)
        return found

    def has_cell(self, key: str) -> bool:
        """Whether it is at hand, whole; a damaged copy is fetched again."""
        if super().has_cell(key):
            return True
        return self._is_here(key) and bool(self._fetched([key])) and super().has_cell(key)

    def fetch_cells(self, keys: Iterable[str]) -> None:
        """Fetch those that are finished and not here, many side by side."""
        missing = [key for key in keys if not self._is_here(key)]
        if len(missing) > FEW:
            there = {Path(name).stem for name in self.objects.listing("cells")}
            missing = [key for key in missing if key in there]
        for start in range(0, len(missing), CHUNK):
            self._fetched(missing[start : start + CHUNK])

    def cells_mark_there(self, keys: Iterable[str]) -> str | None:
        """A hash of versions of cells' objects; None where one is missing, or cells are few."""
        wanted = sorted(set(keys))
        if len(wanted) <= FEW:
            return None
        listed = self.objects.listing("cells")
        digest = hashlib.sha256()
        for key in wanted:
            for suffix in (".json", ".parquet"):
                found = listed.get(f"{key[:2]}/{key}{suffix}")
                if found is None:
                    return None
                digest.update(f"{key} {found.version}\n".encode())
        return digest.hexdigest()

    def _is_here(self, key: str) -> bool:
        path = self._cell_path(key)
        return path.exists() and path.with_suffix(".parquet").exists()

    def _fetched(self, keys: Collection[str]) -> list[str]:
        """Those of the cells that were there and are here now."""
        texts = self.objects.read_many(self._name(self._cell_path(key)) for key in keys)
        paths = {self.root / name: text for name, text in texts.items()}
        tables = self.objects.read_many(self._name(path.with_suffix(".parquet")) for path in paths)
        fetched = []
        for path, text in paths.items():
            table = path.with_suffix(".parquet")
            raw = tables.get(self._name(table))
            if raw is None or _recorded(text) != hashlib.sha256(raw).hexdigest():
                continue  # damaged: it is computed again
            self._mirror.write(self._name(table), raw)
            self._mirror.write(self._name(path), text)
            fetched.append(path.stem)
        return fetched

    # --- embeddings ------------------------------------------------------------

    def embedding(self, key: str) -> Embedding | None:
        """A stored embedding, fetched if it is not here or damaged here."""
        found = super().embedding(key)
        path = self._embedding_path(key)
        note = path.with_suffix(".json")
        if found is not None or (text := self.objects.read(self._name(note))) is None:
            return found
        # Others may wait while a damaged one is made anew: it need not be fetched each time.
        version = self.objects.version(self._name(path))
        if key in self._damaged and self._damaged[key] == version:
            return None
        # Other workers of this machine may want it too; one fetches it.
        with self.claims_here.first(f"fetch-{key}", lambda: Store.embedding(self, key)) as there:
            if there is None and self.objects.get(self._name(path), path):
                self._mirror.write(self._name(note), text)
        found = super().embedding(key)
        if found is None:
            self._damaged[key] = version
        return found

    def has_embedding(self, key: str) -> bool:
        """Whether one was stored; it is read, and checked, by `embedding`."""
        name = self._name(self._embedding_path(key).with_suffix(".json"))
        return super().has_embedding(key) or self.objects.has(name)

    def embeddings_of(self, keys: Iterable[str]) -> set[str]:
        """Those that were stored: many are listed, not asked for one by one."""
        wanted = set(keys)
        here = {key for key in wanted if super(ObjectStore, self).has_embedding(key)}
        missing = wanted - here
        if len(missing) <= FEW:
            return here | super().embeddings_of(missing)
        listed = map(Path, self.objects.listing("embeddings"))
        return here | missing.intersection(path.stem for path in listed if path.suffix == ".json")

    def _commit(self, path: Path, data: Any, beside: Path) -> None:
        """Upload the file, then what commits it; only then does it count here."""
        self.objects.put(self._name(beside), beside)
        self.objects.write(self._name(path), as_json(data))
        super()._commit(path, data, beside)

    # --- the rest --------------------------------------------------------------

    def study_path(self, key: str) -> Path:
        """Optuna's journal of one tuned cell; trials that another machine finished are in it."""
        path = super().study_path(key)
        there = self.objects.size(self._name(path))
        if there is not None and (not path.exists() or path.stat().st_size < there):
            self.objects.get(self._name(path), path)
        return path

    def keep_study(self, key: str) -> None:
        """Upload the journal, so that another machine can go on from here."""
        self.keep_file(self._name(super().study_path(key)))

    def fetch_folder(self, folder: str, only: Collection[str] = ("*",)) -> None:
        """Fetch files that are not here or were rewritten since they were fetched or uploaded."""
        self.require_same()
        known = self._known(folder)
        fetched = False
        for name, listed in sorted(self.objects.listing(folder).items()):
            path, whole = self.root / folder / name, f"{folder}/{name}"
            if not any(fnmatch(name, pattern) for pattern in only):
                continue
            is_here = path.exists() and known.get(whole, ("", ""))[0] == listed.version
            if not is_here and not self.objects.get(whole, path):
                continue
            # By the service's clock, for what was made here as well: machines' own may differ, and
            # the latest run must be the latest.
            os.utime(path, (listed.written, listed.written))
            if not is_here:
                known[whole] = (listed.version, file_sha256(path))
                fetched = True
        if fetched:
            self._remember(folder, known)

    def keep_folder(self, folder: str) -> None:
        """Upload files that are not there as they are here; ``run.json``, which commits, last."""
        here, known = self.root / folder, self._known(folder)
        there = self.objects.listing(folder)
        files = [p for p in here.rglob("*") if p.is_file() and _is_finished(p)]
        uploaded = {}
        for path in sorted(files, key=lambda p: (p.name == "run.json", str(p))):
            name, digest = path.relative_to(here).as_posix(), file_sha256(path)
            listed = there.get(name)
            if listed is None or known.get(f"{folder}/{name}") != (listed.version, digest):
                self.objects.put(f"{folder}/{name}", path)
                uploaded[name] = digest
        if uploaded:
            there = self.objects.listing(folder)
            for name, digest in uploaded.items():
                if name in there:
                    known[f"{folder}/{name}"] = (there[name].version, digest)
            self._remember(folder, known)

    def _known(self, folder: str) -> dict[str, tuple[str, str]]:
        """Of files here: the version of the object that each is, and the hash of its content."""
        found = self.cached("versions", folder.partition("/")[0]) or {}
        return {name: (version, digest) for name, (version, digest) in found.items()}

    def _remember(self, folder: str, known: Mapping[str, tuple[str, str]]) -> None:
        self.cache("versions", folder.partition("/")[0], dict(known))

    def keep_file(self, name: str) -> None:
        """Upload one file, if there is one."""
        if (self.root / name).exists():
            self.objects.put(name, self.root / name)

    def keep_once(self, name: str) -> None:
        """Upload a file unless it is there as it is here: its time there says since when it is."""
        path, (folder, _, file) = self.root / name, name.rpartition("/")
        digest, known = file_sha256(path), self._known(folder)
        listed = self.objects.listing(folder).get(file)
        if listed is None or known.get(name) != (listed.version, digest):
            self.keep_file(name)
            listed = self.objects.listing(folder)[file]
        self._remember(folder, {**known, name: (listed.version, digest)})
        os.utime(path, (listed.written, listed.written))

    def cached(self, kind: str, key: str) -> Any | None:
        """Something small; what others should know is asked for there."""
        if kind not in SHARED_NOTES:
            return super().cached(kind, key)
        text = self.objects.read(f"cache/{kind}/{key}.json")
        return None if text is None else json.loads(text)

    def cache(self, kind: str, key: str, data: Any) -> None:
        """Remember something small."""
        if kind in SHARED_NOTES:
            self.objects.write(f"cache/{kind}/{key}.json", as_json(data))
        else:
            super().cache(kind, key, data)

    def note_timing(self, entry: Mapping[str, Any]) -> None:
        """A line in an object of this process: objects cannot be appended to."""
        if len(self._lines) % LINES == 0:
            self._timings, self._lines = f"timings/{uuid.uuid4().hex}.jsonl", []
        self._lines.append(json.dumps(entry, sort_keys=True) + "\n")
        with contextlib.suppress(OSError):  # they only help to plan
            self.objects.write(self._timings, "".join(self._lines).encode())

    def timings(self) -> str:
        """Lines of all machines."""
        self.fetch_folder("timings")
        files = sorted((self.root / "timings").glob("*.jsonl"))
        return "".join(path.read_text(encoding="utf-8") for path in files)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _recorded(text: bytes) -> str | None:
    """The hash of its predictions that a cell's JSON tells."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return str(found.get("predictions_sha256")) if isinstance(found, dict) else None


def _is_finished(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix != ".guard"
