"""Every command in the documentation is run, in the order of its page, as a reader would.

A page may hold, beside ```bash blocks: ```yaml or ```python blocks under a comment
``<!-- file: NAME -->``, which are written to that file; and a comment before a bash block,
``<!-- exit: 1 -->`` for a command that is meant to end so, ``<!-- serves -->`` for one that
stays, ``<!-- not run: WHY -->`` for one that cannot be run here. Each page starts in a
folder of its own that holds a copy of the project, and is offered its downloads by a hub on
loopback.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent.parent
PAGES = ("tutorial.md", "extending.md", "own-model.md", "regression-check.md", "tokens.md")
RUN_ELSEWHERE = {
    "published.md": "tests/harness/published/test_beside.py",  # with its table
    "team-server.md": "tests/harness/tracking_server/conftest.py",  # with its servers
}
SERVED_WITHIN = 240.0  # seconds


@dataclass(frozen=True)
class Block:
    """One fenced block: what it holds, and what the comment before it says."""

    language: str
    text: str
    line: int
    remark: str


def blocks_of(page: Path) -> Iterator[Block]:
    remark = ""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            found = re.fullmatch(r"<!--\s*(.*?)\s*-->", token.content.strip(), re.DOTALL)
            remark = found[1] if found else ""
        elif token.type == "fence":
            line = token.map[0] + 1 if token.map else 0
            yield Block(token.info.strip(), token.content, line, remark)
            remark = ""
        elif token.type.endswith("_open"):
            remark = ""


@pytest.fixture
def project(tmp_path: Path, documented_hub: Any) -> Path:
    """A copy of the project to type commands in, with tokenrank and nox on the path."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("the project's files are listed by git, and this is not a checkout")
    folder = tmp_path / "tokenrank"
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def environment(project: Path, hub: Any) -> dict[str, str]:
    scripts = Path(sys.executable).parent
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("TOKENRANK_", "MLFLOW_"))},
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "TOKENRANK_ENVIRONMENT": str(scripts.parent),
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(project / ".hub"),
        "HF_HUB_DISABLE_XET": "1",
        "COLUMNS": "80",
        "TOKENRANK_CACHE": os.environ["TOKENRANK_CACHE"],
    }


@pytest.mark.parametrize("name", PAGES)
def test_every_command_of_the_page_runs(name: str, project: Path, documented_hub: Any) -> None:
    env = environment(project, documented_hub)
    for block in blocks_of(ROOT / "docs" / name):
        key, _, value = block.remark.partition(":")
        if key == "file":
            (project / value.strip()).write_text(block.text, encoding="utf-8")
        elif block.language == "bash" and key == "serves":
            assert_serves(block, project, env)
        elif block.language == "bash" and key != "not run":
            assert_ends(block, project, env, int(value) if key == "exit" else 0)


def assert_ends(block: Block, folder: Path, env: dict[str, str], code: int) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=folder, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = f"line {block.line}:\n{block.text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert done.returncode == code, said
    assert "Traceback" not in done.stderr, said


def assert_serves(block: Block, folder: Path, env: dict[str, str]) -> None:
    """The command stays, and answers on the port that it is given."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = f"{block.text.strip()} --port {port}"
    server = subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env=env, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + SERVED_WITHIN
        while True:
            assert server.poll() is None, f"{command} ended with {server.returncode}"
            assert time.monotonic() < deadline, f"{command} does not answer"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    assert answer.status == 200
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def test_no_page_with_commands_is_left_out() -> None:
    """A page that shows commands is run here or by a test of its own."""
    showing = {
        page.name
        for page in (ROOT / "docs").glob("*.md")
        if any(b.language == "bash" and b.remark[:7] != "not run" for b in blocks_of(page))
    }
    assert showing == {*PAGES, *RUN_ELSEWHERE}
    for name, test in RUN_ELSEWHERE.items():
        assert name in (ROOT / test).read_text(encoding="utf-8")


def test_a_model_of_ones_own_is_added_in_under_forty_lines() -> None:
    files = [b for b in blocks_of(ROOT / "docs" / "own-model.md") if b.remark.startswith("file:")]
    assert {block.language for block in files} == {"python", "yaml"}
    assert sum(len(block.text.splitlines()) for block in files) < 40


def test_the_page_of_the_team_server_names_the_versions_that_are_tested() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in constraints if "==" in line)
    page = (ROOT / "docs" / "team-server.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in page if "| " in line]
    named = {row[0].split()[0]: row[1] for row in rows if row[0].split()[0] in pinned}
    assert set(named) == {"mlflow", "psycopg2-binary", "boto3", "moto"}
    assert named == {name: pinned[name] for name in named}
