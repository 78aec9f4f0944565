"""Clients that repeat a request on a 202, instead of following it, against a real server."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import tenacity
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from tests.support.processes import ServerProcess
from tests.support.slow import others_slow

APPLICATION = """
import time
from collections import Counter

from fastapi import FastAPI, HTTPException

from raincheck.asgi import RaincheckMiddleware

app = FastAPI()
app.add_middleware(
    RaincheckMiddleware, store="memory:", budgets={budgets}, coalesce=["/report/*"]
)
calls = Counter()


@app.get("/report/{{name}}")
def report(name: str, seconds: float, status: int = 200) -> str:
    calls[name] += 1
    time.sleep(seconds)
    if status != 200:
        raise HTTPException(status)
    return "the report"


@app.get("/calls/{{name}}")
def count(name: str) -> int:
    return calls[name]
"""
BUDGETS = {"short": {"/report/*": 0.3}, "none": {"/report/*": 0}}
CURL = shutil.which("curl")

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", params=others_slow(list(BUDGETS)))
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("repeated")
    (directory / "app.py").write_text(APPLICATION.format(budgets=BUDGETS[request.param]))
    command = ["-m", "uvicorn", "app:app", "--port", "{port}"]
    with ServerProcess(command, cwd=directory) as server:
        yield server.url


def with_urllib3(url: str) -> tuple[int, bytes]:
    retries = Retry(total=30, status_forcelist=[202], raise_on_status=False)
    response = urllib3.PoolManager(retries=retries).request("GET", url)
    return response.status, response.data


def with_requests(url: str) -> tuple[int, bytes]:
    session = requests.Session()
    retries = Retry(total=30, status_forcelist=[202], raise_on_status=False)
    session.mount("http://", HTTPAdapter(max_retries=retries))
    response = session.get(url)
    return response.status_code, response.content


def with_tenacity(url: str) -> tuple[int, bytes]:
    is_accepted = tenacity.retry_if_result(lambda response: response.status_code == 202)
    waits = tenacity.wait_exponential(multiplier=0.1, max=5)
    stop = tenacity.stop_after_delay(60)
    response = tenacity.Retrying(retry=is_accepted, wait=waits, stop=stop)(httpx.get, url)
    return response.status_code, response.content


CLIENTS: list[Callable[[str], tuple[int, bytes]]] = [with_urllib3, with_requests, with_tenacity]


@pytest.mark.parametrize("client", others_slow(CLIENTS))
@pytest.mark.parametrize(("seconds", "status"), others_slow([(1.2, 200), (0.5, 200), (0.5, 418)]))
def test_who_repeats_the_request_ends_with_its_response_and_one_run(
    url: str, client: Callable[[str], tuple[int, bytes]], seconds: float, status: int
) -> None:
    name = uuid.uuid4()
    found, content = client(f"{url}/report/{name}?seconds={seconds}&status={status}")
    assert found == status
    assert (content == b'"the report"') is (status == 200)
    assert httpx.get(f"{url}/calls/{name}").json() == 1


@pytest.mark.skipif(CURL is None, reason="there is no curl")
def test_curl_waits_for_the_result_by_itself(url: str, tmp_path: Path) -> None:
    accepted = httpx.get(f"{url}/report/{uuid.uuid4()}?seconds=1.5")
    result: Any = f"{accepted.headers['location']}/result"
    command = ["curl", "-sfo", "answer", "--retry", "100", "--retry-all-errors", result]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "answer").read_text() == '"the report"'
