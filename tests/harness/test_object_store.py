"""A store without a shared folder: two machines see the same through objects alone."""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from harness import object_store
from harness.executors.board import Board, WorkerNote
from harness.memory import halve, halved
from harness.object_store import ObjectStore
from harness.objects import Objects, ObjectsAwayError
from harness.store_place import open_store
from models.errors import UserError
from tests.harness.test_store import KEY, a_result

EMBEDDING = "cd" * 32


@pytest.fixture
def address() -> Iterator[str]:
    name = uuid.uuid4().hex
    yield f"memory://{name}"
    fsspec.filesystem("memory").rm(f"/{name}", recursive=True)


@pytest.fixture
def machines(address: str, tmp_path: Path) -> tuple[ObjectStore, ObjectStore]:
    """Two of them; each has a mirror of its own."""
    fsspec.filesystem("memory").pipe(f"{address}/there", b"")
    return ObjectStore(address, tmp_path / "one"), ObjectStore(address, tmp_path / "two")


def an_embedding(store: ObjectStore, value: float = 1.0) -> None:
    with store.embedding_writer(EMBEDDING, 4, 3, ("mean",)) as draft:
        draft.arrays["mean"][:] = value


def overwrite(store: ObjectStore, suffix: str, content: bytes) -> None:
    """What a failing disk or a careless hand does to an object."""
    (name,) = (n for n in store.objects.listing("embeddings") if n.endswith(suffix))
    store.objects.write(f"embeddings/{name}", content)


def test_what_one_machine_stores_another_finds(machines: tuple[ObjectStore, ObjectStore]) -> None:
    one, two = machines
    one.put_cell(a_result())
    an_embedding(one)
    found, embedding = two.cell(KEY), two.embedding(EMBEDDING)
    assert found is not None
    assert found.predictions.equals(a_result().predictions)
    assert two.has_embedding(EMBEDDING)
    assert embedding is not None
    assert np.array_equal(embedding.poolings["mean"], np.ones((4, 3), np.float32))
    assert two.cell("ef" * 32) is None
    assert two.embedding("ef" * 32) is None


@pytest.mark.parametrize("few", [object_store.FEW, 0], ids=["one by one", "by a listing"])
def test_which_of_many_embeddings_are_there(
    machines: tuple[ObjectStore, ObjectStore], monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(object_store, "FEW", few)
    one, two = machines
    an_embedding(one)
    many = [f"{i:064x}" for i in range(20)]
    asked: list[str] = []
    has = two.objects.has
    monkeypatch.setattr(two.objects, "has", lambda name: asked.append(name) or has(name))
    assert two.embeddings_of([EMBEDDING, *many]) == {EMBEDDING}
    assert len(asked) == (21 if few else 0)
    assert one.embeddings_of([EMBEDDING]) == {EMBEDDING}
    assert one.embeddings_of([]) == set()


@pytest.mark.parametrize("few", [object_store.FEW, 0], ids=["one by one", "by a listing"])
def test_finished_cells_are_at_hand_once_they_were_fetched(
    machines: tuple[ObjectStore, ObjectStore], monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(object_store, "FEW", few)
    one, two = machines
    one.put_cell(a_result())
    two.fetch_cells([KEY, "ef" * 32])
    assert two.has_cell(KEY)
    assert not two.has_cell("ef" * 32)
    (table,) = two.root.rglob("*.parquet")
    table.write_bytes(b"damaged")
    assert two.has_cell(KEY)
    table.unlink()
    two.fetch_cells([KEY])
    assert two.has_cell(KEY)


def test_nothing_counts_that_could_not_be_uploaded(
    machines: tuple[ObjectStore, ObjectStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its machine would never compute it again, and no other would ever have it."""
    one, _ = machines

    def away(*_: object) -> None:
        raise ObjectsAwayError(errno.EIO, "away")

    monkeypatch.setattr(one.objects, "put", away)
    with pytest.raises(OSError, match="away"):
        one.put_cell(a_result())
    with pytest.raises(OSError, match="away"):
        an_embedding(one)
    assert one.cell(KEY) is None
    assert one.embedding(EMBEDDING) is None


def test_a_damaged_copy_is_fetched_again_and_a_damaged_object_made_again(
    machines: tuple[ObjectStore, ObjectStore],
) -> None:
    one, two = machines
    an_embedding(one)
    whole = one.objects.read(f"embeddings/{EMBEDDING[:2]}/{EMBEDDING}.safetensors")
    assert whole is not None
    (copy,) = one.root.rglob("*.safetensors")
    copy.write_bytes(whole[:-1] + b"\x01")
    assert one.embedding(EMBEDDING) is not None
    overwrite(one, ".safetensors", whole[:-1] + b"\x01")
    assert two.embedding(EMBEDDING) is None
    an_embedding(two)
    copy.unlink()
    assert one.embedding(EMBEDDING) is not None


def test_a_machine_goes_on_with_the_trials_of_another(
    machines: tuple[ObjectStore, ObjectStore],
) -> None:
    one, two = machines
    one.study_path(KEY).write_text("first\n")
    one.keep_study(KEY)
    assert two.study_path(KEY).read_text() == "first\n"
    two.study_path(KEY).write_text("first\nsecond\n")
    assert two.study_path(KEY).read_text() == "first\nsecond\n"  # not uploaded yet, not lost
    two.keep_study(KEY)
    assert one.study_path(KEY).read_text() == "first\nsecond\n"


def test_a_run_that_was_written_anew_is_fetched_anew(
    machines: tuple[ObjectStore, ObjectStore],
) -> None:
    one, two = machines
    folder = one.root / "runs" / "key"
    (folder / "results").mkdir(parents=True)
    (folder / "results" / "run.json").write_text("1")
    (folder / ".unfinished.tmp").write_text("x")
    one.keep_folder("runs/key")
    two.fetch_folder("runs", ("*/results/run.json",))
    copy = two.root / "runs" / "key" / "results" / "run.json"
    assert copy.read_text() == "1"
    (folder / "results" / "run.json").write_text("2")
    one.keep_folder("runs/key")
    two.fetch_folder("runs/key")
    assert copy.read_text() == "2"
    assert sorted(one.objects.listing("runs")) == ["key/results/run.json"]


def test_halved_batches_notes_timings_and_requests_reach_the_others(
    machines: tuple[ObjectStore, ObjectStore],
) -> None:
    one, two = machines
    halve(one, KEY)
    halve(two, KEY)
    assert halved(one, KEY) == 2
    note = WorkerNote("w", "host", 1, item="i", cell="c")
    Board(one, KEY).write_worker(note)
    assert Board(two, KEY).workers() == [note]
    Board(two, KEY).stop()
    assert Board(one, KEY).is_stopped()
    Board(one, KEY).log_file("c").write_text("said\n")
    Board(one, KEY).keep_log("c")
    assert one.objects.read(f"work/{KEY[:16]}/logs/c.log") == b"said\n"
    one.note_timing({"cell": "a"})
    assert '"a"' in two.timings()
    one.note_timing({"cell": "b"})
    two.note_timing({"cell": "c"})
    assert [line[10:11] for line in sorted(two.timings().splitlines())] == ["a", "b", "c"]


def test_a_claim_is_everyones_and_who_gave_it_back_leaves_nothing(
    machines: tuple[ObjectStore, ObjectStore],
) -> None:
    one, two = machines
    assert one.claims.take("cell")
    assert not two.claims.take("cell")
    one.claims.release("cell")
    assert one.objects.names("claims") == []
    assert two.claims.take("cell")
    two.claims.release("cell")


class _Moody(MemoryFileSystem):  # type: ignore[misc]
    """Answers only every third time."""

    protocol = "moody"
    asked = 0

    def cat_file(self, path: str, *arguments: Any, **more: Any) -> bytes:
        _Moody.asked += 1
        if _Moody.asked % 3:
            raise TimeoutError("the service is busy")
        return bytes(super().cat_file(path, *arguments, **more))


class _Careless(MemoryFileSystem):  # type: ignore[misc]
    """Has no conditional writes, as some stores that say they speak S3."""

    protocol = "careless"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        super().pipe_file(path, value)


def test_a_service_that_falters_is_asked_again_for_a_while(tmp_path: Path) -> None:
    fsspec.register_implementation("moody", _Moody, clobber=True)
    _Moody.asked = 0
    patient = Objects("moody://place", pauses=(0.0, 0.0))
    patient.write("name", b"content")
    assert patient.read("name") == b"content"
    assert patient.read("none") is None
    with pytest.raises(ObjectsAwayError, match="busy"):
        Objects("moody://place", pauses=(0.0,)).read("name")


def test_a_copy_of_what_is_no_more_is_not_believed(address: str, tmp_path: Path) -> None:
    """Its bucket was emptied: what only the copy has would count as stored for ever."""
    before = ObjectStore(address, tmp_path)
    before.prepare()
    before.put_cell(a_result())
    ObjectStore(address, tmp_path).prepare()
    fsspec.filesystem("memory").rm(address.replace("memory://", "/"), recursive=True)
    fsspec.filesystem("memory").pipe(f"{address}/there", b"")
    for again in (
        ObjectStore(address, tmp_path).prepare,
        ObjectStore(address, tmp_path).require_same,
    ):
        with pytest.raises(UserError, match="is of another store"):
            again()


def test_the_latest_run_is_the_one_that_was_written_last(
    machines: tuple[ObjectStore, ObjectStore],
) -> None:
    one, _ = machines
    for key in ("ffff", "0000"):
        (one.root / "runs" / key).mkdir(parents=True)
        (one.root / "runs" / key / "manifest.json").write_text(key)
        one.keep_folder(f"runs/{key}")
    for store in machines:
        store.fetch_folder("runs", ("*/manifest.json",))
        found = (store.root / "runs").glob("*/manifest.json")
        assert max(found, key=lambda p: p.stat().st_mtime).read_text() == "0000"


def test_the_latest_run_is_the_latest_by_one_clock(
    machines: tuple[ObjectStore, ObjectStore],
) -> None:
    """A machine whose clock is an hour fast began a run, then another machine did; then again."""
    one, two = machines

    def begin(store: ObjectStore, key: str, fast: float = 0.0) -> None:
        name = f"runs/{key}/manifest.json"
        store.fetch_folder(f"runs/{key}")
        if not (store.root / name).exists():
            (store.root / name).parent.mkdir(parents=True)
            (store.root / name).write_text(key)
            then = time.time() + fast
            os.utime(store.root / name, (then, then))
        store.keep_once(name)
        store.keep_folder(f"runs/{key}")
        time.sleep(0.02)  # so that the service's clock has moved

    begin(one, "first", fast=3600)
    begin(two, "second")
    begin(one, "first")  # from the store, which makes it no younger
    for store in machines:
        store.fetch_folder("runs", ("*/manifest.json",))
        found = (store.root / "runs").glob("*/manifest.json")
        assert max(found, key=lambda p: p.stat().st_mtime_ns).read_text() == "second"


def test_an_older_view_that_is_written_again_is_uploaded_again(
    machines: tuple[ObjectStore, ObjectStore],
) -> None:
    one, two = machines
    for store, text in ((one, "old"), (two, "new"), (one, "old")):
        store.fetch_folder("runs")
        path = store.root / "runs" / "key" / "report.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        store.keep_folder("runs/key")
    assert one.objects.read("runs/key/report.md") == b"old"


def test_a_damaged_embedding_is_not_fetched_again_and_again(
    machines: tuple[ObjectStore, ObjectStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machines
    an_embedding(one)
    overwrite(one, ".safetensors", b"damaged")
    fetched: list[str] = []
    get = two.objects.get
    monkeypatch.setattr(two.objects, "get", lambda n, p: fetched.append(n) or get(n, p))
    assert [two.embedding(EMBEDDING) for _ in range(3)] == [None] * 3
    assert len(fetched) == 1
    an_embedding(one)
    assert two.embedding(EMBEDDING) is not None


def test_names_that_would_lie_elsewhere_are_not_fetched(
    machines: tuple[ObjectStore, ObjectStore],
) -> None:
    one, _ = machines
    one.objects.write("runs/../../outside", b"x")
    assert one.objects.listing("runs") == {}


@pytest.mark.parametrize(
    "place",
    ["", "s3:/bucket", "s3:bucket/x", "s3://", "file:relative", "file://host/x", "s3:///x"],
)
def test_what_is_neither_a_folder_nor_an_address_is_refused(place: str) -> None:
    with pytest.raises(UserError, match="neither a folder nor"):
        open_store(place)


def test_a_password_in_an_address_is_refused_unseen() -> None:
    with pytest.raises(UserError, match="password") as refused:
        open_store("sftp://me:secret@host/results")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("careless://place", "lets two writers make one object"),
        ("nothing://place", "not known; give a folder, or an object store's address"),
        ("gs://bucket/place", r'pip install "tokenrank\[gcs\]"'),
    ],
)
def test_a_store_that_cannot_be_used_is_said_at_the_start(
    place: str, sentence: str, tmp_path: Path
) -> None:
    fsspec.register_implementation("careless", _Careless, clobber=True)
    with pytest.raises(UserError, match=sentence):
        ObjectStore(place, tmp_path).prepare()


def test_a_folder_is_a_folder_however_it_is_written(tmp_path: Path) -> None:
    assert open_store(f"file://{tmp_path}").root == tmp_path
    assert open_store(str(tmp_path)).place == str(tmp_path)
    assert not isinstance(open_store(tmp_path), ObjectStore)
