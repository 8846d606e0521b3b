"""The atlas as it is drawn and kept: what is seen must be what the designs say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.atlas import Atlas, Channel, CurvePoint, Entry, Kind, Macs, Strip, layouts
from reports.atlas_file import atlas_csv, atlas_json, read_atlas
from reports.atlas_page import write_atlas
from reports.io import ResultsError, load_results, save_results
from reports.labels import text_width
from reports.token_diagram import NARROW, WIDE, Plan, family_diagram
from reports.token_diagram_overview import overview
from reports.token_diagram_words import TIMES, terms

SVG = "{http://www.w3.org/2000/svg}"
BANDS = ("B01", "B02", "B03", "B04", "B08", "B11")
REGIONS = ("atmosphere", "visible", "visible", "visible", "near infrared", "short wave")


def strip(side: int = 64, steps: int = 1, unread: tuple[str, ...] = ()) -> Strip:
    channels = [
        Channel(name, region, 10.0, name not in unread)  # type: ignore[arg-type]
        for name, region in zip(BANDS, REGIONS, strict=True)
    ]
    channels.append(Channel("NDVI", "derived", None, True, ("B08", "B04")))
    return Strip("sentinel2_l2a", "Sentinel-2", side, side, steps, tuple(channels))


def entry(name: str, groups: tuple[tuple[str, ...], ...], **changes: Any) -> Entry:
    """An entry of 8 x 8 pixel patches, one kind per group."""
    shown: Strip = changes.pop("strip", strip())
    grid = shown.height // 8
    kinds = tuple(
        Kind(" ".join(g), shown.modality, g, grid, grid, shown.steps, "tokens") for g in groups
    )
    tokens = sum(kind.count for kind in kinds)
    facts: dict[str, Any] = {
        "variant": f"fam-v1-{name}",
        "family": "fam",
        "version": "v1",
        "size": "nano",
        "scheme": name,
        "scheme_title": f"the scheme {name}",
        "dim": 128,
        "depth": 4,
        "heads": 8,
        "patch_size": 8,
        "strips": (shown,),
        "kinds": kinds,
        "macs": Macs(1000, 10_000 * tokens, 100 * tokens**2),
        "activation_bytes": 4 * 9 * 128 * tokens,
        "params": 1_000_000,
        "curves": tuple(
            CurvePoint("side", side, tokens * side**2 // 64**2, Macs(1, side**2, side**4), 9 * side)
            for side in (32, 64, 128)
        ),
    }
    return Entry(**{**facts, **changes})


def two_entries() -> tuple[Entry, Entry]:
    return entry("two", (("B02", "B08"), ("B11",))), entry("one", (BANDS,))


def drawn(entries: tuple[Entry, ...], plan: Plan = WIDE) -> ET.Element:
    return ET.fromstring(family_diagram(layouts(entries), plan, "x"))


def tiles(svg: ET.Element) -> float:
    """Token tiles in a drawing: areas filled with a pattern of tiles, in tiles."""
    patterns = {
        f"url(#{p.get('id')})": float(p.get("width", "0")) * float(p.get("height", "0"))
        for p in svg.iter(f"{SVG}pattern")
        if p.get("patternTransform") is None  # hatching is turned
    }
    rects = [r for r in svg.iter(f"{SVG}rect") if r.get("fill") in patterns]
    return sum(
        float(r.get("width", "0")) * float(r.get("height", "0")) / patterns[r.get("fill", "")]
        for r in rects
    )


@pytest.mark.parametrize("plan", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize(("side", "steps"), [(64, 1), (24, 3), (256, 12)])
def test_as_many_tiles_are_drawn_as_there_are_tokens(plan: Plan, side: int, steps: int) -> None:
    given = entry("two", (("B02", "B08"), ("B11",)), strip=strip(side, steps))
    svg = drawn((given,), plan)
    said = "".join(svg.itertext())
    found = re.search(r"[Oo]ne square(?: is|:) (\d+) token", said)
    assert found
    assert tiles(svg) * int(found[1]) == pytest.approx(given.tokens, rel=0.02)


def test_attention_is_drawn_to_one_scale() -> None:
    many, few = two_entries()
    squares = [
        float(r.get("width", "0"))
        for r in drawn((many, few)).iter(f"{SVG}rect")
        if "pairs of tokens" in r.get("aria-label", "")
    ]
    assert squares[0] ** 2 / squares[1] ** 2 == pytest.approx(many.tokens**2 / few.tokens**2)


def test_sequences_attend_apart() -> None:
    one = entry("apart", (("B02",), ("B11",)))
    kinds = tuple(replace(k, sequence=s) for k, s in zip(one.kinds, "ab", strict=True))
    svg = drawn((replace(one, kinds=kinds),))
    labels = [r.get("aria-label", "") for r in svg.iter(f"{SVG}rect")]
    assert [text for text in labels if "pairs" in text] == [
        "a: 4,096 pairs of tokens",
        "b: 4,096 pairs of tokens",
    ]


def test_bands_that_a_model_leaves_out_are_told_from_those_that_it_reads() -> None:
    shown = strip(unread=("B01",))
    svg = drawn((entry("rgb", (("B02", "B03", "B04"), ("NDVI",)), strip=shown),))
    hatched = [
        r.get("aria-label") for r in svg.iter(f"{SVG}rect") if r.get("fill") == "url(#x-hatch)"
    ]
    assert "B01, atmosphere, 10 m, not read by this model" in hatched
    labels = [r.get("aria-label") for r in svg.iter(f"{SVG}rect")]
    assert "NDVI, derived, computed from B08 and B04" in labels
    assert "Not read: B01" in "".join(svg.find(f"{SVG}desc").itertext())  # type: ignore[union-attr]


@pytest.mark.parametrize("plan", [WIDE, NARROW], ids=["wide", "narrow"])
def test_no_text_leaves_the_drawing(plan: Plan) -> None:
    groups = tuple((band,) for band in BANDS)
    long = entry("every-band-by-itself", groups, strip=strip(256, 12), scheme_title="word " * 30)
    joint = replace(
        long, kinds=(*long.kinds, Kind("both of them", None, (), 32, 32, 12, "a long sequence"))
    )
    designs = layouts((joint, entry("one", (BANDS,), strip=strip(256, 12))))
    for text in (
        family_diagram(designs, plan, "x"),
        overview(designs, "y", is_narrow=plan.is_narrow),
    ):
        svg = ET.fromstring(text)
        left, _, width, _ = map(float, svg.get("viewBox", "").split())
        for each in svg.iter(f"{SVG}text"):
            said = "".join(each.itertext())
            room = text_width(said, float(each.get("font-size", "0")))
            start = float(each.get("x", "0"))
            start -= {"end": room, "middle": room / 2}.get(each.get("text-anchor", ""), 0.0)
            assert start >= left, said
            assert start + room <= left + width + 2, said


def test_the_arithmetic_comes_to_the_number_of_tokens() -> None:
    many, _ = two_entries()
    class_token = Kind("class token", None, (), 1, 1, 1, "tokens")
    whole = replace(many, kinds=(class_token, *many.kinds))
    for term in terms(whole):
        if TIMES in term.text:
            product = re.sub(r"[a-z ]", "", term.text).replace(TIMES, "*")
            assert eval(product) == term.count  # digits, / and * alone
    assert sum(term.count for term in terms(whole)) == whole.tokens == 129


def test_designs_that_cut_alike_are_drawn_once() -> None:
    many, few = two_entries()
    again = replace(many, variant="fam-v2-two", version="v2")
    assert [d.name for d in layouts((many, few, again))] == ["fam v1, v2 · two", "fam v1 · one"]


def test_an_atlas_comes_back_from_disk_as_it_was() -> None:
    atlas = Atlas(two_entries(), height=64, width=64, steps=1, patch_size=8)
    assert read_atlas(atlas_json(atlas), "atlas.json") == atlas
    header, *rows = atlas_csv(atlas).splitlines()
    assert header.startswith("variant,modalities,axis,value,tokens,macs,")
    assert len(rows) == 6
    for text in ("{", '{"format": "other"}', atlas_json(atlas).replace('"tokens"', '"x"')):
        with pytest.raises(ResultsError, match=r"atlas\.json"):
            read_atlas(text, "atlas.json")


def test_the_page_is_whole_by_itself_and_every_reference_in_it_holds(tmp_path: Path) -> None:
    atlas = Atlas(two_entries(), height=64, width=64, steps=1, patch_size=8)
    written = write_atlas(atlas, tmp_path)
    assert written[-1] == tmp_path / "atlas.html"
    page = written[-1].read_text()
    assert "not measured here" in page
    assert "src=" not in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)
    before = {path: path.read_bytes() for path in written}
    assert {path: path.read_bytes() for path in write_atlas(atlas, tmp_path)} == before


def test_results_carry_their_atlas_and_the_report_links_it(
    tmp_path: Path, make_results: Any, make_task: Any
) -> None:
    from reports.build import build_report  # noqa: PLC0415

    atlas = Atlas(two_entries(), height=64, width=64, steps=1, patch_size=8)
    results = make_results({"fam-v1-two": 0.5, "fam-v1-one": 0.6}, [make_task("a")])
    save_results(replace(results, atlas=atlas), tmp_path)
    assert load_results(tmp_path).atlas == atlas
    report = build_report(load_results(tmp_path), tmp_path / "report", resamples=20)
    assert 'href="atlas.html"' in report.html.read_text()
    assert "(atlas.html)" in report.markdown.read_text()
    assert 'href="report.html"' in (tmp_path / "report" / "atlas.html").read_text()
    (tmp_path / "atlas.json").write_text("{}")
    with pytest.raises(ResultsError, match=r"atlas\.json"):
        load_results(tmp_path)
    save_results(results, tmp_path)
    assert load_results(tmp_path).atlas is None
    assert 'href="atlas.html"' not in build_report(results, tmp_path / "x").html.read_text()


def test_arithmetic_of_many_modalities_keeps_to_its_column() -> None:
    one = entry("many", (BANDS,), strip=strip(256, 12))
    others = [f"another sensor {i}" for i in range(3)]
    strips = tuple(replace(one.strips[0], modality=name) for name in others)
    kinds = tuple(replace(one.kinds[0], modality=name) for name in others)
    whole = replace(one, strips=(*one.strips, *strips), kinds=(*one.kinds, *kinds))
    texts = [t for t in drawn((whole,)).iter(f"{SVG}text") if "256/8" in "".join(t.itertext())]
    assert len(texts) > 1
    for each in texts:
        end = float(each.get("x", "0")) + text_width("".join(each.itertext()), 11.5)
        assert end < WIDE.grid
