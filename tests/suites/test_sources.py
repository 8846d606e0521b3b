"""Every data set is fetched from a mirror that speaks as its publisher does, into its place."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import tifffile

from harness.commands.data import get_command, list_command
from models.errors import UserError
from suites.datasets.catalogue import resolve
from suites.datasets.download import get
from suites.datasets.entries import ENTRIES
from suites.datasets.listings import list_files
from suites.datasets.places import InBucket, InCommit, OnHub, OnZenodo, Part, Source
from suites.datasets.sources import SOURCES

DOCS = Path(__file__).parents[2] / "docs"
INSIDE = {
    "eurosat/ds": ("images/remote_sensing/otherDatasets/sentinel_2/tif/Forest/Forest_1.tif",),
    "PASTIS-R": ("metadata.geojson", "DATA_S2/S2_10000.npy", "ANNOTATIONS/TARGET_10000.npy"),
    "MADOS": ("Scene_0/10/Scene_0_L2R_rhorc_492_1.tif", "splits/train_X.txt"),
    "cropharvest/features": ("arrays/0_togo.h5", "normalizing_dict.h5"),
    "cropharvest/test_features": ("togo-eval.h5",),
}
SAMPLES = ("id_1.hdf5", "default_partition.json")  # of GEO-Bench
HAND = "data/flood_events/HandLabeled"
FLOODS = (
    *(f"{HAND}/{part}/Ghana_1_{part}.tif" for part in ("S1Hand", "S2Hand", "LabelHand")),
    "splits/flood_handlabeled/flood_train_data.csv",
)
SITES = {"205232": "train", "205275": "test", "7": "train"}


class Mirror(ThreadingHTTPServer):
    """Answers ``/m/host/path`` from ``files``, and counts what it was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []

    def offer(self, url: str, content: bytes) -> None:
        self.files["/m/" + unquote(url.split("://", 1)[1]).replace("?download=1", "")] = content


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Mirror

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, with_body: bool) -> None:
        name = unquote(self.path).replace("?download=1", "")
        self.server.asked.append(f"{self.command} {name}")
        body = self.server.files.get(name)
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if with_body:
            self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    server = Mirror()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def asked_there(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENRANK_MIRROR", f"http://127.0.0.1:{mirror.server_port}/m/")


def content_of(name: str) -> bytes:
    """Some bytes that differ from file to file."""
    return hashlib.sha256(name.encode()).digest() * 20


def packed(name: str, files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, content in files.items():
                archive.writestr(path, content)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for path, content in files.items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def original(url: str) -> str:
    """The publisher's address, without the mirror's."""
    return "https://" + urlsplit(url)._replace(scheme="", netloc="").geturl().removeprefix("/m/")


def publish(mirror: Mirror, part: Part) -> dict[str, bytes]:
    """Offer what a part says is there; returns the files that are to lie below its target."""
    where = part.where
    if isinstance(where, InBucket):
        return publish_bucket(mirror, where, {name: content_of(name) for name in FLOODS})
    if isinstance(where, InCommit):
        return publish_commit(mirror, where)
    name = where.path.rsplit("/", 1)[-1]
    if part.unpacked is not None:
        file = Path(part.target).name
        files = {"": content_of(file)}
        body = packed(name, {f"made/for/you/{file}": content_of(file)})
    elif name.endswith((".zip", ".tar.gz")):
        inside = INSIDE.get(part.target, SAMPLES)
        files = {path: content_of(path) for path in inside}
        body = packed(name, {f"{Path(part.target).name}/{path}": c for path, c in files.items()})
    else:
        files = {"": content_of(name)}
        body = files[""]
    mirror.offer(original(where.url), body)
    if isinstance(where, OnZenodo):
        route = "/m/" + original(where.record_url).removeprefix("https://")
        known = json.loads(mirror.files.get(route, b'{"files": []}'))
        checksum = f"md5:{hashlib.md5(body).hexdigest()}"
        known["files"].append({"key": where.path, "size": len(body), "checksum": checksum})
        mirror.files[route] = json.dumps(known).encode()
    return files


def publish_bucket(mirror: Mirror, where: InBucket, files: dict[str, bytes]) -> dict[str, bytes]:
    """Two files a page at most, as the service cuts longer listings."""
    api = f"/m/storage.googleapis.com/storage/v1/b/{where.bucket}/o"
    for prefix in where.prefixes:
        items = [{"name": prefix, "size": "0", "md5Hash": "1B2M2Y8AsgTpgAmY7PhCfg=="}]
        for name, content in files.items():
            if (where.base + name).startswith(prefix):
                md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
                item = {"name": where.base + name, "size": str(len(content)), "md5Hash": md5}
                items.append(item)
                mirror.offer(
                    f"https://storage.googleapis.com/{where.bucket}/{item['name']}", content
                )
        pages = [items[i : i + 2] for i in range(0, len(items), 2)]
        for number, page in enumerate(pages):
            more = {"nextPageToken": f"n{number + 1}"} if number + 1 < len(pages) else {}
            route = f"{api}?prefix={prefix}" + (f"&pageToken=n{number}" if number else "")
            mirror.files[route] = json.dumps({"items": page, **more}).encode()
    return files


def publish_commit(mirror: Mirror, where: InCommit) -> dict[str, bytes]:
    """Sites as the repository keeps them: bands last, folders that say dates and parts."""
    files, tree = {}, [{"path": "README.md", "type": "blob", "size": 1, "sha": "0" * 40}]
    for seed, (site, split) in enumerate(SITES.items()):
        image = np.random.default_rng(seed).integers(0, 5000, (40, 33, 12)).astype(np.uint16)
        paths = {
            f"data/{year}-09-01 - {year}-09-30/sentinel_2/geojson_{site}.tif": f"{year}/{site}.tif"
            for year in (2019, 2020)
        }
        paths[f"data/masks/{split}/mask_{site}.tif"] = f"mask/{site}.tif"
        for path, name in paths.items():
            written = io.BytesIO()
            pixels = image[..., 0] % 2 if name.startswith("mask") else image
            tifffile.imwrite(written, pixels.astype(np.uint8) if name[0] == "m" else pixels)
            files[name] = written.getvalue()
            blob = b"blob %d\0" % len(files[name]) + files[name]
            sha = hashlib.sha1(blob).hexdigest()
            tree.append({"path": path, "type": "blob", "size": len(files[name]), "sha": sha})
            raw = f"https://raw.githubusercontent.com/{where.repository}/{where.commit}/{path}"
            mirror.offer(raw, files[name])
    mirror.offer(
        f"https://api.github.com/repos/{where.repository}/git/trees/{where.commit}?recursive=1",
        json.dumps({"tree": tree, "truncated": False}).encode(),
    )
    return files


def unpinned(source: Source) -> Source:
    """Without the checksums and sizes of the true files, which a miniature cannot have."""

    def free(part: Part) -> Part:
        file = content_of(Path(part.target).name)
        unpacked = len(file) if part.unpacked is not None else None
        return replace(part, checksum="", size=None, unpacked=unpacked)

    return replace(source, parts=tuple(free(part) for part in source.parts))


@pytest.fixture
def miniatures(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, bytes]]:
    """All sets offered; of each, what is to lie where below the data directory."""
    expected: dict[str, dict[str, bytes]] = {}
    for name, source in list(SOURCES.items()):
        monkeypatch.setitem(SOURCES, name, unpinned(source))
        expected[name] = {
            str(Path(part.target) / path): content
            for part in SOURCES[name].parts
            for path, content in publish(mirror, part).items()
        }
    return expected


@pytest.mark.parametrize("name", SOURCES)
def test_every_set_lands_where_its_loader_looks(
    name: str, miniatures: dict[str, dict[str, bytes]], mirror: Mirror, tmp_path: Path
) -> None:
    done = get(name, tmp_path, pause=0)
    for path, content in miniatures[name].items():
        assert (tmp_path / path).read_bytes() == content, path
    entry = ENTRIES.get(name)
    if entry is not None:
        assert entry.find is not None
        assert entry.find(tmp_path) is not None
    hidden = [p.name for p in tmp_path.rglob(".*") if not p.name.endswith((".sha256", ".lock"))]
    assert hidden == []
    tells = (OnZenodo, InBucket, InCommit)  # hosts that publish checksums; the hub: test_download
    parts = SOURCES[name].parts
    assert [d.verified for d in done] == [isinstance(p.where, tells) for p in parts]

    asked = len(mirror.asked)
    assert all(part.was_there for part in get(name, tmp_path))
    assert len(mirror.asked) == asked


def test_every_set_that_says_how_to_get_it_can_be_got() -> None:
    """An unready set's error says `tokenrank data get NAME`."""
    assert {name for name, entry in ENTRIES.items() if entry.find is not None} <= set(SOURCES)
    page = (DOCS / "data.md").read_text(encoding="utf-8")
    for name, source in SOURCES.items():
        assert f"`{name}`" in page
        assert source.licence.split(" (")[0] in page, name


def test_sites_of_the_repository_are_read_as_they_come(
    miniatures: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    """Bands come last there, and the parts are folders."""
    get("bark-beetle", tmp_path)
    data = resolve("bark-beetle", tmp_path, {"dates": "both"})
    assert json.loads((tmp_path / "bark_beetle/splits.json").read_text()) == SITES
    rows = data.splits(0)
    assert {data.ids[row].split("/")[0] for row in rows["test"]} == {"205275"}
    row = data.ids.index("7/0-0")
    found = data.read([row]).images["sentinel2_l2a"][0]
    for step, year in enumerate((2019, 2020)):
        image = tifffile.imread(io.BytesIO(miniatures["bark-beetle"][f"bark_beetle/{year}/7.tif"]))
        np.testing.assert_array_equal(found[:40, :33, step], image)


def test_a_listing_broken_off_goes_on_and_is_placed_whole(
    miniatures: dict[str, dict[str, bytes]], mirror: Mirror, tmp_path: Path
) -> None:
    (route,) = (r for r in mirror.files if r.endswith("Ghana_1_S2Hand.tif"))
    true = mirror.files[route]
    mirror.files[route] = true[:-1] + b"?"
    with pytest.raises(UserError, match=r"Ghana_1_S2Hand.tif .* wrong checksum \(MD5"):
        get("sen1floods11", tmp_path)
    assert not (tmp_path / "sen1floods11/v1.1").exists()

    mirror.files[route] = true
    waiting = tmp_path / "sen1floods11/.v1.1.fetching"
    there = {p.name for p in waiting.rglob("*.*") if not p.name.endswith(".part")}
    assert there
    mirror.asked.clear()
    get("sen1floods11", tmp_path)
    again = {a.rsplit("/", 1)[1] for a in mirror.asked if "/storage/v1/" not in a}
    assert again == {Path(name).name for name in FLOODS} - there
    assert (tmp_path / "sen1floods11/v1.1" / FLOODS[1]).read_bytes() == true


def test_a_listing_that_leads_outside_or_is_none_is_refused(mirror: Mirror) -> None:
    bucket = InBucket("b", "v1/", ("v1/",))
    publish_bucket(mirror, bucket, {"../../up.txt": b"1"})
    with pytest.raises(UserError, match=r"up\.txt.*leads outside"):
        list_files(bucket, 0)
    publish_bucket(mirror, bucket, {})
    with pytest.raises(UserError, match="lists none of the files"):
        list_files(bucket, 0)
    mirror.files["/m/storage.googleapis.com/storage/v1/b/b/o?prefix=v1/"] = b'{"items": [{}]}'
    with pytest.raises(UserError, match=r"not understood \(KeyError: 'name'\)"):
        list_files(bucket, 0)
    mirror.files["/m/storage.googleapis.com/storage/v1/b/b/o?prefix=v1/"] = b"<html>Log in"
    with pytest.raises(UserError, match="did not answer in JSON"):
        list_files(bucket, 0)


def test_a_published_checksum_decides_and_none_is_said(
    miniatures: dict[str, dict[str, bytes]],
    mirror: Mirror,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (record,) = (r for r in mirror.files if "api/records/10664073" in r)
    said = json.loads(mirror.files[record])
    archive = "/m/zenodo.org/records/10664073/files/MADOS.zip"
    mirror.files[record] = json.dumps(
        {"files": [{**said["files"][0], "checksum": "md5:" + "0" * 32}]}
    ).encode()
    with pytest.raises(UserError, match=r"MADOS.zip .* wrong checksum \(MD5 [0-9a-f]{32}, exp"):
        get("mados", tmp_path)
    mirror.files[record] = b'{"files": []}'
    with pytest.raises(UserError, match=r"lists no file MADOS\.zip"):
        get("mados", tmp_path)
    del mirror.files[record]
    (done,) = get("mados", tmp_path)
    assert not done.verified
    assert done.sha256 == hashlib.sha256(mirror.files[archive]).hexdigest()
    # What stands in the table outranks what a server says of itself.
    source = SOURCES["pastis-r"]
    pinned = replace(source.parts[0], checksum="md5:4887513d6c2d2b07fa935d325bd53e09")
    monkeypatch.setitem(SOURCES, "pastis-r", replace(source, parts=(pinned,)))
    with pytest.raises(UserError, match="expected 4887513d6c2d2b07fa935d325bd53e09"):
        get("pastis-r", tmp_path)
    assert not (tmp_path / "PASTIS-R").exists()


def test_a_login_page_is_not_taken_for_the_file(
    miniatures: dict[str, dict[str, bytes]], mirror: Mirror, tmp_path: Path
) -> None:
    route = next(r for r in mirror.files if r.endswith("/classmapping.csv"))
    mirror.files[route] = b"\n<!DOCTYPE html><title>Sign in</title>"
    with pytest.raises(UserError, match=r"web page .* in the place of classmapping\.csv"):
        get("breizhcrops", tmp_path)
    assert not (tmp_path / "breizhcrops/classmapping.csv").exists()


def test_series_of_another_size_than_published_are_refused(
    miniatures: dict[str, dict[str, bytes]], mirror: Mirror, tmp_path: Path
) -> None:
    route = next(r for r in mirror.files if r.endswith("2017/L1C/frh03.h5.tar.gz"))
    mirror.files[route] = packed("x.tar.gz", {"frh03.h5": b"short"})
    with pytest.raises(UserError, match=r"frh03\.h5 in frh03\.h5\.tar\.gz has 5 bytes"):
        get("breizhcrops", tmp_path)
    folder = tmp_path / "breizhcrops/2017/L1C"
    assert sorted(p.name for p in folder.glob("*.h5")) == ["frh01.h5", "frh02.h5"]


def test_the_hub_may_be_set_apart_from_the_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    file = OnHub("owner/name", "main", "a b.zip")
    assert file.url.endswith("/m/huggingface.co/datasets/owner/name/resolve/main/a%20b.zip")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example/")
    assert file.url == "https://hub.example/datasets/owner/name/resolve/main/a%20b.zip"
    monkeypatch.setenv("TOKENRANK_MIRROR", "mirror.example")
    with pytest.raises(UserError, match=r"TOKENRANK_MIRROR is .*mirror\.example.*must be"):
        _ = OnZenodo(1, "x.zip").url


def test_the_command_says_what_was_verified_and_whose_it_is(
    miniatures: dict[str, dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    get_command("cropharvest", tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("fetched and verified (SHA-256") == 3
    assert "Licence: CC BY-SA 4.0. Source: https://doi.org/10.5281/zenodo.10251170" in said
    get_command("breizhcrops", tmp_path)
    assert "nobody publishes a checksum" in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "300")
    list_command(tmp_path)
    assert 'not found: PASTIS-R/metadata.geojson ("data get pastis-r", 54 GB)' in (
        capsys.readouterr().out
    )


def test_two_calls_for_one_set_do_not_mix(
    miniatures: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    from filelock import FileLock  # noqa: PLC0415

    with (
        FileLock(tmp_path / ".mados.lock"),
        pytest.raises(UserError, match=r"fetched into .* by another process"),
    ):
        get("mados", tmp_path)


def test_checksums_in_the_table_are_those_of_the_real_files(real_data: Path) -> None:
    for part in SOURCES["fuel-moisture"].parts:
        path = real_data / part.target
        if not path.is_file():
            pytest.skip(f"{path} is not there")
        assert part.checksum == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        assert part.size == path.stat().st_size
