"""Checkpoints: read whole, never trusted, fetched from a hub that may be away."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from torch import nn

from models.errors import UserError
from models.weights import (
    load_encoder_file,
    load_hub,
    load_local,
    load_state,
    save_encoder,
    weights_fingerprint,
)


def write_checkpoint(folder: Path, weights: bytes | None = None) -> dict[str, torch.Tensor]:
    folder.mkdir(parents=True, exist_ok=True)
    state = {"encoder.norm.weight": torch.arange(4.0), "encoder.norm.bias": torch.ones(4)}
    (folder / "config.json").write_text('{"model": {"size": 4}}')
    torch.save(state, folder / "weights.pth")
    if weights is not None:
        (folder / "weights.pth").write_bytes(weights)
    return state


def test_a_local_folder_is_read_with_its_hash(tmp_path: Path) -> None:
    state = write_checkpoint(tmp_path)
    found = load_local(tmp_path)
    assert found.state_dict.keys() == state.keys()
    assert all(torch.equal(found.state_dict[name], state[name]) for name in state)
    assert found.config == {"model": {"size": 4}}
    assert found.sha256 == hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()


class Touch:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("container", ["pickle", "torch", "torch-legacy"])
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path: Path, container: str) -> None:
    evidence = tmp_path / "executed"
    write_checkpoint(tmp_path)
    payload = {"encoder.norm.weight": torch.ones(1), "x": Touch(evidence)}
    path = tmp_path / "weights.pth"
    if container == "pickle":
        path.write_bytes(pickle.dumps(payload))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=container == "torch")
    with pytest.raises(UserError, match=r"weights\.pth was refused"):
        load_local(tmp_path)
    assert not evidence.exists()
    torch.load(path, weights_only=False) if container != "pickle" else pickle.loads(
        path.read_bytes()
    )
    assert evidence.exists()  # the payload was live: only the refusal kept it from running


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: (d / "weights.pth").unlink(), "weights.pth is not there"),
        (lambda d: (d / "config.json").unlink(), "config.json is not there"),
        (lambda d: (d / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda d: (d / "config.json").write_text("[]"), "no JSON object"),
        (lambda d: torch.save([1, 2], d / "weights.pth"), "no state dict"),
        (lambda d: (d / "weights.pth").write_bytes(b""), "weights.pth"),
        (
            lambda d: (d / "weights.pth").write_bytes((d / "weights.pth").read_bytes()[:-300]),
            "weights.pth",
        ),
    ],
)
def test_damaged_checkpoints_are_named(tmp_path: Path, spoil: Any, words: str) -> None:
    write_checkpoint(tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError, match=words):
        load_local(tmp_path)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0.0), ("float16", 1e-3)])
def test_an_encoder_file_comes_back(tmp_path: Path, dtype: Any, tolerance: float) -> None:
    torch.manual_seed(0)
    encoder, other = nn.Linear(5, 3), nn.Linear(5, 3)
    digest = save_encoder(encoder, tmp_path / "a" / "e.safetensors", {"size": "nano"}, dtype)
    found = load_encoder_file(tmp_path / "a" / "e.safetensors")
    assert (found.sha256, found.config) == (digest, {"size": "nano"})
    load_state(other, found.state_dict, found.source)
    torch.testing.assert_close(other.weight, encoder.weight, rtol=tolerance, atol=tolerance)
    assert (weights_fingerprint(other) == weights_fingerprint(encoder)) == (dtype == "float32")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["e.safetensors"]
    assert save_encoder(encoder, tmp_path / "again.safetensors", {"size": "nano"}, dtype) == digest


def test_weights_of_another_shape_name_the_tensor_and_both_shapes(tmp_path: Path) -> None:
    save_encoder(nn.Linear(5, 3), tmp_path / "e.safetensors")
    state = load_encoder_file(tmp_path / "e.safetensors").state_dict
    with pytest.raises(UserError, match=r'e\.st .*"weight".*\[3, 5\].*\[3, 6\]'):
        load_state(nn.Linear(6, 3), state, "e.st")
    with pytest.raises(UserError, match='holds tensor "bias"'):
        load_state(nn.Linear(5, 3, bias=False), state, "e.st")
    with pytest.raises(UserError, match='lacks tensor "bias"'):
        load_state(nn.Linear(5, 3), {"weight": state["weight"]}, "e.st")


def test_a_damaged_encoder_file_and_an_unwritable_place_are_user_errors(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(UserError, match=r"bad\.safetensors cannot be read"):
        load_encoder_file(tmp_path / "bad.safetensors")
    with pytest.raises(UserError, match="is not there"):
        load_encoder_file(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="cannot be written"):
        save_encoder(nn.Linear(2, 2), tmp_path / "bad.safetensors" / "x.safetensors")


NAME = "allenai/OlmoEarth-v1-Nano"


@pytest.fixture
def hub(empty_hub: Any, tmp_path: Path) -> Any:
    """A hub that offers one checkpoint."""
    write_checkpoint(tmp_path / "published")
    for path in (tmp_path / "published").iterdir():
        empty_hub.files[f"{NAME}/{path.name}"] = path.read_bytes()
    return empty_hub


def test_the_hub_is_asked_once_and_the_cache_serves_when_it_is_away(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = load_hub(NAME, tmp_path / "cache")
    assert found.sha256 == hashlib.sha256(hub.files[f"{NAME}/weights.pth"]).hexdigest()
    assert found.config == json.loads(hub.files[f"{NAME}/config.json"])
    assert found.source == NAME
    downloads = sum(request.startswith("GET") for request in hub.asked)
    again = load_hub(NAME, tmp_path / "cache")
    assert sum(request.startswith("GET") for request in hub.asked) == downloads
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    away = load_hub(NAME, tmp_path / "cache")
    assert found.sha256 == again.sha256 == away.sha256


def test_what_the_hub_lacks_is_named(hub: Any, tmp_path: Path) -> None:
    del hub.files[f"{NAME}/weights.pth"]
    with pytest.raises(UserError, match=f"weights.pth of {NAME} from {hub.url}.*no such file"):
        load_hub(NAME, tmp_path / "cache")
    with pytest.raises(UserError, match=r"allenai/Nothing .*no such repository.*HF_TOKEN"):
        load_hub("allenai/Nothing", tmp_path / "cache")
    with pytest.raises(UserError, match="check the name"):
        load_hub("not a/name/at all", tmp_path / "cache")


@pytest.mark.parametrize("offline", [False, True])
def test_an_unreachable_hub_says_what_was_tried_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(UserError) as error:
        load_hub(NAME, tmp_path / "cache")
    message = str(error.value)
    for words in (NAME, "http://127.0.0.1:9", "config.json", "local folder"):
        assert words in message
