"""Names lead to the right data, and never quietly to other data than was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import UserError
from suites.datasets.catalogue import available, resolve
from suites.datasets.simulated_tasks import TASKS


def test_real_data_where_the_setting_leads_to_some(
    eurosat_folder: Path, geobench_folder: Path
) -> None:
    data_dir = eurosat_folder.parent
    assert resolve("eurosat", data_dir, fallback="simulated").card.origin == "real"
    published = resolve("m-eurosat", data_dir, {"band_order": "as-published"})
    assert "AS PUBLISHED" in " ".join(published.card.notes)
    found = {line.name: line for line in available(data_dir)}
    assert found["eurosat"].folder == eurosat_folder
    assert found["m-eurosat"].folder == geobench_folder
    ready = {name for name, line in found.items() if line.is_ready}
    built_in = {"simulated", *TASKS}
    assert ready == {"eurosat", "m-eurosat"} | built_in
    assert {line.name for line in available(None) if line.is_ready} == built_in


def test_archive_layout_is_found(eurosat_folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "fetched/eurosat/ds/images/remote_sensing/otherDatasets/sentinel_2/tif"
    home.parent.mkdir(parents=True)
    eurosat_folder.rename(home)
    assert len(resolve("eurosat", tmp_path / "fetched").ids) == 60
    assert len(resolve("eurosat", home).ids) == 60


def test_simulated_only_when_allowed() -> None:
    stand_in = resolve(
        "eurosat", None, {"split": "seeded"}, fallback="simulated", fallback_options={"size": 120}
    )
    assert stand_in.card.origin == "simulated"
    assert len(stand_in.ids) == 120
    with pytest.raises(UserError, match="TOKENRANK_DATA"):
        resolve("eurosat", None)


def test_a_directory_of_other_sets_leads_to_the_stand_in(eurosat_folder: Path) -> None:
    stand_in = resolve("m-eurosat", eurosat_folder.parent, fallback="simulated")
    assert stand_in.card.origin == "simulated"


def test_wrong_setting_never_becomes_simulated(tmp_path: Path, eurosat_folder: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        resolve("eurosat", tmp_path / "nowhere", fallback="simulated")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is empty"):
        resolve("eurosat", tmp_path / "empty", fallback="simulated")
    with pytest.raises(UserError, match='does not hold data set "m-eurosat"'):
        resolve("m-eurosat", eurosat_folder.parent)


def test_unknown_names_and_options() -> None:
    with pytest.raises(UserError, match='did you mean "eurosat"'):
        resolve("eurosatt", None)
    with pytest.raises(UserError, match=r'no option "sise".*did you mean "size"'):
        resolve("simulated", None, {"sise": 100})
    with pytest.raises(UserError, match="must be a whole number, not '100'"):
        resolve("simulated", None, {"size": "100"})
