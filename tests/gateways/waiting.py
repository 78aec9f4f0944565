"""What a client gets that would rather wait for the end of its operation than poll again."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.gateways.following import (
    assert_accepted,
    assert_document,
    assert_problem,
    cancelled,
    end,
    start,
)
from tests.gateways.gateways import Site
from tests.gateways.monitoring import UNKNOWN

LONG = {"Prefer": "wait=20"}
SHORT = {"Prefer": "wait=1"}
AT_ONCE = 10.0  # seconds; a machine under load is slow
RUNS = 4.0  # seconds that a handler goes on after its 202


class Waiting:
    """The checks; see `contract`."""

    def test_whoever_waits_is_answered_when_the_operation_ends(
        self, site: Site, poller: httpx.Client
    ) -> None:
        accepted, begin = start(poller, f"/slow?seconds={RUNS}"), time.monotonic()
        url = accepted.headers["location"]
        asked = [("GET", ""), ("GET", "/status"), ("GET", "/result"), ("HEAD", "")]

        def wait(method: str, tail: str) -> httpx.Response:
            return poller.request(method, url + tail, headers=LONG)

        with ThreadPoolExecutor(len(asked)) as threads:
            response, status, result, head = threads.map(wait, *zip(*asked, strict=True))
        assert time.monotonic() - begin < RUNS + AT_ONCE
        assert (response.status_code, response.content) == (201, b"slow\n")
        assert (result.status_code, result.content) == (201, b"slow\n")
        assert (head.status_code, head.content) == (201, b"")
        assert status.json()["status"] == "succeeded"
        for waited in (response, status, result, head):
            assert waited.headers["preference-applied"] == "wait=20"

    def test_after_its_time_a_client_gets_what_there_is(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted, begin = start(client, "/patient"), time.monotonic()
        response = client.get(accepted.headers["location"], headers=SHORT)
        status = client.get(accepted.headers["operation-location"], headers=SHORT)
        result = client.get(accepted.headers["location"] + "/result", headers=SHORT)
        head = client.head(accepted.headers["location"], headers=SHORT)
        assert time.monotonic() - begin >= 4
        assert_accepted(response)
        assert_document(status.json(), "running")
        assert_problem(result, 404, "result-not-ready")
        assert (head.status_code, head.content) == (202, b"")
        for waited in (response, status, result, head):
            assert waited.headers["preference-applied"] == "wait=1"
            assert "vary" not in waited.headers
            assert int(waited.headers["retry-after"]) >= 1
        cancelled(poller, accepted)

    def test_nobody_waits_longer_than_the_options_say(self, site: Site) -> None:
        with site.client("tight") as client:
            accepted, begin = start(client, "/patient"), time.monotonic()
            response = client.get(accepted.headers["location"], headers=LONG)
            assert 0.5 <= time.monotonic() - begin < AT_ONCE
            assert_accepted(response)
            assert response.headers["preference-applied"] == "wait=0.5"
            cancelled(client, accepted)

    def test_a_cancellation_ends_the_waiting_when_the_handler_has_stopped(
        self, poller: httpx.Client
    ) -> None:
        accepted = start(poller, "/patient?lingers=0.5")
        url, begin = accepted.headers["location"], time.monotonic()
        assert_accepted(poller.delete(url), "cancelling")
        assert_problem(poller.get(url, headers=LONG), 410, "canceled")
        assert time.monotonic() - begin < AT_ONCE

    # --- who does not wait ---------------------------------------------------------------------

    def test_nobody_waits_for_what_has_ended(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = start(client, "/fast")
        end(poller, accepted)
        begin = time.monotonic()
        for tail in ("", "/status", "/result"):
            response = client.get(accepted.headers["location"] + tail, headers=LONG)
            assert response.status_code == 200
            assert "preference-applied" not in response.headers
        assert time.monotonic() - begin < AT_ONCE

    @pytest.mark.parametrize("tail", ["", "/status", "/result"])
    def test_nobody_waits_for_what_is_unknown_or_anothers(
        self, site: Site, client: httpx.Client, tail: str
    ) -> None:
        with site.client("owned") as owner:
            accepted = start(owner, "/patient")
            begin = time.monotonic()
            for path in (UNKNOWN, accepted.headers["location"]):
                refused = client.get(path + tail, headers=LONG)
                assert_problem(refused, 404, "not-found")
                assert "preference-applied" not in refused.headers
            assert time.monotonic() - begin < AT_ONCE
            cancelled(owner, accepted)

    @pytest.mark.parametrize("preference", ["wait=0", "wait=soon", "wait", "respond-async"])
    def test_who_does_not_ask_for_it_does_not_wait(
        self, client: httpx.Client, poller: httpx.Client, preference: str
    ) -> None:
        accepted = start(client, "/patient")
        response = client.get(accepted.headers["location"], headers={"Prefer": preference})
        assert_accepted(response)
        assert "preference-applied" not in response.headers
        cancelled(poller, accepted)
