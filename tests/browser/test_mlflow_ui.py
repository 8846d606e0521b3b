"""The MLflow page as a reader meets it: columns, charts, search, a run, its files, the models.

Each test runs against a server on SQLite and against one on PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.mlflow_view.fetch import comparison_links
from reports.build import build_report
from reports.ranking import rank

FIRST = ["average_rank", "macs", "token_scheme", "tokens", "size", "version", "tier", "data_origin"]
SEARCH = "params.token_scheme = 'single' and metrics.average_rank < 3"


class Page:
    """A browser with the few gestures that the tests need."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser = browser
        self.address = address

    def open(self, place: str) -> None:
        # Between two addresses that differ after the hash only, a browser loads nothing anew.
        self.browser.get("about:blank")
        self.browser.get(f"{self.address}/{place}")

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        from selenium.common.exceptions import StaleElementReferenceException  # noqa: PLC0415
        from selenium.webdriver.support.ui import WebDriverWait  # noqa: PLC0415

        ignored = [StaleElementReferenceException]
        waiting = WebDriverWait(self.browser, 40, 0.1, ignored_exceptions=ignored)
        return waiting.until(lambda _: condition(), f"waited for {what}")

    def all(self, selector: str) -> list[Any]:
        return list(self.browser.find_elements("css selector", selector))

    def labelled(self, element: str, text: str) -> Any:
        """The innermost element (a CSS selector) that holds just this text."""
        script = """
            const found = [...document.querySelectorAll(arguments[0])];
            return found.filter((e) => e.innerText?.trim() === arguments[1]).at(-1);
        """
        return self.wait(lambda: self.browser.execute_script(script, element, text), text)

    def see(self, text: str) -> None:
        self.wait(lambda: text in self.browser.find_element("tag name", "body").text, text)

    def run_names(self) -> list[str]:
        """Names in the table of runs, from top to bottom."""
        links = self.all(".ag-center-cols-container a, .ag-pinned-left-cols-container a")
        found = [link for link in links if "/runs/" in (link.get_attribute("href") or "")]
        return [link.text for link in sorted(found, key=lambda link: link.rect["y"])]

    def headers(self) -> list[str]:
        """Titles of the table's columns, from left to right."""
        cells = sorted(self.all(".ag-header-cell"), key=lambda cell: cell.rect["x"])
        return [cell.text for cell in cells if cell.text]


@pytest.fixture
def page(browser: Any, tracked: Any) -> Page:
    return Page(browser, tracked.address)


@pytest.fixture
def comparison(tracked: Any) -> str:
    """The link that `tokenrank ui` prints."""
    return comparison_links(tracked.address)["eurosat"]


@pytest.fixture
def runs_page(comparison: str) -> str:
    """The experiment's own page, as MLflow opens it for machine learning."""
    return comparison.partition("&")[0]


@pytest.fixture
def best_first(tracked: Any) -> list[str]:
    (table,) = rank(tracked.results)
    return [entry.variant for entry in table.ranked]


def test_the_comparison_opens_ranked_with_the_columns_that_matter_first(
    page: Page, comparison: str, best_first: list[str]
) -> None:
    page.open(comparison)
    page.wait(lambda: page.run_names() == best_first, f"{best_first} in this order")
    headers = page.headers()
    assert headers[headers.index("average_rank") :][: len(FIRST)] == FIRST
    assert page.browser.title != "owned"  # a variant is named like a script


def test_charts_of_cost_against_rank_and_of_each_task_stand_as_the_page_opens(
    page: Page, comparison: str, best_first: list[str]
) -> None:
    page.open(f"{comparison}&compareRunsMode=CHART")
    page.see("macs_log10 vs. average_rank")
    points = ".scatterlayer .point"
    page.wait(lambda: len(page.all(points)) == len(best_first), "a point for each variant")
    bars = ".barlayer .point"
    page.wait(lambda: len(page.all(bars)) >= len(best_first), "bars")
    page.see("score\n(2)")


def test_the_experiment_groups_variants_by_suite_run_and_search_finds_them_flat(
    page: Page, tracked: Any, runs_page: str, best_first: list[str]
) -> None:
    page.open(runs_page)
    page.wait(lambda: set(best_first) < set(page.run_names()), "all variants")
    (suite_run,) = set(page.run_names()) - set(best_first)
    assert suite_run == "eurosat · official weights, real data · abababab"
    page.see("compare the token designs")

    from selenium.webdriver.common.keys import Keys  # noqa: PLC0415

    (box,) = page.all("input[placeholder*='metrics.rmse']")
    box.send_keys(SEARCH, Keys.ENTER)
    single = set(
        tracked.results.variants.filter(tracked.results.variants["scheme"] == "single")["variant"]
    )
    (table,) = rank(tracked.results)
    expected = {e.variant for e in table.ranked if e.average_rank < 3} & single
    assert expected
    # MLflow shows the suite run above the variants that it found.
    page.wait(lambda: set(page.run_names()) == {suite_run, *expected}, f"{expected} alone")


def test_a_run_describes_itself_and_shows_its_files(
    page: Page, comparison: str, best_first: list[str]
) -> None:
    page.open(comparison)
    page.wait(lambda: page.run_names() == best_first, "the table")
    hostile = next(name for name in best_first if "<script>" in name)
    page.labelled("a", hostile).click()
    page.see("Real data, official weights (published checkpoints)")
    page.see("Average rank")
    page.see("score/eurosat-knn")
    page.labelled("[role=tab], a", "Artifacts").click()
    for name in ("predictions.parquet", "scores.csv"):
        page.see(name)
    page.labelled("*", "confusion.html").click()
    frame = page.wait(lambda: next(iter(page.all("iframe")), None), "the confusion matrices")
    page.browser.switch_to.frame(frame)
    try:
        page.see(f"Confusion matrices of {hostile}")
        assert len(page.all("table")) == 2
    finally:
        page.browser.switch_to.default_content()
    assert page.browser.title != "owned"


def test_each_variant_is_a_logged_model(page: Page, runs_page: str, best_first: list[str]) -> None:
    page.open(runs_page.replace("/runs?", "/models?"))
    page.wait(
        lambda: len([e for e in page.all(".ag-row") if "Ready" in e.text]) >= len(best_first),
        "models that are ready",
    )
    page.see("olmoearth-v1_1-nano")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on a machine that knows neither the store nor the server."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_report_is_made_again_from_the_server(tracked: Any, elsewhere: Path) -> None:
    from harness.commands.views import report_command  # noqa: PLC0415

    report_command("eurosat", elsewhere / "none", None, elsewhere / "report", tracked.address)
    direct = build_report(tracked.results, elsewhere / "direct")
    assert (elsewhere / "report" / "report.html").read_bytes() == direct.html.read_bytes()
