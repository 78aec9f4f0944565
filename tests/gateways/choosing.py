"""What is different with other options."""

from __future__ import annotations

import time

import httpx

from tests.gateways.following import (
    ASK,
    assert_problem,
    assert_upload_over_the_limit_arrives,
    end,
    start,
)
from tests.gateways.gateways import Site
from tests.gateways.transcript import Transcript


class Choosing:
    """The checks; see `contract`."""

    # --- other options -------------------------------------------------------------------------

    def test_cookies_are_kept_only_on_demand(
        self, site: Site, client: httpx.Client, poller: httpx.Client
    ) -> None:
        baked = client.get("/bare/cookies").headers.get_list("set-cookie")
        assert baked == ["a=1; Path=/", "b=2; Path=/"]
        assert "set-cookie" not in end(poller, start(client, "/cookies")).headers
        with site.client("generous") as generous:
            replayed = end(generous, start(generous, "/cookies"))
            assert replayed.headers.get_list("set-cookie") == baked

    def test_after_its_retention_a_response_is_gone(self, site: Site) -> None:
        with site.client("brief") as client:
            accepted = start(client, "/fast")
            url, deadline = accepted.headers["location"], time.monotonic() + 20
            while (response := end(client, accepted)).status_code == 200:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            for tail in ("", "/status", "/result"):
                assert_problem(client.get(url + tail), 410, "gone")
            assert_problem(response, 410, "gone")

    def test_a_request_body_over_the_limit_arrives_whole_or_is_refused(
        self, site: Site, transcript: Transcript
    ) -> None:
        assert_upload_over_the_limit_arrives(site, "tight", b"x" * 1_001)
        with site.client("tight", transcript) as client:
            strict = {"Prefer": "respond-async, handling=strict"}
            refused = client.post("/echo", content=b"x" * 1_001, headers=strict)
            assert_problem(refused, 413, "request-too-large")
            assert client.post("/echo", content=b"x" * 1_000, headers=strict).status_code == 202

    def test_when_too_much_is_in_flight_nothing_is_begun(
        self, site: Site, transcript: Transcript
    ) -> None:
        with site.client("full", transcript) as client:
            refused = client.get("/fast", headers=ASK)
            assert_problem(refused, 503, "unavailable")
            assert int(refused.headers["retry-after"]) >= 1
            assert client.get("/slow?seconds=0.2").status_code == 201
            assert client.get("/marked").status_code == 201

    def test_in_mode_marked_only_marked_handlers_are_deferred(
        self, site: Site, transcript: Transcript
    ) -> None:
        with site.client("marked", transcript) as client:
            assert client.get("/slow?seconds=0.2", headers=ASK).status_code == 201
            assert client.get("/marked").status_code == 202
            applied = client.get("/marked", headers=ASK).headers["preference-applied"]
            assert applied == "respond-async"

    def test_in_mode_prefer_nobody_gets_a_202_unasked(
        self, site: Site, transcript: Transcript
    ) -> None:
        with site.client("asked", transcript) as client:
            assert client.get("/marked").status_code == 201
            assert client.get("/slow?seconds=0.2").status_code == 201
            assert client.get("/slow", headers={"Prefer": "wait=0"}).status_code == 201
            assert client.get("/slow", headers=ASK).status_code == 202
