"""What is refused before anything has run, and what ends because it has had its time."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.gateways.following import ASK, assert_problem, cancelled, end, start, status
from tests.gateways.gateways import Site


def assert_come_again(refused: httpx.Response, code: int, name: str) -> None:
    assert_problem(refused, code, name)
    assert int(refused.headers["retry-after"]) >= 1


class Limiting:
    """The checks; see `contract`."""

    def test_an_owner_with_too_many_operations_is_refused(self, site: Site) -> None:
        with site.client("few") as client:
            accepted = start(client, "/patient")
            try:
                refused = client.get("/fast", headers=ASK)
                assert_come_again(refused, 429, "too-many-operations")
                assert client.get("/fast").content == b"fast\n"
            finally:
                cancelled(client, accepted)

    def test_a_store_that_holds_enough_takes_no_more(self, site: Site) -> None:
        with site.client("none") as client:
            assert_come_again(client.get("/fast", headers=ASK), 503, "unavailable")
            assert client.get("/slow?seconds=0.2").content == b"slow\n"
            refused = client.post("/unique", headers={"Idempotency-Key": "refused"})
            assert_come_again(refused, 503, "unavailable")

    def test_an_upload_for_which_there_is_no_room_is_refused(self, site: Site) -> None:
        sent = bytes(2_000_000)
        with site.client("roomless") as client:
            answer = client.post("/echo", content=sent, headers=ASK)
            if site.gateway.has_whole_bodies:
                assert end(client, answer).content == sent
            else:
                assert_come_again(answer, 503, "unavailable")
            assert client.post("/echo", content=sent).content == sent
            assert end(client, start(client, "/echo", method="POST", content=b"x")).content == b"x"

    def test_a_handler_that_takes_too_long_has_failed(self, site: Site) -> None:
        with site.client("hurried") as client:
            accepted = start(client, "/patient")
            assert_problem(end(client, accepted), 500, "timeout")
            assert status(client, accepted)["error"]["code"] == "timeout"

    def test_a_handler_that_goes_on_whatever_anybody_wants_is_cancelled_all_the_same(
        self, site: Site
    ) -> None:
        with site.client() as client:
            accepted = start(client, "/stubborn?seconds=3")
            assert client.delete(accepted.headers["location"]).json()["status"] == "cancelling"
            ended = end(client, accepted)
            assert (ended.status_code, ended.headers["operation-status"]) == (410, "canceled")
            assert status(client, accepted)["status"] == "canceled"

    @pytest.mark.parametrize("path", ["/again", "/stubborn"])  # without a body, and with one
    def test_a_sync_handler_that_never_looks_runs_to_its_end_and_its_response_is_discarded(
        self, site: Site, path: str
    ) -> None:
        if not site.gateway.is_sync:
            pytest.skip("its server cancels the task that waits for the handler")
        with site.client() as client:
            seconds, begun = 3, time.monotonic()
            accepted = start(client, f"{path}?seconds={seconds}")
            assert client.delete(accepted.headers["location"]).json()["status"] == "cancelling"
            assert_problem(end(client, accepted), 410, "canceled")
            assert time.monotonic() - begun >= seconds
            document = status(client, accepted)
            assert document["status"] == "canceled"
            assert document["error"]["code"] == "response_discarded"
