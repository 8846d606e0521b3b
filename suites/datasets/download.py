"""Fetching data sets from the Hugging Face hub: resumed, verified, placed in one step.

Plain HTTP by the standard library. `huggingface_hub` was weighed and not used: it keeps
a second copy of these multi-gigabyte archives in its own cache, and checks a finished
file by size, while here the archive's SHA-256 is checked before a single file of it is
unpacked. The hub's protocol is small: HEAD tells size and SHA-256 (``X-Linked-Size``,
``X-Linked-Etag``), GET redirects to the bytes and honours ``Range``. It must know
nothing of what the files contain.
"""

from __future__ import annotations

import os
import urllib.error
from dataclasses import dataclass
from pathlib import Path

from models.errors import UserError, did_you_mean
from models.fetching import download, head
from suites.datasets.digests import Progress, write_atomically
from suites.datasets.geobench_specs import SPECS
from suites.datasets.unpack import unpack

DEFAULT_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True)
class RemoteFile:
    """One file of a hub data set repository; ``sha256`` is its known checksum, if any.

    ``target`` is the folder under the data directory that an archive is unpacked into, or
    a plain file's own path.
    """

    repository: str
    revision: str
    path: str
    sha256: str | None
    target: str

    @property
    def is_archive(self) -> bool:
        """Whether it is unpacked after the download."""
        return self.path.endswith(".zip")

    def url(self, endpoint: str) -> str:
        """Its address at a hub endpoint."""
        return f"{endpoint}/datasets/{self.repository}/resolve/{self.revision}/{self.path}"


_EUROSAT = ("torchgeo/eurosat", "1ce6f1bfb56db63fd91b6ecc466ea67f2509774c")
SOURCES: dict[str, tuple[RemoteFile, ...]] = {
    "eurosat": (
        RemoteFile(
            *_EUROSAT,
            "eurosat-train.txt",
            "1c1d2e855f95deee605a3d992f914d113fddbecf422ec61648057d029a37d695",
            "eurosat/eurosat-train.txt",
        ),
        RemoteFile(
            *_EUROSAT,
            "eurosat-val.txt",
            "b385741f31daa9f1250cf1e1fe03adfab394e1172e0693df40141af004f60330",
            "eurosat/eurosat-val.txt",
        ),
        RemoteFile(
            *_EUROSAT,
            "eurosat-test.txt",
            "cf37948894c12bd953930ff54ee9b7abf0b31478abb8d25fd2c6c721db74c592",
            "eurosat/eurosat-test.txt",
        ),
        RemoteFile(
            *_EUROSAT,
            "EuroSATallBands.zip",
            "751f070f9bffa2eed48b24ca2dd0b02959280c08837e8c9a5532a67ba611df59",
            "eurosat/ds",
        ),
    ),
    **{
        spec.name: (
            RemoteFile(
                "recursix/geo-bench-1.0",
                "main",
                f"{spec.part}/{spec.folder}.zip",
                None,  # the hub's own checksum is used
                f"geobench_v1/{spec.part}/{spec.folder}",
            ),
        )
        for spec in SPECS.values()
    },
}


@dataclass(frozen=True)
class Fetched:
    """What `get` did for one file: where it stands, its checksum, whether it was there before."""

    target: Path
    sha256: str
    was_there: bool


def get(
    name: str,
    data_dir: Path,
    progress: Progress | None = None,
    *,
    endpoint: str | None = None,
    pause: float = 1.0,
) -> list[Fetched]:
    """Fetch a data set into a data directory; what is already there is left alone.

    Interrupted anywhere, the same call continues: finished bytes stay in a ``.part`` file
    and are never fetched again. ``progress(done, total)`` counts bytes of the current
    file. ``endpoint`` defaults to ``HF_ENDPOINT`` or the public hub; ``pause`` is the wait
    in seconds before the second attempt, doubled for each further one.

    Raises `UserError` for an unknown name, an unreachable hub, wrong bytes, an unsafe
    archive, a full disk or an unwritable folder; nothing half-made is left in place.
    """
    if name not in SOURCES:
        raise UserError(f'Data set "{name}" cannot be fetched: {did_you_mean(name, SOURCES)}.')
    base = (endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        return [_get_file(file, data_dir, base, progress, pause) for file in SOURCES[name]]
    except urllib.error.URLError as error:
        raise UserError(
            f"{base} cannot be reached ({error.reason}); check the network or HF_ENDPOINT, then "
            "run the same command again: it continues where it stopped."
        ) from None
    except OSError as error:
        raise UserError(
            f"{name} cannot be written to {data_dir}: {error.strerror or error}; make room or "
            "choose another data directory, then run the same command again: it continues."
        ) from None


def _get_file(
    file: RemoteFile, data_dir: Path, endpoint: str, progress: Progress | None, pause: float
) -> Fetched:
    target = data_dir / file.target
    stamp = target.parent / f".{target.name}.sha256"
    part = target.parent / f".{Path(file.path).name}.part"
    if target.exists() and stamp.is_file():
        part.unlink(missing_ok=True)  # left by a kill just after unpacking
        return Fetched(target, stamp.read_text().strip(), was_there=True)
    if target.exists():
        raise UserError(
            f"{target} is already there but was not fetched by this command; move it away to "
            "fetch it anew, or use it as it is."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    remote = head(file.url(endpoint))
    expected = file.sha256 or remote.sha256
    digest = download(file.url(endpoint), part, remote.size, progress, pause)
    if expected is not None and digest != expected:
        part.unlink()
        raise UserError(
            f"{file.path} from {endpoint} has the wrong checksum (SHA-256 {digest}, expected "
            f"{expected}): the bytes are not the published ones and were deleted; try again."
        )
    write_atomically(stamp, (digest + "\n").encode())  # counts only together with the target
    if file.is_archive:
        unpack(part, target)
        part.unlink()
    else:
        part.replace(target)
    return Fetched(target, digest, was_there=False)
