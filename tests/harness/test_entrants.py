"""Who takes part: a mistake of the user's is never taken for weights that are merely away."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.entrants import Entrant
from harness.plan import Places, Plan, make_plan
from harness.results import licence_of
from harness.suite import SUITES_FOLDER, Overrides, load_suite
from models.errors import UserError
from models.registry import load_registry

GALILEO = "galileo-v1-nano"


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there


def plan(tmp_path: Path, *, weights_dir: Path | None = None, **overrides: object) -> Plan:
    given = Overrides(seeds=(0,), **overrides)  # type: ignore[arg-type]
    suite = load_suite(SUITES_FOLDER / "eurosat.yaml", given)
    return make_plan(suite, Places(None, weights_dir, tmp_path / "cache"))


def tiers(of: Plan) -> set[tuple[str, str]]:
    return {(cell.variant.name, cell.weights.tier) for cell in of.cells}


def test_without_the_hub_what_is_optional_is_missing_and_the_rest_runs(tmp_path: Path) -> None:
    found = plan(tmp_path)
    assert {m.entrant.variant.name for m in found.missing} == {GALILEO}
    assert all("optional in this suite" in m.reason for m in found.missing)
    # An untrained encoder is a mark for a trained one; alone it marks nothing.
    assert not any(name == GALILEO for name, _ in tiers(found))


def test_a_wrong_place_for_optional_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"encoder\.pt|config\.json"):
        plan(tmp_path, weights=((GALILEO, tmp_path / "typo"),))
    with pytest.raises(UserError, match=r"weights directory .* is not there"):
        plan(tmp_path, weights_dir=tmp_path / "typo")


def test_a_variant_named_on_the_command_line_runs_as_the_suite_has_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the hub does not answer"):
        plan(tmp_path, variants=(GALILEO,))
    assert (GALILEO, "random") in tiers(plan(tmp_path, variants=(GALILEO,), tier="random"))


def test_marks_alone_are_nothing_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to run: no official weights exist"):
        plan(tmp_path, variants=("olmoearth-v1-nano:single",), tier="official")


def test_runs_that_lack_different_variants_are_different_runs(tmp_path: Path) -> None:
    keys = {
        plan(tmp_path, variants=("olmoearth-v1-nano", other), patch_size=4).key
        for other in ("satmae-pretrain-base", "croma-v1-base")
    }
    assert len(keys) == 2


def test_a_baseline_stays_a_baseline_whatever_is_asked(tmp_path: Path) -> None:
    name = "baseline-projection-512"
    found = plan(tmp_path, variants=(name, "olmoearth-v1-nano"), tier="random")
    assert {tier for variant, tier in tiers(found) if variant == name} == {"baseline"}


def test_a_publishers_licence_is_not_put_on_a_users_own_weights(tmp_path: Path) -> None:
    registry = load_registry()
    published, own = (
        Entrant(registry.variant(f"olmoearth-v1-nano{scheme}"), "official", tmp_path)
        for scheme in ("", ":single")
    )
    assert licence_of(published) == "OlmoEarth Artifact License"
    assert licence_of(own) == "not stated (the user's own weights)"
    assert "MIT" in licence_of(Entrant(registry.variant(f"{GALILEO}:with-ndvi"), "official"))
