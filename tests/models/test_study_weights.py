"""Study weights: what is written comes back, and what does not belong together is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from models import study_cards
from models.errors import UserError
from models.families import design_of, encoder_code
from models.normalisation import pretraining_statistics
from models.pretraining.recipe import load_recipe, load_setting, recipe_hash, recipe_names
from models.registry import Variant, load_registry
from models.sensors import modality
from models.study_cards import (
    BandRow,
    StudyCard,
    StudyData,
    StudyFiles,
    find_shipped,
    main_recipe,
    read_card,
)
from models.study_weights import load, write_study_weights

NAME = "olmoearth-v1.1-nano"


def family_statistics(name: str = "sentinel2_l2a") -> dict[str, dict[str, BandRow]]:
    """What OlmoEarth's own weights are normalised by."""
    rows = zip(modality(name).band_names, *pretraining_statistics(name), strict=True)
    return {name: {band: BandRow(mean=mean, std=std) for band, mean, std in rows}}


def variant(name: str = NAME) -> Variant:
    return load_registry().variant(name)


def card(name: str = NAME, **facts: Any) -> StudyCard:
    of = variant(name)
    known: dict[str, Any] = {
        "variant": name,
        "recipe": main_recipe(of),
        "recipe_hash": "0123abcd",
        "setting": "study",
        "size": of.size,
        "seed": 7,
        "steps": 10,
        "samples_seen": 640,
        "data": StudyData(
            title="tiles", count=64, fingerprint="f" * 16, origin="real", licence="CC BY 4.0"
        ),
        "code": "c" * 16,
        "statistics": family_statistics(),
        "packages": {"torch": "2", "numpy": "2"},
        "created_by_command": "tokenrank pretrain v1.1",
    }
    return StudyCard(**{**known, **facts})


def encoder(name: str = NAME, seed: int = 7) -> torch.nn.Module:
    code = encoder_code(variant(name))
    return code.init_random(code.build(variant(name), {}), seed).eval()


def written(folder: Path, name: str = NAME, **facts: Any) -> Path:
    write_study_weights(folder, encoder(name).state_dict(), card(name, **facts))
    return folder


@pytest.mark.parametrize("name", [NAME, "olmoearth-v1-nano:single", "olmoearth-v1.2-nano"])
def test_what_was_written_comes_back_within_the_rounding_of_float16(
    tmp_path: Path, name: str
) -> None:
    place = written(tmp_path, name)
    own, loaded = encoder(name).state_dict(), load(variant(name), place).state_dict()
    assert list(own) == list(loaded)
    for key, tensor in loaded.items():
        assert tensor.dtype == torch.float32
        # Eleven bits of mantissa; below 2^-14 the spacing is 2^-24.
        torch.testing.assert_close(tensor, own[key], rtol=2**-11, atol=2**-25)


def test_the_file_is_a_plain_safetensors_file_that_says_what_it_is(tmp_path: Path) -> None:
    place = written(tmp_path)
    with safe_open(place / "encoder.safetensors", framework="pt") as file:
        assert file.metadata() == {
            "format": "tokenrank-encoder-1",
            "variant": NAME,
            "recipe": "v1.1",
            "recipe_hash": "0123abcd",
        }
        assert set(file.keys()) == set(encoder().state_dict())


def test_the_same_weights_and_card_are_the_same_bytes(tmp_path: Path) -> None:
    one, other = written(tmp_path / "one"), written(tmp_path / "other")
    for name in ("encoder.safetensors", "card.yaml"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_a_card_says_what_was_said(tmp_path: Path) -> None:
    said = card(limits=["Small: 64 tiles."], pretraining_macs=3 * 10**15)
    sha256 = write_study_weights(tmp_path, encoder().state_dict(), said)
    assert read_card(tmp_path) == said.model_copy(update={"weights_sha256": sha256})
    assert read_card(tmp_path / "encoder.safetensors") == read_card(tmp_path / "card.yaml")


def test_weights_that_float16_cannot_hold_are_not_written(tmp_path: Path) -> None:
    place = written(tmp_path)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    state = encoder(seed=8).state_dict()
    state["norm.weight"][0] = 7e4
    with pytest.raises(UserError, match=r"does not fit float16 .* 7e\+04"):
        write_study_weights(place, state, card())
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(path: Path, **facts: Any) -> None:
    said = yaml.safe_load(path.read_text())
    for key, value in facts.items():
        if value is None:
            del said[key]
        else:
            said[key] = value
    path.write_text(yaml.safe_dump(said))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda w, _: cut(w), "was changed or damaged, get both again"),
        (lambda w, _: w.write_bytes(b"\x99" * 50), "damaged or incomplete"),
        (lambda w, _: w.unlink(), "is not there; study weights are two"),
        (lambda w, _: save_file(encoder().state_dict(), w), 'has format "none", but'),
        (lambda _, c: c.unlink(), "never used without their card"),
        (lambda _, c: change(c, steps=None), 'the key "steps" is missing'),
        (lambda _, c: change(c, weights_sha256=None), 'the key "weights_sha256" is missing'),
        (lambda _, c: change(c, recipe="v2"), 'gives recipe "v2", but the weights'),
        (lambda _, c: change(c, recipe="random"), "is the name of a tier"),
    ],
)
def test_what_does_not_belong_together_is_one_sentence(
    tmp_path: Path, damage: Callable[[Path, Path], Any], sentence: str
) -> None:
    place = written(tmp_path / "run")
    damage(place / "encoder.safetensors", place / "card.yaml")
    with pytest.raises(UserError) as refused:
        read_card(place)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_weights_of_another_variant_are_refused_by_name(tmp_path: Path) -> None:
    place = written(tmp_path, "olmoearth-v1-nano:single")
    with pytest.raises(UserError, match=r"weights of olmoearth-v1-nano:single, which do not fit"):
        load(variant("olmoearth-v1-nano"), place)


def test_tensors_of_other_shapes_are_refused_by_name(tmp_path: Path) -> None:
    """A file that lies about itself: the header names one variant, the tensors are another's."""
    write_study_weights(tmp_path, encoder("olmoearth-v1-nano").state_dict(), card())
    with pytest.raises(UserError, match=r"encoder\.safetensors .* tensor \"[\w.]+\""):
        load(variant(), tmp_path)


def test_a_folder_of_seeds_asks_for_one(tmp_path: Path) -> None:
    written(tmp_path / "v1.1-nano" / "seed-0")
    with pytest.raises(UserError, match=r"one folder of weights per seed.*seed-\{seed\}"):
        read_card(tmp_path / "v1.1-nano")


def test_shipped_weights_are_found_by_variant_and_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_cards, "STUDY_FOLDER", tmp_path)
    assert "there are none yet" in str(find_shipped(variant(), "v1.1"))
    for recipe in ("v1.1", "v1.1-v1-loss"):
        files = StudyFiles.shipped(recipe, "nano")
        write_study_weights(files, encoder().state_dict(), card(recipe=recipe))
    found = find_shipped(variant(), "v1.1-v1-loss")
    assert not isinstance(found, str)
    assert found.card.recipe == "v1.1-v1-loss"
    assert "recipes of it that are: v1.1, v1.1-v1-loss" in str(find_shipped(variant(), "v1.1-v2"))
    assert f"variants that have some: {NAME}" in str(
        find_shipped(variant("olmoearth-v1-nano"), "v1")
    )


def test_an_input_is_normalised_as_in_training_and_untrained_modalities_are_not_read():
    family = design_of(variant()).needs
    rows = {"sentinel2_l2a": {b: BandRow(mean=100 + i, std=1 + i)
            for i, b in enumerate(modality("sentinel2_l2a").band_names)}}  # fmt: skip
    needs = card(statistics=rows).needs(family)
    assert set(family.modalities) > {"sentinel2_l2a"} == set(needs.modalities)
    found = needs.modalities["sentinel2_l2a"]
    assert found.shift is not None
    assert found.divisor is not None
    # mean - 2 std becomes 0, mean + 2 std becomes 1
    for i, (shift, divisor) in enumerate(zip(found.shift, found.divisor, strict=True)):
        assert ((100 + i - 2 * (1 + i)) - shift) / divisor == 0
        assert ((100 + i + 2 * (1 + i)) - shift) / divisor == 1


# --- what the package ships ----------------------------------------------------------------------

SHIPPED = sorted(study_cards.STUDY_FOLDER.glob("*.yaml"))
MAIN = [name for name in recipe_names() if load_recipe(name).main]


def test_every_main_recipe_is_shipped_within_twelve_megabytes() -> None:
    assert [path.stem for path in SHIPPED] == sorted(f"{name}-nano" for name in MAIN)
    assert sum(path.stat().st_size for path in study_cards.STUDY_FOLDER.iterdir()) <= 12_000_000


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_card_is_of_the_recipe_that_is_shipped(path: Path) -> None:
    """A changed recipe or setting is another experiment: its weights would have to be made anew."""
    found = read_card(path)
    mine = recipe_hash(load_recipe(found.recipe), load_setting(found.setting), found.size)
    assert found.recipe_hash == mine
    assert found.data.origin == "real"
    assert {(score.origin, score.dataset) for score in found.scores} == {("real", "eurosat")}
    assert any("a subject of study" in limit for limit in found.limits)
    encoder = load(variant(found.variant), path)
    assert all(bool(p.isfinite().all()) for p in encoder.parameters())
