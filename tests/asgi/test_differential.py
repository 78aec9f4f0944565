"""Random applications, bare against wrapped: whatever they do, raincheck changes nothing of it."""

from __future__ import annotations

import copy
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urljoin

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raincheck.asgi import RaincheckMiddleware
from raincheck.http.messages import HOP_BY_HOP, connection_options
from raincheck.http.problems import PROBLEM
from tests.support.asgi import BACKENDS, Call, call, follow, http_scope, without

Step = tuple[str, Any]

TOKENS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=12).map(str.encode)
VALUES = st.binary(max_size=20).map(
    lambda raw: bytes(b for b in raw if b >= 0x20 and b != 0x7F).strip(b" ")
)
NAMES = st.one_of(
    TOKENS.filter(lambda name: name != b"content-length"),
    st.sampled_from(
        b"Set-Cookie set-cookie Date connection x-hop Keep-Alive vary cache-control etag location "
        b"content-type x-repeated".split()
    ),
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=8)
STATUSES = st.sampled_from([200, 201, 202, 203, 204, 206, 301, 303, 304, 400, 404, 418, 500, 503])
CHUNKS = st.lists(st.binary(max_size=2000), min_size=1, max_size=5)
PAUSES = st.lists(st.sampled_from(["checkpoint", "receive", "hint"]), max_size=3)


def complete_response(status: int, headers: list[Any], chunks: list[bytes]) -> list[Step]:
    """Script a whole response, its declared length being right where it has one."""
    if status in (204, 304):
        chunks = [b""]
    elif len(headers) % 2:
        headers = [*headers, (b"Content-Length", b"%d" % sum(map(len, chunks)))]
    start = {"type": "http.response.start", "status": status, "headers": headers}
    bodies = [
        {"type": "http.response.body", "body": chunk, "more_body": n < len(chunks) - 1}
        for n, chunk in enumerate(chunks)
    ]
    return [("send", message) for message in (start, *bodies)]


@st.composite
def scripts(draw: st.DrawFn, *, broken: bool) -> list[Step]:
    """Draw what an application does, step by step; `broken` ones may stop or raise anywhere."""
    response = complete_response(draw(STATUSES), draw(HEADERS), draw(CHUNKS))
    if broken:
        response = response[: draw(st.integers(0, len(response)))]
        response.append(("raise", draw(st.sampled_from([ValueError, KeyError, OSError]))))
    script: list[Step] = []
    for step in response:
        script += [(pause, None) for pause in draw(PAUSES)]
        script.append(step)
    return script


def application(script: list[Step]) -> Any:
    """Build the application that follows a script."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        received: list[Any] = []
        for action, argument in script:
            if action == "send":
                await send(copy.deepcopy(argument))
            elif action == "raise":
                raise argument("as scripted", len(received))
            elif action == "checkpoint":
                await anyio.lowlevel.checkpoint()
            elif action == "hint":
                await send({"type": "http.response.early_hint", "links": [b"</a>"]})
            elif not received or received[-1].get("more_body"):
                received.append(await receive())

    return app


NOT_FOR_POLLERS = (202, 206, 304, 416)


def led_to(headers: Any) -> list[Any]:
    """Say where references lead: a relative one is another one at R."""
    found = []
    for name, value in headers:
        if name.lower() == b"location":
            with suppress(ValueError):  # it is no reference at all
                value = urljoin("http://testserver/x", value.decode("latin-1"))
        found.append((name, value))
    return found


BODIES = st.lists(st.binary(min_size=1, max_size=500), min_size=3, max_size=3)
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=25)


async def both(script: list[Step], body: list[bytes], **options: Any) -> tuple[Call, Call]:
    """Run a script bare and wrapped."""
    length = ((b"content-length", b"%d" % sum(map(len, body))),)
    bare = await call(application(script), "/x", "POST", length, body)
    wrapped = RaincheckMiddleware(application(script), store="memory:", **options)
    return bare, await call(wrapped, "/x", "POST", length, body)


@pytest.mark.parametrize("backend", BACKENDS)
@relaxed
@given(script=st.one_of(scripts(broken=False), scripts(broken=True)), body=BODIES)
def test_a_request_that_is_not_deferred_is_untouched(
    backend: str, script: list[Step], body: list[bytes]
) -> None:
    bare, wrapped = anyio.run(partial(both, script, body, budget=60), backend=backend)
    assert wrapped.sent == bare.sent
    assert wrapped.received == bare.received
    assert repr(wrapped.error) == repr(bare.error)


@pytest.mark.parametrize("backend", BACKENDS)
@relaxed
@given(script=scripts(broken=False), body=BODIES)
def test_a_deferred_response_comes_back_exactly(
    backend: str, script: list[Step], body: list[bytes]
) -> None:
    async def run() -> tuple[Call, Call]:
        length = ((b"content-length", b"%d" % sum(map(len, body))),)
        bare = await call(application(script), "/x", "POST", length, body)
        wrapped = RaincheckMiddleware(application(script), store="memory:", budget=0)
        accepted = await call(wrapped, "/x", "POST", length, body)
        return bare, await follow(wrapped, accepted)

    bare, replayed = anyio.run(run, backend=backend)
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


@pytest.mark.parametrize("backend", BACKENDS)
@relaxed
@given(script=scripts(broken=True), body=BODIES)
def test_a_deferred_application_that_fails_is_never_a_cut_response(
    backend: str, script: list[Step], body: list[bytes]
) -> None:
    async def run() -> tuple[Call, Call]:
        length = ((b"content-length", b"%d" % sum(map(len, body))),)
        bare = await call(application(script), "/x", "POST", length, body)
        wrapped = RaincheckMiddleware(application(script), store="memory:", budget=0)
        return bare, await follow(wrapped, await call(wrapped, "/x", "POST", length, body))

    bare, replayed = anyio.run(run, backend=backend)
    if any(m["type"] == "http.response.body" and not m["more_body"] for m in bare.sent):
        assert replayed.content == bare.content  # it failed after its response was complete
    else:
        assert replayed.status == 500
        assert replayed.header(b"content-type") == PROBLEM
        assert b"as scripted" not in replayed.content


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_scope_is_handed_on_and_not_a_copy(backend: str) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    scope = http_scope()
    wrapped = RaincheckMiddleware(app, store="memory:", budget=60)
    anyio.run(Call(wrapped, scope).run, backend=backend)
    assert seen[0] is scope
    assert set(scope) == set(http_scope())
