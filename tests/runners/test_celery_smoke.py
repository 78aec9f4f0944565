"""Celery, end to end and at once: what a worker records is what the web process would."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.runners.served import location
from tests.runners.sites import Site
from tests.servers.servers import wait_until
from tests.support.real_servers import RedisServer
from tests.support.slow import others_slow

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", params=others_slow(["asgi", "wsgi"]))
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    directory, app = tmp_path_factory.mktemp("celery"), str(request.param)
    with RedisServer() as broker, Site(directory, broker.url, app=app) as site, site.worker():
        yield site


def shown(response: httpx.Response) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Return what a handler has sent, without what belongs to this very exchange."""
    own = (b"date", b"server", b"operation-status", b"etag", b"cache-control", b"accept-ranges")
    kept = [(n.lower(), value) for n, value in response.headers.raw if n.lower() not in own]
    return response.status_code, response.content, kept


def test_a_celery_worker_answers_byte_for_byte_as_the_web_process_does(site: Site) -> None:
    body = bytes(range(256)) * 1000
    here = site.client.post("/here", params={"name": "here"}, content=body)
    for path in ("/report", "/by-path"):
        accepted = site.client.post(path, params={"name": path}, content=body)
        there = site.end(location(accepted))
        assert there.headers["operation-status"] == "succeeded"
        assert shown(there) == shown(here)
        assert site.noted("started", path) != site.noted("started", "here")
        assert len(site.noted("started", path)) == 1


def test_progress_of_a_celery_worker_is_shown_and_a_cancel_reaches_it(site: Site) -> None:
    path = site.start("long", seconds=60)
    site.wait_for("started", "long")
    wait_until(lambda: "progress" in site.status(path), "progress")
    assert site.client.delete(path).status_code == 202
    assert site.end(path).status_code == 410
    site.wait_for("over", "long")
