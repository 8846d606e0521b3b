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

from models.errors import UserError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "weights.pth"
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint on this machine; ``source`` is the hub name or folder that it came from."""

    config: Path
    weights: Path
    sha256: str
    source: str


def find_checkpoint(
    hub: str | None, folder: Path | None, weights_dir: Path | None, cache: Path | None
) -> CheckpointFiles:
    """Find a checkpoint: in ``folder`` if given, else ``weights_dir/<name>``, else on the hub.

    ``hub`` is a repository such as ``allenai/OlmoEarth-v1-Nano``; its last part names the
    folder under ``weights_dir``. Hashes are remembered in ``cache`` by path, size and time.

    Raises:
        UserError: it is in none of these places; the sentence names what was tried.
    """
    if folder is None and weights_dir is not None and hub is not None:
        folder = weights_dir / hub.rpartition("/")[2]
        if not weights_dir.is_dir():
            raise UserError(
                f"The weights directory {weights_dir} is not there; check --weights-dir or "
                "TOKENRANK_WEIGHTS."
            )
    if folder is not None:
        return _local(folder, cache)
    if hub is None:
        raise UserError("This variant has no published weights; give a folder with --weights.")
    return _hub(hub, cache)


def local_files(folder: Path) -> tuple[Path, Path]:
    """``config.json`` and ``weights.pth`` of a folder; `UserError` when one is absent."""
    config, weights = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    for path in (config, weights):
        if not path.is_file():
            raise UserError(
                f"{path} is not there; a checkpoint folder holds {CONFIG_FILE} and {WEIGHTS_FILE}."
            )
    return config, weights


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
            "connection or HF_ENDPOINT, or give a local folder (--weights-dir, --weights) with "
            f"{CONFIG_FILE} and {WEIGHTS_FILE}."
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
            f"give a local folder with {CONFIG_FILE} and {WEIGHTS_FILE}."
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
        if isinstance(reason, (ConnectionRefusedError, socket.gaierror)):
            raise _NoAnswerError(str(reason)) from None


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _local(folder: Path, cache: Path | None) -> CheckpointFiles:
    config, weights = local_files(folder)
    return CheckpointFiles(config, weights, _remembered_sha256(weights, cache), str(folder))


def _hub(repo_id: str, cache: Path | None) -> CheckpointFiles:
    config = hub_file(repo_id, CONFIG_FILE, None)
    weights = hub_file(repo_id, WEIGHTS_FILE, None)
    return CheckpointFiles(config, weights, _remembered_sha256(weights, cache), repo_id)


def _remembered_sha256(path: Path, cache: Path | None) -> str:
    """The file's hash; a gigabyte is not read again while size and time are the same."""
    if cache is None:
        return file_sha256(path)
    status = path.stat()
    identity = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    note = cache / "weights" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
    try:
        return str(json.loads(note.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError):
        digest = file_sha256(path)
    temporary = note.with_suffix(f".{os.getpid()}.tmp")
    with contextlib.suppress(OSError):  # the note only saves time
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"path": str(path), "sha256": digest}), encoding="utf-8")
        temporary.replace(note)
    temporary.unlink(missing_ok=True)
    return digest
