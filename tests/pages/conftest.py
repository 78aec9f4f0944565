"""The sites on their servers, and browsers that run scripts or don't."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import PROGRAMS, Browser, is_installed
from tests.support.processes import ServerProcess

UVICORN = "-m uvicorn --factory tests.pages.site:starlette --port {port} --log-level warning"
GUNICORN = "-m gunicorn tests.pages.site:{site}() --bind 127.0.0.1:{{port}} --threads 8"
SITES = {
    "starlette": UVICORN,
    "flask": GUNICORN.format(site="flask"),
    "django": GUNICORN.format(site="django"),
}


def serving(name: str, directory: Path) -> ServerProcess:
    """Return a site with a store of its own, which is not started yet."""
    environment = {"RAINCHECK_STORE": f"sqlite://{directory}/operations.db"}
    return ServerProcess(SITES[name].split(), env=environment)


@pytest.fixture(scope="module", params=SITES)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a site."""
    with serving(request.param, tmp_path_factory.mktemp("site")) as server:
        yield server.url


@pytest.fixture(scope="session")
def driver() -> Iterator[str]:
    if not is_installed() and os.environ.get("CI") != "true":
        pytest.skip(f"there is no {' or no '.join(PROGRAMS)} here")
    # `ServerProcess` starts Python programs, and this is none.
    execute = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
    with ServerProcess(["-c", execute, "chromedriver", "--port={port}"]) as process:
        yield process.url


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


@pytest.fixture(params=[True, False], ids=["with-scripts", "without-scripts"])
def browser(request: pytest.FixtureRequest, driver: str, downloads: Path) -> Iterator[Browser]:
    with Browser(driver, downloads, runs_scripts=request.param) as started:
        yield started


@pytest.fixture
def scripted(driver: str, downloads: Path) -> Iterator[Browser]:
    with Browser(driver, downloads) as started:
        yield started
