"""The report as a browser shows it: drawn, readable under the pointer, and without a network."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from trana.client.report.material import Material
from trana.client.report.page import render
from unit.client import stories

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
# The drawing of a chart that is in sight.
SEEN = "[...document.querySelectorAll('#chart-{} svg[role=img]')].find((svg) => svg.getClientRects().length)"

Open = Callable[[Material], webdriver.Chrome]


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    if not (CHROMIUM and DRIVER):
        # Where nobody looks at what was skipped, a report that no browser has opened would pass for one that was seen.
        miss = pytest.fail if os.environ.get("CI") else pytest.skip
        miss("needs chromium and chromedriver on the path")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    # A container's root has no sandbox, and little of shared memory.
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Driver(DRIVER))
    driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    yield driver
    driver.quit()


@pytest.fixture
def open_page(browser: webdriver.Chrome, tmp_path: Path) -> Iterator[Open]:
    """Opens the report of a job; in the end looks whether the page complained, or asked for anything."""

    def open_page(material: Material, *, width: int = 1100, dark: bool = False) -> webdriver.Chrome:
        page = tmp_path / "report.html"
        page.write_text(render(material, now=NOW), encoding="utf-8")
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [scheme]})
        browser.get(page.as_uri())
        return browser

    yield open_page
    logged: Any = browser  # its get_log has no types
    assert logged.get_log("browser") == []
    assert ask(browser, "performance.getEntriesByType('resource').map((entry) => entry.name)") == []


def ask(browser: webdriver.Chrome, expression: str) -> Any:
    return browser.execute_script(f"return {expression}")


def box(browser: webdriver.Chrome, chart: str, selector: str) -> dict[str, float]:
    """The box of a part of a drawing, in the drawing's units."""
    part = f"{SEEN.format(chart)}.querySelector('{selector}').getBBox()"
    found: dict[str, float] = ask(browser, f"(({{x, y, width, height}}) => ({{x, y, width, height}}))({part})")
    return found


def axis(browser: webdriver.Chrome, chart: str, name: str) -> list[float]:
    """Low, high, begin and end of an axis."""
    return [float(number) for number in ask(browser, f"{SEEN.format(chart)}.dataset.{name}").split()]


def place(browser: webdriver.Chrome, chart: str, epoch: int) -> float:
    low, high, begin, end = axis(browser, chart, "x")
    return begin + (epoch - low) / (high - low) * (end - begin)


@pytest.mark.parametrize(("width", "dark"), [(1100, False), (380, True)])
def test_the_curve_is_drawn_with_best_epoch_and_onset_where_they_belong(open_page: Any, width: int, dark: bool) -> None:
    story = stories.overfitting()
    browser = open_page(story, width=width, dark=dark)
    _, _, left, right = axis(browser, "curve", "x")
    _, _, bottom, top = axis(browser, "curve", "y")
    for line in ("path.line.train", "path.line.val"):
        found = box(browser, "curve", line)
        assert found["width"] == pytest.approx(right - left, abs=1)
        assert found["height"] > (bottom - top) / 2
        assert top <= found["y"] <= found["y"] + found["height"] <= bottom
    for mark, epoch in (("best", 17), ("onset", 15)):
        sign = box(browser, "curve", f".mark.{mark} > :is(circle, path)")
        assert sign["x"] + sign["width"] / 2 == pytest.approx(place(browser, "curve", epoch), abs=0.2)
    # Nothing hangs over the edge of the screen.
    assert ask(browser, "document.documentElement.scrollWidth") <= width


def test_the_verdict_stands_at_the_top_in_words(open_page: Open) -> None:
    browser = open_page(stories.overfitting())
    assert browser.find_element(By.ID, "verdict").text == "It overfits since epoch 15."
    text = browser.find_element(By.CSS_SELECTOR, ".verdict").text
    assert "Smoothed validation loss has risen 39 %" in text
    assert "A smaller network. Take a smaller network: 85,002 parameters" in text
    assert "overfits" not in open_page(stories.good()).find_element(By.TAG_NAME, "main").text


def test_a_point_is_read_under_the_pointer_and_by_the_arrows(open_page: Open) -> None:
    story = stories.overfitting()
    browser = open_page(story)
    plot = browser.find_element(By.CSS_SELECTOR, "#chart-curve .plot")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    tip = plot.find_element(By.CSS_SELECTOR, ".tip")
    assert not tip.is_displayed()
    middle = plot.rect["width"] / 2
    scale = plot.rect["width"] / 800
    ActionChains(browser).move_to_element_with_offset(
        plot, round(place(browser, "curve", 30) * scale - middle), 0
    ).perform()
    assert tip.text.splitlines() == [
        "epoch 30",
        f"training {story.epochs[29].train_loss:.5g}",
        f"validation {story.epochs[29].val_loss:.5g} ± {2 * story.epochs[29].val_loss_se:.5g}",
    ]
    circle = box(browser, "curve", ".cursor circle.val")
    assert circle["x"] + circle["width"] / 2 == pytest.approx(place(browser, "curve", 30), abs=0.1)
    plot.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert tip.text.startswith("epoch 28")
    plot.send_keys(Keys.ESCAPE)
    assert not tip.is_displayed()


def test_the_switch_changes_the_scale(open_page: Open) -> None:
    browser = open_page(stories.overfitting())
    # As in the terminal: training loss falls over decades, but not the validation loss.
    assert ask(browser, f"{SEEN.format('curve')}.dataset.scale") == "linear"
    browser.find_element(By.CSS_SELECTOR, "#chart-curve button[data-scale=log]").click()
    assert ask(browser, f"{SEEN.format('curve')}.dataset.scale") == "log"
    low, high, bottom, top = axis(browser, "curve", "y")
    assert 0 < low < high
    train = box(browser, "curve", "path.line.train")
    assert top <= train["y"] <= train["y"] + train["height"] <= bottom


def test_a_curve_that_breaks_off_is_drawn_as_far_as_it_goes(open_page: Open) -> None:
    browser = open_page(stories.diverged())
    assert ask(browser, f"{SEEN.format('curve')}.dataset.scale") == "log"
    found = box(browser, "curve", "path.line.val")
    assert found["x"] + found["width"] == pytest.approx(place(browser, "curve", 12), abs=0.2)


def test_a_hundred_thousand_epochs_make_a_page_of_less_than_a_megabyte(open_page: Open, tmp_path: Path) -> None:
    browser = open_page(stories.long())
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
    _, high, _, top = axis(browser, "curve", "y")
    # The one epoch that sticks out is there: the line reaches as high as it does.
    assert box(browser, "curve", "path.line.val")["y"] < top + 25
    assert high > 9


def test_markup_in_a_users_words_is_text(open_page: Open) -> None:
    story = stories.overfitting()
    evil = "<img src=x onerror='window.hurt=1'></script><script>window.hurt=1</script>"
    story.job.spec.display_name = evil
    story.job.spec.labels["team"] = evil
    story.job.message = evil
    story.job.warnings[0] = evil
    for epoch in story.epochs:
        epoch.metrics[f"val_{evil}"] = 0.5
    browser = open_page(story)
    assert ask(browser, "window.hurt ?? 0") == 0
    assert browser.find_element(By.TAG_NAME, "h1").text == evil
    assert browser.find_elements(By.CSS_SELECTOR, "main img") == []
