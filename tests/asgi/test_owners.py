"""Whose an operation is that was recorded before authentication had run."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from raincheck import OperationCancelled, current_operation, long_running
from raincheck.asgi import RaincheckMiddleware
from tests.support.asgi import PATIENT, Call, call, engine_of, follow, lose, path_of, recover
from tests.support.handlers import SHORT, answer, until_deferred, wrap
from tests.support.wire import assert_problem, document

pytestmark = pytest.mark.anyio
ANNE, BOB, NOBODY = [(b"x-poller", b"anne")], [(b"x-poller", b"bob")], list[tuple[bytes, bytes]]()
BEGUN: dict[str, dict[str, Any]] = {
    "respond-async": {"headers": [(b"prefer", b"respond-async")]},
    "with a key": {"method": "POST", "headers": [(b"idempotency-key", b"k")]},
    "before its authentication was over": {},
}


def owner(scope: Any) -> str | None:
    """Name who was authenticated inside; a poll says it itself."""
    poller = dict(scope["headers"]).get(b"x-poller", b"").decode()
    return scope.get("user") or poller or None


class Site:
    """An application with authentication inside of raincheck, which takes its time."""

    def __init__(self, user: str | None = "anne", **options: Any) -> None:
        self.door, self.go = anyio.Event(), anyio.Event()
        self.runs = 0
        self.user = user
        self.error: Exception | None = None
        chosen = {"owner": owner, "retry": {"/**": True}} | options
        self.app: RaincheckMiddleware = wrap(self._authenticate, **chosen)

    async def _authenticate(self, scope: Any, receive: Any, send: Any) -> None:
        self.runs += 1
        await until_deferred()
        await self.door.wait()
        if self.user is not None:
            scope["user"] = self.user
        if scope["path"] == "/marked":
            await self._marked()
        elif scope["path"] == "/telling":
            current_operation().progress(1, message="a secret")
        await self.go.wait()
        if self.error is not None:
            raise self.error
        await answer(send, b"for anne")

    @long_running
    async def _marked(self) -> None:
        current_operation().progress(1, message="a secret")

    async def polls(self, path: str) -> list[int]:
        return [(await call(self.app, path, headers=who)).status for who in (ANNE, BOB, NOBODY)]

    async def ended(self, accepted: Call) -> None:
        """Let the handler end, and wait until that is recorded."""
        self.door.set()
        self.go.set()
        store, operation_id = engine_of(self.app).store, path_of(accepted).rpartition("/")[2]
        with anyio.fail_after(PATIENT):
            while not store.get(operation_id).is_terminal:  # type: ignore[union-attr] # noqa: ASYNC110
                await anyio.sleep(SHORT / 10)


async def test_who_polls_is_asked_for_only_where_there_is_an_operation() -> None:
    asked = list[str]()

    def ask(scope: Any) -> str:
        asked.append(scope["path"])
        return "anne"

    app = wrap(lambda scope, receive, send: answer(send), budget=0, owner=ask)
    for headers in (NOBODY, [(b"prefer", b"wait=1")]):
        assert (await call(app, f"/operations/{'0' * 32}", headers=headers)).status == 404
    assert not asked
    accepted = await call(app)
    assert (await follow(app, accepted)).content == b"done"
    assert path_of(accepted) in asked


async def test_an_error_of_the_owner_of_a_poll_is_the_applications() -> None:
    def ask(scope: Any) -> str:
        if scope["path"] != "/":
            raise LookupError("who is that?")
        return "anne"

    app = wrap(lambda scope, receive, send: answer(send), budget=0, owner=ask)
    accepted = await call(app)
    assert isinstance((await call(app, path_of(accepted))).error, LookupError)


async def test_polls_whose_owner_takes_its_time_keep_no_other_request_waiting() -> None:
    may_be_told = threading.Event()

    def ask(scope: Any) -> str:
        if scope["path"].startswith("/operations/"):
            assert may_be_told.wait(PATIENT)
        return "anne"

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await until_deferred()
        await answer(send)

    app = wrap(slow, owner=ask)
    first, polls = await call(app), list[Call]()

    async def poll() -> None:
        polls.append(await call(app, path_of(first)))

    async def ended(answered: Call) -> None:
        store, location = engine_of(app).store, answered.header(b"location") or b""
        with anyio.fail_after(PATIENT):
            while answered.status == 202 and not _has_ended(store, location):  # noqa: ASYNC110
                await anyio.sleep(SHORT / 10)

    await ended(first)
    async with anyio.create_task_group() as group:
        for _ in range(40):
            group.start_soon(poll)
        for begun in BEGUN.values():
            await ended(await call(app, **begun))
        assert not polls
        may_be_told.set()
    assert {one.status for one in polls} == {200}


def _has_ended(store: Any, location: bytes) -> bool:
    return bool(store.get(location[-32:].decode()).is_terminal)


@pytest.mark.parametrize("request_", BEGUN.values(), ids=BEGUN)
async def test_an_operation_without_its_owner_yet_is_shown_to_nobody(
    request_: dict[str, Any],
) -> None:
    site = Site()
    accepted = await call(site.app, "/report", **request_)
    path = path_of(accepted)
    assert await site.polls(path) == [202, 202, 202]
    assert_problem(await call(site.app, path, "DELETE", BOB), 503, "unavailable")
    await site.ended(accepted)
    assert await site.polls(path) == [200, 404, 404]
    assert await site.polls(f"{path}/status") == [200, 404, 404]


@pytest.mark.parametrize("reached", ["/marked", "/telling"])
async def test_a_handler_that_is_reached_has_its_operations_owner_known(reached: str) -> None:
    site = Site()
    accepted = await call(site.app, reached, headers=[(b"prefer", b"respond-async")])
    path = path_of(accepted)
    site.door.set()
    with anyio.fail_after(PATIENT):
        while await site.polls(path) != [202, 404, 404]:  # noqa: ASYNC110 - with the next beat
            await anyio.sleep(SHORT)
    assert document(await call(site.app, path, headers=ANNE))["progress"]["completed"] == 1
    await site.ended(accepted)
    assert await site.polls(path) == [200, 404, 404]


async def test_an_operation_of_nobody_is_open_once_that_is_known() -> None:
    site = Site(user=None)
    accepted = await call(site.app, "/report", headers=[(b"prefer", b"respond-async")])
    await site.ended(accepted)
    assert await site.polls(path_of(accepted)) == [200, 200, 200]


async def test_a_handler_that_raises_has_failed_for_its_owner_alone() -> None:
    site = Site()
    site.error = RuntimeError("no report")
    accepted = await call(site.app, "/report", headers=[(b"prefer", b"respond-async")])
    await site.ended(accepted)
    assert await site.polls(path_of(accepted)) == [500, 404, 404]


async def test_an_owner_that_can_not_be_told_leaves_no_response() -> None:
    def puzzled(scope: Any) -> str | None:
        if scope.get("user"):
            raise LookupError("no such user")
        return None

    site = Site(owner=puzzled)
    accepted = await call(site.app, "/report", headers=[(b"prefer", b"respond-async")])
    await site.ended(accepted)
    answered = await follow(site.app, accepted)
    assert_problem(answered, 500, "owner_unknown")
    assert not list(engine_of(site.app).store.read_chunks(path_of(accepted)[-32:], 1, 0, 0))


async def test_an_owner_who_was_not_known_has_a_limit_all_the_same() -> None:
    site = Site(limits={"operations_per_owner": 1})
    asked = [(b"prefer", b"respond-async")]
    first = await call(site.app, "/report", headers=asked)
    second = await call(site.app, "/report", headers=asked)
    await site.ended(first)
    await site.ended(second)
    codes = sorted([(await follow(site.app, one, ANNE)).status for one in (first, second)])
    assert codes == [200, 500]


@pytest.mark.parametrize("shown", [[], [(b"authorization", b"Bearer anne's")]])
async def test_a_key_that_says_nothing_of_who_asks_opens_nothing_that_has_an_owner(
    shown: Any,
) -> None:
    site = Site()
    keyed: dict[str, Any] = {
        "method": "POST",
        "headers": [(b"idempotency-key", b"guessed"), *shown],
    }
    accepted = await call(site.app, "/report", **keyed)
    again = await call(site.app, "/report", **keyed)
    assert path_of(again) == path_of(accepted)
    await site.ended(accepted)
    answered = await call(site.app, "/report", **keyed)
    assert answered.status == (200 if shown else 422)


@pytest.mark.usefixtures("by_hand")
async def test_an_operation_that_is_run_again_gets_its_owner_then() -> None:
    site = Site()
    accepted = await call(site.app, "/report", headers=[(b"prefer", b"respond-async")])
    site.error = OperationCancelled("this process is stopped")
    await lose(site.app)
    site.error = None
    await recover(site.app)
    await site.ended(accepted)
    assert site.runs == 2
    assert await site.polls(path_of(accepted)) == [200, 404, 404]


@pytest.mark.parametrize(
    ("user", "polls"), [("anne", [200, 404, 404]), (None, [200, 200, 200])], ids=["anne", "nobody"]
)
async def test_a_response_that_streams_through_under_a_key_is_its_owners(
    user: str | None, polls: list[int]
) -> None:
    site = Site(user=user, budget=60)
    keyed: dict[str, Any] = {"method": "POST", "headers": [(b"idempotency-key", b"k")]}
    asked = {**keyed, "headers": [*keyed["headers"], (b"prefer", b"respond-async")]}
    found = list[Call]()

    async def first() -> None:
        found.append(await call(site.app, "/report", **keyed))

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        with anyio.fail_after(PATIENT):
            while not site.runs:  # noqa: ASYNC110
                await anyio.sleep(SHORT / 10)
        path = path_of(await call(site.app, "/report", **asked))
        site.door.set()
        site.go.set()
    assert found[0].content == b"for anne"
    assert await site.polls(path) == polls


async def test_a_user_in_the_place_of_none_is_the_owner() -> None:
    site = Site()
    accepted = await call(site.app, "/report", headers=[(b"prefer", b"respond-async")], user=None)
    await site.ended(accepted)
    assert await site.polls(path_of(accepted)) == [200, 404, 404]


async def test_who_tells_much_progress_has_not_its_owner_asked_for_each_time() -> None:
    asked = list[Any]()

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        await until_deferred()
        for n in range(100):
            current_operation().progress(n)
            await anyio.lowlevel.checkpoint()
        await answer(send)

    app = wrap(handler, owner=lambda scope: asked.append(scope["path"]))
    await follow(app, await call(app, "/report"))
    assert asked.count("/report") <= 6
