"""Whatever is done to a scope inside: a request is promoted, owned and kept as it came."""

from __future__ import annotations

from typing import Any

import pytest

from raincheck.operation import Operation
from raincheck.stores.memory import MemoryStore
from tests.support.asgi import call, core_of, follow, path_of
from tests.support.handlers import SHORT, answer, read_body, until_deferred, wrap

pytestmark = pytest.mark.anyio

ADA = (b"authorization", b"Bearer ada")
SECRET = "whsec_" + "c2VjcmV0" * 4
KEY = (b"idempotency-key", b"8e03978e")
CHANGED = {
    "method": "POST",
    "scheme": "ftp",
    "path": "/elsewhere",
    "raw_path": b"/elsewhere",
    "query_string": b"else=1",
    "root_path": "/else",
    "client": ("10.0.0.1", 1),
    "server": ("internal", 1),
    "headers": [(b"host", b"internal.example")],
}


def owner(scope: Any) -> str | None:
    """Take who is named in the header fields, or whom a middleware inside has found."""
    said: str | None = dict(scope["headers"]).get(b"authorization", b"").decode()[7:] or None
    return said or scope.get("user")


async def changes(scope: Any, receive: Any, send: Any) -> None:
    """Be an application that makes another request of what it is given."""
    scope.update(CHANGED)
    body = await read_body(receive)
    await until_deferred()
    await answer(send, body)


@pytest.mark.parametrize(("budget", "headers"), [(0, [ADA]), (0, [ADA, KEY]), (SHORT, [ADA])])
async def test_an_operation_is_that_of_the_request_as_it_came(
    budget: float, headers: list[Any]
) -> None:
    store = MemoryStore()
    seen = list[Any]()

    def webhook(scope: Any) -> None:
        seen.append(scope["headers"])

    told = {"webhook": webhook, "webhook_secret": SECRET}
    app = wrap(changes, budget=budget, store=store, owner=owner, **told)
    length = (b"content-length", b"3")
    accepted = await call(app, "/a", "PUT", [length, *headers], [b"abc"])
    record = store.get(path_of(accepted).rpartition("/")[2])
    assert record is not None
    assert (record.owner, record.method, record.route) == ("ada", "PUT", "/a")
    assert record.repeatable
    assert ADA in seen[0]
    assert (await follow(app, accepted, [ADA])).content == b"abc"
    assert (await call(app, path_of(accepted))).status == 404


async def test_what_may_be_run_again_is_captured_as_it_came() -> None:
    class Keeping(MemoryStore):
        def create(self, *arguments: Any) -> Operation:
            captured.append(arguments[1])
            return super().create(*arguments)

    captured = list[Any]()
    accepted = await call(
        wrap(changes, store=Keeping()), "/a", "PUT", [ADA], [b""], query_string=b"q=1"
    )
    assert accepted.status == 202
    (request,) = captured
    assert (request.method, request.path, request.query) == ("PUT", "/a", b"q=1")
    assert (request.scheme, request.root_path, request.raw_path) == ("http", "", b"/a")
    assert (request.client, request.server) == (("127.0.0.1", 5000), ("testserver", 80))
    assert request.headers == ((b"host", b"testserver"), ADA)


async def test_what_is_left_of_a_body_whose_announcement_is_gone_is_read_ahead() -> None:
    async def hides(scope: Any, receive: Any, send: Any) -> None:
        scope["headers"] = []
        await until_deferred()
        await answer(send, await read_body(receive))

    app = wrap(hides)
    accepted = await call(app, "/", "POST", [(b"content-length", b"3")], [b"abc"])
    assert (await follow(app, accepted)).content == b"abc"


async def test_an_owner_may_be_whom_a_middleware_inside_has_found() -> None:
    async def logs_in(scope: Any, receive: Any, send: Any) -> None:
        scope["user"] = "eve"
        await changes(scope, receive, send)

    app = wrap(logs_in, owner=owner)
    accepted = await call(app)
    record = core_of(app).store.get(path_of(accepted).rpartition("/")[2])
    assert record is not None
    assert record.owner == "eve"
