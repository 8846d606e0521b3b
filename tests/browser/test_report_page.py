"""The report in a real browser: filters, sorting, hovering, dark, phone, paper; and no network."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from reports.build import build_report

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"
)
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LONG = "olmoearth-v1-nano:" + "a-scheme-with-a-very-long-name-" * 6
EVIL = 'olmoearth-v1-tiny:"><script>window.harmed=1</script>\u202e🛰'
QUALITY = {
    "olmoearth-v1-nano": 0.6,
    "olmoearth-v1.1-nano": 0.7,
    "olmoearth-v1-tiny": 0.8,
    "olmoearth-v1.1-tiny": 0.45,
    LONG: 0.5,
    EVIL: 0.55,
}
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
DESK = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}


@pytest.fixture(scope="module", name="page")
def _page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = Path(__file__).parents[1] / "reports" / "conftest.py"
    found = importlib.util.spec_from_file_location("synthetic_results", place)
    assert found is not None
    assert found.loader is not None
    synthetic = importlib.util.module_from_spec(found)
    found.loader.exec_module(synthetic)
    tasks = [synthetic.make_task(f"task-{i}") for i in range(4)]
    results = synthetic.make_results(QUALITY, tasks)
    return build_report(results, tmp_path_factory.mktemp("report"), resamples=100).html


@pytest.fixture(scope="module", name="chrome")
def _chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


Open = Callable[..., webdriver.Chrome]


@pytest.fixture(name="opened")
def _opened(chrome: webdriver.Chrome, page: Path) -> Open:
    def opened(screen: dict[str, Any] = DESK, scheme: str = "light") -> webdriver.Chrome:
        dark = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
        chrome.get(page.as_uri())
        return chrome

    return opened


def _rows(driver: webdriver.Chrome, anchor: str) -> list[str]:
    """First cells of the rows that show in a part's first table."""
    rows = driver.find_elements(By.CSS_SELECTOR, f"#{anchor} > .scroll:first-of-type tbody tr")
    shown = [row for row in rows if row.is_displayed()]
    return [row.find_element(By.CSS_SELECTOR, "th, td").text for row in shown]


def _marks(driver: webdriver.Chrome, text: str) -> list[WebElement]:
    """Marks of the wide figures that show and whose description holds a text."""
    found = driver.find_elements(By.CSS_SELECTOR, ".wide-plot [role=graphics-symbol][aria-label]")
    return [m for m in found if text in (m.get_attribute("aria-label") or "") and m.is_displayed()]


def _box(driver: webdriver.Chrome, facet: str, value: str) -> WebElement:
    return driver.find_element(By.CSS_SELECTOR, f'[data-facet="{facet}"] input[value="{value}"]')


def test_nothing_is_fetched_nothing_fails_and_nothing_hostile_runs(opened: Open) -> None:
    driver = opened()
    assert driver.execute_script("return window.harmed") is None
    assert [entry for entry in driver.get_log("browser") if entry["level"] != "INFO"] == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    requested = [e["request"]["url"] for e in sent if e["documentURL"].startswith("file:")]
    assert requested
    assert {url.partition(":")[0] for url in requested} <= {"file", "data"}
    assert len({url for url in requested if url.startswith("file")}) == 1
    assert LONG in driver.find_element(By.ID, "ranking").text.replace("\n", "")


def test_filter_hides_rows_points_and_pairs_and_gives_them_back(opened: Open) -> None:
    driver = opened()
    driver.find_element(By.CSS_SELECTOR, "#filters summary").click()
    before = _rows(driver, "ranking")
    assert len(before) == len(QUALITY)
    assert _marks(driver, "olmoearth-v1-tiny: average rank")
    _box(driver, "size", "tiny").click()
    assert [name for name in _rows(driver, "ranking") if "tiny" in name] == []
    assert len(_rows(driver, "ranking")) == 3
    assert not _marks(driver, "-tiny")
    assert _marks(driver, "olmoearth-v1-nano: average rank")
    assert all("nano" in name for name in _rows(driver, "side-by-side"))
    pair = driver.find_element(By.XPATH, "//section[h4[starts-with(., 'tiny: olmoearth-v1-tiny')]]")
    assert not pair.is_displayed()
    assert "3 of 6" in driver.find_element(By.ID, "shown").text
    _box(driver, "version", "v1.1").click()
    assert len(_rows(driver, "ranking")) == 2
    driver.find_element(By.ID, "reset").click()
    assert _rows(driver, "ranking") == before


def test_tables_sort_by_click_and_by_keyboard(opened: Open) -> None:
    driver = opened()
    sortable = (By.CSS_SELECTOR, "#ranking thead [role=button]")  # made so by the page's script
    heads = WebDriverWait(driver, 10).until(lambda page: page.find_elements(*sortable))
    macs = next(head for head in heads if head.text.startswith("MACs"))
    macs.click()
    keys = driver.execute_script(
        "return [...document.querySelector('#ranking tbody').rows]"
        ".map(r => Number(r.cells[4].dataset.key))"
    )
    assert keys == sorted(keys)
    macs.send_keys(Keys.ENTER)
    head = macs.find_element(By.XPATH, "..")
    assert head.get_attribute("aria-sort") == "descending"
    heads[0].click()
    assert _rows(driver, "ranking")[0] == min(QUALITY, key=str)


def test_hovering_a_point_shows_its_numbers(opened: Open) -> None:
    driver = opened()
    point, *_ = _marks(driver, "olmoearth-v1-tiny: average rank")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(driver).move_to_element(point).perform()
    tip = driver.find_element(By.ID, "tip")
    assert tip.is_displayed()
    assert re.match(
        r"olmoearth-v1-tiny: average rank 1 \(95%: .+ MACs, scheme resolution", tip.text
    )


def test_a_phone_never_scrolls_sideways(opened: Open) -> None:
    driver = opened(PHONE)
    for part in driver.find_elements(By.CSS_SELECTOR, "details"):
        driver.execute_script("arguments[0].open = true", part)
    width = "return [document.documentElement.scrollWidth, window.innerWidth]"
    assert driver.execute_script(width) == [390, 390]
    narrow = driver.find_elements(By.CSS_SELECTOR, "#answer .narrow svg")
    assert [plot.is_displayed() for plot in narrow] == [True]
    assert narrow[0].size["width"] <= 390


def _luminance(colour: str) -> float:
    """Relative luminance of an ``rgb()`` colour (WCAG 2.2)."""
    parts = [int(n) / 255 for n in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_page_and_figures_has_contrast(opened: Open, scheme: str) -> None:
    driver = opened(scheme=scheme)
    read = (
        "return [...document.querySelectorAll('p, td, th, a, .note, .wide-plot text')]"
        ".filter(e => e.checkVisibility()).map(e => {"
        "const s = getComputedStyle(e);"
        "return [e.tagName === 'text' ? s.fill : s.color, e.textContent.trim()];})"
    )
    paper = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (_luminance(paper) < 0.1) == (scheme == "dark")
    faint = []
    for colour, text in driver.execute_script(read):
        light, deep = sorted((_luminance(colour), _luminance(paper)), reverse=True)
        if text and (light + 0.05) / (deep + 0.05) < 4.5:
            faint.append((colour, text))
    assert faint == []


def test_paper_has_everything_but_the_controls(opened: Open) -> None:
    driver = opened(scheme="dark")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    driver.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert not driver.find_element(By.ID, "filters").is_displayed()
    folded = driver.find_elements(By.CSS_SELECTOR, "main details:not(.filters) > .scroll table")
    assert folded
    assert all(table.is_displayed() for table in folded)
    paper = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    # A4 without its margins, in CSS pixels.
    a4 = {"width": 703, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", a4)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 703
    printed = driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
