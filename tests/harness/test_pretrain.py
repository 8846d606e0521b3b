"""`tokenrank pretrain`: killed and given again, on many processes, tracked; and bad input."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from harness.commands import pretrain
from harness.mlflow_view.pretraining import EXPERIMENT
from harness.pretraining import mirror
from models.pretraining.checkpoint import CHECKPOINT, HISTORY
from models.pretraining.loop import Habits
from models.sensors import MODALITIES

ROOT = Path(__file__).parent.parent.parent
DRIVER = Path(__file__).parent / "pretraining_driver.py"
S2, S1 = "sentinel2_l2a", "sentinel1"
REGISTRY = {
    "family": "olmoearth",
    "sizes": {"pico": {"dim": 32, "depth": 1, "heads": 4}},
    "versions": {
        "one": {"scheme": "single", "sizes": ["pico"]},
        "three": {"scheme": "per-resolution", "sizes": ["pico"]},
        "turning": {"scheme": "single", "sizes": ["pico"], "options": {"positions": "rotary"}},
        "optical": {"scheme": "optical", "sizes": ["pico"]},
    },
    "schemes": {"optical": {S2: "all"}},
}
RECIPE = {
    "name": "small",
    "title": "Small",
    "variant": "olmoearth-three",
    "masking": "band-groups",
    "contrast_weight": 0.1,
    "decoder_depth": 1,
}
SETTING = {
    "name": "small",
    "title": "Small",
    "samples": 48,
    "batch": 4,
    "drop_path": 0.2,
    "crops": {"patch_sizes": [4, 8], "sides": [3]},  # as many tokens: a loss of one scale
    "views": {"crop": "own", "brightness": 0.1},
    "optimiser": {"learning_rate": 0.001, "weight_decay": 0.02, "warmup_fraction": 0.2},
}


def write_chips(folder: Path, modalities: Sequence[str] = (S2,), steps: int = 1) -> Path:
    """Twelve chips of 32 pixels, one .npz file each."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for row in range(12):
        images = {}
        for name in modalities:
            bands = len(MODALITIES[name].bands)
            level = rng.normal(2500, 600, bands) if name == S2 else rng.normal(-12, 3, bands)
            noise = rng.normal(0, 200 if name == S2 else 1, (32, 32, steps, bands))
            image = level + noise
            images[name] = image.clip(1, 9999).astype(np.uint16) if name == S2 else image
        np.savez(folder / f"{row:02}.npz", **{n: i.astype(np.float32) for n, i in images.items()})
    layout = {
        "modalities": {
            name: {"bands": list(MODALITIES[name].band_names), "axes": "HWTD"}
            for name in modalities
        },
        "dates": [[1 + step, 5, 2020] for step in range(steps)],
        "origin": "simulated",
    }
    (folder / "chips.yaml").write_text(yaml.safe_dump(layout))
    return folder


@dataclass
class Place:
    """A folder with all that a command needs; files are written as a test changes them."""

    folder: Path

    def write(self, name: str, content: dict[str, Any]) -> Path:
        path = self.folder / name
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    def command(self, *more: object, out: str = "out", **changes: object) -> list[str]:
        """The arguments; ``changes`` replace options."""
        recipe = changes.pop("recipe", self.folder / "recipe.yaml")
        options: dict[str, object] = {
            "data": self.folder / "chips",
            "setting": self.folder / "setting.yaml",
            "registry": self.folder / "pico.yaml",
            "size": "pico",
            "store": self.folder / "store",
            "out": self.folder / out,
            **changes,
        }
        found = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        return ["pretrain", str(recipe), *found, *map(str, more)]

    def run(self, out: str = "out") -> Path:
        return self.folder / out / "small-pico" / "seed-0"


def place_in(folder: Path) -> Place:
    place = Place(folder)
    write_chips(folder / "chips")
    place.write("pico.yaml", REGISTRY)
    place.write("recipe.yaml", RECIPE)
    place.write("setting.yaml", SETTING)
    return place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return place_in(tmp_path)


def environment() -> dict[str, str]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("TOKENRANK_", "MLFLOW_"))}
    return {**plain, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def in_processes(*asked: dict[str, Any]) -> list[dict[str, Any]]:
    """See `pretraining_driver`."""
    command = [sys.executable, str(DRIVER), json.dumps(asked)]
    ended = subprocess.run(
        command, env=environment(), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    found: list[dict[str, Any]] = json.loads(ended.stdout)
    return found


def results(folder: Path) -> tuple[bytes, bytes]:
    return (folder / HISTORY).read_bytes(), (folder / "encoder.safetensors").read_bytes()


@dataclass(frozen=True)
class Driven:
    """A place in which commands were killed and given again, and what each answered."""

    place: Place
    killed: list[dict[str, Any]]
    second: dict[str, Any]
    unequal: dict[str, Any]


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Driven:
    """One interpreter imports everything, once, and forks a process for each command."""
    if sys.platform == "win32":
        pytest.skip("needs fork and SIGKILL")
    place = place_in(tmp_path_factory.mktemp("driven"))
    odd = place.write("odd.yaml", {**SETTING, "batch": 5, "samples": 50})

    def asked(out: str, *fault: Any, **changes: Any) -> dict[str, Any]:
        arguments = place.command("--no-track", out=out, **changes)
        return {"arguments": arguments, **({"fault": fault} if fault else {})}

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    *killed, second, unequal = in_processes(
        asked("whole"),
        asked("parts", "kill_after_record", 4),
        asked("parts", "kill_while_saving", 6),
        asked("parts", "kill_while_logging", 8),
        asked("parts", "full_disk", 20_000),
        asked("parts"),
        asked("parts"),
        {**asked("shared", "slow", 0), "watch": str(place.run("shared") / "began")},
        asked("shared"),
        {**asked("odd", setting=odd), "port": port},
    )
    return Driven(place, killed, second, unequal)


def test_kill_9_and_the_same_command_give_the_same_curve_and_bytes(driven: Driven) -> None:
    whole, parts = driven.place.run("whole"), driven.place.run("parts")
    assert [answer["status"] for answer in driven.killed] == [0, -9, -9, -9, 2, 0, 0]
    assert results(whole) == results(parts)
    assert [json.loads(line)["step"] for line in (whole / HISTORY).open()] == [2, 4, 6, 8, 10, 12]
    full, last, again = driven.killed[4:]
    assert full["err"].startswith(f"tokenrank: The run cannot be kept in {parts} (File too large)")
    assert full["err"].count("\n") == 1
    assert "Going on after 24 samples" in last["out"]
    assert "Already trained" in again["out"]
    assert {p.name for p in parts.iterdir()} == {p.name for p in whole.iterdir()}
    assert not (parts / CHECKPOINT).exists()


def test_two_processes_do_not_train_in_one_folder(driven: Driven) -> None:
    folder = driven.place.run("shared")
    assert driven.second["status"] == 2
    assert driven.second["err"].startswith(f"tokenrank: Another process is training in {folder}")
    assert not (folder / "encoder.safetensors").exists()


def test_processes_that_cannot_share_a_batch(driven: Driven) -> None:
    assert driven.unequal["status"] == 2
    sentence = "tokenrank: 2 processes cannot share a batch of 5"
    assert driven.unequal["err"].count(sentence) == 2
    assert "Traceback" not in driven.unequal["err"]
    assert not (driven.place.run("odd") / HISTORY).exists()


def test_torchrun_learns_what_one_process_does(
    tmp_path: Path, tokenrank: Callable[..., Any]
) -> None:
    """With two modalities and dates: not every sample is asked for every modality."""
    place = place_in(tmp_path / "place")
    both = write_chips(tmp_path / "place" / "both", (S2, S1), steps=2)
    recipe = {"masking": "random-and-time", "near_duplicate": 0.999, "band_dropout": 0.2}
    setting = {"batch": 8, "accumulate": 2, "drop_path": 0.0, "samples": 160}
    place.write("recipe.yaml", {**RECIPE, **recipe})
    place.write("setting.yaml", {**SETTING, **setting})
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "harness.cli"]
    command += place.command("--no-track", out="two", data=both)
    ended = subprocess.run(
        command, env=environment(), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Trained ") == 1
    assert tokenrank(*place.command("--no-track", out="one", data=both)).code == 0
    (one,), (two,) = (
        [json.loads(line) for line in (place.run(out) / HISTORY).open()] for out in ("one", "two")
    )
    for key, value in one.items():
        near = 1e-3 if key == "gradient_norm" else 1e-5
        assert two[key] == pytest.approx(value, rel=near), key
    names = [{p.name for p in place.run(out).iterdir()} for out in ("one", "two")]
    assert names[0] == names[1]


# --- tracking -------------------------------------------------------------------------------------


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record and a push at every step."""
    monkeypatch.setattr(mirror, "PUSH_SECONDS", 0.0)
    monkeypatch.setattr(
        pretrain,
        "Habits",
        lambda **given: Habits(**{**given, "log_every": 1, "save_seconds": 0.0}),
    )


def tracked(uri: str) -> Any:
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    curve = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return run, {name: sorted(m.step for m in points) for name, points in curve.items()}


class StoppedError(Exception):
    """Stands for a bug, or anything else that ends a process."""


def test_a_resumed_training_goes_on_in_its_mlflow_run(
    place: Place,
    tokenrank: Callable[..., Any],
    database: str,
    often: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    told = mirror.MlflowWatcher.logged

    def stop_at(step: int) -> None:
        def logged(self: Any, record: Any, speed: float, encoder: Any) -> None:
            told(self, record, speed, encoder)
            if record.step == step:
                if self._pending is not None:
                    self._pending.result()
                raise StoppedError("a bug")

        monkeypatch.setattr(mirror.MlflowWatcher, "logged", logged)

    # Killed: the points are there, nobody notes it, nobody closes the run.
    stop_at(5)
    with monkeypatch.context() as killed:
        killed.setattr(mirror.MlflowWatcher, "finish", lambda *_: None)
        with pytest.raises(StoppedError):
            tokenrank(*place.command())
    run, curves = tracked(database)
    assert run.info.status == "RUNNING"
    assert curves["loss"]
    # Stopped by an error: the run says so.
    stop_at(9)
    with pytest.raises(StoppedError):
        tokenrank(*place.command())
    run, curves = tracked(database)
    assert (run.info.status, run.data.tags["tokenrank.stopped"]) == ("FAILED", "a bug")
    assert curves["loss"] == [4 * step for step in range(1, 10)]
    monkeypatch.setattr(mirror.MlflowWatcher, "logged", told)
    ended = tokenrank(*place.command())
    assert ended.code == 0, ended.err
    run, curves = tracked(database)
    assert run.info.status == "FINISHED"
    assert "tokenrank.stopped" not in run.data.tags
    for name in mirror.CURVES:
        assert curves[name] == [4 * step for step in range(1, 13)], name
    records = [json.loads(line) for line in (place.run() / HISTORY).open()]
    assert run.data.metrics["loss"] == pytest.approx(records[-1]["loss"])
    assert run.data.params["recipe.masking"] == "band-groups"
    assert run.data.params["seed"] == "0"


def test_a_run_that_goes_wrong_is_failed_in_mlflow(
    place: Place,
    tokenrank: Callable[..., Any],
    database: str,
    often: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    rate = {"learning_rate": 1e6, "weight_decay": 0.0, "warmup_steps": 0, "clip": 1e9}
    place.write("setting.yaml", {**SETTING, "samples": 160, "optimiser": rate})
    ended = tokenrank(*place.command())
    assert ended.code == 2
    assert re.fullmatch(
        r'tokenrank: Pretraining "small" \(seed 0\) (diverged|collapsed) at step .*\n', ended.err
    )
    run, _ = tracked(database)
    assert run.info.status == "FAILED"
    assert re.search("diverged|collapsed", run.data.tags["tokenrank.stopped"])
    assert (place.run() / CHECKPOINT).exists()
    assert not (place.run() / "encoder.safetensors").exists()


def test_a_server_that_is_away_costs_nothing(place: Place, tokenrank: Callable[..., Any]) -> None:
    away = tokenrank(*place.command())  # the fixture's server is not up
    assert away.code == 0
    text = " ".join(away.out.split())
    assert "MLflow at http://127.0.0.1:9 was not updated: it cannot be reached" in text
    assert f"The curves are safe in {place.run()}" in text
    untracked = tokenrank(*place.command("--no-track", out="untracked"))
    assert "MLflow" not in untracked.out
    assert results(place.run()) == results(place.run("untracked"))


# --- bad input ------------------------------------------------------------------------------------


def refused(place: Place, ended: Any, sentence: str) -> None:
    assert ended.code == 2
    assert re.search(sentence, ended.err), ended.err
    assert ended.err.startswith("tokenrank: ")
    assert ended.err.count("\n") == 1
    assert "Traceback" not in ended.err
    assert not list(place.folder.rglob("*.safetensors"))
    assert not list(place.folder.rglob(CHECKPOINT))


BAD = {
    "no folder": ({"data": "nowhere"}, "nowhere"),
    "no chips": ({"data": "EMPTY"}, "EMPTY.* no chips"),
    "recipe": ({"recipe": "v1.1-no-bands"}, r'no recipe "v1\.1-no-bands": did you mean "v1\.1'),
    "recipe file": ({"recipe": "nowhere.yaml"}, r"nowhere\.yaml: there is no such file"),
    "setting": ({"setting": "studdy"}, 'no setting "studdy": did you mean "study"'),
    "size": ({"size": "huge"}, "huge"),
    "samples": ({"samples": 3}, "3 samples do not fill a batch of 4"),
    "probe": ({"probe": "eurosatt"}, 'did you mean "eurosat"'),
    "probe's data": ({"probe": "eurosat"}, "eurosat"),
}


@pytest.mark.parametrize(("changes", "sentence"), list(BAD.values()), ids=list(BAD))
def test_bad_options(
    place: Place, tokenrank: Callable[..., Any], changes: dict[str, Any], sentence: str
) -> None:
    (place.folder / "EMPTY").mkdir()
    if "data" in changes:
        changes = {"data": place.folder / changes["data"]}
    refused(place, tokenrank(*place.command(**changes)), sentence)


BAD_RECIPES = {
    "unknown key": ({"maskng": "band-groups"}, r'recipe\.yaml:7: unknown key "maskng": did you me'),
    "masking": ({"masking": "band-group"}, r'recipe\.yaml:4: "masking" is "band-group".*did you m'),
    "rotary": ({"variant": "olmoearth-turning"}, "additive positions .* only"),
    "v1.2": ({"variant": "olmoearth-v1.2", "size": "nano"}, "additive positions .* only"),
    "another family": ({"variant": "galileo-v1", "size": "nano"}, "OlmoEarth encoders"),
    "no such version": ({"variant": "olmoearth-v9"}, "olmoearth-v9"),
    "no such scheme": ({"variant": "olmoearth-one:none"}, "none"),
    "rate": ({"band_dropout": 1.5}, r'recipe\.yaml:7: "band_dropout" is not valid'),
}


@pytest.mark.parametrize(("changes", "sentence"), list(BAD_RECIPES.values()), ids=list(BAD_RECIPES))
def test_bad_recipes(
    place: Place, tokenrank: Callable[..., Any], changes: dict[str, Any], sentence: str
) -> None:
    size = changes.get("size", "pico")
    changed = {k: v for k, v in changes.items() if k != "size"}
    place.write("recipe.yaml", {**RECIPE, **changed})
    refused(place, tokenrank(*place.command(size=size)), sentence)


BAD_SETTINGS = {
    "no crop fits": (
        {"crops": {"patch_sizes": [8], "sides": [5, 6]}},
        "No crop fits: chips are 32 pixels",
    ),
    "budget": (
        {"crops": {"patch_sizes": [8], "sides": [4], "token_budget": 40}},
        "exceed 40 tokens",
    ),
    "patch size": ({"crops": {"patch_sizes": [9], "sides": [1]}}, r"setting\.yaml:6: .*1 to 8"),
    "parts": ({"accumulate": 3}, r"setting\.yaml:1: .*accumulate must divide batch"),
    "both": ({"epochs": 3}, r"setting\.yaml:1: .*either samples or epochs"),
    "epochs": ({"samples": None, "epochs": 1, "batch": 64}, "12 samples do not fill a batch of 64"),
}


@pytest.mark.parametrize(
    ("changes", "sentence"), list(BAD_SETTINGS.values()), ids=list(BAD_SETTINGS)
)
def test_bad_settings(
    place: Place, tokenrank: Callable[..., Any], changes: dict[str, Any], sentence: str
) -> None:
    place.write("setting.yaml", {k: v for k, v in {**SETTING, **changes}.items() if v is not None})
    refused(place, tokenrank(*place.command()), sentence)


def test_chips_that_a_recipe_cannot_use(place: Place, tokenrank: Callable[..., Any]) -> None:
    radar = write_chips(place.folder / "radar", (S1,))
    place.write("recipe.yaml", {**RECIPE, "variant": "olmoearth-optical"})
    ended = tokenrank(*place.command(data=radar))
    refused(place, ended, f'"small" makes tokens of {S2}, but the chips hold {S1}')
    long = write_chips(place.folder / "long", steps=13)
    place.write("recipe.yaml", RECIPE)
    refused(
        place, tokenrank(*place.command("--no-track", data=long)), "at most 12 time steps.*up to 13"
    )


def test_corrupt_chips(place: Place, tokenrank: Callable[..., Any]) -> None:
    (place.folder / "chips" / "03.npz").write_bytes(b"damaged")
    refused(place, tokenrank(*place.command()), r"1 of .*12 chips are unusable .*03\.npz")
    ended = tokenrank(*place.command("--no-track", tolerate=0.2))
    assert ended.code == 0
    assert "1 skipped" in ended.out
    assert "skipped 03.npz" in ended.out


def test_what_stands_in_the_folder_is_not_overwritten(
    place: Place, tokenrank: Callable[..., Any]
) -> None:
    assert tokenrank(*place.command("--no-track")).code == 0
    before = results(place.run())
    ended = tokenrank(*place.command("--no-track"))
    assert (ended.code, ended.err) == (0, "")
    assert "Already trained" in ended.out
    place.write("recipe.yaml", {**RECIPE, "temperature": 0.3})
    ended = tokenrank(*place.command("--no-track"))
    assert ended.code == 2
    assert "holds weights of another run (recipe small" in ended.err
    assert results(place.run()) == before


def test_chips_that_have_changed_since_the_checkpoint(
    place: Place, tokenrank: Callable[..., Any], often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "write_study_weights", stop)
        with pytest.raises(StoppedError):
            tokenrank(*place.command("--no-track"))
    assert (place.run() / CHECKPOINT).exists()
    (place.folder / "chips" / "03.npz").unlink()
    ended = tokenrank(*place.command("--no-track"))
    assert ended.code == 2
    assert re.search("another run: its data is .*the chips have changed since", ended.err)
