"""What sbatch is told of nodes whose disk is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("submitit", reason="submitit is a development dependency")

from submitit.core.utils import FailedJobError

from harness.executors import slurm, slurm_asking
from harness.executors.items import Item, Need
from harness.executors.profile import SlurmSection
from harness.executors.slurm_commands import NodeKind
from harness.executors.spec import Spec


class Recorder:
    """Stands for submitit's executor: what it was asked for, and a job that never ends."""

    asked: list[dict[str, Any]]
    takes = True  # jobs that exclude nodes

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def update_parameters(self, **given: Any) -> None:
        self.options = given["additional_parameters"]

    @contextmanager
    def batch(self) -> Iterator[None]:
        yield

    def submit(self, _: object) -> SimpleNamespace:
        if "exclude" in self.options and not self.takes:
            raise FailedJobError("Requested node configuration is not available")
        self.asked.append(self.options)
        paths = SimpleNamespace(result_pickle=self.folder / "none")
        return SimpleNamespace(job_id=str(len(self.asked)), paths=paths)


@pytest.mark.parametrize(
    ("nodes", "options", "takes", "excluded"),
    [
        (3, {}, True, "b"),
        (3, {"exclude": "c"}, True, "c,b"),
        (1, {}, True, None),
        (3, {}, False, None),
    ],
    ids=["another is left", "the profile excludes one too", "none is left", "none holds it"],
)
def test_a_full_node_is_excluded_while_another_is_left(
    nodes: int,
    options: dict[str, str],
    takes: bool,
    excluded: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (slurm, slurm_asking):
        monkeypatch.setattr(module, "nodes_of", lambda _: [NodeKind("main", 64_000, 8, nodes, 0)])
    monkeypatch.setattr(slurm.submitit, "SlurmExecutor", Recorder)
    monkeypatch.setattr(Recorder, "asked", [], raising=False)
    monkeypatch.setattr(Recorder, "takes", takes)
    spec = Spec("small", {}, None, None, str(tmp_path), str(tmp_path), "p" * 64, "s" * 16, {})
    engine = slurm.SlurmEngine(spec, SlurmSection(options=options), [])
    for key in ("first", "second"):
        engine.submit(Item(key, ("cell",), Need(1.0, 0)))
        engine.wait(0)
        engine.avoid("b")
    first, second = (asked.get("exclude") for asked in Recorder.asked)
    assert first == options.get("exclude")
    assert second == excluded
