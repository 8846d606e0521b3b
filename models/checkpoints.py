"""Where a published checkpoint's files are, and what they hash to; without reading a tensor.

Planning needs a checkpoint's identity long before anything is computed, so this module
finds or downloads the files and must not import a tensor library; ``weights.py`` reads them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from models.design import Official
from models.errors import UserError
from models.fetching import download
from models.replacing import replacing
from models.servers import head, mirrored

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "weights.pth"
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint on this machine; ``source`` is the hub name, address or folder it came from."""

    config: Path | None
    weights: Path
    sha256: str
    source: str


@dataclass(frozen=True)
class Places:
    """Where checkpoints may be: a folder of them by name, and where downloads are kept."""

    weights: Path | None
    cache: Path | None


# What a checkpoint of a user's own looks like when no publisher has laid it out otherwise.
OWN = Official(None, None, WEIGHTS_FILE, CONFIG_FILE, licence="the user's own")


def find_checkpoint(
    name: str, official: Official | None, given: Path | None, places: Places
) -> CheckpointFiles:
    """Find a variant's checkpoint: given by the user, else by name, else at its publisher's.

    ``given`` is the weights file, or a folder that holds it as published. Under
    ``places.weights`` a checkpoint's folder is called as its repository or as the variant.
    Hashes are remembered in the cache by path, size and time.

    Raises:
        UserError: it is in none of these places; the sentence names what was tried.
    """
    layout = official or OWN
    if given is not None:
        return _local(given, layout, places.cache)
    if official is None:
        raise UserError(f"{name} has no published weights; give a folder with --weights.")
    if places.weights is not None:
        return _local(_named_folder(name, official, places.weights), official, places.cache)
    if official.hub is not None:
        weights = hub_file(official.hub, official.file, None)
        config = hub_file(official.hub, official.config, None) if official.config else None
        return CheckpointFiles(
            config, weights, remembered_sha256(weights, places.cache), official.hub
        )
    return _downloaded(official, places.cache)


def _named_folder(name: str, official: Official, root: Path) -> Path:
    if not root.is_dir():
        raise UserError(
            f"The weights directory {root} is not there; check --weights-dir or TOKENRANK_WEIGHTS."
        )
    names = [official.hub.rpartition("/")[2]] if official.hub else []
    # The same weights hold for every scheme that they fit.
    tried = (name, name.partition(":")[0], *names)
    found = [root / each for each in tried if (root / each).is_dir()]
    if not found:
        wanted = " or ".join([*names, name])
        raise UserError(
            f"The weights directory {root} has no folder {wanted}, where the weights of {name} "
            "are looked for; put them there, or give their place with --weights."
        )
    return found[0]


def local_files(given: Path, layout: Official = OWN) -> tuple[Path | None, Path]:
    """Configuration and weights of a folder or weights file; `UserError` when one is absent.

    Files may lie as in the publisher's repository, or directly in the folder.
    """
    if given.is_file():
        return None, given
    return (
        _in_folder(given, layout.config, layout) if layout.config else None,
        _in_folder(given, layout.file, layout),
    )


def _in_folder(folder: Path, file: str, layout: Official) -> Path:
    for path in (folder / file, folder / Path(file).name):
        if path.is_file():
            return path
    holds = " and ".join(Path(f).name for f in (layout.config, layout.file) if f)
    raise UserError(f"{folder / Path(file).name} is not there; a checkpoint folder holds {holds}.")


def _downloaded(official: Official, cache: Path | None) -> CheckpointFiles:
    """A weights file at an address of its own, kept in the cache once it is whole."""
    address = official.url or ""
    root = cache or Path.home() / ".cache" / "tokenrank"
    folder = root / "downloads" / hashlib.sha256(address.encode()).hexdigest()[:16]
    weights, part = folder / Path(official.file).name, folder / f".{Path(official.file).name}.part"
    if not weights.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "guard"):  # two runs want the same file at the same time
                place = mirrored(address)
                download(place, part, head(place).size)
                _require_weights(part, address)
                part.replace(weights)
        except urllib.error.URLError as error:
            raise UserError(
                f"Could not load {address}: nobody answers ({error.reason}); check the connection, "
                f"or get {weights.name} yourself and give its place with --weights."
            ) from None
    return CheckpointFiles(None, weights, remembered_sha256(weights, cache), address)


def _require_weights(part: Path, address: str) -> None:
    """Refuse, and do not keep, what a server sent in the place of weights (a login page)."""
    with part.open("rb") as file:
        start = file.read(2)
    if not start.startswith((b"PK", b"\x80")):  # a zip archive, or a pickle
        part.unlink()
        raise UserError(
            f"{address} sent something that is not a file of weights (it was not kept); get the "
            "file yourself and give its place with --weights."
        )


def hub_file(repo_id: str, name: str, cache_dir: Path | str | None) -> Path:
    """One file of a hub repository, downloaded unless the hub library's cache has it.

    ``HF_ENDPOINT`` and ``HF_TOKEN`` are honoured.

    Raises:
        UserError: the hub cannot be reached and nothing is cached, or has no such file.
    """
    # The hub library brings an HTTP stack along and reads the environment when imported.
    import huggingface_hub as hub  # noqa: PLC0415
    from huggingface_hub import errors  # noqa: PLC0415

    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    tried = f"{name} of {repo_id} from {endpoint}"
    # What fails is said below, in one sentence.
    hub.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        if not isinstance(hub.try_to_load_from_cache(repo_id, name, cache_dir), str):
            _require_answer(endpoint)
        path = hub.hf_hub_download(repo_id, name, cache_dir=cache_dir, endpoint=endpoint)
    except (errors.LocalEntryNotFoundError, _NoAnswerError) as error:
        raise UserError(
            f"Could not load {tried}: the hub does not answer and the cache has no copy; check the "
            "connection or HF_ENDPOINT, or give a local folder that holds it (--weights-dir, "
            "--weights)."
        ) from error
    except errors.EntryNotFoundError as error:
        raise UserError(f"Could not load {tried}: the repository has no such file.") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"Could not load {tried}: there is no such repository, or it needs a token (HF_TOKEN)."
        ) from error
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"Could not load {tried}: {reason.rstrip('.')}; check the name and the connection, or "
            "give a local folder that holds it (--weights)."
        ) from error
    return Path(path)


class _NoAnswerError(Exception):
    """Nobody listens at the hub's address."""


def _require_answer(endpoint: str) -> None:
    """Ask once: the hub library tries an address where nobody listens for half a minute."""
    request = urllib.request.Request(endpoint, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS):
            pass
    except urllib.error.HTTPError:
        return  # an answer, of some kind
    except OSError as error:
        # Whatever else went wrong (a slow line, certificates) the library may handle better.
        reason = getattr(error, "reason", error)
        if isinstance(reason, (ConnectionRefusedError, socket.gaierror, TimeoutError)):
            raise _NoAnswerError(str(reason)) from None


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _local(given: Path, layout: Official, cache: Path | None) -> CheckpointFiles:
    config, weights = local_files(given, layout)
    return CheckpointFiles(config, weights, remembered_sha256(weights, cache), str(given))


def remembered_sha256(path: Path, cache: Path | None) -> str:
    """The file's hash; a gigabyte is not read again while size and time are the same.

    Notes are kept under ``cache / "weights"``; without a cache the file is read each time.
    """
    if cache is None:
        return file_sha256(path)
    status = path.stat()
    identity = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    note = cache / "weights" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
    try:
        return str(json.loads(note.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError):
        digest = file_sha256(path)
    with contextlib.suppress(OSError):  # the note only saves time
        note.parent.mkdir(parents=True, exist_ok=True)
        with replacing(note) as temporary:
            known = json.dumps({"path": str(path), "sha256": digest})
            temporary.write_text(known, encoding="utf-8")
    return digest
