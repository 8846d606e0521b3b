"""The report: same bytes, nothing from elsewhere, nothing smuggled in, no claim too many."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from reports.build import build_report
from reports.io import ResultsError, load_results, save_results, write_whole
from reports.ranking import rank
from reports.table import SuiteResults

Make = Callable[..., SuiteResults]
PAIR = {"olmoearth-v1-nano": 0.65, "olmoearth-v1.1-nano": 0.7}


def _same(a: SuiteResults, b: SuiteResults) -> bool:
    frames = zip((a.variants, a.scores, a.samples), (b.variants, b.scores, b.samples), strict=True)
    keys = ["variant", "task", "seed", "sample"]
    return a.run == b.run and all(
        x.sort([k for k in keys if k in x.columns]).equals(
            y.sort([k for k in keys if k in y.columns])
        )
        for x, y in frames
    )


def test_results_travel_unchanged(make_results: Make, tmp_path: Path) -> None:
    gap = ("olmoearth-v1-nano", "eurosat-knn", 1)
    results = make_results(PAIR, seeds=(0, 1), without=[gap], notes=("Bands corrected.",))
    save_results(results, tmp_path / "a")
    again = load_results(tmp_path / "a")
    assert _same(results, again)
    save_results(again, tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: (f / "run.json").unlink(), "no saved results"),
        (lambda f: (f / "run.json").write_text("{"), "not readable JSON"),
        (lambda f: (f / "run.json").write_text('{"format": "x-9"}'), 'format "x-9"'),
        (lambda f: (f / "scores.parquet").unlink(), "missing"),
        (lambda f: (f / "samples.parquet").write_bytes(b"PAR1 cut"), "cut short"),
        (lambda f: (f / "scores.parquet").replace(f / "variants.parquet"), "other columns"),
    ],
)
def test_broken_results_are_named_in_one_sentence(
    make_results: Make, tmp_path: Path, harm: Callable[[Path], object], said: str
) -> None:
    save_results(make_results(PAIR), tmp_path)
    harm(tmp_path)
    with pytest.raises(ResultsError, match=said) as caught:
        load_results(tmp_path)
    assert "\n" not in str(caught.value)


def test_same_results_give_the_same_bytes_in_other_processes(
    make_results: Make, tmp_path: Path
) -> None:
    save_results(make_results(PAIR, seeds=(0, 1)), tmp_path / "results")
    program = (
        "import sys; from pathlib import Path; from reports.build import build_report; "
        "from reports.io import load_results; "
        "build_report(load_results(Path(sys.argv[1])), Path(sys.argv[2]), resamples=200)"
    )
    for name in ("one", "two"):
        arguments = [sys.executable, "-c", program, tmp_path / "results", tmp_path / name]
        environment = {**os.environ, "PYTHONHASHSEED": str(len(name) + (name == "two"))}
        subprocess.run(arguments, check=True, env=environment)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    assert {Path(n).suffix for n in names} == {".html", ".json", ".md", ".parquet", ".png", ".svg"}
    for name in names:
        one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        assert one == two, name
        assert str(tmp_path).encode() not in one, name


class _Audit(HTMLParser):
    """Elements of a page, and every address it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.handlers: list[str] = []
        self.facets: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.facets += [found["data-facets"] or ""] if "data-facets" in found else []
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"] or ""
        for name, value in attrs:
            is_jump = re.fullmatch(r"#[a-z0-9-]+", value or "")  # within the page
            if name in {"src", "href", "xlink:href", "srcset", "action", "data"} and not is_jump:
                self.fetched.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)


def test_hostile_names_stay_text_and_the_page_is_self_contained(
    make_results: Make, make_task: Callable[..., object], tmp_path: Path
) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=y>|`*\n🛰" + "\u202eLTR" + "long" * 50
    names = {"olmoearth-v1-nano": 0.5, f"olmoearth-{evil}-nano": 0.7}
    names[f"olmoearth-v1-nano:{evil}"] = 0.3  # a pair that is a regression
    tasks = [
        make_task(f"knn {evil}", title=evil, protocol=evil, notes=(evil,), classes=(evil, "River")),
        make_task("linear", metric=evil),
    ]
    results = make_results(names, tasks, title=evil, command=evil, notes=(evil,))
    files = build_report(results, tmp_path, resamples=50)
    text = files.html.read_text()
    plain = _Audit()
    plain.feed(text)
    assert plain.tags.count("script") == 1
    assert "img" not in plain.tags
    assert plain.fetched == []
    assert plain.handlers == []
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/)", text)
    shown = [json.loads(facets) for facets in plain.facets]
    assert [v["scheme"] for v in shown[0]][2] == evil
    for figure in (p for p in files.figures if p.suffix == ".svg"):
        assert "<script" not in figure.read_text()
    markdown = files.markdown.read_text()
    # What the command holds stands in a fence that its own backticks cannot close.
    fence = re.search(r"^(`{3,})sh\n(.*?)\n\1$", markdown, flags=re.S | re.M)
    assert fence is not None
    assert fence[2] == evil
    outside = markdown.replace(fence[0], "")
    assert "<script" not in outside
    assert "<img" not in outside


def test_only_the_page_s_own_script_may_run(make_results: Make, tmp_path: Path) -> None:
    text = build_report(make_results(PAIR), tmp_path, resamples=50).html.read_text()
    page = _Audit()
    page.feed(text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.policy
    assert page.policy.startswith("default-src 'none';")


def test_markdown_tables_have_one_width_each(make_results: Make, tmp_path: Path) -> None:
    names = {**PAIR, "olmoearth-v1-nano:a|b": 0.5}
    text = build_report(make_results(names), tmp_path, resamples=50).markdown.read_text()
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.M)
    assert len(tables) >= 4
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def test_the_page_says_what_it_stands_on_and_what_lacks(
    make_results: Make, make_task: Callable[..., object], tmp_path: Path
) -> None:
    tasks = [make_task("knn", origin="simulated"), make_task("linear", origin="simulated")]
    names = {**PAIR, "olmoearth-v1-tiny": 0.8}
    gap = ("olmoearth-v1-tiny", "linear", 0)
    results = make_results(names, tasks, tiers=dict.fromkeys(names, "random"), without=[gap])
    files = build_report(results, tmp_path, resamples=50)
    for path in (files.html, files.markdown):
        text = path.read_text().replace("\\", "")
        head = text[: text.index("average rank")]
        assert "SIMULATED DATA, untrained (random) weights" in head
        assert "olmoearth-v1-tiny" in text
        assert "olmoearth-v1-tiny has no result on linear: out of memory" in text
        assert "2 tasks share one data set" in text
    stems = {p.stem for p in files.figures}
    assert {"cost_rank_random_simulated", "task_scores_random_simulated"} <= stems
    html, markdown = files.html.read_text(), files.markdown.read_text()
    assert html.count('class="wide-plot') == len(stems)
    assert sorted(re.findall(r"\]\((\S+)\.png\)", markdown)) == sorted(stems)


def _sentences(results: SuiteResults, folder: Path) -> str:
    text = build_report(results, folder, resamples=300).markdown.read_text()
    return text[text.index("> **") : text.index("## Ranking")].replace("\\", "")


def test_the_answer_claims_no_more_than_the_intervals(make_results: Make, tmp_path: Path) -> None:
    even = _sentences(make_results(dict.fromkeys(PAIR, 0.7)), tmp_path / "even")
    assert "Nothing separates the 2 variants" in even
    assert "No regression is shown in 2 paired score comparisons over 2 tasks" in even
    assert "is not excluded" in even
    equal = _sentences(make_results(dict.fromkeys(PAIR, 0.7), noise=0.0), tmp_path / "equal")
    # Of equal ranks, the cheaper one is named first.
    assert "olmoearth-v1.1-nano and olmoearth-v1-nano stand first" in equal
    clear = {"olmoearth-v1-nano": 0.9, "olmoearth-v1.1-nano": 0.3}
    found = _sentences(make_results(clear), tmp_path / "clear")
    assert "olmoearth-v1-nano ranks first" in found
    assert "Worse in 2 of 2 paired score comparisons over 2 tasks, 2 of which withstand" in found
    assert found.index("Worse in 2") < found.index("fewer MACs") < found.index("First place")
    assert "Nothing separates" not in found


def test_regressions_stand_first(make_results: Make, tmp_path: Path) -> None:
    quality = {
        "olmoearth-v1-nano": 0.3,
        "olmoearth-v1.1-nano": 0.8,
        "olmoearth-v1-tiny": 0.9,
        "olmoearth-v1.1-tiny": 0.4,
    }
    text = build_report(make_results(quality), tmp_path, resamples=200).markdown.read_text()
    assert text.index("tiny on eurosat") < text.index("nano on eurosat")  # loss before gain
    side = text[text.index("## Side by side") : text.index("## Critical difference")]
    verdicts = re.findall(r"\| \**(worse|better|not separated)\** \|", side)
    # The table of regressions, then the pairs: the one that loses first.
    assert verdicts == ["worse"] * 4 + ["better"] * 2
    sizes = re.findall(r"^#+ (\w+): olmoearth", side, flags=re.M)
    assert sizes == ["tiny", "nano"]


def test_machine_readable_tables_agree_with_the_ranking(make_results: Make, tmp_path: Path) -> None:
    gap = ("olmoearth-v1-nano:single", "eurosat-knn", 0)
    results = make_results({**PAIR, gap[0]: 0.6}, without=[gap])
    files = build_report(results, tmp_path)
    table = pl.read_parquet(files.parquet)
    record = json.loads(files.json.read_text())
    assert record["rows"] == table.to_dicts()
    (ranking,) = rank(results)
    for entry in ranking.ranked:
        rows = table.filter(variant=entry.variant)
        assert rows["average_rank"].unique().to_list() == [entry.average_rank]
        assert dict(rows.select("task", "task_rank").iter_rows()) == entry.ranks
    lacking = table.filter(variant=gap[0], task="eurosat-knn").to_dicts()
    assert [(r["score"], r["average_rank"], r["complete"]) for r in lacking] == [
        (None, None, False)
    ]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write_whole(tmp_path / "report.md", "old")

    def full_disk(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_whole(target, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["report.md"]
    assert target.read_text() == "old"


def test_nothing_complete_is_said_plainly(make_results: Make, tmp_path: Path) -> None:
    gaps = [(name, "eurosat-knn", 0) for name in PAIR]
    files = build_report(make_results(PAIR, without=gaps), tmp_path, resamples=50)
    assert "so there is no ranking" in files.html.read_text()
