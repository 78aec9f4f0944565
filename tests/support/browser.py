"""A real browser, spoken to as W3C WebDriver has it."""

from __future__ import annotations

import base64
import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

PROGRAMS = ("chromium", "chromedriver")
TIMEOUT = 60.0  # seconds; a machine under load is slow
GONE = ("stale element reference", "does not belong to the document")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the member of that name in the standard


def is_installed() -> bool:
    return all(shutil.which(program) for program in PROGRAMS)


class GoneError(Exception):
    """The page has changed between two commands."""


class Browser:
    """One window of Chromium.

    Args:
        driver: The URL of a chromedriver.
        downloads: Where files are saved.
        runs_scripts: Whether pages may.
    """

    def __init__(self, driver: str, downloads: Path, *, runs_scripts: bool = True) -> None:
        block = {} if runs_scripts else {"profile.managed_default_content_settings.javascript": 2}
        options = {
            "binary": shutil.which("chromium"),
            "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage"],
            "prefs": {"download.default_directory": str(downloads), **block},
        }
        self._client = httpx.Client(timeout=TIMEOUT, trust_env=False)
        self._session = f"{driver}/session"
        capabilities = {"alwaysMatch": {"goog:chromeOptions": options}}
        self._session += "/" + self._call("POST", "", capabilities=capabilities)["sessionId"]
        # For elements to be there, and scripts to have ended.
        self._call("POST", "/timeouts", implicit=1000 * TIMEOUT, script=1000 * TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._call("DELETE", "")
        self._client.close()

    def _call(self, method: str, path: str, **body: Any) -> Any:
        url = self._session + path
        response = self._client.request(method, url, json=body if method == "POST" else None)
        if any(reason in response.text for reason in GONE):
            raise GoneError(response.text)
        assert response.status_code == 200, response.text
        return response.json()["value"]

    def open(self, url: str) -> None:
        self._call("POST", "/url", url=url)

    @property
    def url(self) -> str:
        return str(self._call("GET", "/url"))

    @property
    def title(self) -> str:
        return str(self._call("GET", "/title"))

    def reload(self) -> None:
        self._call("POST", "/refresh")

    def go_back(self) -> None:
        self._call("POST", "/back")

    def cdp(self, command: str, **parameters: Any) -> Any:
        """Send a command of the Chrome DevTools Protocol."""
        return self._call("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def run(self, script: str) -> Any:
        """Run the body of an async function in the page, and return what it returns."""
        wrapped = f"""
            const [done] = arguments;
            (async () => {{ {script} }})().then(
                (it) => done([it ?? null]), (error) => done(String(error.stack)))
        """
        told = self._call("POST", "/execute/async", script=wrapped, args=[])
        assert isinstance(told, list), told
        return told[0]

    def _find(self, selector: str) -> str:
        found = self._call("POST", "/element", using="css selector", value=selector)
        return str(found[ELEMENT])

    def click(self, selector: str) -> None:
        self._call("POST", f"/element/{self._find(selector)}/click")

    def write(self, selector: str, text: str) -> None:
        self._call("POST", f"/element/{self._find(selector)}/value", text=text)

    def text(self, selector: str) -> str:
        return str(self._call("GET", f"/element/{self._find(selector)}/text"))

    def is_shown(self, selector: str) -> bool:
        return bool(self._call("GET", f"/element/{self._find(selector)}/displayed"))

    def wait_for(self, selector: str, *words: str) -> str:
        """Wait until an element is shown and its text has one of the words; return the text."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                text = self.text(selector) if self.is_shown(selector) else ""
            except GoneError:
                continue
            if any(word in text for word in words):
                return text
            assert time.monotonic() < deadline, f"{selector} says {text!r}, not {words}"
            time.sleep(0.05)

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))
