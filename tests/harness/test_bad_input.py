"""What a user can get wrong: each ends in one sentence, exit code 2, and no result."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import torch
import yaml
from optuna.storages.journal import JournalFileBackend

from harness.store import Store
from harness.tracking import make_database
from suites.datasets.eurosat import BANDS, CLASSES
from suites.datasets.geobench import SPECS

Tokenrank = Callable[..., Any]
Image = npt.NDArray[Any]
NOTHING_LISTENS = "http://127.0.0.1:9"

# Typical digital numbers of EuroSAT's 13 bands, in stored order; plausible, not exact.
MEANS = (1350, 1120, 1040, 950, 1200, 2000, 2370, 2300, 730, 12, 1820, 1120, 2600)


def refused(ended: Any, store: Path, *words: str) -> None:
    """One sentence on stderr with these words, exit code 2, and no cell in the store."""
    assert "Traceback" not in ended.out + ended.err
    assert len(ended.err.strip().splitlines()) == 1, ended.err
    assert ended.err.startswith("tokenrank: "), ended.err
    for word in words:
        assert word in ended.err
    assert ended.code == 2
    assert list(store.rglob("cells/*/*")) == []


def own_process(*arguments: object, **environment: str) -> Any:
    """The same as a process of its own: nothing that a test replaced, a real exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", *map(str, arguments)],
        env={**os.environ, "MLFLOW_TRACKING_URI": NOTHING_LISTENS, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return _ended(done.returncode, done.stdout, done.stderr)


def _ended(code: int, out: str, err: str) -> Any:
    return type("Ended", (), {"code": code, "out": out, "err": err})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


# --- the suite and the options ----------------------------------------------------


@pytest.mark.parametrize(
    ("written", "instead", "line", "words"),
    [
        ("probe: {kind: knn, k: 5}", "prob: {kind: knn}", 12, ['"prob"', '"probe"']),
        ("kind: knn, k: 5", "kind: knn, kk: 5", 12, ['"kk"', "Allowed: k, kind"]),
        ("kind: knn, k: 5", "kind: kmn", 12, ['"kmn"', '"knn"']),
        ("three-pico]", "three-pixo]", 7, ['"pixo"', '"pico"']),
        ("one-pico,", "one-pico:singel,", 7, ['"singel"', '"single"']),
        ("dataset: simulated", "dataset: simulatd", 10, ['"simulatd"', '"simulated"']),
        ("patch_size: 8,", "metric: acuracy,", 4, ['"acuracy"', '"accuracy"']),
        ("patch_size: 8,", "patch_size: 9,", 4, ["protocol.patch_size", "9"]),
        ("tier: random", "tier: rndom", 5, ['"rndom"', '"random"']),
        ("pico.yaml", "pica.yaml", None, ["pica.yaml", "no such file"]),
        ("seeds: [0, 1]", "seeds: [0, 0]", 6, ["twice"]),
        ("seeds: [0, 1]", "[seeds]: [0, 1]", 6, ["not valid YAML", "key"]),
        ("seeds: [0, 1]", "seeds: [0, -1]", 6, ["seeds", "-1"]),
        ("seeds: [0, 1]", "seeds: [0, 1", 7, ["not valid YAML"]),
        ("size: 100", "partition: default", None, ["simulated", '"partition"', "allowed: seed"]),
    ],
)
def test_a_typo_in_a_suite_is_found_with_its_line(
    tokenrank: Tokenrank,
    small_suite: Path,
    store: Path,
    written: str,
    instead: str,
    line: int | None,
    words: list[str],
) -> None:
    text = small_suite.read_text()
    assert written in text
    small_suite.write_text(text.replace(written, instead, 1))
    place = f"{small_suite}:{line}: " if line else ""
    refused(tokenrank("run", small_suite, "--store", store), store, place, *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tier", "offical"], ["--tier", '"offical"', '"official"']),
        (["--tier", "study"], ["no study weights", "shipped", "another tier"]),
        (["--weights", "olmoearth-one-pico"], ["--weights", "VARIANT=FOLDER"]),
        (["--weights", "=folder"], ["--weights", "VARIANT=FOLDER"]),
        (["--weights", "olmoearth-v1-nano=x"], ["olmoearth-v1-nano", "does not run"]),
        (["--tier", "random", "--weights", "olmoearth-one-pico=x"], ["random", "--weights"]),
        (["--variant", "olmoearth-one-picco"], ['"picco"', '"pico"']),
        (["--variant", "olmoearth-one-pico", "--variant", "olmoearth-one-pico"], ["twice"]),
        (["--registry", "nowhere.yaml"], ["nowhere.yaml", "no such file"]),
    ],
)
def test_mistaken_options_of_run(
    tokenrank: Tokenrank, small_suite: Path, store: Path, options: list[str], words: list[str]
) -> None:
    refused(tokenrank("run", small_suite, "--store", store, *options), store, *words)


def test_numbers_out_of_range(tokenrank: Tokenrank, small_suite: Path, store: Path) -> None:
    """The option parser answers in its own form: usage first, then the sentence."""
    for option, value in (("--seed", "-1"), ("--patch-size", "9"), ("--patch-size", "four")):
        ended = tokenrank("run", small_suite, "--store", store, option, value)
        assert ended.code == 2
        assert option in ended.err.splitlines()[-1]
        assert not store.exists()


def test_brackets_in_names_are_text(
    tokenrank: Tokenrank, small_suite: Path, tmp_path: Path
) -> None:
    """The terminal's own markup is written in brackets; a user's title may hold some."""
    text = small_suite.read_text()
    small_suite.write_text(text.replace("A small suite", '"The [/red] draft"'))
    store = tmp_path / "store [bold]"
    ended = tokenrank("run", small_suite, "--store", store, "--variant", "olmoearth-one-pico")
    assert ended.code == 0, ended.err
    assert "The [/red] draft" in ended.out
    assert f"tokenrank ui --store {store}" in ended.out


def test_an_unknown_suite(tokenrank: Tokenrank, store: Path, tmp_path: Path) -> None:
    refused(tokenrank("run", "eurosta", "--store", store), store, '"eurosta"', '"eurosat"')
    nowhere = tmp_path / "no.yaml"
    refused(tokenrank("run", nowhere, "--store", store), store, str(nowhere), "no such file")
    refused(tokenrank("run", f"{tmp_path}/", "--store", store), store, str(tmp_path))


@pytest.mark.parametrize("command", ["report", "sync", "ui"])
@pytest.mark.parametrize("kind", ["absent", "empty"])
def test_views_of_an_empty_store(
    tokenrank: Tokenrank,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    kind: str,
) -> None:
    if kind == "empty":
        store.mkdir()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # the UI would be the server's, not the store's
    refused(tokenrank(command, "--store", store), store, str(store), "run a suite first")


def test_data_commands(tokenrank: Tokenrank, store: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    get = tokenrank("data", "get", "eurosta", "--data-dir", data)
    refused(get, store, '"eurosta"', '"eurosat"')
    assert not data.exists()
    refused(tokenrank("data", "get", "eurosat"), store, "--data-dir")
    (tmp_path / "no images").mkdir()
    (tmp_path / "no images" / "notes.txt").write_text("nothing to see")
    check = tokenrank("data", "check", tmp_path / "no images", "--store", store)
    refused(check, store, "no images", "no image files", ".tif")
    refused(tokenrank("data", "check", "eurosta", "--store", store), store, '"eurosat"')
    said = ("data", "check", "simulated-cover", "--store", store, "--option")
    refused(tokenrank(*said, "size"), store, "must be KEY=VALUE")
    refused(tokenrank(*said, "sise=120"), store, 'did you mean "size"?')
    assert "simulated-cover: 110 samples" in tokenrank(*said, "size=110").out
    refused(tokenrank("data", "list", "--data-dir", data), store, str(data), "does not exist")


# --- data -------------------------------------------------------------------------


def noise(seed: int) -> Image:
    """A tile ``[64, 64, 13]`` of noise around the bands' usual means."""
    draws = np.random.default_rng(seed).normal(1.0, 0.2, (64, 64, len(BANDS)))
    return np.clip(draws * MEANS, 1, 10_000).astype(np.uint16)


def write_tile(path: Path, image: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, image, planarconfig="contig", photometric="minisblack")


@pytest.fixture
def eurosat(tmp_path: Path) -> Path:
    """A data directory with five tiles of each EuroSAT class."""
    for i in range(50):
        name = CLASSES[i % 10]
        write_tile(tmp_path / "data" / "eurosat_ms" / name / f"{name}_{i // 10 + 1}.tif", noise(i))
    return tmp_path / "data"


@pytest.fixture
def on_eurosat(small_suite: Path) -> Path:
    """The small suite on EuroSAT: one variant, one seed, the kNN task."""
    text = small_suite.read_text()
    text = text[: text.index("  - name: sim-linear")] + "baselines: []\n"
    text = text.replace("dataset: simulated", "dataset: eurosat")
    text = text.replace("    data: {size: 100}\n", "").replace("seeds: [0, 1]", "seeds: [0]")
    small_suite.write_text(text.replace(", olmoearth-three-pico", ""))
    return small_suite


def test_the_undamaged_folder_runs(
    tokenrank: Tokenrank, eurosat: Path, on_eurosat: Path, store: Path
) -> None:
    """What the cases below damage is otherwise in order, so it is the damage that is refused."""
    ended = tokenrank("run", on_eurosat, "--store", store, "--data-dir", eurosat)
    assert ended.code == 0, ended.err
    assert len(list(store.rglob("cells/*/*.json"))) == 1


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def with_nan(path: Path) -> None:
    image = noise(0).astype(np.float32)
    image[3, 4, 5] = np.nan
    write_tile(path, image)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (truncate, ["damaged or truncated", "remove it"]),
        (lambda p: p.write_bytes(b""), ["damaged or truncated"]),
        (lambda p: p.write_text("not found"), ["damaged or truncated"]),
        (lambda p: write_tile(p, noise(0)[:32, :32]), ["(32, 32, 13)", "(64, 64, 13)"]),
        (lambda p: write_tile(p, noise(0)[:, :, :3]), ["(64, 64, 3)", "multispectral"]),
        (lambda p: write_tile(p, np.full((64, 64, 13), 7, np.uint16)), ["constant"]),
        (with_nan, ["float32", "uint16"]),
        (lambda p: (p.unlink(), p.mkdir()), ["cannot be read"]),
    ],
)
def test_a_bad_tile_is_named(
    tokenrank: Tokenrank,
    eurosat: Path,
    on_eurosat: Path,
    store: Path,
    spoil: Callable[[Path], object],
    words: list[str],
) -> None:
    tile = eurosat / "eurosat_ms" / "River" / "River_3.tif"
    spoil(tile)
    ended = tokenrank("run", on_eurosat, "--store", store, "--data-dir", eurosat)
    refused(ended, store, str(tile), *words)


def test_a_tile_that_breaks_after_a_finished_run(
    tokenrank: Tokenrank, eurosat: Path, on_eurosat: Path, store: Path
) -> None:
    """What the store remembers of a folder does not hide that a file has changed."""
    arguments = ("run", on_eurosat, "--store", store, "--data-dir", eurosat)
    assert tokenrank(*arguments).code == 0
    shutil.rmtree(store / "cells")
    tile = eurosat / "eurosat_ms" / "River" / "River_3.tif"
    truncate(tile)
    refused(tokenrank(*arguments), store, str(tile), "damaged or truncated")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, ["does not exist", "TOKENRANK_DATA"]),
        (lambda data: (shutil.rmtree(data), data.mkdir()), ["is empty", "TOKENRANK_DATA"]),
        (lambda data: (shutil.rmtree(data), data.write_text("")), ["data", "TOKENRANK_DATA"]),
        (lambda data: (data / "eurosat_ms").rename(data / "else"), ['not hold data set "eurosat"']),
        (lambda data: shutil.rmtree(data / "eurosat_ms" / "River"), ["River", "missing"]),
        (lambda data: (data / "eurosat_ms" / "Lake").mkdir(), ["Lake", "Allowed"]),
    ],
)
def test_a_data_folder_that_lacks_the_data(
    tokenrank: Tokenrank,
    eurosat: Path,
    on_eurosat: Path,
    store: Path,
    spoil: Callable[[Path], object],
    words: list[str],
) -> None:
    spoil(eurosat)
    ended = tokenrank("run", on_eurosat, "--store", store, "--data-dir", eurosat)
    refused(ended, store, str(eurosat), *words)


def test_no_data_folder_and_no_fallback(
    tokenrank: Tokenrank, on_eurosat: Path, store: Path
) -> None:
    ended = tokenrank("run", on_eurosat, "--store", store)
    refused(ended, store, '"eurosat"', "TOKENRANK_DATA", "tokenrank data get eurosat")


@pytest.fixture
def m_eurosat(tmp_path: Path) -> Path:
    """A data directory with 30 samples of m-eurosat in GEO-Bench's layout."""
    folder = tmp_path / "data" / "geobench_v1" / "classification_v1.0" / "m-eurosat"
    folder.mkdir(parents=True)
    for i in range(30):
        with h5py.File(folder / f"id_{i}.hdf5", "w") as file:
            for channel, name in enumerate(SPECS["m-eurosat"].arrays):
                file.create_dataset(name, data=noise(i)[:, :, channel].astype(np.int16))
            file.attrs["pickle"] = repr(pickle.dumps({"label": i % 10}))
    ids = [f"id_{i}" for i in range(30)]
    split = {"train": ids[:10], "valid": ids[10:20], "test": ids[20:]}
    (folder / "default_partition.json").write_text(json.dumps(split))
    return tmp_path / "data"


class Touch:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def other_label(evidence: Path) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with h5py.File(path, "a") as file:
            file.attrs["pickle"] = repr(pickle.dumps({"label": Touch(evidence)}))

    return spoil


def other_size(path: Path) -> None:
    name = SPECS["m-eurosat"].arrays[3]
    with h5py.File(path, "a") as file:
        del file[name]
        file.create_dataset(name, data=np.ones((32, 32), np.int16))


def not_a_number(path: Path) -> None:
    name = SPECS["m-eurosat"].arrays[3]
    with h5py.File(path, "a") as file:
        del file[name]
        file.create_dataset(name, data=np.full((64, 64), np.nan, np.float32))


def without_a_band(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file[SPECS["m-eurosat"].arrays[3]]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (truncate, ["damaged or truncated"]),
        (other_size, ["(32, 32)", "64 x 64"]),
        (not_a_number, ["NaN"]),
        (without_a_band, ["no array", "04 - Red"]),
        ("label", []),
    ],
)
def test_a_bad_hdf5_sample_is_named(
    tokenrank: Tokenrank,
    m_eurosat: Path,
    on_eurosat: Path,
    store: Path,
    tmp_path: Path,
    spoil: Callable[[Path], object] | str,
    words: list[str],
) -> None:
    on_eurosat.write_text(on_eurosat.read_text().replace("dataset: eurosat", "dataset: m-eurosat"))
    sample = next(m_eurosat.rglob("id_17.hdf5"))
    evidence = tmp_path / "executed"
    (other_label(evidence) if isinstance(spoil, str) else spoil)(sample)
    ended = tokenrank("run", on_eurosat, "--store", store, "--data-dir", m_eurosat)
    refused(ended, store, str(sample), *words)
    assert not evidence.exists()


# --- weights ----------------------------------------------------------------------


@pytest.fixture
def tiny_checkpoint(tmp_path: Path) -> Path:
    """A checkpoint folder of v1 tiny, as the reference package would save it."""
    reference = pytest.importorskip(
        "olmoearth_pretrain_minimal", reason="the reference package is a development dependency"
    )
    folder = tmp_path / "OlmoEarth-v1-Tiny"
    folder.mkdir()
    model = reference.OlmoEarthPretrain_v1(model_size="tiny", model_version="v1")
    torch.save(model.model.state_dict(), folder / "weights.pth")
    (folder / "config.json").write_text('{"model": {}}')
    return folder


OFFICIAL = ("--variant", "olmoearth-v1-nano", "--tier", "official")


def test_weights_of_another_size(
    tokenrank: Tokenrank, small_suite: Path, store: Path, tiny_checkpoint: Path
) -> None:
    ended = tokenrank(
        "run", small_suite, "--store", store, *OFFICIAL,
        "--weights", f"olmoearth-v1-nano={tiny_checkpoint}",
    )  # fmt: skip
    refused(ended, store, str(tiny_checkpoint), "olmoearth-v1-nano", "shape", "192", "128")


@pytest.mark.parametrize("container", ["pickle", "torch"])
def test_a_malicious_checkpoint_is_not_executed(
    tokenrank: Tokenrank, small_suite: Path, store: Path, tmp_path: Path, container: str
) -> None:
    folder, evidence = tmp_path / "weights" / "OlmoEarth-v1-Nano", tmp_path / "executed"
    folder.mkdir(parents=True)
    payload = {"encoder.norm.weight": Touch(evidence)}
    (folder / "config.json").write_text("{}")
    if container == "torch":
        torch.save(payload, folder / "weights.pth")
    else:
        (folder / "weights.pth").write_bytes(pickle.dumps(payload))
    options = ("--weights-dir", folder.parent)
    refused(
        tokenrank("run", small_suite, "--store", store, *OFFICIAL, *options),
        store,
        str(folder / "weights.pth"),
        "refused",
    )
    assert not evidence.exists()
    if container == "pickle":
        # The same in a process of its own, where no test runner catches a library's warnings.
        alone = own_process("run", small_suite, "--store", store, *OFFICIAL, *options)
        refused(alone, store, str(folder / "weights.pth"), "refused")
        assert not evidence.exists()


@pytest.mark.parametrize(
    ("present", "words"),
    [
        (None, ["--weights-dir", "not there"]),
        ([], ["OlmoEarth-v1-Nano/config.json", "not there"]),
        (["config.json"], ["OlmoEarth-v1-Nano/weights.pth", "not there"]),
    ],
)
def test_a_checkpoint_folder_that_is_not_there(
    tokenrank: Tokenrank,
    small_suite: Path,
    store: Path,
    tmp_path: Path,
    present: list[str] | None,
    words: list[str],
) -> None:
    weights = tmp_path / "weights"
    if present is not None:
        (weights / "OlmoEarth-v1-Nano").mkdir(parents=True)
        for name in present:
            (weights / "OlmoEarth-v1-Nano" / name).write_text("{}")
    ended = tokenrank("run", small_suite, "--store", store, *OFFICIAL, "--weights-dir", weights)
    refused(ended, store, *words)


def test_a_hub_that_does_not_answer(small_suite: Path, store: Path, tmp_path: Path) -> None:
    ended = own_process(
        "run", small_suite, "--store", store, *OFFICIAL,
        HF_ENDPOINT=NOTHING_LISTENS, HF_HOME=str(tmp_path / "hub"),
    )  # fmt: skip
    refused(ended, store, "allenai/OlmoEarth-v1-Nano", NOTHING_LISTENS, "--weights-dir")


def test_no_variant_has_weights(tokenrank: Tokenrank, small_suite: Path, store: Path) -> None:
    ended = tokenrank("run", small_suite, "--store", store, "--tier", "official")
    refused(ended, store, "no official weights exist for olmoearth-one-pico", "another tier")


# --- the store --------------------------------------------------------------------


def test_a_store_that_cannot_be_written(
    tokenrank: Tokenrank, small_suite: Path, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    for store in (in_the_way, in_the_way / "below"):
        ended = tokenrank("run", small_suite, "--store", store)
        refused(ended, tmp_path, str(store), "--store", "TOKENRANK_STORE")
    assert in_the_way.read_text() == "not a folder"


def test_a_report_by_the_suites_file_or_name_and_one_that_cannot_be_written(
    tokenrank: Tokenrank, small_suite: Path, store: Path, tmp_path: Path
) -> None:
    assert tokenrank("run", small_suite, "--store", store).code == 0
    name = yaml.safe_load(small_suite.read_text())["name"]
    for number, asked in enumerate((small_suite, name)):
        assert (
            tokenrank("report", asked, "--store", store, "--out", tmp_path / f"{number}").code == 0
        )
    assert (tmp_path / "0/report.md").read_bytes() == (tmp_path / "1/report.md").read_bytes()
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    ended = tokenrank("report", "--store", store, "--out", in_the_way)
    refused(ended, tmp_path / "no cells", str(in_the_way), "--out")


def test_a_run_whose_results_are_cut_short_or_damaged(
    tokenrank: Tokenrank, small_suite: Path, store: Path, tmp_path: Path
) -> None:
    assert tokenrank("run", small_suite, "--store", store).code == 0
    table = next(store.glob("runs/*/results/scores.parquet"))
    truncate(table)
    for command in (("report", "--out", tmp_path / "out"), ("sync",)):
        ended = tokenrank(*command, "--store", store)
        refused(ended, tmp_path / "no cells", str(table), "broken or cut short")
    assert not (tmp_path / "out").exists()
    (table.parent / "run.json").unlink()  # what a kill just before the end leaves behind
    ended = tokenrank("report", "--store", store)
    refused(ended, tmp_path / "no cells", "no finished run")
    next(store.glob("runs/*/report/report.html")).unlink()
    again = tokenrank("run", small_suite, "--store", store)
    assert (again.code, "Nothing to compute" in again.out) == (0, True)
    assert len(list(store.glob("runs/*/report/report.html"))) == 1
    assert tokenrank("report", "--store", store, "--out", tmp_path / "out").code == 0


def test_a_tracking_database_that_was_half_made_when_a_run_was_killed(
    tokenrank: Tokenrank, small_suite: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow cannot mend one: it must never stand where the finished one is looked for."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("TOKENRANK_CACHE", str(store.with_name("cache")))  # which keeps none
    killed = RuntimeError("killed while the tables were being made")
    with monkeypatch.context() as patched:
        patched.setattr("mlflow.MlflowClient.search_experiments", Mock(side_effect=killed))
        with pytest.raises(RuntimeError, match="killed"):
            make_database(store_that_exists(store))
    assert not (store / "mlflow.db").exists()
    with sqlite3.connect(store / ".mlflow.db.1.tmp") as left:
        left.execute("create table if not exists experiments (experiment_id integer)")
    ended = tokenrank("run", small_suite, "--store", store)
    assert ended.code == 0, ended.err
    assert "was not updated" not in ended.out
    assert {p.name for p in store.glob("*mlflow.db*")} == {"mlflow.db", "mlflow.db.guard"}


def store_that_exists(store: Path) -> Store:
    store.mkdir()
    return Store(store)


def test_an_interrupt_says_that_the_same_command_goes_on(
    tokenrank: Tokenrank, small_suite: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "put_cell", interrupt)
    ended = tokenrank("run", small_suite, "--store", store)
    assert ended.code == 130
    assert ended.err == "Interrupted; the same command goes on from here.\n"


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on(
    tokenrank: Tokenrank, small_suite: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("run", small_suite, "--store", store)
    for where in ("_allocate_safetensors", "write_json"):
        with monkeypatch.context() as patched:
            patched.setattr(f"harness.store.{where}", no_space)
            refused(tokenrank(*arguments), store, "disk is full", "same command again")
    with monkeypatch.context() as patched:
        patched.setattr(Store, "put_cell", no_space)
        refused(tokenrank(*arguments), store, "disk is full", "same command again")
    ended = tokenrank(*arguments)
    assert ended.code == 0, ended.err
    assert len(list(store.rglob("cells/*/*.json"))) == 8


def test_a_disk_that_is_full_when_a_trial_is_kept(
    tokenrank: Tokenrank, small_suite: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JournalFileBackend, "append_logs", no_space)
    ended = tokenrank("run", small_suite, "--store", store)
    assert ended.code == 2
    assert ended.err.startswith("tokenrank: The disk is full (")
    assert len(ended.err.splitlines()) == 1


def test_a_database_of_studies_that_is_away(
    tokenrank: Tokenrank, small_suite: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start, before anything is computed; and later, when what there is is kept."""
    slept: list[float] = []
    monkeypatch.setattr("harness.probes.study_database.sleep", slept.append)
    monkeypatch.setenv("TOKENRANK_TUNING", "postgresql+psycopg2://u@127.0.0.1:9/studies")
    away = "The database of tuning studies (TOKENRANK_TUNING) does not answer: connection to server"
    ended = tokenrank("run", small_suite, "--store", store)
    refused(ended, store, f"tokenrank: {away}", "check its address")
    assert slept == [1.0]
    monkeypatch.setattr("harness.executors.work.require_database", lambda _: None)
    ended = tokenrank("run", small_suite, "--store", store)
    assert ended.code == 2
    assert ended.err.startswith(f"tokenrank: {away}"), ended.err
    assert ended.err.endswith("and the same command goes on from there.\n")
    assert len(ended.err.splitlines()) == 1
    assert len(list(store.rglob("cells/*/*.json"))) > 0


def test_a_disk_that_is_really_full(
    tokenrank: Tokenrank, small_suite: Path, small_disk: Path, tmp_path: Path
) -> None:
    """Full within the images, then within the embeddings; then room, and it ends well."""
    text = small_suite.read_text()
    text = text[: text.index("  - name: sim-linear")].replace("seeds: [0, 1]", "seeds: [0]")
    small_suite.write_text(text)
    store, filler = small_disk / "store", small_disk / "filler"
    pixels = 100 * 64 * 64 * 13 * 2
    for room in (pixels // 2, pixels + (56 << 10)):
        filler.unlink(missing_ok=True)
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - room))
        ended = own_process("run", small_suite, "--store", store)
        refused(ended, store, str(store), "same command again")
        assert list(store.rglob("*.tmp")) == []
    filler.unlink()
    assert tokenrank("run", small_suite, "--store", store).code == 0
    undisturbed = tmp_path / "undisturbed"
    assert tokenrank("run", small_suite, "--store", undisturbed).code == 0
    assert cells(store) == cells(undisturbed)


def cells(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in store.glob("cells/*/*")}
