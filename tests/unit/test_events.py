"""What clients that listen are told: the events, their ids, and whom a change concerns."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from raincheck.errors import StoreUnavailable
from raincheck.http.messages import Headers, Request, Response
from raincheck.monitor import events
from raincheck.monitor.feed import Feed
from raincheck.monitor.links import Resource
from raincheck.monitor.listeners import AT_ONCE, Listeners, Listening, Seen, Waiter
from raincheck.monitor.views import View, status_document
from raincheck.operations.operation import Operation, Progress, State
from tests.unit.test_views import LINKS, NOW, OPERATIONS, code_of, operation_of, result_of, view_of

RUNNING, ENDED = OPERATIONS["running"], OPERATIONS["succeeded"]
STREAM = b"text/event-stream"


def ask(*fields: tuple[bytes, bytes], method: str = "GET") -> Request:
    return Request(method, "/operations/a", headers=((b"accept", STREAM), *fields))


def known(operation: Operation) -> tuple[bytes, bytes]:
    return (b"last-event-id", events.event_id(operation).encode())


def parse(body: bytes | Any) -> list[dict[str, str]]:
    """Read events as a client does; of what has not ended, too."""
    assert isinstance(body, bytes)
    found = []
    for block in body.decode().rstrip("\n").split("\n\n"):
        lines = [line.partition(": ") for line in block.split("\n") if not line.startswith(":")]
        found.append({name: value for name, _, value in lines if name})
    return [event for event in found if event]


def test_nothing_but_events_ends_a_block() -> None:
    """Some clients make an empty event of each empty line."""
    assert not (events.HEARTBEAT + events.come_again(1)).count(b"\n\n")


# --- who is told by events ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "resource", "expected"),
    [
        ("GET", Resource.RESPONSE, True),
        ("HEAD", Resource.RESPONSE, True),
        ("GET", Resource.STATUS, True),
        ("GET", Resource.RESULT, False),
        ("DELETE", Resource.RESPONSE, False),
    ],
)
def test_events_are_told_where_an_operation_is_read(
    method: str, resource: Resource, expected: bool
) -> None:
    assert events.are_wanted(ask(method=method), resource, RUNNING) is expected


def test_a_handlers_own_events_are_what_its_response_url_shows() -> None:
    headers: Headers = ((b"content-type", b"text/event-stream; charset=utf-8"),)
    own = replace(ENDED, result=result_of(200, headers=headers))
    assert not events.are_wanted(ask(), Resource.RESPONSE, own)
    assert events.are_wanted(ask(), Resource.STATUS, own)
    assert events.are_wanted(ask(known(own)), Resource.RESPONSE, own), "it has heard of the end"


# --- what they say --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("accepted", "status"),
        ("running", "status"),
        ("cancelling", "status"),
        ("succeeded", "end"),
        ("failed with a response", "end"),
        ("failed without", "end"),
        ("canceled", "end"),
    ],
)
def test_an_event_has_the_status_document(name: str, kind: str) -> None:
    view = view_of(OPERATIONS[name])
    [event] = parse(events.event(view))
    assert event["event"] == kind
    assert json.loads(event["data"]) == status_document(view)


def test_no_text_of_a_handler_can_begin_a_line() -> None:
    message = "a\n\nevent: end\rdata: {}\r\n\u2028\x85id: 1"
    view = view_of(replace(RUNNING, progress=Progress(1, 2, message)))
    [event] = parse(events.event(view))
    assert json.loads(event["data"])["progress"]["message"] == message
    assert b"\r" not in events.event(view)


@pytest.mark.parametrize(
    ("changes", "is_other"),
    [
        ({"version": 7, "lease": NOW + 60, "polled": NOW}, False),
        ({"updated": NOW}, True),
        ({"state": State.CANCELLING}, True),
        ({"unbound": True}, True),
    ],
)
def test_an_id_is_another_one_when_there_is_something_else_to_see(
    changes: dict[str, Any], is_other: bool
) -> None:
    changed = replace(RUNNING, **changes)
    assert (events.event_id(changed) != events.event_id(RUNNING)) is is_other


# --- the whole answer -----------------------------------------------------------------------------


def whole(operation: Operation, *fields: tuple[bytes, bytes]) -> Response:
    return events.whole(view_of(operation), ask(*fields), 10.0)


def test_who_cannot_listen_is_told_how_things_are_and_when_to_come_again() -> None:
    [status] = parse(whole(RUNNING).body)
    assert (status["retry"], status["event"]) == ("10000", "status")
    assert parse(whole(RUNNING, known(RUNNING)).body) == [{"retry": "10000"}]
    assert parse(whole(RUNNING, known(ENDED)).body)[0]["event"] == "status"


def test_the_end_is_told_whatever_was_heard_before_and_then_no_more() -> None:
    for fields in ([], [known(RUNNING)], [(b"last-event-id", b"\xff")]):
        told = whole(ENDED, *fields)
        assert told.status == 200
        assert [event["event"] for event in parse(told.body)] == ["end"]
        assert told.header(b"operation-status") == b"succeeded"
        assert told.header(b"content-length") == b"%d" % len(told.body)  # type: ignore[arg-type]
    over = whole(ENDED, known(ENDED))
    assert (over.status, over.body, over.header(b"content-type")) == (204, b"", None)


@pytest.mark.parametrize("name", ["expired", "forgotten"])
def test_what_is_gone_is_gone_for_who_listens(name: str) -> None:
    told = whole(OPERATIONS[name], known(OPERATIONS[name]))
    assert (told.status, code_of(told)) == (410, "gone")


def test_a_stream_is_kept_by_no_cache_and_held_back_by_no_proxy() -> None:
    told = whole(RUNNING)
    assert told.header(b"content-type") == STREAM
    assert told.header(b"cache-control") == b"no-store, no-transform"
    assert told.header(b"x-accel-buffering") == b"no"
    assert told.header(b"content-encoding") is None
    compressing = whole(RUNNING, (b"accept-encoding", b"gzip, br"))
    assert compressing.header(b"content-encoding") == b"identity"


# --- one client -----------------------------------------------------------------------------------


def feed_of(
    operation: Operation, *fields: tuple[bytes, bytes], sees: bool = True, **more: Any
) -> Feed:
    return Feed(view_of(operation, **more), ask(*fields), lambda now: sees, lambda op, now: None)


def test_a_client_begins_with_how_things_are_unless_it_knows() -> None:
    [status] = parse(feed_of(RUNNING).start)
    assert 1000 <= int(status["retry"]) <= 4000
    assert status["event"] == "status"
    [retry] = parse(feed_of(RUNNING, known(RUNNING)).start)
    assert "event" not in retry


def test_not_all_clients_come_again_at_the_same_moment() -> None:
    assert len({parse(feed_of(RUNNING).start)[0]["retry"] for _ in range(20)}) > 1


def test_nothing_is_told_twice_and_the_end_is_the_last() -> None:
    feed, later = feed_of(RUNNING), replace(RUNNING, updated=NOW)
    assert feed.hear(Seen(replace(RUNNING, version=9), now=NOW)) == b""
    assert [event["event"] for event in parse(feed.hear(Seen(later, now=NOW)))] == ["status"]
    assert feed.hear(Seen(later, now=NOW)) == b""
    assert not feed.is_over
    assert [event["event"] for event in parse(feed.hear(Seen(ENDED, now=NOW)))] == ["end"]
    assert feed.is_over


@pytest.mark.parametrize("seen", [None, Seen(), Seen(OPERATIONS["forgotten"], now=NOW)])
def test_who_has_nothing_more_to_hear_is_let_go(seen: Seen | None) -> None:
    feed = feed_of(RUNNING)
    assert feed.hear(seen) == b""
    assert feed.is_over


def test_an_event_is_made_once_for_all_who_see_the_same() -> None:
    seen = Seen(replace(RUNNING, updated=NOW), now=NOW)
    first, second = feed_of(RUNNING).hear(seen), feed_of(RUNNING).hear(seen)
    assert first is second


def test_who_listens_by_a_signed_link_is_given_no_other() -> None:
    view = replace(view_of(replace(RUNNING, owner="ann")), links=LINKS.signed("given"))
    feed = Feed(view, ask(), lambda operation: False, lambda operation, now: "another")
    later = Seen(replace(RUNNING, owner="ann", updated=NOW), now=NOW)
    [event] = parse(feed.hear(later))
    links = json.loads(event["data"])["links"]
    assert "signed" not in links
    assert links["response"].endswith("?signature=given")
    owner = Feed(
        view_of(replace(RUNNING, owner="ann")), ask(), lambda it: False, lambda it, now: "own"
    )
    [event] = parse(owner.hear(later))
    assert json.loads(event["data"])["links"]["signed"].endswith("?signature=own")


def test_once_it_is_known_whose_it_is_only_they_go_on_hearing() -> None:
    unbound = operation_of(unbound=True)
    bound = replace(RUNNING, owner="ann", progress=Progress(1), updated=NOW)
    for sees in (True, False):
        feed = feed_of(unbound, sees=sees)
        secret = Seen(replace(unbound, progress=Progress(1), updated=NOW - 0.5), now=NOW)
        assert b"progress" not in feed.hear(secret)
        assert feed.must_ask(Seen(bound, now=NOW))
        assert (b"progress" in feed.hear(Seen(bound, now=NOW))) is sees
        assert feed.is_over is not sees
        assert not (sees and feed.must_ask(Seen(bound, now=NOW)))


def test_an_application_that_fails_to_say_who_asks_ends_the_stream(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(operation: Operation) -> bool:
        raise ZeroDivisionError("in the application")

    view: View = view_of(operation_of(unbound=True))
    feed = Feed(view, ask(), fail, lambda op, now: None)
    assert feed.hear(Seen(replace(RUNNING, owner="ann"), now=NOW)) == b""
    assert feed.is_over
    assert "ZeroDivisionError" in caplog.text


# --- whom a change concerns -----------------------------------------------------------------------


def listening(name: str | None = None, *, takes_turns: bool = True) -> Listening:
    return Listening("a", lambda: None, name, takes_turns=takes_turns)


def audience(*waiters: Waiter) -> Listeners:
    made = Listeners()
    for waiter in waiters:
        made.add(waiter)
    return made


def test_a_change_concerns_who_listens_and_not_who_waits() -> None:
    listens, waits = listening(), Waiter("a", lambda: None)
    here = audience(listens, waits)
    assert here.tell(Seen(RUNNING)) == [listens]
    assert here.tell(Seen(replace(RUNNING, lease=NOW, version=5))) == []
    assert set(here.tell(Seen(ENDED))) == {listens, waits}


def test_who_comes_later_is_told_what_it_does_not_know_and_nobody_else() -> None:
    old = listening()
    here = audience(old)
    here.tell(Seen(RUNNING))
    knows, does_not = listening(events.event_id(RUNNING)), listening("before")
    here.add(knows)
    here.add(does_not)
    assert here.tell(Seen(RUNNING)) == [does_not]
    assert here.tell(Seen(RUNNING)) == []


def test_a_store_that_fails_ends_the_waiting_and_not_the_listening() -> None:
    listens, waits = listening(), Waiter("a", lambda: None)
    assert audience(listens, waits).tell(Seen(failure=StoreUnavailable("down"))) == [waits]
    assert not listens.has_news


def test_threads_are_woken_at_once_and_event_loops_in_turn() -> None:
    threads = [listening(takes_turns=False) for _ in range(2 * AT_ONCE)]
    tasks = [listening() for _ in range(2 * AT_ONCE)]
    woken = audience(*threads, *tasks).tell(Seen(RUNNING))
    assert set(threads) <= set(woken)
    assert len(woken) == 3 * AT_ONCE
    assert {one.successor for one in woken if one.takes_turns} == set(tasks) - set(woken)  # type: ignore[attr-defined]


def test_only_the_newest_is_kept_for_who_is_slow() -> None:
    slow = listening()
    here = audience(slow)
    for n in range(3):
        here.tell(Seen(replace(RUNNING, updated=NOW + n)))
    newest = slow.take()
    assert newest is not None
    assert newest.operation is not None
    assert newest.operation.updated == NOW + 2
    assert not slow.has_news


def test_nobody_is_left_out_when_news_come_while_others_are_passed_on() -> None:
    everybody = [listening() for _ in range(4 * AT_ONCE)]
    here = audience(*everybody)
    awake = set[Waiter]()
    for n in range(3):  # each time the first ones pass on to some, who have not passed on yet
        first = here.tell(Seen(replace(RUNNING, updated=NOW + n)))
        awake = {one.successor for one in first if one.successor} | set(first)
        assert len(awake) == 2 * AT_ONCE
    while waiting := [one for one in awake if one.successor]:
        for one in waiting:
            assert one.successor is not None
            awake.add(one.successor)
            one.successor = None
    assert awake == set(everybody)
