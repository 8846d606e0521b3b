"""Published checkpoints as they are laid out: subfolders, nested dictionaries, plain addresses."""

from __future__ import annotations

import argparse
import hashlib
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.checkpoints import Places, find_checkpoint
from models.design import Official
from models.errors import UserError
from models.weights import read_checkpoint

NAME = "somebody-v1-nano"
IN_A_FOLDER = Official("lab/models", None, "models/nano/encoder.pt", "models/nano/config.json", "X")
AT_AN_ADDRESS = Official(None, "", "pretrain.pth", None, "X")


def test_a_training_scripts_whole_checkpoint_gives_its_tensors_and_runs_nothing(
    tmp_path: Path,
) -> None:
    # As training scripts save them: the model beside the optimiser and the parsed arguments.
    whole = {
        "model": {"blocks.0.weight": torch.ones(2), "norm.bias": torch.zeros(3)},
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "epoch": 199,
        "args": argparse.Namespace(lr=0.1, nested=argparse.Namespace(a=[1])),
    }
    torch.save(whole, tmp_path / "c.pth")
    found = read_checkpoint(None, tmp_path / "c.pth", "c").state_dict
    assert set(found) == {"model.blocks.0.weight", "model.norm.bias"}
    assert not hasattr(found, "lr")


def test_several_encoders_in_one_file_keep_their_names_apart(tmp_path: Path) -> None:
    parts = {"s1_encoder": {"a.weight": torch.ones(1)}, "s2_encoder": {"a.weight": torch.zeros(1)}}
    torch.save(parts, tmp_path / "c.pt")
    flat = {f"{part}.{k}": v for part, state in parts.items() for k, v in state.items()}
    save_file(flat, tmp_path / "c.safetensors")
    for name in ("c.pt", "c.safetensors"):
        found = read_checkpoint(None, tmp_path / name, "c").state_dict
        assert {k: float(v) for k, v in found.items()} == {k: float(v) for k, v in flat.items()}


@pytest.mark.parametrize("layout", ["as in the repository", "flat", "the file itself"])
def test_a_folder_may_hold_the_files_either_way(tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "models" / "nano" if layout == "as in the repository" else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "encoder.pt").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    given = tmp_path / "encoder.pt" if layout == "the file itself" else tmp_path
    found = find_checkpoint(NAME, IN_A_FOLDER, given, Places(None, tmp_path / "cache"))
    assert found.weights == folder / "encoder.pt"
    assert found.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert (found.config is None) == (layout == "the file itself")


def test_a_weights_directory_knows_folders_by_repository_or_variant(tmp_path: Path) -> None:
    for name in ("models", NAME):
        folder = tmp_path / name / name
        folder.mkdir(parents=True)
        (folder / "encoder.pt").write_bytes(name.encode())
        (folder / "config.json").write_text("{}")
        found = find_checkpoint(NAME, IN_A_FOLDER, None, Places(tmp_path / name, None))
        assert found.weights == folder / "encoder.pt"
    with pytest.raises(UserError, match=f"no folder models or {NAME}.*--weights"):
        find_checkpoint(NAME, IN_A_FOLDER, None, Places(tmp_path / "models" / "models", None))
    with pytest.raises(UserError, match="is not there"):
        find_checkpoint(NAME, IN_A_FOLDER, None, Places(tmp_path / "away", None))


def test_a_file_in_a_hub_folder_is_fetched(empty_hub: Any) -> None:
    empty_hub.files["lab/models/models/nano/encoder.pt"] = b"weights"
    empty_hub.files["lab/models/models/nano/config.json"] = b"{}"
    found = find_checkpoint(NAME, IN_A_FOLDER, None, Places(None, None))
    assert found.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert found.source == "lab/models"


class _Site(ThreadingHTTPServer):
    content = b""
    asked: list[str] = []  # noqa: RUF012


@pytest.fixture
def site() -> Iterator[_Site]:
    """A plain web server that knows ranges and breaks off its first answer in the middle."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(server.content)))
            self.end_headers()

        def do_GET(self) -> None:
            start = int((self.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
            server.asked.append(f"from {start}")
            body = server.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if len(server.asked) == 1 else body)

        def log_message(self, *_: object) -> None: ...

    server = _Site(("127.0.0.1", 0), Handler)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_weights_at_an_address_are_fetched_once_resumed_and_read(
    site: _Site, tmp_path: Path
) -> None:
    stream = io.BytesIO()
    torch.save({"model": {"w": torch.arange(1000.0)}}, stream)
    site.content = stream.getvalue()
    url = f"http://127.0.0.1:{site.server_port}/files/pretrain.pth?download=1"
    official = Official(None, url, "pretrain.pth", None, "X")
    found = find_checkpoint(NAME, official, None, Places(None, tmp_path))
    assert site.asked[0] == "from 0"
    assert site.asked[1] != "from 0"  # the half that had come was kept
    assert found.source == url
    assert found.sha256 == hashlib.sha256(site.content).hexdigest()
    state = read_checkpoint(found.config, found.weights, found.source).state_dict
    assert torch.equal(state["model.w"], torch.arange(1000.0))
    asked = len(site.asked)
    assert find_checkpoint(NAME, official, None, Places(None, tmp_path)) == found
    assert len(site.asked) == asked


def test_an_address_where_nobody_answers_is_said(tmp_path: Path) -> None:
    away = Official(None, "http://127.0.0.1:9/pretrain.pth", "pretrain.pth", None, "X")
    with pytest.raises(UserError, match=r"http://127.0.0.1:9/pretrain.pth.*--weights") as error:
        find_checkpoint(NAME, away, None, Places(None, tmp_path))
    assert "\n" not in str(error.value)


def test_a_variant_nobody_published_asks_for_a_folder() -> None:
    with pytest.raises(UserError, match=f"{NAME} has no published weights; give a folder"):
        find_checkpoint(NAME, None, None, Places(None, None))


def test_a_page_in_the_place_of_weights_is_refused_and_not_kept(
    site: _Site, tmp_path: Path
) -> None:
    site.content = b"<html>Please log in</html>"
    official = Official(None, f"http://127.0.0.1:{site.server_port}/w.pth", "w.pth", None, "X")
    with pytest.raises(UserError, match="not a file of weights"):
        find_checkpoint(NAME, official, None, Places(None, tmp_path))
    assert not list(tmp_path.rglob("*w.pth*"))
