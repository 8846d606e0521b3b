"""A user's own class: how it is named, what it may declare, and which code its key holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import UserError
from models.own.declaration import Declaration, declared_by
from models.own.reference import find_reference
from models.own.source import source_of
from models.registry import load_registry


def file_of(folder: Path, name: str) -> Path:
    """``pack__net`` is pack/net.py, ``pack____init__`` pack/__init__.py."""
    parts = name.replace("__init__", "*").split("__")
    return folder / f"{'/'.join(parts).replace('*', '__init__')}.py"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = file_of(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


# --- names ---------------------------------------------------------------------------------


def test_a_file_a_module_and_a_package_are_found_without_being_imported(tmp_path: Path) -> None:
    write(tmp_path, alone="raise RuntimeError", pack____init__="", pack__net="raise RuntimeError")
    (tmp_path / "pack" / "__init__.py").write_text("raise RuntimeError")
    in_file = find_reference("alone.py:Net", {}, tmp_path)
    assert in_file is not None
    assert (in_file.module, in_file.qualname, in_file.root) == ("alone", "Net", tmp_path)
    for text in ("pack/net.py:Net", "pack.net:Net"):
        found = find_reference(text, {}, tmp_path)
        assert found is not None
        assert (found.module, found.root) == ("pack.net", tmp_path)
        assert found.file == tmp_path / "pack" / "net.py"


def test_options_come_with_the_name_or_beside_it(tmp_path: Path) -> None:
    write(tmp_path, net="")
    found = find_reference("net.py:Net,width=64,rate=0.5,deep=true,kind=a", {"more": 1}, tmp_path)
    assert found is not None
    assert found.arguments == {"width": 64, "rate": 0.5, "deep": True, "kind": "a", "more": 1}
    with pytest.raises(UserError, match="gives the option width, and its options do too"):
        find_reference("net.py:Net,width=64", {"width": 32}, tmp_path)
    with pytest.raises(UserError, match='"width" is not of the form option=value'):
        find_reference("net.py:Net,width", {}, tmp_path)


def test_an_installed_package_offers_a_model_by_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, offered_model="")
    info = tmp_path / "offered-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offered\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tokenrank.models]\nour-net = offered_model:Net\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = find_reference("our-net", {}, Path())
    assert found is not None
    assert (found.name, found.module, found.qualname) == ("our-net", "offered_model", "Net")


def test_what_is_no_class_stays_with_the_registry(tmp_path: Path) -> None:
    for name in ("olmoearth-v1-nano", "olmoearth-v1-nano:single", "nonsense"):
        assert find_reference(name, {}, tmp_path) is None
    assert load_registry().variant("olmoearth-v1-nano:single").encoder == "olmoearth"
    with pytest.raises(UserError, match="takes no options"):
        load_registry().variant("olmoearth-v1-nano", {"width": 3})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("absent.py:Net", "there is no file"),
        ("absent_module:Net", "there is no module absent_module in"),
        ("my-net.py:Net", "is no name that Python can import"),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "my-net.py").write_text("")
    with pytest.raises(UserError, match=sentence):
        find_reference(text, {}, tmp_path)


# --- the code in the key -------------------------------------------------------------------

NET = '"""Doc."""\nimport torch\nfrom helper import WIDTH\n\nclass Net: pass\n'


def sha(folder: Path, text: str = "net.py:Net") -> str:
    reference = find_reference(text, {}, folder)
    assert reference is not None
    return source_of(reference).sha256


def test_the_key_holds_imported_code_and_no_comments(tmp_path: Path) -> None:
    write(tmp_path, net=NET, helper="WIDTH = 3\n", bystander="X = 1\n")
    before = sha(tmp_path)
    write(tmp_path, net=NET.replace("Doc", "Other") + "# comment\n", bystander="X = 2\n")
    assert sha(tmp_path) == before
    write(tmp_path, helper="WIDTH = 4\n")
    assert sha(tmp_path) != before


def test_the_key_holds_a_packages_modules_however_they_are_imported(tmp_path: Path) -> None:
    write(tmp_path, pack____init__="", pack__net="from .parts import block\nclass Net: pass\n")
    write(tmp_path, pack__parts____init__="", pack__parts__block="import pack.far\n")
    write(tmp_path, pack__far="def late():\n    from pack import deep\n", pack__deep="X = 1\n")
    seen = {sha(tmp_path, "pack.net:Net")}
    # Packages count even where nobody names them: importing a module runs them first.
    for name in ("pack__parts__block", "pack__far", "pack__deep", "pack____init__"):
        path = file_of(tmp_path, name)
        path.write_text(path.read_text() + "Y = 1\n")
        seen.add(sha(tmp_path, "pack.net:Net"))
    assert len(seen) == 5


def test_the_key_holds_the_versions_of_installed_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, net="import scipy.ndimage\nclass Net: pass\n")
    before = sha(tmp_path)
    monkeypatch.setattr("models.own.source._version", lambda package: f"{package} 99")
    assert sha(tmp_path) != before


def test_a_syntax_error_is_told_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, net="class Net:\n    def f(:\n")
    with pytest.raises(UserError, match=r"net\.py:2: "):
        sha(tmp_path)


# --- declarations --------------------------------------------------------------------------


def declare(**attributes: Any) -> Declaration:
    return declared_by(SimpleNamespace(**{"bands": ["B04", "B08"], **attributes}), "net (net.py)")


def test_what_is_left_out_has_a_default_and_survives_as_plain_data() -> None:
    found = declare(statistics={"B08": (3000, 900), "B04": (1200, 500.5)}, name="net")
    assert found.bands == {"sentinel2_l2a": ("B04", "B08")}
    assert found.groups == {"sentinel2_l2a": (("B04", "B08"),)}
    assert found.statistics == {"sentinel2_l2a": ((1200.0, 500.5), (3000.0, 900.0))}
    assert (found.patch_sizes, found.max_steps, found.level) == (tuple(range(1, 9)), 12, "any")
    assert Declaration.from_plain(found.plain()) == found


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"bands": None}, "bands is missing"),
        ({"bands": {}}, "bands names none"),
        ({"bands": {"sentinel2": ["B04"]}}, "Unknown modality"),
        ({"bands": ["B4"]}, 'names "B4", which sentinel2_l2a has not: did you mean'),
        ({"bands": "B04"}, "must list the bands of sentinel2_l2a, not 'B04'"),
        ({"bands": ["B04", "B04"]}, 'names "B04" twice'),
        ({"statistics": {"B04": (1, 2)}}, "lacks band B08; give all, or none"),
        ({"statistics": {"B04": (1, 2), "B08": (1, 0)}}, "deviation above 0"),
        ({"statistics": {"B04": (1, 2), "B08": 3}}, "not 3"),
        ({"statistics": {"B04": (1, 2), "B08": (1, 2), "B03": (1, 2)}}, "not among its bands"),
        ({"groups": [["B04"]]}, "each of the bands of sentinel2_l2a exactly once"),
        ({"optional": "sentinel1"}, 'optional names "sentinel1"'),
        ({"patch_sizes": [16]}, "patch_sizes holds 16; allowed: integers from 1 to 8"),
        ({"max_steps": 0}, "max_steps holds 0"),
        ({"name": "my net"}, "holds no spaces"),
        ({"level": "L2B"}, 'did you mean "L2A"'),
        ({"weights": True}, "weights must be text, not True"),
    ],
)
def test_a_mistake_in_a_declaration_is_one_sentence(
    attributes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        declare(**attributes)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("net (net.py): ")
