"""The page in a real browser: selection in all views, limits and brushes, both schemes, desktop and phone."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from example_record import GOALS, whole_record

from evorec.archive.decide import pick
from evorec.report.page_data import explorer_data
from evorec.report.run_page import page
from evorec.report.verdict import names_of

pytest.importorskip("selenium", reason="selenium, of the extra test, drives the browser")
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver on the PATH")

WIDTHS = {1400: 900, 390: 844}
WAIT_S = 120.0  # a busy machine draws the figures in software
POINTER_S = 0.2  # a figure looks for the pointer at most every 50 ms
RECORD = whole_record()
MEMBERS = [member["id"] for member in explorer_data([RECORD], [names_of(RECORD)])["members"]]

KEY_OF_EACH_VIEW = """
const keys = found => [...new Set(found)].join();
const ring = id => keys(byId(id).data.flatMap(trace => trace.meta === "selected" ? [...trace.customdata] : []));
const marked = css => keys([...document.querySelectorAll(css)].map(element => element.dataset.key));
return {
  matrix: ring("matrix"), space: ring("space"), confirmed: ring("confirmed"), early: ring("early"),
  memory: ring("memory"),
  lines: marked(".parallel .line.selected"), members: marked("#members tr[aria-selected=true]"),
  tables: marked("table.sortable tr[aria-selected=true]"), sheet: byId("sheet").dataset.key,
};
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    os.environ["SE_OFFLINE"] = "true"  # selenium never looks for a driver
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in ("headless=new", "no-sandbox", "enable-unsafe-swiftshader", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.set_script_timeout(WAIT_S)
    forget = {"source": "sessionStorage.clear()"}  # else a page goes on with the choice of the test before
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", forget)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(RECORD), encoding="utf-8")
    return path


def opened(browser: webdriver.Chrome, file: Path, width: int, scheme: str = "light") -> None:
    """Open a page, and draw all of its figures."""
    screen = {"width": width, "height": WIDTHS[width], "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    emulate(browser, scheme)
    browser.get(file.as_uri())
    browser.execute_script("for (const own of views) reveal(own);")


def emulate(browser: webdriver.Chrome, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def has_ink(browser: webdriver.Chrome, colour: str) -> None:
    """Wait until a figure has a colour of texts: figures are drawn again some time after the scheme has changed."""
    ink = "return byId('matrix').layout.template.layout.font.color"
    WebDriverWait(browser, WAIT_S).until(lambda driver: driver.execute_script(ink) == colour)


def requested(browser: webdriver.Chrome) -> set[str]:
    """Addresses that the browser asked for since the last call."""
    found = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    addresses = [one["params"]["request"]["url"] for one in found if one["method"] == "Network.requestWillBeSent"]
    return {address for address in addresses if not address.startswith(("data:", "blob:"))}


def severe(browser: webdriver.Chrome) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def choose(browser: webdriver.Chrome, element: Any, key: str) -> None:
    """Click an element with the mouse until a member is chosen: a figure has to notice the pointer before the click.

    In the coordinates of the screen, because selenium would first scroll the element below the sheet of a phone.
    """
    script = "arguments[0].scrollIntoView({block: 'center'}); const box = arguments[0].getBoundingClientRect();"
    center = f"{script} return [box.x + box.width / 2, box.y + box.height / 2];"
    shifts = cycle((0, 1))

    def is_chosen(driver: webdriver.Chrome) -> bool:
        x, y = driver.execute_script(center, element)
        at = {"x": x + next(shifts), "y": y, "button": "left", "clickCount": 1}
        driver.execute_cdp_cmd("Input.dispatchMouseEvent", {**at, "type": "mouseMoved", "button": "none"})
        time.sleep(POINTER_S)
        for kind in ("mousePressed", "mouseReleased"):
            driver.execute_cdp_cmd("Input.dispatchMouseEvent", {**at, "type": kind})
        return bool(driver.execute_script("return state.id") == key)

    WebDriverWait(browser, WAIT_S).until(is_chosen)


def highlighted(browser: webdriver.Chrome, key: str) -> dict[str, str]:
    """The key that each view highlights, once all of them have been updated."""
    idle = "return state.id === arguments[0] && !frame && !views.some(own => own.stale)"
    WebDriverWait(browser, WAIT_S).until(lambda driver: driver.execute_script(idle, key))
    found: dict[str, str] = browser.execute_script(KEY_OF_EACH_VIEW)
    return found


@pytest.mark.parametrize("width", WIDTHS)
def test_a_member_chosen_in_any_view_is_highlighted_in_all(browser: webdriver.Chrome, file: Path, width: int) -> None:
    opened(browser, file, width)
    assert set(highlighted(browser, MEMBERS[0]).values()) == {MEMBERS[0]}  # the knee is shown first
    panel = browser.find_elements(By.CSS_SELECTOR, "#matrix .subplot.xy .scatterlayer .trace")
    members = next(t for t in panel if len(t.find_elements(By.CSS_SELECTOR, ".point")) == len(MEMBERS))
    choose(browser, members.find_elements(By.CSS_SELECTOR, ".point")[5], MEMBERS[5])
    everywhere = highlighted(browser, MEMBERS[5])
    assert set(everywhere.values()) == {MEMBERS[5]}, everywhere

    emulate(browser, "dark")  # the same choice in other colours
    has_ink(browser, "#e4ebf1")
    row = browser.find_element(By.CSS_SELECTOR, f"#members tr[data-key='{MEMBERS[7]}'] td:nth-child(2)")
    choose(browser, row, MEMBERS[7])
    everywhere = highlighted(browser, MEMBERS[7])
    assert set(everywhere.values()) == {MEMBERS[7]}, everywhere
    browser.execute_script("document.querySelector('#members tbody button').focus()")
    ActionChains(browser).send_keys(Keys.ARROW_DOWN).perform()
    second = browser.execute_script("return document.querySelectorAll('#members tbody tr')[1].dataset.key")
    assert set(highlighted(browser, second).values()) == {second}
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert not severe(browser)
    assert requested(browser) == {file.as_uri()}
    titles = browser.execute_script("return [...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert not [title for title in titles if "hare" in title or "loud" in title]  # plotly's button that uploads


def test_limits_weights_and_brushes_change_what_is_shown(browser: webdriver.Chrome, file: Path) -> None:
    opened(browser, file, 1400)
    sliders = browser.find_elements(By.CSS_SELECTOR, "#controls input")
    status = browser.find_element(By.CSS_SELECTOR, "#controls [role=status]")
    n = len(RECORD.eligible)
    assert status.text.startswith(f"{n} of {n} members keep the limits; first is knee")

    browser.execute_script("arguments[0].value = 0.5; arguments[0].dispatchEvent(new Event('input'))", sliders[1])
    command = WebDriverWait(browser, 20).until(
        lambda _: "where" in (text := browser.find_element(By.CSS_SELECTOR, "#controls code").text) and text
    )
    sentence = command.partition('--pick "')[2].rstrip('"')
    assert sentence.startswith("knee where recall@20 >= 0.1")
    first = "return document.querySelector('#members tbody tr').dataset.key"
    assert browser.execute_script(first) == pick(sentence, RECORD.eligible, GOALS, 20)
    shown = browser.execute_script("return [...state.kept]")
    bound = float(sentence.rpartition(" ")[2])
    assert set(shown) == {key for key, own in RECORD.eligible.items() if own["recall@20"] >= bound}
    faded = browser.find_elements(By.CSS_SELECTOR, ".parallel .line.out")
    assert len(faded) == len(MEMBERS) - len(shown) - (MEMBERS[0] not in shown)

    sliders[1].send_keys(Keys.HOME)  # by keyboard
    WebDriverWait(browser, 20).until(lambda _: status.text.startswith(f"{n} of {n}"))
    sliders[4].send_keys(Keys.END)
    for slider in sliders[5:]:
        slider.send_keys(Keys.HOME)
    best = max(RECORD.eligible, key=lambda key: RECORD.eligible[key]["accuracy"])
    WebDriverWait(browser, 20).until(lambda _: browser.execute_script(first) == best)  # the weight is on accuracy alone

    grip = browser.find_element(By.CSS_SELECTOR, ".grip[data-axis=training_flops]")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", grip)
    half = grip.size["height"] // 2
    drag = ActionChains(browser).move_to_element_with_offset(grip, 0, 0).click_and_hold()
    drag.move_by_offset(0, half).release().perform()
    kept = WebDriverWait(browser, 20).until(
        lambda _: 0 < len(found := browser.execute_script("return [...state.kept]")) < n and found
    )
    costs = [RECORD.eligible[key]["training_flops"] for key in kept]
    assert min(costs) > min(own["training_flops"] for own in RECORD.eligible.values())  # the lower half of the axis
    assert not severe(browser)

    emulate(browser, "dark")
    has_ink(browser, "#e4ebf1")
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    has_ink(browser, "#111")  # paper is white
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    has_ink(browser, "#e4ebf1")
