"""Where weights come from: a local checkpoint folder, the hub, or one of our own files.

Whatever the source, what comes back is tensors, the configuration beside them and the
SHA-256 of the file, so that a result can name its weights exactly. Files are never
trusted: nothing in them is executed. It must not know any family's tensor names.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.checkpoints import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    file_sha256,
    hub_file,
    local_files,
)
from models.errors import UserError


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as it was read.

    Args:
        state_dict: tensors by their published names, on the CPU.
        config: the configuration stored beside them.
        sha256: hash of the weights file.
        source: the folder or hub name that it came from.
    """

    state_dict: Mapping[str, Tensor]
    config: dict[str, Any]
    sha256: str
    source: str


def load_local(folder: Path | str) -> Checkpoint:
    """Read ``config.json`` and ``weights.pth`` from a folder.

    Raises:
        UserError: a file is absent, damaged, or a pickle that holds more than tensors.
    """
    config, weights = local_files(Path(folder))
    return read_checkpoint(config, weights, str(folder))


def load_hub(repo_id: str, cache_dir: Path | str | None = None) -> Checkpoint:
    """Read a checkpoint from the Hugging Face hub, e.g. ``allenai/OlmoEarth-v1-Nano``.

    Files are kept under ``cache_dir`` (None: the hub library's own cache) and used from
    there when the hub does not answer. ``HF_ENDPOINT`` and ``HF_TOKEN`` are honoured.

    Raises:
        UserError: the hub cannot be reached and nothing is cached, or has no such files.
    """
    config = hub_file(repo_id, CONFIG_FILE, cache_dir)
    return read_checkpoint(config, hub_file(repo_id, WEIGHTS_FILE, cache_dir), repo_id)


def read_checkpoint(config: Path | None, weights: Path, source: str) -> Checkpoint:
    """Read a checkpoint's files; ``source`` is the name that errors and results give it.

    A file that nests state dicts (several encoders; a model beside its optimiser) gives its
    tensors under dotted names, ``"s2_encoder.linear_input.weight"``; what is no tensor in it
    is left out. A publisher without a configuration file gives an empty one.

    Raises:
        UserError: a file is damaged, or a pickle that holds more than tensors.
    """
    reader = _read_safetensors if weights.suffix == ".safetensors" else _read_state_dict
    state = reader(weights)
    return Checkpoint(state, _read_config(config) if config else {}, file_sha256(weights), source)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no JSON object; expected a training configuration.")
    return config


class _Inert:
    """Stands in for the argument parser's namespace that a training script saved.

    It takes whatever state it is given and does nothing with it.
    """


# The weights-only unpickler knows tensors and plain containers; beyond them, this one class.
_ALLOWED: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Inert, "argparse.Namespace")
]


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_ALLOWED):
            warnings.simplefilter("ignore")  # on pickles that are about to be refused
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} was refused: it is not a plain file of tensors (its pickle asks for code to "
            "be run, or it is damaged); get the checkpoint again from its publisher."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read as weights; it is damaged or incomplete, get it again."
        ) from error
    tensors = dict(_tensors(loaded, ""))
    if not tensors:
        raise UserError(f"{path} holds no state dict; expected tensors by name.")
    return tensors


def _tensors(loaded: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Tensors of nested mappings under dotted names."""
    if isinstance(loaded, Tensor):
        yield prefix, loaded
    elif isinstance(loaded, Mapping):
        for key, value in loaded.items():
            if isinstance(key, str):
                yield from _tensors(value, f"{prefix}.{key}" if prefix else key)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    return dict(load_encoder_file(path).state_dict)


def load_state(encoder: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy ``state`` into ``encoder``; both must hold the same tensors in the same shapes.

    Raises:
        UserError: naming ``source`` and the first tensor that differs. The encoder is then
            unchanged.
    """
    own = encoder.state_dict()
    for name in [*own, *(name for name in state if name not in own)]:
        if name not in state:
            raise UserError(f'{source} lacks tensor "{name}" that this variant needs.')
        if name not in own:
            raise UserError(f'{source} holds tensor "{name}" that this variant has no place for.')
        if state[name].shape != own[name].shape:
            raise UserError(
                f'{source} does not fit this variant: tensor "{name}" has shape '
                f"{list(state[name].shape)} where {list(own[name].shape)} is expected."
            )
    encoder.load_state_dict(state, strict=True)


def save_encoder(
    encoder: nn.Module,
    path: Path | str,
    config: Mapping[str, Any] | None = None,
    dtype: Literal["float16", "float32"] = "float16",
) -> str:
    """Write an encoder as safetensors with its configuration inside; returns the SHA-256.

    The file appears whole or not at all. float16 halves what is shipped, at 3 digits.
    """
    target = Path(path)
    kind = {"float16": torch.float16, "float32": torch.float32}[dtype]
    tensors = {
        name: tensor.detach().to("cpu", kind).contiguous()
        for name, tensor in encoder.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} is not finite in {dtype}; such weights are not worth keeping")
    metadata = {"config": json.dumps(dict(config or {}), sort_keys=True)}
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
        os.close(handle)
        save_file(tensors, temporary, metadata=metadata)
        Path(temporary).replace(target)
    except (OSError, SafetensorError) as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise UserError(
            f"Weights cannot be written to {target}: {error}; choose a writable place."
        ) from error
    return file_sha256(target)


def load_encoder_file(path: Path | str) -> Checkpoint:
    """Read what `save_encoder` wrote; tensors come back as float32.

    Use `load_state` to copy them into an encoder.

    Raises:
        UserError: the file is absent or damaged.
    """
    source = Path(path)
    if not source.is_file():
        raise UserError(f"Weights file {source} is not there.")
    try:
        with safe_open(source, framework="pt") as file:
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            config = json.loads((file.metadata() or {}).get("config", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{source} cannot be read as safetensors weights: {error}.") from error
    return Checkpoint(state, config, file_sha256(source), str(source))


def weights_fingerprint(encoder: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of all tensors, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name}|{tensor.dtype}|{list(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
