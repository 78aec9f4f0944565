"""Whatever is done to a scope inside: a request is promoted, owned and kept as it came."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from raincheck import is_rerun
from raincheck.operations.operation import Operation
from raincheck.stores.memory import MemoryStore
from tests.support.asgi import Call, call, engine_of, follow, http_scope, lose, path_of, recover
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
    retry = {"/a": True}
    app = wrap(changes, budget=budget, store=store, owner=owner, retry=retry, **told)
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
    wrapped = wrap(changes, store=Keeping(), retry={"/a": True})
    accepted = await call(wrapped, "/a", "PUT", [ADA], [b""], query_string=b"q=1")
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
    record = engine_of(app).store.get(path_of(accepted).rpartition("/")[2])
    assert record is not None
    assert record.owner == "eve"


# --- header fields, which ASGI has as an iterable -----------------------------------------------

FIELDS = [(b"host", b"testserver"), (b"x-a", b"1"), (b"x-a", b"2")]
FORMS: dict[str, Any] = {
    "iterator": iter,
    "generator": lambda fields: (field for field in fields),
    "lists": lambda fields: [list(field) for field in fields],
    "tuple": tuple,
    "iterator of lists": lambda fields: map(list, fields),
    "iterator of iterators": lambda fields: map(iter, fields),
}


async def says_fields(scope: Any, receive: Any, send: Any) -> None:
    """Be an application that looks at its header fields once."""
    found = [b"%s: %s" % (name, value) for name, value in scope["headers"]]
    await answer(send, b"\n".join(found))


WAYS: dict[str, tuple[int, dict[str, Any], list[Any]]] = {
    "not deferrable": (200, {"exclude": ["/"]}, []),
    "in time": (200, {"budget": 20}, []),
    "at once": (202, {"budget": 0}, []),
    "mode prefer": (200, {"mode": "prefer"}, []),
    "preferred": (202, {"mode": "prefer"}, [(b"prefer", b"respond-async")]),
    "under a key": (200, {"budget": 20}, [KEY]),
    "owned": (202, {"budget": 0, "owner": owner}, [ADA]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", WAYS)
async def test_header_fields_are_an_iterable_that_may_be_read_only_once(
    way: str, form: str
) -> None:
    expected, options, more = WAYS[way]
    fields = [*FIELDS, *more]
    app = wrap(says_fields, **options)

    async def ask(path: str, method: str) -> Call:
        scope = http_scope(path, method) | {"headers": FORMS[form](fields)}
        return await Call(app, scope).run()

    done = await ask("/", "POST")
    assert (done.error, done.status) == (None, expected)
    while done.status == 202:
        assert dict(done.headers)[b"location"].startswith(b"http://testserver/operations/")
        await anyio.sleep(SHORT / 10)
        done = await ask(path_of(done), "GET")
    assert done.content == b"\n".join(b"%s: %s" % field for field in fields)


async def test_a_scope_that_is_handed_on_is_the_servers_own() -> None:
    scopes = list[Any]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await answer(send)

    scope = http_scope() | {"headers": iter(FIELDS)}
    await Call(wrap(app, exclude=["/"]), scope).run()
    assert scopes[0] is scope
    assert scope["headers"] == FIELDS


async def test_a_request_that_is_run_again_has_the_fields_of_an_iterator() -> None:
    async def handler(scope: Any, receive: Any, send: Any) -> None:
        if not is_rerun():
            await anyio.sleep_forever()
        await says_fields(scope, receive, send)

    app = wrap(handler, budget=0)
    accepted = await Call(app, http_scope() | {"headers": iter(FIELDS)}).run()
    await lose(app)
    await recover(app)
    assert (await follow(app, accepted)).content == b"host: testserver\nx-a: 1\nx-a: 2"
