"""What polls were told is told again only while nothing has changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from raincheck.http.messages import Request, Response, StoredBody
from raincheck.monitor import remembered
from raincheck.monitor.estimates import retry_after
from raincheck.monitor.links import Resource
from raincheck.monitor.poll import Answer, Poll
from raincheck.monitor.remembered import Chunks, Remembered
from raincheck.operations.durations import Sketch
from raincheck.operations.operation import Operation, State
from raincheck.testing.material import make_operation

NOW = 1000.0
HEADERS = ((b"host", b"example.org"), (b"accept", b"*/*"))
ANSWER = Answer(Response(202, ((b"retry-after", b"1"),), b"{}"))


def a_poll(resource: Resource = Resource.RESPONSE, **fields: Any) -> Poll:
    given: dict[str, Any] = {"headers": HEADERS, "client": ("192.0.2.1", 5000)}
    request = Request(**({"method": "GET", "path": "/operations/a"} | given | fields))
    return Poll(request, "a", resource)


def told(
    first: Poll, operation: Operation, second: Poll, again: Operation, now: float = NOW
) -> Answer | None:
    """Return what a second poll is told of what the first one was."""
    polls = Remembered()
    polls.note(first, operation, NOW, None, ANSWER)
    return polls.recall(second, again, now, None)


def test_the_same_poll_is_told_the_same() -> None:
    operation = make_operation()
    assert told(a_poll(), operation, a_poll(), operation) is ANSWER


def test_a_poll_over_another_connection_is_the_same() -> None:
    operation = make_operation()
    other = a_poll(client=("192.0.2.1", 5001))
    assert told(a_poll(), operation, other, operation) is ANSWER


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": ((b"host", b"example.com"), HEADERS[1])},
        {"headers": (*HEADERS, (b"if-none-match", b'"a"'))},
        {"headers": (HEADERS[0], (b"accept", b"text/html"))},
        {"scheme": "https"},
        {"root_path": "/api"},
        {"server": ("127.0.0.1", 8000)},
        {"raw_path": b"/operations/%61"},
        {"query": b"signature=1.x"},
        {"path": "/operations/b"},
    ],
)
def test_a_poll_that_asks_otherwise_is_told_anew(fields: dict[str, Any]) -> None:
    operation = make_operation()
    assert told(a_poll(), operation, a_poll(**fields), operation) is None


def test_a_poll_by_another_method_or_of_another_resource_is_told_anew() -> None:
    operation = make_operation()
    head = replace(a_poll(), request=replace(a_poll().request, method="HEAD"))
    assert told(a_poll(), operation, head, operation) is None
    assert told(a_poll(), operation, a_poll(Resource.STATUS), operation) is None


@pytest.mark.parametrize("place", [{"path": "/reports/a/run"}, {"root_path": "/api"}])
def test_a_poll_where_the_monitor_is_mounted_elsewhere_is_told_anew(place: dict[str, Any]) -> None:
    operation = make_operation()
    assert told(a_poll(), operation, replace(a_poll(), **place), operation) is None


def test_a_change_of_the_operation_is_told_anew() -> None:
    operation = make_operation()
    other = replace(operation, version=2, state=State.CANCELLING)
    assert told(a_poll(), operation, a_poll(), other) is None


def lasting(seconds: float) -> Sketch:
    """Return a history of handlers that have taken so long."""
    past = Sketch()
    for _ in range(5):
        past = past.learn(seconds, NOW)
    return past


def test_another_estimate_is_told_anew() -> None:
    operation = make_operation(created=NOW)
    assert told(a_poll(), operation, a_poll(), operation, NOW + 5) is ANSWER
    assert told(a_poll(), operation, a_poll(), operation, NOW + 15) is None
    polls = Remembered()
    polls.note(a_poll(), operation, NOW, None, ANSWER)
    assert polls.recall(a_poll(), operation, NOW, lasting(20.0)) is None


def test_another_estimate_is_told_anew_although_the_next_poll_is_to_come_as_soon() -> None:
    operation, now, polls = make_operation(created=NOW), NOW + 100, Remembered()
    short, long = lasting(300.0), lasting(2000.0)
    assert retry_after(operation, now, short) == retry_after(operation, now, long)
    polls.note(a_poll(), operation, now, short, ANSWER)
    assert polls.recall(a_poll(), operation, now, short) is ANSWER
    assert polls.recall(a_poll(), operation, now, long) is None


def test_what_has_expired_is_told_anew() -> None:
    ended = make_operation(state=State.FAILED, expires=NOW + 10)
    assert told(a_poll(), ended, a_poll(), ended, NOW + 9) is ANSWER
    assert told(a_poll(), ended, a_poll(), ended, NOW + 10) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": (*HEADERS, (b"prefer", b"wait=5"))},
        {"query": b"signature=abc"},
        {"headers": (*HEADERS, (b"cookie", b"x" * remembered.LARGEST_BYTES))},
    ],
)
def test_what_depends_on_more_or_is_large_is_not_remembered(fields: dict[str, Any]) -> None:
    operation = make_operation()
    assert told(a_poll(**fields), operation, a_poll(**fields), operation) is None


KEPT = StoredBody("a", 1, chunk_size=9, start=0, stop=9)


def large(fields: int, body: int | StoredBody) -> Answer:
    """Return an answer of so many bytes in all, beside 24 of `a_poll`."""
    content = b"x" * body if isinstance(body, int) else body
    return Answer(Response(202, ((b"x-a", b"x" * (fields - 3)),), content))


@pytest.mark.parametrize(
    ("answer", "is_remembered"),
    [
        (large(fields=72, body=4000), True),
        (large(fields=73, body=4000), False),
        (large(fields=72, body=4001), False),
        (large(fields=4072, body=KEPT), True),
        (large(fields=4073, body=KEPT), False),
        (replace(ANSWER, feed=object()), False),  # type: ignore[arg-type]
    ],
)
def test_an_answer_is_remembered_up_to_a_size_with_what_asked_for_it(
    answer: Answer, is_remembered: bool
) -> None:
    polls, operation = Remembered(), make_operation()
    polls.note(a_poll(), operation, NOW, None, answer)
    assert polls.recall(a_poll(), operation, NOW, None) is (answer if is_remembered else None)


def test_so_many_polls_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST", 2)
    polls, operations = Remembered(), [make_operation(name) for name in "abc"]
    asked = [replace(a_poll(), operation_id=each.id) for each in operations]
    for poll, operation in zip(asked, operations, strict=True):
        polls.note(poll, operation, NOW, None, ANSWER)
    found = [polls.recall(p, o, NOW, None) for p, o in zip(asked, operations, strict=True)]
    assert found == [None, ANSWER, ANSWER]


def body(name: str, stop: int = 4) -> StoredBody:
    return StoredBody(name, 1, chunk_size=100, start=0, stop=stop)


def test_chunks_are_remembered_within_a_bound_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "CHUNKS_BYTES", 10)
    monkeypatch.setattr(remembered, "LARGEST_CHUNK_BYTES", 8)
    chunks = Chunks()
    for name in ("a", "b", "a", "c"):
        chunks.note(body(name), name.encode() * 4)
    assert [chunks.recall(body(name)) for name in "abc"] == [None, b"bbbb", b"cccc"]
    chunks.note(body("d"), b"d" * 9)
    assert chunks.recall(body("d")) is None
    chunks.note(body("e"), b"e" * 8)
    assert [chunks.recall(body(name)) for name in "bce"] == [None, None, b"e" * 8]


def test_chunks_fill_their_bound_to_the_last_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "CHUNKS_BYTES", 10)
    chunks = Chunks()
    chunks.note(body("a"), b"a" * 4)
    chunks.note(body("b"), b"b" * 6)
    assert [chunks.recall(body(name)) for name in "ab"] == [b"a" * 4, b"b" * 6]
    chunks.note(body("c"), b"c")
    assert [chunks.recall(body(name)) for name in "abc"] == [None, b"b" * 6, b"c"]


def test_the_chunk_of_another_fence_is_another_one() -> None:
    chunks = Chunks()
    chunks.note(body("a"), b"data")
    assert chunks.recall(replace(body("a"), fence=2)) is None


def test_what_is_forgotten_is_not_remembered() -> None:
    chunks = Chunks()
    chunks.note(body("a"), b"data")
    chunks.note(replace(body("a"), fence=2), b"more")
    chunks.note(body("b"), b"other")
    chunks.forget("a")
    assert chunks.recall(body("a")) is None
    assert chunks.recall(body("b")) == b"other"
