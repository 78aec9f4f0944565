"""What browsers do with a 202 of another origin: the JavaScript module, and `EventSource`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.servers import UVICORN, http_client, wait_until
from tests.support.browser import Browser, is_installed
from tests.support.processes import ROOT, ServerProcess

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed(), reason="Chromium is not installed"),
]

APP = UVICORN.replace("{app}", "tests.servers.browser_application:app").split()
CREDENTIALS = 'credentials: "include"'


def _site(directory: Path, **env: str) -> ServerProcess:
    return ServerProcess(APP, env={"RAINCHECK_STORE": f"sqlite://{directory}/db", **env})


def outside(server: ServerProcess) -> str:
    """Return the URL as pages know it: another port is another origin, and the same site."""
    return f"http://localhost:{server.port}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    command = ["-c", "import os,sys; os.execvp(sys.argv[1], sys.argv[1:])"]
    command += ["chromedriver", "--port={port}"]
    downloads = tmp_path_factory.mktemp("downloads")
    with (
        ServerProcess(command) as driver,
        ServerProcess(APP) as page,
        Browser(driver.url, downloads) as started,
    ):
        started.open(outside(page))
        yield started


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ServerProcess]:
    with _site(tmp_path) as site:
        yield site


def polls(site: ServerProcess) -> list[dict[str, Any]]:
    """Return what polls have come."""
    found: list[dict[str, Any]] = ast.literal_eval(httpx.get(f"{site.url}/asked").text)
    return found


def follow(browser: Browser, site: ServerProcess, query: str, more: str = "") -> Any:
    """Have the page follow a 202; `more` is done when that has begun."""
    return browser.run(f"""
        const api = "{outside(site)}";
        await fetch(`${{api}}/login`, {{ {CREDENTIALS} }});
        const {{ waitFor }} = await import(`${{api}}/operations/client.js`);
        const first = await fetch(`${{api}}/report?{query}`, {{ {CREDENTIALS} }});
        const seen = [], abort = new AbortController();
        const onProgress = (it) => seen.push(it.progress?.completed ?? null);
        const following = waitFor(first, {{ onProgress, signal: abort.signal, {CREDENTIALS} }});
        {more}
        try {{
            const last = await following;
            return [first.status, last.status, await last.text(), seen];
        }} catch (error) {{
            return [first.status, error.name, "", seen];
        }}
    """)


def test_the_module_follows_to_the_end_and_shows_progress(
    browser: Browser, site: ServerProcess
) -> None:
    first, last, text, seen = follow(browser, site, "seconds=5")
    assert (first, last, text) == (202, 200, "the report")
    assert seen == sorted(seen, key=lambda step: step or 0)
    assert len(set(seen)) >= 3
    assert {poll["prefer"] for poll in polls(site)} == {None, b"wait=2"}  # None: the module


def test_an_answer_in_time_and_a_failure_are_handed_over(
    browser: Browser, site: ServerProcess
) -> None:
    assert follow(browser, site, "seconds=0")[:3] == [200, 200, "the report"]
    # It is the handler's own, and not raincheck's that asks to come again.
    assert follow(browser, site, "seconds=1&status=503")[:3] == [202, 503, "the report"]


def test_where_cors_hides_everything_the_body_says_where_to_poll(
    browser: Browser, tmp_path: Path
) -> None:
    with _site(tmp_path, TEST_HIDDEN="yes") as site:
        first, last, text, _ = follow(browser, site, "seconds=2")
        assert (first, last, text) == (202, 200, "the report")
        assert {poll["prefer"] for poll in polls(site)} == {None}


def test_who_aborts_cancels(browser: Browser, site: ServerProcess) -> None:
    more = "setTimeout(() => abort.abort(), 500);"
    first, last, _, _ = follow(browser, site, "seconds=600", more)
    assert (first, last) == (202, "AbortError")
    cancels = {"method": "DELETE", "prefer": None, "status": 202}
    wait_until(lambda: cancels in polls(site), "it is cancelled")


def test_a_server_that_is_gone_for_a_while_is_waited_for(
    browser: Browser, site: ServerProcess
) -> None:
    begin = """
        following.then((it) => it.text()).then((it) => (window.end = it));
        return first.status;
    """
    assert follow(browser, site, "seconds=4", begin) == 202
    site.kill()
    site.start()  # the handler is run again: its method is safe
    ended = "while (!window.end) await new Promise((go) => setTimeout(go, 100)); return window.end"
    assert browser.run(ended) == "the report"


def hear(browser: Browser, site: ServerProcess, query: str) -> None:
    """Have the page listen to an operation, and keep what it hears."""
    browser.run(f"""
        const api = "{outside(site)}";
        await fetch(`${{api}}/login`, {{ {CREDENTIALS} }});
        const first = await fetch(`${{api}}/report?{query}`, {{ {CREDENTIALS} }});
        const source = new EventSource(first.headers.get("location"), {{ withCredentials: true }});
        window.heard = [];
        window.source = source;
        for (const name of ["status", "end"])
            source.addEventListener(name, (event) => heard.push([name, JSON.parse(event.data)]));
    """)


def end(browser: Browser) -> list[Any]:
    """Wait until the page is told not to listen any more, and return what it has heard."""
    found: list[Any] = browser.run("""
        while (source.readyState != EventSource.CLOSED)
            await new Promise((go) => setTimeout(go, 100));
        return heard;
    """)
    return found


def test_an_event_source_hears_all_and_stops_by_itself(
    browser: Browser, site: ServerProcess
) -> None:
    hear(browser, site, "seconds=4")
    *before, (name, document) = end(browser)
    assert (name, document["status"]) == ("end", "succeeded")
    assert len({told["progress"]["completed"] for _, told in before if "progress" in told}) >= 3
    assert [name for name, _ in before].count("end") == 0
    assert [poll["status"] for poll in polls(site)] == [200, 204]


def test_an_event_source_comes_again_when_a_server_was_gone(
    browser: Browser, site: ServerProcess
) -> None:
    hear(browser, site, "seconds=4")
    site.kill()
    site.start()
    name, document = end(browser)[-1]
    assert (name, document["status"]) == ("end", "succeeded")


def test_the_module_is_small_and_kept_by_caches(site: ServerProcess) -> None:
    with http_client(site.url) as client:
        script = client.get("/operations/client.js")
        assert len(script.content) < 2048
        assert script.headers["content-type"] == "text/javascript; charset=utf-8"
        assert script.headers["x-content-type-options"] == "nosniff"
        assert script.headers["cache-control"] == "public, max-age=3600"
        known = {"If-None-Match": script.headers["etag"]}
        again = client.get("/operations/client.js", headers=known)
        assert (again.status_code, again.content) == (304, b"")


GUIDE = (ROOT / "examples" / "events.md").read_text()
SHOWN = re.findall(r"^```js\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("n", range(len(SHOWN)))
def test_what_the_guide_shows_ends_with_the_report(
    browser: Browser, site: ServerProcess, n: int
) -> None:
    browser.open(f"{outside(site)}/login")
    script = SHOWN[n].replace("http://localhost:8000/operations", "/operations")
    browser.run(script.replace("http://localhost:8000/report", "/report?seconds=1"))
    browser.wait_for("body", "the report")
