"""What a source of data is made of: files and listings on hosts of several kinds.

Plain descriptions and their addresses. They must know neither which data sets there are nor how
a file is fetched.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from models.servers import mirrored

HUB = "https://huggingface.co"
BUCKETS = "https://storage.googleapis.com"


@dataclass(frozen=True)
class OnHub:
    """A file of a data set repository on the Hugging Face hub, which tells its SHA-256."""

    repository: str
    revision: str
    path: str

    @property
    def url(self) -> str:
        """Its address at ``HF_ENDPOINT``, a mirror, or the public hub."""
        hub = os.environ.get("HF_ENDPOINT", "").rstrip("/") or mirrored(HUB)
        return f"{hub}/datasets/{self.repository}/resolve/{self.revision}/{quote(self.path)}"


@dataclass(frozen=True)
class OnZenodo:
    """A file of a Zenodo record, which tells its MD5 and size."""

    record: int
    path: str

    @property
    def url(self) -> str:
        """Its address."""
        address = f"https://zenodo.org/records/{self.record}/files/{quote(self.path)}?download=1"
        return mirrored(address)

    @property
    def record_url(self) -> str:
        """Where the record's files are described in JSON."""
        return mirrored(f"https://zenodo.org/api/records/{self.record}")


@dataclass(frozen=True)
class AtAddress:
    """A file at an address of its own."""

    address: str

    @property
    def url(self) -> str:
        """The address that is asked."""
        return mirrored(self.address)

    @property
    def path(self) -> str:
        """The last part of the address."""
        return self.address.rsplit("/", 1)[1]


@dataclass(frozen=True)
class InBucket:
    """All files under some prefixes of a public Google Cloud Storage bucket, which tells each MD5.

    ``base`` is what is taken off their names.
    """

    bucket: str
    base: str
    prefixes: tuple[str, ...]

    @property
    def url(self) -> str:
        """Where its files are listed."""
        return mirrored(f"{BUCKETS}/storage/v1/b/{self.bucket}/o")

    def page_url(self, prefix: str, token: str) -> str:
        """One page of the listing."""
        asked = {"prefix": prefix, **({"pageToken": token} if token else {})}
        return f"{self.url}?{urlencode(asked)}"

    def file_url(self, name: str) -> str:
        """The address of a file."""
        return mirrored(f"{BUCKETS}/{self.bucket}/{quote(name)}")


@dataclass(frozen=True)
class InCommit:
    """Files of a commit on GitHub, which tells the SHA-1 of each (as git names contents).

    ``names`` maps a pattern of their paths to what they are called here; others are left out.
    ``parts``: a JSON file to write, and the pattern of the paths whose group 2 it maps to group 1.
    """

    repository: str
    commit: str
    names: tuple[tuple[str, str], ...]
    parts: tuple[str, str]

    @property
    def url(self) -> str:
        """Where its files are listed."""
        return mirrored(
            f"https://api.github.com/repos/{self.repository}/git/trees/{self.commit}?recursive=1"
        )

    def file_url(self, path: str) -> str:
        """The address of a file."""
        return mirrored(
            f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{quote(path)}"
        )


File = OnHub | OnZenodo | AtAddress
Listing = InBucket | InCommit


@dataclass(frozen=True)
class Part:
    """One thing to fetch: a file, an archive, or all files of a listing.

    ``target``, under the data directory: the folder that an archive is unpacked into or a listing's
    files are put into, or a file's own path. ``checksum``: ``sha256:`` or ``md5:`` and
    hexadecimals; it outranks what the server says. ``size`` in bytes.
    ``unpacked``: size of the one file that an archive holds, where the target is that file.
    """

    where: File | Listing
    target: str
    checksum: str = ""
    size: int | None = None
    unpacked: int | None = None


@dataclass(frozen=True)
class Source:
    """A data set: its parts, licence, home, and about how much is fetched (empty: not known)."""

    parts: tuple[Part, ...]
    licence: str
    home: str
    size: str
    note: str = ""
