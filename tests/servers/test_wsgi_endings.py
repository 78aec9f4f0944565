"""Responses without a body, and iterables that fail at their end, through real WSGI servers."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.servers import DEFERRED, http_client
from tests.servers.wsgi_servers import (
    CHEROOT,
    GRANIAN,
    HYPERCORN,
    SYNC,
    UWSGI,
    WAITRESS,
    WsgiKind,
    WsgiSite,
)
from tests.support.polling import poll

pytestmark = pytest.mark.server

SERVERS = [SYNC[0], WAITRESS, CHEROOT, UWSGI, HYPERCORN, GRANIAN]


@pytest.fixture(scope="module", params=SERVERS, ids=lambda kind: kind.name)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WsgiSite]:
    kind: WsgiKind = request.param
    directory: Path = tmp_path_factory.mktemp(kind.name)
    options: dict[str, Any] = {
        "budgets": {"/patient/**": 20.0},
        "exclude": ["/bare/**"],
        "drain": 0.0,
    }
    site = WsgiSite(kind, directory, budget=0.06, **options)
    with site.process:
        yield site


@pytest.fixture
def client(site: WsgiSite) -> Iterator[httpx.Client]:
    limits = httpx.Limits(max_keepalive_connections=0)  # some close it, and don't say so
    with http_client(site.url, limits=limits) as client:
        yield client


@pytest.mark.parametrize("status", [200, 204, 302, 404])
@pytest.mark.parametrize("handler", ["empty", "sour"])
def test_a_response_without_a_body_is_the_same_bare_and_wrapped(
    site: WsgiSite, client: httpx.Client, handler: str, status: int
) -> None:
    calls = [f"{path}/{handler}/{secrets.token_hex(4)}" for path in ("/bare", "/patient")]
    bare, wrapped = (client.get(call, params={"status": status}) for call in calls)
    assert (wrapped.status_code, wrapped.content) == (bare.status_code, bare.content)
    fields = [
        [(name, value) for name, value in response.headers.raw if name.lower() != b"date"]
        for response in (bare, wrapped)
    ]
    assert fields[0] == fields[1]
    for call in calls:
        site.wait_for(f"closed {call.rpartition('/')[2]}")


def test_a_deferred_response_without_a_body_comes_back(client: httpx.Client) -> None:
    start = client.get("/empty", params=DEFERRED | {"seconds": 0.1})
    assert start.status_code == 202
    assert (poll(client, start.headers["location"]).status_code) == 200
    head = client.head(start.headers["location"])
    assert (head.status_code, head.content) == (200, b"")
