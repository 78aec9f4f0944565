"""What R and M say while a handler runs, how it is cancelled, and what polls are refused."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.gateways.following import (
    ASK,
    assert_accepted,
    assert_document,
    assert_problem,
    cancelled,
    end,
    fields_of,
    start,
    status,
    until,
)
from tests.gateways.gateways import Site

UNKNOWN = "/operations/" + "0" * 32
LINGERS = 0.3  # seconds that a handler goes on when it is cancelled


class Monitoring:
    """The checks; see `contract`."""

    # --- while it runs -------------------------------------------------------------------------

    def test_while_it_runs_r_repeats_the_202_and_m_describes_it(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = start(client, "/patient")
        progress = {"completed": 3, "total": 10, "message": "rendering"}
        until(poller, accepted, "progress", progress)
        running = client.get(accepted.headers["location"], headers={"If-None-Match": "*"})
        assert_accepted(running)
        assert running.headers["location"] == accepted.headers["location"]
        monitor = client.get(accepted.headers["operation-location"])
        assert monitor.status_code == 200
        assert_document(monitor.json(), "running")
        assert monitor.json()["progress"] == progress
        assert int(monitor.headers["retry-after"]) >= 1
        cancelled(poller, accepted)

    def test_while_it_runs_heads_have_the_fields_of_gets(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = start(client, "/patient")
        until(poller, accepted, "progress", {"completed": 3, "total": 10, "message": "rendering"})
        for url in (accepted.headers["location"], accepted.headers["operation-location"]):
            got, headed = client.get(url), client.head(url)
            assert (headed.status_code, headed.content) == (got.status_code, b"")
            assert fields_of(headed) == fields_of(got)
        cancelled(poller, accepted)

    def test_the_result_is_not_ready_until_the_end(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = start(client, "/patient")
        result = client.get(accepted.headers["location"] + "/result")
        assert_problem(result, 404, "result-not-ready")
        assert int(result.headers["retry-after"]) >= 1
        cancelled(poller, accepted)

    def test_m_is_not_modified_until_something_changes(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = start(client, "/patient")
        until(poller, accepted, "progress", {"completed": 3, "total": 10, "message": "rendering"})
        url = accepted.headers["operation-location"]
        known = {"If-None-Match": client.get(url).headers["etag"]}
        unchanged = client.get(url, headers=known)
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        cancelled(poller, accepted)
        assert client.get(url, headers=known).status_code == 200

    # --- cancelling ----------------------------------------------------------------------------

    def test_a_delete_cancels_what_runs_and_it_is_cancelled_only_at_its_end(
        self, site: Site, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = start(client, f"/patient?lingers={LINGERS}")
        url, asked = accepted.headers["location"], time.monotonic()
        assert_accepted(client.delete(url), "cancelling")
        while (response := poller.get(url)).status_code == 202:
            assert_accepted(response, "cancelling")
            time.sleep(0.02)
        assert site.gateway.hears_disconnects or time.monotonic() > asked + LINGERS
        assert_problem(response, 410, "canceled")
        assert client.get(url).headers["operation-status"] == "canceled"
        assert_document(status(client, accepted), "canceled")

    def test_a_delete_after_the_end_forgets_the_response(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = start(client, "/fast")
        url = accepted.headers["location"]
        end(poller, accepted)
        forgotten = client.delete(url)
        assert (forgotten.status_code, forgotten.content) == (204, b"")
        for tail in ("", "/status", "/result"):
            assert_problem(client.get(url + tail), 410, "gone")

    def test_a_delete_of_another_response_than_the_client_knows_has_no_effect(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = start(client, "/fast")
        url = accepted.headers["location"]
        tag = end(poller, accepted).headers["etag"]
        refused = client.delete(url, headers={"If-Match": '"other"'})
        assert_problem(refused, 412, "precondition-failed")
        assert client.get(url).content == b"fast\n"
        assert client.delete(url, headers={"If-Match": tag}).status_code == 204

    # --- refusals of the monitor ---------------------------------------------------------------

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", UNKNOWN),
            ("DELETE", UNKNOWN),
            ("GET", f"{UNKNOWN}/status"),
            ("GET", f"{UNKNOWN}/result"),
            ("GET", f"{UNKNOWN}/"),
            ("GET", f"{UNKNOWN}/nothing"),
            ("GET", "/operations/short"),
            ("POST", "/operations/"),
        ],
    )
    def test_what_is_unknown_is_404(self, client: httpx.Client, method: str, path: str) -> None:
        assert_problem(client.request(method, path), 404, "not-found")

    @pytest.mark.parametrize(
        ("tail", "method", "allow"),
        [
            ("", "POST", "GET, HEAD, DELETE"),
            ("", "OPTIONS", "GET, HEAD, DELETE"),
            ("/status", "DELETE", "GET, HEAD"),
            ("/result", "PUT", "GET, HEAD"),
        ],
    )
    def test_a_method_that_a_resource_lacks_is_405(
        self, client: httpx.Client, tail: str, method: str, allow: str
    ) -> None:
        response = client.request(method, start(client, "/fast").headers["location"] + tail)
        assert_problem(response, 405, "method-not-allowed")
        assert response.headers["allow"] == allow

    def test_a_monitor_that_the_client_cant_read_is_406(self, client: httpx.Client) -> None:
        url = start(client, "/fast").headers["operation-location"]
        assert_problem(client.get(url, headers={"Accept": "image/png"}), 406, "not-acceptable")

    def test_what_polls_need_not_say_is_ignored(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = start(client, "/fast")
        end(poller, accepted)
        headers = ASK | {"Content-Type": "application/json"}
        response = client.get(accepted.headers["location"] + "?x=1", headers=headers)
        assert (response.status_code, response.content) == (200, b"fast\n")
