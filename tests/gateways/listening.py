"""What a client gets that would rather listen to its operation than poll."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
from httpx_sse import ServerSentEvent, connect_sse

from tests.gateways.following import assert_problem, cancelled, end, start
from tests.gateways.gateways import Site
from tests.gateways.monitoring import UNKNOWN

EVENTS = {"Accept": "text/event-stream"}
AT_ONCE = 10.0  # seconds; a machine under load is slow


def hear(client: httpx.Client, url: str, last: str | None = None) -> list[ServerSentEvent]:
    """Listen until the end."""
    headers = {} if last is None else {"Last-Event-ID": last}
    with connect_sse(client, "GET", url, headers=headers) as source:
        assert source.response.status_code == 200
        return list(source.iter_sse())


class Listening:
    """The checks; see `contract`."""

    def test_who_listens_hears_how_things_are_and_of_the_end(self, poller: httpx.Client) -> None:
        accepted = start(poller, "/slow?seconds=2")
        url = accepted.headers["location"]
        *before, last = hear(poller, url)
        assert {event.event for event in before} == {"status"}
        assert last.event == "end"
        document = json.loads(last.data)
        assert document["status"] == "succeeded"
        assert document == self._without_times(poller.get(url + "/status").json(), document)
        assert poller.get(document["resourceLocation"]).content == b"slow\n"
        assert [event.event for event in hear(poller, url)] == ["end"]
        assert [event.event for event in hear(poller, url, before[0].id)] == ["end"]
        over = poller.get(url, headers={**EVENTS, "Last-Event-ID": last.id})
        assert (over.status_code, over.content) == (204, b"")

    def _without_times(self, document: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        return {**document, **{name: other[name] for name in ("estimate",) if name in other}}

    def test_news_come_within_about_a_second_and_so_does_a_cancellation(
        self, poller: httpx.Client
    ) -> None:
        accepted, begin = start(poller, "/patient"), time.monotonic()
        with connect_sse(poller, "GET", accepted.headers["location"]) as source:
            for event in source.iter_sse():
                if "rendering" in event.data and "cancel" not in event.data:
                    assert time.monotonic() - begin < AT_ONCE
                    poller.delete(accepted.headers["location"])
        assert (event.event, json.loads(event.data)["status"]) == ("end", "canceled")
        assert time.monotonic() - begin < 2 * AT_ONCE

    def test_what_is_no_stream_for_this_client_is_an_error(
        self, site: Site, client: httpx.Client
    ) -> None:
        with site.client("owned") as owner:
            accepted = start(owner, "/patient")
            for path in (UNKNOWN, accepted.headers["location"]):
                assert_problem(client.get(path, headers=EVENTS), 404, "not-found")
            cancelled(owner, accepted)

    def test_head_is_told_what_there_would_be_to_hear(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = start(client, "/patient")
        head = client.head(accepted.headers["location"], headers=EVENTS)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == "text/event-stream"
        cancelled(poller, accepted)

    def test_a_client_that_leaves_disturbs_nobody(self, poller: httpx.Client) -> None:
        accepted = start(poller, "/slow?seconds=2")
        with connect_sse(poller, "GET", accepted.headers["location"]) as source:
            next(source.iter_sse())
        assert end(poller, accepted).content == b"slow\n"

    def test_the_module_for_browsers_is_there_for_who_wants_it(
        self, site: Site, client: httpx.Client
    ) -> None:
        path = "/operations/client.js"
        assert_problem(client.get(path), 404, "not-found")
        with site.client("generous") as served:
            script = served.get(path)
            assert script.status_code == 200
            assert b"export async function waitFor" in script.content
            assert len(script.content) < 2048
            assert script.headers["content-type"] == "text/javascript; charset=utf-8"
            assert script.headers["cache-control"] == "public, max-age=3600"
            assert script.headers["x-content-type-options"] == "nosniff"
            known = {"If-None-Match": script.headers["etag"]}
            assert served.get(path, headers=known).status_code == 304
            head = served.head(path)
            assert (head.status_code, head.content) == (200, b"")
            refused = served.post(path)
            assert_problem(refused, 405, "method-not-allowed")
            assert refused.headers["allow"] == "GET, HEAD"
            assert_problem(served.get(path + "/status"), 404, "not-found")
