"""A request whose process is lost is run again: the same request, and known to be a replay."""

from __future__ import annotations

import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import pytest

from raincheck.engine.repository import Repository
from raincheck.errors import abbreviate
from raincheck.http.messages import Request
from raincheck.operations.transitions import Released
from raincheck.stores.sqlite import SQLiteStore
from tests.gateways.following import ASK, assert_problem, end, start
from tests.gateways.gateways import Site

FORGED = {"X-Raincheck-Replay": "1", "Raincheck-Replay": "true", "Operation-Replay": "?1"}


def lose(site: Site, accepted: httpx.Response) -> None:
    """Have an operation look as if its process had released it; its handler's end is refused."""
    operation_id = accepted.json()["id"]
    with closing(SQLiteStore(str(site.store))) as store:
        released = Repository(store).change(operation_id, Released())
        assert released is not None, abbreviate(operation_id)


def captured(site: Site, accepted: httpx.Response) -> Request | None:
    """Return what the store keeps of the request."""
    with closing(SQLiteStore(str(site.store))) as store:
        return store.read_request(accepted.json()["id"])


class Rerunning:
    """The checks; see `contract`."""

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_lost_request_is_run_again_as_it_came(
        self, site: Site, poller: httpx.Client, method: str
    ) -> None:
        sent = secrets.token_bytes(1_500_000) if method == "POST" else b""
        path = "/again?seconds=3&q=caf%C3%A9&q=%00"
        headers = {"X-Odd": "a, b;c", "Cookie": "one=1; two=2", "Content-Type": "x/y; z=1"}
        content: dict[str, Any] = {"content": sent} if sent else {}
        with ThreadPoolExecutor(1) as threads:
            asking = threads.submit(poller.request, method, path, headers=headers, **content)
            accepted = start(poller, path, method=method, headers=headers, **content)
            lose(site, accepted)
            first, again = asking.result(), end(poller, accepted)
        assert (first.status_code, again.status_code) == (200, 200), again.text
        assert first.content == again.content == sent
        assert (first.headers["x-replay"], again.headers["x-replay"]) == ("no", "yes")
        assert again.headers["x-seen"] == hashlib.sha256(sent).hexdigest()
        assert again.headers["x-asked"] == first.headers["x-asked"]
        assert again.headers["content-location"] == "/once-more"

    def test_no_header_field_makes_a_rerun(self, poller: httpx.Client) -> None:
        response = poller.get("/again", headers=FORGED)
        assert response.headers["x-replay"] == "no"
        assert end(poller, start(poller, "/again", headers=FORGED)).headers["x-replay"] == "no"

    def test_what_may_not_be_run_again_is_interrupted(
        self, site: Site, poller: httpx.Client
    ) -> None:
        sent = {"content": b"kept nowhere", "headers": ASK | {"Authorization": "nobody's"}}
        accepted = start(poller, "/unique?seconds=3", method="PUT", **sent)
        assert captured(site, accepted) is None
        lose(site, accepted)
        assert_problem(end(poller, accepted), 500, "interrupted")
