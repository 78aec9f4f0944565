"""Requests that are one with others: by their `Idempotency-Key`, or because they are identical."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.gateways.following import ASK, assert_accepted, assert_problem, end, start
from tests.gateways.gateways import Site
from tests.support.wsgi import until


def new() -> dict[str, str]:
    """Return a header field with a key that nobody has used before."""
    return {"Idempotency-Key": uuid.uuid4().hex}


def own(response: httpx.Response) -> bytes:
    """Return what the run of a handler has that answered, and no other run."""
    assert response.status_code == 200, response.text
    return response.content


def together(site: Site, number: int, *request: Any, **options: Any) -> set[bytes]:
    """Send a request several times at once, and return what different answers come."""

    def send(_: int) -> bytes:
        with site.client(options.get("variant", "")) as client:
            return own(client.request(*request, headers=options.get("headers")))

    with ThreadPoolExecutor(number) as pool:
        return set(pool.map(send, range(number)))


class Keys:
    """The checks; see `contract`."""

    # --- Idempotency-Key -----------------------------------------------------------------------

    def test_a_fast_response_is_kept_under_its_key(self, poller: httpx.Client) -> None:
        key = new()
        first = poller.post("/unique", content=b"order", headers=key)
        again = poller.post("/unique", content=b"order", headers=key)
        assert own(again) == own(first)
        assert own(poller.post("/unique", content=b"order", headers=new())) != own(first)
        assert again.headers["x-handler"] == first.headers["x-handler"]
        assert again.headers["content-type"] == first.headers["content-type"]

    def test_cookies_go_to_the_first_who_asks_only(self, poller: httpx.Client) -> None:
        key = new()
        first = poller.post("/unique", headers=key)
        assert first.headers["set-cookie"].startswith("run=")
        assert "set-cookie" not in poller.post("/unique", headers=key).headers

    def test_who_comes_while_the_first_is_handled_gets_its_operation(
        self, poller: httpx.Client
    ) -> None:
        key = new()
        first = poller.post("/unique/slow?seconds=3", content=b"order", headers=key)
        again = poller.post("/unique/slow?seconds=3", content=b"order", headers=key)
        assert_accepted(first)
        assert_accepted(again)
        assert again.headers["location"] == first.headers["location"]
        replayed = own(end(poller, first))
        assert own(poller.post("/unique/slow?seconds=3", content=b"order", headers=key)) == replayed

    def test_who_comes_in_time_waits_for_the_first(self, site: Site) -> None:
        key = new()
        assert len(together(site, 2, "POST", "/unique?seconds=0.5", headers=key)) == 1

    def test_a_key_and_a_preference_go_together(self, poller: httpx.Client) -> None:
        headers = new() | ASK
        first = poller.post("/unique?seconds=3", headers=headers)
        again = poller.post("/unique?seconds=3", headers=headers)
        for accepted in (first, again):
            assert_accepted(accepted)
            assert accepted.headers["preference-applied"] == "respond-async"
        assert again.headers["location"] == first.headers["location"]
        assert own(end(poller, again))

    def test_a_marked_handler_under_a_key_is_answered_202_at_once(
        self, poller: httpx.Client
    ) -> None:
        path, key = "/unique/marked?seconds=1", new()
        accepted = poller.post(path, headers=key)
        assert_accepted(accepted)
        assert own(end(poller, accepted)) == own(poller.post(path, headers=key))

    @pytest.mark.parametrize("path", ["/unique/slow?seconds=0.3", "/unique/marked?seconds=0.3"])
    def test_a_request_for_events_is_never_deferred_and_has_its_key(
        self, poller: httpx.Client, path: str
    ) -> None:
        headers = new() | {"Accept": "text/event-stream"}
        first = own(poller.post(path, headers=headers))
        assert own(poller.post(path, headers=headers | ASK)) == first

    @pytest.mark.parametrize("other", ["/unique?x=1", "/unique"])
    def test_another_request_under_the_same_key_is_refused(
        self, poller: httpx.Client, other: str
    ) -> None:
        key = new()
        own(poller.post("/unique", content=b"order", headers=key))
        body = b"order" if "?" in other else b"another"
        refused = poller.post(other, content=body, headers=key)
        assert_problem(refused, 422, "idempotency-key-reused")

    def test_a_key_is_of_one_route(self, poller: httpx.Client) -> None:
        key = new()
        first = own(poller.post("/unique", headers=key))
        assert own(poller.post("/unique/other", headers=key)) != first

    def test_a_key_is_its_owners(self, site: Site) -> None:
        key = new()
        with site.client("annes") as anne, site.client("bobs") as bob:
            assert own(anne.post("/unique", headers=key)) != own(bob.post("/unique", headers=key))

    def test_a_key_is_of_one_host(self, poller: httpx.Client) -> None:
        key, host = new(), "X-Forwarded-Host"
        first = own(poller.post("/unique", headers=key | {host: "one.test"}))
        assert own(poller.post("/unique", headers=key | {host: "other.test"})) != first
        assert own(poller.post("/unique", headers=key | {host: "ONE.test:8443"})) == first

    def test_what_sdks_and_proxies_change_makes_nobody_another_client(
        self, poller: httpx.Client
    ) -> None:
        key = new()

        def post(value: str) -> bytes:
            names = ("X-Stainless-Retry-Count", "Sec-CH-UA", "Baggage", "X-Envoy-Attempt-Count")
            fields = dict.fromkeys((*names, "User-Agent", "Forwarded"), f"for={value}")
            return own(poller.post("/unique", headers=key | fields))

        assert post("1") == post("2")

    def test_a_key_is_of_those_who_show_the_same_credentials(self, poller: httpx.Client) -> None:
        key = new()
        first = own(poller.post("/unique", headers=key | {"Authorization": "Bearer one"}))
        other = own(poller.post("/unique", headers=key | {"Authorization": "Bearer two"}))
        assert other != first

    @pytest.mark.parametrize("key", ["", "two words", '"', "x" * 300, '"a\\b"'])
    def test_a_key_that_is_none_is_refused(self, poller: httpx.Client, key: str) -> None:
        refused = poller.post("/unique", headers={"Idempotency-Key": key})
        assert_problem(refused, 400, "idempotency-key-invalid")

    def test_a_request_too_large_to_be_compared_has_no_key(self, site: Site) -> None:
        with site.client("tight") as client:
            answer = client.post("/unique", content=bytes(2_000), headers=new())
            if site.gateway.has_whole_bodies:
                assert own(answer)
            else:
                assert_problem(answer, 413, "request-too-large")
            assert own(client.post("/unique", content=bytes(2_000)))

    def test_a_safe_request_needs_no_key(self, poller: httpx.Client) -> None:
        key = new()
        first = poller.get("/unique", headers=key)
        assert own(poller.get("/unique", headers=key)) != own(first)

    def test_the_body_reaches_its_handler_and_comes_back_under_a_key(
        self, poller: httpx.Client
    ) -> None:
        sent, key = bytes(range(256)) * 10_000, new()
        for _ in range(2):
            assert own(poller.post("/echo", content=sent, headers=key)) == sent

    # --- coalescing ----------------------------------------------------------------------------

    def test_identical_requests_at_the_same_time_share_a_run(self, site: Site) -> None:
        request = ("GET", "/unique?seconds=3")
        assert len(together(site, 3, *request, variant="coalescing")) == 1

    def test_who_comes_after_the_end_has_a_run_of_its_own(self, site: Site) -> None:
        with site.client("coalescing") as client:
            first = own(client.get("/unique"))
            # A client may have all bytes before the handler has said that no more come.
            until(lambda: own(client.get("/unique")) != first)

    def test_who_repeats_a_request_instead_of_following_its_202_comes_to_the_end(
        self, site: Site
    ) -> None:
        with site.client("coalescing") as client:
            path = f"/unique?seconds=0.1&who={uuid.uuid4()}"
            accepted = start(client, path)
            found = own(end(client, accepted))
            for _ in range(2):
                assert own(client.get(path, headers=ASK)) == found
            assert own(client.get(path)) != found  # it is not identical

    def test_requests_that_differ_share_nothing(self, site: Site) -> None:
        headers = [{}, {"Accept": "text/html"}, {"Authorization": "Bearer one"}]

        def send(given: dict[str, str]) -> bytes:
            with site.client("coalescing") as client:
                return own(client.get("/unique?seconds=0.5", headers=given))

        with ThreadPoolExecutor(3) as pool:
            assert len(set(pool.map(send, headers))) == 3

    def test_requests_with_different_bodies_share_nothing(self, site: Site) -> None:
        def send(body: bytes) -> bytes:
            with site.client("coalescing") as client:
                path = "/unique?seconds=3"
                return own(client.request("GET", path, content=body))

        with ThreadPoolExecutor(4) as pool:
            first, second, other, _ = pool.map(send, (b"q=aa", b"q=aa", b"q=bb", b"q=cc"))
        assert first == second != other

    def test_nobody_may_cancel_or_delete_what_others_wait_for(self, site: Site) -> None:
        with site.client("coalescing") as client:
            accepted = start(client, "/unique?seconds=0.5")
            url = accepted.headers["location"]
            assert_problem(client.delete(url), 409, "operation-shared")
            found = own(end(client, accepted))
            assert_problem(client.delete(url), 409, "operation-shared")
            assert own(client.get(url)) == found
