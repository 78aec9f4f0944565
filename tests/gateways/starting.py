"""What a client is answered when it asks for something: the response itself, or a 202."""

from __future__ import annotations

import httpx
import pytest

from tests.gateways.following import (
    ANSWERS,
    ASK,
    assert_accepted,
    assert_problem,
    assert_same_but_for_own,
    end,
    fields_of,
)
from tests.gateways.transcript import OWN


class Starting:
    """The checks; see `contract`."""

    # --- in time -------------------------------------------------------------------------------

    @pytest.mark.parametrize("path", ANSWERS)
    def test_a_response_in_time_is_untouched(self, client: httpx.Client, path: str) -> None:
        bare, wrapped = client.get(f"/bare{path}"), client.get(path)
        assert (wrapped.status_code, wrapped.content) == (bare.status_code, bare.content)
        assert fields_of(wrapped) == fields_of(bare)
        assert not set(OWN) & set(wrapped.headers)

    def test_an_upload_in_time_arrives_whole(self, client: httpx.Client) -> None:
        sent = bytes(range(256)) * 1_000
        response = client.post("/echo", content=sent)
        assert (response.status_code, response.content) == (200, sent)

    @pytest.mark.parametrize(("method", "path"), [("DELETE", "/fast"), ("GET", "/nowhere")])
    def test_a_refusal_of_the_framework_passes_through(
        self, client: httpx.Client, method: str, path: str
    ) -> None:
        bare = client.request(method, f"/bare{path}")
        wrapped = client.request(method, path)
        assert wrapped.status_code == bare.status_code in (404, 405)
        assert wrapped.headers.get("allow") == bare.headers.get("allow")

    def test_a_failure_in_time_is_what_it_is_without_raincheck(self, client: httpx.Client) -> None:
        bare, wrapped = client.get("/bare/failing"), client.get("/failing")
        assert wrapped.status_code == bare.status_code == 500
        assert fields_of(wrapped) == fields_of(bare)
        assert wrapped.content.replace(b"/bare", b"") == bare.content.replace(b"/bare", b"")

    # --- the 202 -------------------------------------------------------------------------------

    def test_a_slow_request_is_answered_202_after_its_budget(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = client.get("/slow", params={"seconds": 1.5})
        assert_accepted(accepted)
        assert not {"preference-applied", "vary"} & set(accepted.headers)
        replayed = end(poller, accepted)
        assert_same_but_for_own(replayed, client.get("/bare/slow"))
        assert replayed.status_code == 201

    def test_a_marked_handler_is_answered_202_at_once(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = client.get("/marked")
        assert_accepted(accepted)
        assert end(poller, accepted).content == b"slow\n"

    def test_a_marked_handler_is_not_reached_by_a_wrong_method(self, client: httpx.Client) -> None:
        assert client.delete("/marked").status_code == 405

    @pytest.mark.parametrize("path", ["/fast", "/slow?seconds=0.2", "/marked"])
    def test_a_head_is_never_deferred(self, client: httpx.Client, path: str) -> None:
        response = client.head(path, headers=ASK)
        assert response.status_code in (200, 201)
        assert (response.headers["content-length"], response.content) == ("5", b"")
        assert "preference-applied" not in response.headers

    @pytest.mark.parametrize("path", ["/fast", "/slow?seconds=0.2", "/marked?seconds=0.2"])
    @pytest.mark.parametrize("accept", ["text/event-stream", "application/json, text/event-stream"])
    def test_a_request_for_events_is_never_deferred(
        self, client: httpx.Client, path: str, accept: str
    ) -> None:
        response = client.get(path, headers=ASK | {"Accept": accept})
        assert response.status_code in (200, 201)
        strict = {"Accept": accept, "Prefer": "respond-async, handling=strict"}
        assert_problem(client.get(path, headers=strict), 400, "preference-not-honoured")

    # --- preferences ---------------------------------------------------------------------------

    @pytest.mark.parametrize("prefer", ["respond-async", "wait=0", "respond-async, wait=0"])
    def test_a_preference_that_is_followed_is_named(
        self, client: httpx.Client, poller: httpx.Client, prefer: str
    ) -> None:
        accepted = client.get("/slow?seconds=0.2", headers={"Prefer": prefer})
        assert_accepted(accepted)
        assert accepted.headers["preference-applied"] == prefer.partition(",")[0]
        assert accepted.headers["vary"] == "Prefer"
        assert end(poller, accepted).status_code == 201

    @pytest.mark.parametrize("prefer", ["wait=20", "respond-async, wait=20", "anything"])
    def test_a_preference_to_wait_is_waited_for(self, client: httpx.Client, prefer: str) -> None:
        path = "/slow?seconds=0.2" if "wait" in prefer else "/fast"
        response = client.get(path, headers={"Prefer": prefer})
        assert response.status_code in (200, 201)
        assert "preference-applied" not in response.headers

    @pytest.mark.parametrize(("method", "path"), [("GET", "/bare/fast"), ("HEAD", "/fast")])
    def test_what_cant_be_followed_is_ignored_or_refused_as_asked(
        self, client: httpx.Client, method: str, path: str
    ) -> None:
        strict = {"Prefer": "respond-async, handling=strict"}
        refused = client.request(method, path, headers=strict)
        assert refused.status_code == 400
        if method == "GET":
            assert_problem(refused, 400, "preference-not-honoured")
        assert client.request(method, path, headers=ASK).status_code == 200
