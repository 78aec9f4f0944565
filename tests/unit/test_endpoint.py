"""What polls may do to operations, and what they are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from raincheck.config.options import Settings
from raincheck.config.policy import Candidate
from raincheck.engine.engine import Engine
from raincheck.engine.start import Key
from raincheck.http.messages import Headers, Request, Response
from raincheck.monitor.endpoint import StatusMonitor
from raincheck.monitor.links import Resource
from raincheck.monitor.poll import Poll, Repeat
from raincheck.operations.operation import Operation, Result, State
from raincheck.stores.memory import MemoryStore
from raincheck.testing import Clock
from raincheck.testing.material import make_operation

ID = "8f14e45fceea167a5a36dedd4bea2543"
TAG, DATE = b'"tag"', b"Sat, 21 Nov 2026 20:00:00 GMT"
GIVEN: Headers = ((b"etag", TAG), (b"last-modified", DATE), (b"set-cookie", b"s=1"))
KEY = Key("value", "fingerprint", is_shared=True)
Keep = Callable[..., Operation]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(clock=Clock())


@pytest.fixture
def monitor(store: MemoryStore) -> StatusMonitor:
    return StatusMonitor(Engine(Settings(keep_cookies=True), store))


@pytest.fixture
def keep(store: MemoryStore) -> Keep:
    def keep(status: int | None = None, headers: Headers = GIVEN, **fields: Any) -> Operation:
        now = store.now()
        fields |= {"created": now, "updated": now, "fingerprint": KEY.fingerprint}
        if status is None:
            given = fields | {"worker": store.incarnation(), "lease": now + 1e6}
            return store.create(make_operation(ID, **given))
        state = State.SUCCEEDED if status < 400 else State.FAILED
        result = Result(status, headers, length=0, chunk_size=1, fence=1)
        ended = {"state": state, "result": result, "expires": now + 1e6}
        return store.create(make_operation(ID, **(fields | ended)))

    return keep


def ask(monitor: StatusMonitor, method: str, *headers: tuple[bytes, bytes]) -> Response:
    request = Request(method, f"/operations/{ID}", headers=headers)
    return monitor.look(Poll(request, ID, Resource.RESPONSE)).response


def code_of(response: Response) -> Any:
    assert isinstance(response.body, bytes)
    return json.loads(response.body)["code"]


# --- deleting what others wait for ---------------------------------------------------------------


@pytest.mark.parametrize("status", [None, 200, 500])
def test_nobody_may_delete_what_identical_requests_share(
    keep: Keep, store: MemoryStore, monitor: StatusMonitor, status: int | None
) -> None:
    operation = keep(status, coalesced=True)
    refused = ask(monitor, "DELETE")
    assert (refused.status, code_of(refused)) == (409, "operation-shared")
    assert store.get(ID) == operation


def test_what_is_shared_and_gone_is_gone(
    keep: Keep, store: MemoryStore, monitor: StatusMonitor
) -> None:
    keep(200, coalesced=True, forgotten=True)
    assert ask(monitor, "DELETE").status == 410


# --- conditions ----------------------------------------------------------------------------------

FAILING = [
    (b"if-match", b'"other"'),
    (b"if-unmodified-since", b"Friday, 20-Nov-26 20:00:00 GMT"),
    (b"if-unmodified-since", b"Fri Nov 20 20:00:00 2026"),
    (b"if-match", b"W/" + TAG),
    (b"if-unmodified-since", b"Fri, 20 Nov 2026 20:00:00 GMT"),
]


STATUSES = [200, 201, 202, 204, 206, 303, 304, 404, 416, 503]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("condition", FAILING)
def test_a_delete_whose_condition_fails_has_no_effect(
    keep: Keep,
    store: MemoryStore,
    monitor: StatusMonitor,
    condition: tuple[bytes, bytes],
    status: int,
) -> None:
    operation = keep(status)
    refused = ask(monitor, "DELETE", condition)
    assert (refused.status, code_of(refused)) == (412, "precondition-failed")
    assert ask(monitor, "GET", condition).status == 412
    assert store.get(ID) == operation


@pytest.mark.parametrize(
    "condition",
    [
        (b"if-match", TAG),
        (b"if-match", b"*"),
        (b"if-none-match", b'"other"'),
        (b"if-unmodified-since", DATE),
        (b"if-unmodified-since", b"yesterday"),
        (b"if-unmodified-since", b"Fri, 20 Nov 2026 20:00:00"),
        (b"if-modified-since", DATE),
    ],
)
@pytest.mark.parametrize("status", STATUSES)
def test_a_delete_whose_condition_holds_has_its_effect(
    keep: Keep, monitor: StatusMonitor, condition: tuple[bytes, bytes], status: int
) -> None:
    keep(status)
    assert ask(monitor, "DELETE", condition).status == 204
    assert ask(monitor, "GET").status == 410


def test_the_tag_that_raincheck_gives_counts_as_the_handlers_own(
    keep: Keep, monitor: StatusMonitor
) -> None:
    keep(200, headers=())
    tag = ask(monitor, "GET").header(b"etag")
    assert tag is not None
    assert ask(monitor, "DELETE", (b"if-match", TAG)).status == 412
    assert ask(monitor, "DELETE", (b"if-match", tag)).status == 204


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("tag", [TAG, b"W/" + TAG, b'"x", ' + TAG, b"*"])
def test_who_has_the_response_does_not_get_it_and_does_not_delete_it(
    keep: Keep, store: MemoryStore, monitor: StatusMonitor, status: int, tag: bytes
) -> None:
    operation, condition = keep(status), (b"if-none-match", tag)
    for method, expected in (("GET", 304), ("HEAD", 304), ("DELETE", 412)):
        assert ask(monitor, method, condition).status == expected
    assert store.get(ID) == operation


def test_a_condition_keeps_nobody_from_cancelling(keep: Keep, monitor: StatusMonitor) -> None:
    keep()
    assert ask(monitor, "DELETE", FAILING[0]).status == 202


# --- cookies -------------------------------------------------------------------------------------


def repeat(monitor: StatusMonitor, first: Headers | None = None) -> Response:
    given = {"key": KEY, "candidate": Candidate(1.0), "first": first}
    return monitor.look(Repeat(Request("GET", "/search"), ID, **given)).response  # type: ignore[arg-type]


def test_a_cookie_of_a_shared_response_goes_to_who_had_the_handler_called_only(
    keep: Keep, monitor: StatusMonitor
) -> None:
    keep(200, coalesced=True)
    assert repeat(monitor).header(b"set-cookie") is None
    assert repeat(monitor).header(b"etag") == TAG
    assert repeat(monitor, GIVEN).header(b"set-cookie") == b"s=1"
    assert ask(monitor, "GET").header(b"set-cookie") is None, "all who share it poll R"


def test_a_cookie_that_is_kept_for_one_client_comes_back_to_it(
    keep: Keep, monitor: StatusMonitor
) -> None:
    keep(200)
    assert repeat(monitor).header(b"set-cookie") == b"s=1"
    assert ask(monitor, "GET").header(b"set-cookie") == b"s=1"
