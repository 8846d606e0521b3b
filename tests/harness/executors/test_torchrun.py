"""Processes that share a training by gloo, on a bad day: the weights come out the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from models.pretraining.checkpoint import CHECKPOINT
from tests.disturbed import ended, wait_for
from tests.harness.test_pretrain import SETTING, place_in
from tests.launched import STEPS, Training, gone, kill, ranks, start_by_hand, weights

if sys.platform != "linux":
    pytest.skip("processes are found in /proc", allow_module_level=True)


def in_the_middle(
    training: Training, name: str, profile: Path
) -> tuple[subprocess.Popen[str], Path, list[int]]:
    """A training's driver, its folder and its ranks, once there is a checkpoint."""
    folder = training.folder(name)
    driver = training.start(name, "--profile", str(profile))
    wait_for(lambda: (folder / CHECKPOINT).exists() and len(ranks(folder)) == 2, driver)
    return driver, folder, ranks(folder)


def test_a_rank_is_killed_and_later_the_driver(training: Training) -> None:
    """The launch starts again from its checkpoint, and no process of before is left behind."""
    profile = training.profile(executor="local", timeout=20)
    driver, folder, first = in_the_middle(training, "bad", profile)
    kill(first[1])
    wait_for(lambda: gone(first) and len(ranks(folder)) == 2, driver)

    second = ranks(folder)
    driver.kill()
    said = driver.communicate()[0]
    assert "again, because one of its processes was killed by SIGKILL" in said
    ended(training.start("bad", "--profile", str(profile)))
    assert gone(second)
    assert weights(folder) == training.sha256
    card = yaml.safe_load((folder / "card.yaml").read_text())
    assert card["processes"] == [2]
    assert not (folder / CHECKPOINT).exists()


def test_a_torchrun_that_is_killed_leaves_no_rank_and_a_rank_that_stops_is_not_waited_for(
    training: Training,
) -> None:
    profile = training.profile(executor="local", timeout=20)
    driver, folder, first = in_the_middle(training, "worse", profile)
    os.kill(first[0], signal.SIGSTOP)
    agent = int(Path(f"/proc/{first[0]}/stat").read_text().rpartition(")")[2].split()[1])
    kill(agent)
    said = ended(driver)
    assert "again, because" in said
    assert gone(first)
    assert weights(folder) == training.sha256


def test_three_processes_add_in_the_same_order_when_they_go_on(tmp_path: Path) -> None:
    """Of two numbers the order does not matter; of three it does."""
    place = place_in(tmp_path)
    place.write("setting.yaml", {**SETTING, "batch": 12, "samples": STEPS * 12})
    ended(start_by_hand(place, "undisturbed", 3))
    driver, folder = start_by_hand(place, "bad", 3), place.run("bad")
    wait_for(lambda: (folder / CHECKPOINT).exists() and len(ranks(folder)) == 3, driver)
    for rank in ranks(folder):
        kill(rank)
    ended(driver, 1)
    assert "Going on after" in ended(start_by_hand(place, "bad", 3))
    assert weights(folder) == weights(place.run("undisturbed"))
