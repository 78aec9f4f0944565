"""Random applications, bare against wrapped: whatever they do, raincheck changes nothing of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raincheck.http.messages import HOP_BY_HOP, connection_options
from raincheck.http.problems import PROBLEM
from tests.support.asgi import without
from tests.support.wsgi import Call, call, environ_of, follow, until, until_free, wrap

Step = tuple[str, Any]

BUDGET = 0.003  # seconds; some of the slow steps take longer, some do not
TOKENS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)
VALUES = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=20).map(
    str.strip
)
NAMES = st.one_of(
    TOKENS.filter(lambda name: name != "content-length"),
    st.sampled_from(
        [
            *("Set-Cookie", "set-cookie", "Date", "connection", "x-hop", "Keep-Alive", "vary"),
            *("cache-control", "etag", "location", "content-type", "x-repeated"),
        ]
    ),
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=8)
STATUSES = st.sampled_from(
    [
        *("200 OK", "201 Made", "202 Yes", "203 X", "204 No", "206 Part", "301 There", "303 S"),
        *("304 Same", "400 Bad", "418 T", "503 Er"),
    ]
)
CHUNKS = st.lists(st.binary(max_size=2000), max_size=5)
STYLES = st.sampled_from(["list", "tuple", "iterator", "generator", "late", "closing"])
PAUSES = st.sampled_from([0, 0, 0, 0, 0.001, 0.002, 0.006])
ERRORS = st.sampled_from([ValueError, KeyError, OSError, SystemExit, StopIteration, AssertionError])


@st.composite
def scripts(draw: st.DrawFn, *, broken: bool) -> list[Step]:
    """Draw what an application does, step by step; `broken` ones may raise anywhere."""
    status, headers, chunks = draw(STATUSES), draw(HEADERS), draw(CHUNKS)
    if status[:3] in ("204", "304"):
        chunks = [b""] * len(chunks)
    elif draw(st.booleans()):
        headers = [*headers, ("Content-Length", str(sum(map(len, chunks))))]
    steps: list[Step] = [("start", (status, headers))]
    if draw(st.booleans()):
        steps.insert(0, ("start", ("500 Wrong", [("x-wrong", "1")])))
        steps[1] = ("restart", (status, headers))
    written = draw(st.integers(0, len(chunks)))
    steps += [("write", chunk) for chunk in chunks[:written]]
    steps.append(("return", draw(STYLES)))
    steps += [("yield", chunk) for chunk in chunks[written:]]
    if broken:
        steps.insert(draw(st.integers(0, len(steps))), ("raise", draw(ERRORS)))
    return [step for one in steps for step in (("pause", draw(PAUSES)), one)]


class Application:
    """Follows a script: what comes before `return` in the call, the rest in the iteration."""

    def __init__(self, script: list[Step]) -> None:
        at = next((n for n, (action, _) in enumerate(script) if action == "return"), len(script))
        self.calling, self.iterating = script[:at], script[at + 1 :]
        self.style = script[at][1] if at < len(script) else "list"
        self.returned = self.ended = 0  # iterables that can be closed

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if self.style == "late":
            return self.run([*self.calling, *self.iterating], start_response)
        for _ in self.run(self.calling, start_response):
            raise AssertionError("nothing is yielded in a call")
        body = self.run(self.iterating, start_response)
        if self.style in ("list", "tuple"):
            return list(body) if self.style == "list" else tuple(body)
        if self.style == "closing":
            self.returned += 1
            return Closing(self, body)
        return iter(list(body)) if self.style == "iterator" else body

    def run(self, steps: list[Step], start_response: Any) -> Iterator[bytes]:
        for action, argument in steps:
            if action == "pause":
                time.sleep(argument)
            elif action == "raise":
                raise argument("as scripted")
            elif action == "start":
                self.write = start_response(*argument)
            elif action == "restart":
                try:
                    raise ValueError("replaced")
                except ValueError:
                    self.write = start_response(*argument, sys.exc_info())
            elif action == "write":
                self.write(argument)
            else:
                yield argument


class Closing:
    """An iterable whose end is counted."""

    def __init__(self, app: Application, body: Iterator[bytes]) -> None:
        self._app, self._body = app, body

    def __iter__(self) -> Iterator[bytes]:
        return self._body

    def close(self) -> None:
        self._app.ended += 1


relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=25)
NOT_FOR_POLLERS = (202, 206, 304, 416)


def led_to(headers: Any) -> list[Any]:
    """Say where references lead: a relative one is another one at R."""
    found = []
    for name, value in headers:
        if name.lower() == b"location":
            with suppress(ValueError):  # it is no reference at all
                value = urljoin("http://testserver/", value.decode("latin-1"))
        found.append((name, value))
    return found


ANY = st.one_of(scripts(broken=False), scripts(broken=True))


def assert_same(bare: Call, wrapped: Call) -> None:
    if not (bare.content and bare.header(b"Content-Length") == b"%d" % len(bare.content)):
        # A response of declared length is sent before its application ends: an error is logged.
        assert repr(wrapped.error) == repr(bare.error)
    assert wrapped.content == bare.content
    if bare.content or bare.error is None:
        assert (wrapped.status_line, wrapped.raw_headers) == (bare.status_line, bare.raw_headers)


def assert_replayed(bare: Call, replayed: Call) -> None:
    assert replayed.error is None
    assert replayed.content == bare.content
    if bare.status in NOT_FOR_POLLERS:
        assert replayed.status == 200
        assert replayed.header(b"operation-result-status") == b"%d" % bare.status
    else:
        assert replayed.status == bare.status
    dropped = HOP_BY_HOP | connection_options(bare.headers) | {b"date", b"set-cookie"}
    expected = without(bare.headers, *dropped)
    assert led_to(replayed.headers[: len(expected)]) == led_to(expected)
    added = {name for name, _ in replayed.headers[len(expected) :]}
    assert added <= {
        *(b"operation-status", b"operation-result-status", b"content-length", b"cache-control"),
        *(b"etag", b"accept-ranges"),
    }


@relaxed
@given(script=ANY)
def test_a_request_that_is_not_deferred_is_untouched(script: list[Step]) -> None:
    bare_app, wrapped_app = Application(script), Application(script)
    assert_same(call(bare_app), call(wrap(wrapped_app, budget=60)))
    until(lambda: wrapped_app.ended == bare_app.ended)


@relaxed
@given(script=scripts(broken=False))
def test_a_deferred_response_comes_back_exactly(script: list[Step]) -> None:
    wrapped = wrap(Application(script), budget=0)
    assert_replayed(call(Application(script)), follow(wrapped, call(wrapped)))


@relaxed
@given(script=scripts(broken=True))
def test_a_deferred_application_that_fails_is_never_a_cut_response(script: list[Step]) -> None:
    wrapped = wrap(Application(script), budget=0)
    replayed = follow(wrapped, call(wrapped))
    assert (replayed.status, replayed.header(b"content-type")) == (500, PROBLEM)
    assert b"as scripted" not in replayed.content


@relaxed
@given(script=ANY)
def test_a_request_at_the_edge_of_its_budget_is_answered_in_one_way_or_the_other(
    script: list[Step],
) -> None:
    bare_app, app = Application(script), Application(script)
    wrapped = wrap(app, budget=BUDGET)
    bare, answer = call(bare_app), call(wrapped)
    if answer.header(b"operation-location") is None:
        assert_same(bare, answer)
    elif bare.error is None:
        assert_replayed(bare, follow(wrapped, answer))
    else:
        assert follow(wrapped, answer).status == 500
    until(lambda: app.ended == bare_app.ended)


@pytest.mark.parametrize("takes", [1, 2, 3])
@relaxed
@given(script=scripts(broken=False))
def test_a_client_that_leaves_has_what_it_has_without_raincheck(
    takes: int, script: list[Step]
) -> None:
    bare_app, app = Application(script), Application(script)
    bare = Call(bare_app, environ_of(), takes=takes).run()
    wrapped = wrap(app, budget=60)
    left = Call(wrapped, environ_of(), takes=takes).run()
    assert left.chunks[:takes] == bare.chunks[:takes]
    until_free(wrapped)
    assert app.ended == app.returned  # a writer may have been stopped before it could return
