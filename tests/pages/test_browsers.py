"""What somebody with a browser sees of a slow page, form or file, with and without scripts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import axe_core_python
import httpx
import pytest

from tests.pages.conftest import SITES, serving
from tests.support.browser import Browser

pytestmark = [pytest.mark.server, pytest.mark.slow]
AXE = Path(str(axe_core_python.__file__)).with_name("axe.min.js").read_text("utf-8")
PATIENCE = 60.0  # seconds


def runs(site: str) -> list[str]:
    return httpx.get(f"{site}/runs", trust_env=False).text.split()


def violations(browser: Browser) -> list[str]:
    """Return the rules of accessibility that the page breaks."""
    found: dict[str, Any] = browser.run(f"{AXE}; return await axe.run()")
    assert found["passes"]
    return [f"{each['id']}: {each['help']}" for each in found["violations"]]


def test_a_page_is_waited_for_and_no_key_of_the_browser_begins_it_again(
    site: str, browser: Browser
) -> None:
    before = len(runs(site))
    browser.open(site)
    browser.click("#page")
    browser.wait_for("h1", "Working on it")
    assert "/operations/" in browser.url
    browser.reload()
    browser.wait_for("#result", "The page")
    browser.reload()
    browser.wait_for("#result", "The page")
    browser.go_back()
    browser.wait_for("h1", "Form")
    assert runs(site)[before:] == ["/page"]


def test_a_form_is_sent_once_and_leads_where_its_handler_says(site: str, browser: Browser) -> None:
    before = len(runs(site))
    browser.open(site)
    browser.click("#report")
    browser.wait_for("h1", "Working on it")
    browser.reload()
    browser.wait_for("#result", "The report")
    assert browser.url == f"{site}/done"
    browser.go_back()
    browser.wait_for("h1", "Form")
    assert runs(site)[before:] == ["/report"]


def test_a_file_is_saved_and_the_page_says_that_it_is_finished(
    site: str, browser: Browser, downloads: Path
) -> None:
    browser.open(site)
    browser.click("#file")
    browser.wait_for("h1", "Finished")
    deadline = time.monotonic() + PATIENCE
    while not (downloads / "rows.csv").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (downloads / "rows.csv").read_bytes() == b"a,b\n"


def test_what_is_cancelled_says_so_and_shows_the_way_back(site: str, browser: Browser) -> None:
    browser.open(site)
    browser.click("#long")
    browser.wait_for("#progress", "step <")
    browser.click("form button")
    browser.wait_for("h1", "Cancelled")
    browser.click("a.to")
    assert browser.url in (f"{site}/", site)


@pytest.mark.parametrize("site", ["starlette"], indirect=True)  # others make a page of it
def test_a_failure_is_explained_with_a_way_back(site: str, browser: Browser) -> None:
    browser.open(site)
    browser.click("#fails")
    browser.wait_for("h1", "That did not work")
    assert "without a complete response" in browser.text("main")
    browser.click("a.to")
    browser.wait_for("h1", "Form")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("site", ["starlette"], indirect=True)
def test_no_page_breaks_a_rule_of_accessibility(site: str, scripted: Browser, scheme: str) -> None:
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    scripted.cdp("Emulation.setEmulatedMedia", features=media)
    scripted.cdp(
        "Emulation.setDeviceMetricsOverride",
        width=320,
        height=500,
        deviceScaleFactor=1,
        mobile=True,
    )
    scripted.open(f"{site}/long")
    scripted.wait_for("#progress", "step <")
    assert violations(scripted) == []
    assert scripted.run("return document.documentElement.scrollWidth") <= 320
    scripted.click("form button")
    scripted.wait_for("h1", "Cancelled")
    assert violations(scripted) == []
    scripted.open(f"{site}/file")
    scripted.wait_for("h1", "Finished")
    assert violations(scripted) == []
    scripted.open(f"{site}/operations/none")
    scripted.wait_for("h1", "Not found")
    assert violations(scripted) == []


@pytest.mark.parametrize("name", SITES)
def test_a_page_goes_on_when_its_server_was_killed(
    scripted: Browser, tmp_path: Path, name: str
) -> None:
    with serving(name, tmp_path) as server:
        scripted.open(f"{server.url}/page")
        scripted.wait_for("h1", "Working on it")
        server.kill()
        scripted.wait_for("#lost", "The connection is lost")
        server.start()
        scripted.wait_for("#result", "The page")


@pytest.mark.parametrize("version", ["2", "4"])
@pytest.mark.parametrize("site", ["starlette", "flask"], indirect=True)
def test_htmx_swaps_the_result_in_and_polls_no_more(
    site: str, scripted: Browser, version: str
) -> None:
    scripted.open(f"{site}/with-htmx-{version}")
    scripted.click("#part")
    scripted.wait_for("#out", "step <")
    scripted.wait_for("#out", "The part")
    assert not scripted.run("return !!document.querySelector('.raincheck')")
    scripted.click("#wrong")
    scripted.wait_for("#out", "step <")
    expected = "without a complete response" if "starlette" in site else ""
    deadline = time.monotonic() + PATIENCE
    while scripted.run("return !!document.querySelector('[hx-get]')"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert expected in scripted.text("#out")
