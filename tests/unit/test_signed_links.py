"""Who has a signed link may read one response for a while; nobody else may do more than before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from raincheck.config.options import Settings
from raincheck.engine.engine import Engine
from raincheck.http.messages import Request, Response
from raincheck.monitor.endpoint import StatusMonitor
from raincheck.monitor.links import Resource
from raincheck.monitor.poll import Poll
from raincheck.operations.operation import Operation, Result, State
from raincheck.stores.memory import MemoryStore
from raincheck.testing import Clock
from raincheck.testing.material import make_operation

ID, OTHER = "8f14e45fceea167a5a36dedd4bea2543", "c9f0f895fb98ab9159f51fd0297e236d"
R = f"/operations/{ID}"
SECRET = "a secret that is long enough"  # noqa: S105 - of these tests
ANNE, BOB = "anné", "bob"
Ask = Callable[..., Response]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    store = MemoryStore(clock=clock)
    times = {"created": clock.now, "updated": clock.now, "lease": clock.now + 1e6}
    for name in (ID, OTHER):
        fields: dict[str, Any] = {"owner": ANNE, "worker": store.incarnation()}
        store.create(make_operation(name, **fields, **times))
    return store


def asking(store: MemoryStore, **options: Any) -> Ask:
    """Return what asks a monitor with these options."""
    settings = Settings(owner=lambda request: None, **({"url_secret": SECRET} | options))
    monitor = StatusMonitor(Engine(settings, store))

    def ask(
        owner: str | None, query: str = "", tail: Resource = Resource.RESPONSE, method: str = "GET"
    ) -> Response:
        host = (b"host", b"example.org")
        path = R + tail
        request = Request(method, path, query=query.encode(), headers=(host,))
        return monitor.look(Poll(request, ID, tail, lambda: owner)).response

    return ask


@pytest.fixture
def ask(store: MemoryStore) -> Ask:
    return asking(store)


def document(response: Response) -> dict[str, Any]:
    assert isinstance(response.body, bytes)
    found: dict[str, Any] = json.loads(response.body)
    return found


def query_for_guests(ask: Ask) -> str:
    """Return the query of the link that the owner may hand to somebody else."""
    signed = document(ask(ANNE, tail=Resource.STATUS))["links"]["signed"]
    path, _, query = str(signed).partition("?")
    assert path == R
    return query


def finish(store: MemoryStore) -> Operation:
    running = store.get(ID)
    assert running is not None
    store.write_chunk(ID, 1, 0, b"done")
    result = Result(200, (), 4, 4, fence=1)
    changes: dict[str, Any] = {"result": result, "expires": store.now() + 1e6}
    ended = replace(running, state=State.SUCCEEDED, version=running.version + 1, **changes)
    assert store.swap(running, ended)
    return ended


# --- for the owner -----------------------------------------------------------------------------


def test_both_documents_have_the_signed_link_and_the_header_fields_do_not(ask: Ask) -> None:
    for tail in (Resource.RESPONSE, Resource.STATUS):
        response = ask(ANNE, tail=tail)
        assert "signed" in document(response)["links"]
        assert b"signature" not in repr(response.headers).encode()


def test_the_document_does_not_change_at_every_look(ask: Ask, clock: Clock) -> None:
    clock.now = clock.now // 3600 * 3600 + 1
    first = ask(ANNE, tail=Resource.STATUS)
    clock.now += 3598
    assert ask(ANNE, tail=Resource.STATUS).header(b"etag") == first.header(b"etag")


def test_without_the_option_there_is_no_link_and_no_signature_counts(
    store: MemoryStore, ask: Ask
) -> None:
    plain = asking(store, url_secret=None)
    assert "signed" not in document(plain(ANNE, tail=Resource.STATUS))["links"]
    assert plain(BOB, query_for_guests(ask)).status == 404


def test_what_has_no_owner_has_no_signed_link(store: MemoryStore, ask: Ask) -> None:
    running = store.get(ID)
    assert running is not None
    store.swap(running, replace(running, owner=None, version=running.version + 1))
    assert "signed" not in document(ask(BOB))["links"]


@pytest.mark.parametrize("options", [{"location": "path"}, {"location": "relative"}])
def test_the_signed_link_is_written_as_the_others_are(
    store: MemoryStore, options: dict[str, Any]
) -> None:
    links = document(asking(store, **options)(ANNE))["links"]
    assert links["signed"].partition("?")[0] == links["response"]


# --- for a guest -------------------------------------------------------------------------------


@pytest.mark.parametrize("guest", [None, BOB, ANNE])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("tail", "status"),
    [(Resource.RESPONSE, 202), (Resource.STATUS, 200), (Resource.RESULT, 404)],
)
def test_who_has_the_link_may_look_whoever_asks(
    ask: Ask, guest: str | None, method: str, tail: Resource, status: int
) -> None:
    response = ask(guest, query_for_guests(ask), tail, method)
    assert response.status == status
    if status == 404:
        assert response.header(b"retry-after")  # not ready, and not unknown


@pytest.mark.parametrize("tail", [Resource.RESPONSE, Resource.RESULT])
def test_who_has_the_link_gets_the_response(store: MemoryStore, ask: Ask, tail: Resource) -> None:
    query = query_for_guests(ask)
    finish(store)
    response = ask(BOB, query, tail)
    assert (response.status, response.header(b"operation-status")) == (200, b"succeeded")
    assert ask(BOB, "", tail).status == 404


@pytest.mark.parametrize("query", ["a=1&{}", "{}&signature=x", "a&{}&b=%00"])
def test_the_signature_is_found_among_other_parameters(ask: Ask, query: str) -> None:
    assert ask(BOB, query.format(query_for_guests(ask))).status == 202


def test_all_that_a_guest_is_told_to_follow_has_its_own_signature(
    store: MemoryStore, ask: Ask
) -> None:
    query = query_for_guests(ask)
    response = ask(BOB, query)
    url, monitor = (f"http://example.org{R}{tail}?{query}".encode() for tail in ("", "/status"))
    assert response.header(b"location") == response.header(b"content-location") == url
    assert response.header(b"operation-location") == monitor
    assert response.header(b"link") == b'<%s>; rel="status"' % monitor
    expected = {"response": "", "status": "/status", "result": "/result"}
    links = {name: f"{R}{tail}?{query}" for name, tail in expected.items()}
    assert document(response)["links"] == links
    finish(store)
    ended = document(ask(BOB, query, Resource.STATUS))
    assert (ended["links"], ended["resourceLocation"]) == (links, url.decode())


def test_a_guest_that_is_sent_elsewhere_keeps_its_signature(store: MemoryStore) -> None:
    ask = asking(store, dialect="see-other")
    query = query_for_guests(ask)
    finish(store)
    response = ask(BOB, query, Resource.STATUS)
    assert response.status == 303
    assert (response.header(b"location") or b"").endswith(f"{R}?{query}".encode())


@pytest.mark.parametrize("guest", [BOB, ANNE])
def test_nobody_gets_a_new_signature_by_an_old_one(ask: Ask, clock: Clock, guest: str) -> None:
    query = query_for_guests(ask)
    clock.now += 3599
    for tail in (Resource.RESPONSE, Resource.STATUS):
        response = ask(guest, query, tail)
        assert "signed" not in document(response)["links"]
        shown = repr(response).split("signature=")
        assert all(part.startswith(query.removeprefix("signature=")) for part in shown[1:])


def test_a_guest_deletes_nothing(store: MemoryStore, ask: Ask) -> None:
    query, before = query_for_guests(ask), store.get(ID)
    assert ask(BOB, query, method="DELETE").status == 404
    assert store.get(ID) == before
    assert ask(ANNE, query, method="DELETE").status == 202


# --- for everybody else ------------------------------------------------------------------------


def wrong(query: str) -> list[str]:
    """Return what looks like the signature and is none."""
    head, _, signature = query.partition(".")
    expiry = int(head.removeprefix("signature="))
    return [
        f"signature={expiry + 3600}.{signature}",
        query[:-4] + "AAAA",
        f"signature=x&{query}",
        query.upper(),
        query.replace("signature", "signed"),
        "signature=",
        "signature",
        "signature=" + "9" * 100_000,
        "signature=%00\xff",
    ]


def test_a_wrong_signature_is_as_none(ask: Ask) -> None:
    unknown = ask(BOB)
    assert unknown.status == 404
    for query in wrong(query_for_guests(ask)):
        assert ask(BOB, query) == unknown
        assert ask(ANNE, query) == ask(ANNE)


def test_an_expired_signature_is_as_none(ask: Ask, clock: Clock) -> None:
    query = query_for_guests(ask)
    clock.now += 2 * 3600
    assert ask(BOB, query) == ask(BOB)
    assert ask(ANNE, query) == ask(ANNE)
    assert document(ask(ANNE, query))["links"]["signed"] != f"{R}?{query}"


def test_a_signature_for_another_operation_is_as_none(store: MemoryStore, ask: Ask) -> None:
    monitor = StatusMonitor(Engine(Settings(owner=lambda _: None, url_secret=SECRET), store))
    asked = Request("GET", "/", query=query_for_guests(ask).encode())
    assert monitor.look(Poll(asked, OTHER, Resource.RESPONSE, lambda: BOB)).response.status == 404


def test_owners_that_only_look_alike_are_strangers(ask: Ask) -> None:
    assert ask(ANNE).status == 202
    for owner in (None, "", "anne\u0301", "ANNÉ", "anné ", "anné\ud800"):
        assert ask(owner).status == 404


class CarelessStore(MemoryStore):
    """Its texts know no case, as those of some databases."""

    def get(self, operation_id: str) -> Operation | None:
        return super().get(operation_id.lower())


def test_an_operation_that_was_not_asked_for_is_shown_to_nobody() -> None:
    store = CarelessStore()
    store.create(make_operation(ID, worker=store.incarnation()))
    monitor = StatusMonitor(Engine(Settings(), store))
    for name, status in ((ID, 202), (ID.upper(), 404)):
        poll = Poll(Request("GET", R), name, Resource.RESPONSE)
        assert monitor.look(poll).response.status == status
