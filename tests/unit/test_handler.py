"""`@long_running` and `current_operation()` with no framework around."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType
from typing import Any, get_type_hints

import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction

from raincheck import OperationCancelled, current_operation, long_running
from raincheck.handler import BYPASSED, CURRENT, EFFECTIVE, MARK, UNMARKED, Marking, is_marked
from raincheck.operations.operation import Progress


class FakeRequest:
    """A request as its handler sees it: remembers what it was told."""

    protocol = "asgi"
    sign = None

    def is_here(self) -> bool:
        return False

    def __init__(self) -> None:
        self.deferred = 0
        self.inside = 0
        self.over = False
        self.is_rerun = False
        self.marking = UNMARKED
        self.reports: list[Progress] = []
        self.operation_id: str | None = None
        self.is_cancelled = False

    def defer(self, marking: Marking) -> None:
        self.deferred += 1
        self.marking = marking

    def hand_over(
        self, marking: Marking, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> BaseException | None:
        return None

    def enter(self) -> None:
        self.inside += 1

    def leave(self) -> None:
        self.inside -= 1

    def report(self, progress: Progress) -> None:
        self.reports.append(progress)


@contextmanager
def handling() -> Iterator[FakeRequest]:
    """Be inside a request."""
    token = CURRENT.set(request := FakeRequest())
    try:
        yield request
    finally:
        CURRENT.reset(token)


class Oven:
    """Handlers that are methods."""

    @long_running
    def bake(self, cake: str) -> str:
        return f"baked {cake}"

    @long_running
    async def roast(self, nuts: str) -> str:
        return f"roasted {nuts}"

    @classmethod
    def clean(cls) -> None: ...

    def toast(self, bread: str) -> str:
        return f"toasted {bread}"


def sync_handler(order: str, *, times: int = 1) -> str:
    return order * times


async def async_handler(order: str, *, times: int = 1) -> str:
    return order * times


def sync_generator(order: str) -> Iterator[str]:
    yield order


async def async_generator(order: str) -> AsyncIterator[str]:
    yield order


FUNCTIONS = (sync_handler, async_handler, sync_generator, async_generator)


@pytest.fixture(params=FUNCTIONS, ids=lambda function: function.__name__)
def handler(request: pytest.FixtureRequest) -> Any:
    """A fresh copy of each kind of function, since marking leaves a mark on it."""
    return _copy(request.param)


def _copy(function: Any) -> Any:
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__
    )
    for name in ("__kwdefaults__", "__annotations__", "__qualname__", "__doc__"):
        setattr(copy, name, getattr(function, name))
    return copy


# --- calls -------------------------------------------------------------------------------------


def test_a_call_of_a_marked_function_defers_its_request_and_then_runs_it() -> None:
    seen: list[int] = []

    @long_running
    def handler() -> None:
        seen.append(request.deferred)

    with handling() as request:
        handler()
    assert seen == [1]


def test_a_marked_function_returns_what_it_returned() -> None:
    with handling():
        assert long_running(sync_handler)("tea", times=2) == "teatea"


def test_a_marked_coroutine_function_defers_when_it_is_awaited() -> None:
    with handling() as request:
        coroutine = long_running(async_handler)("tea", times=2)
        assert request.deferred == 0
        assert asyncio.run(coroutine) == "teatea"
        assert request.deferred == 1


def test_a_marked_generator_defers_before_its_first_item_is_asked_for() -> None:
    with handling() as request:
        items = long_running(sync_generator)("tea")
        assert request.deferred == 1
        assert list(items) == ["tea"]


def test_a_marked_async_generator_defers_before_its_first_item_is_asked_for() -> None:
    async def collect(items: AsyncIterator[str]) -> list[str]:
        return [item async for item in items]

    with handling() as request:
        items = long_running(async_generator)("tea")
        assert request.deferred == 1
        assert asyncio.run(collect(items)) == ["tea"]


def test_an_exception_of_a_marked_handler_is_its_own() -> None:
    @long_running
    def handler() -> None:
        raise KeyError("tea")

    with handling(), pytest.raises(KeyError, match="tea"):
        handler()


def test_marked_methods_defer_and_keep_their_self() -> None:
    with handling() as request:
        assert Oven().bake("cake") == "baked cake"
        assert asyncio.run(Oven().roast("nuts")) == "roasted nuts"
        assert request.deferred == 2


def test_a_bound_method_can_be_marked() -> None:
    with handling() as request:
        assert long_running(Oven().toast)("bread") == "toasted bread"
        assert request.deferred == 1


@pytest.mark.parametrize("function", [sync_handler, async_handler])
def test_a_partial_of_a_handler_can_be_marked(function: Callable[..., Any]) -> None:
    marked = long_running(functools.partial(_copy(function), "tea", times=2))
    assert is_marked(marked)
    with handling() as request:
        result = marked()
        assert (asyncio.run(result) if inspect.iscoroutine(result) else result) == "teatea"
        assert request.deferred == 1


def test_a_partial_of_a_marked_handler_defers() -> None:
    with handling() as request:
        assert functools.partial(long_running(sync_handler), "tea")() == "tea"
        assert request.deferred == 1


def test_a_builtin_can_be_marked() -> None:
    marked = long_running(len)
    assert is_marked(marked)
    with handling() as request:
        assert marked("tea") == 3
        assert request.deferred == 1


def test_without_a_request_a_mark_does_nothing() -> None:
    assert long_running(sync_handler)("tea") == "tea"
    assert asyncio.run(long_running(async_handler)("tea")) == "tea"


def test_the_decorator_may_be_written_with_parentheses() -> None:
    @long_running()
    def handler() -> str:
        return "tea"

    with handling() as request:
        assert handler() == "tea"
        assert request.deferred == 1


# --- what frameworks look at -------------------------------------------------------------------


def test_wrapper_and_original_both_carry_a_mark_that_tells_them_apart(handler: Any) -> None:
    marked = long_running(handler)
    assert getattr(marked, MARK) is EFFECTIVE
    assert getattr(handler, MARK) is BYPASSED
    assert MARK == "__raincheck__"
    assert marked is not handler


def test_only_marked_handlers_count_as_marked() -> None:
    assert not is_marked(_copy(sync_handler))
    assert is_marked(long_running(_copy(sync_handler)))


def test_the_function_that_was_marked_has_no_effect_by_itself(handler: Any) -> None:
    long_running(handler)
    assert not is_marked(handler)


def test_what_is_marked_twice_is_marked_in_both_places(handler: Any) -> None:
    once = long_running(handler)
    twice = long_running(once)
    assert is_marked(once)
    assert is_marked(twice)
    assert not is_marked(handler)


def test_a_function_that_is_marked_again_stays_without_effect_by_itself(handler: Any) -> None:
    marked = long_running(handler), long_running(handler)
    assert [is_marked(each) for each in marked] == [True, True]
    assert not is_marked(handler)


def test_a_decorator_above_takes_the_mark_over(handler: Any) -> None:
    def decorated(function: Any) -> Any:
        return functools.wraps(function)(lambda *args, **kwargs: function(*args, **kwargs))

    assert is_marked(decorated(long_running(handler)))
    assert not is_marked(decorated(handler))
    assert is_marked(long_running(decorated(handler)))


def test_a_marked_handler_of_one_argument_is_seen_to_take_one() -> None:
    """Pyramid counts arguments, of the outermost function."""

    def view(request: str) -> str:
        return request

    for marked in (long_running(view), long_running(long_running(view))):
        assert inspect.getfullargspec(marked).args == ["request"]
        assert marked("tea") == marked(request="tea") == "tea"


@pytest.mark.parametrize("name", ["call", "handler", "argument", "defer", "args"])
def test_the_one_argument_may_have_any_name(name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def view({name}): return {name}", namespace)  # noqa: S102 - made of names above
    with handling() as request:
        assert long_running(namespace["view"])(**{name: "tea"}) == "tea"
        assert request.deferred == 1


def test_a_marked_handler_keeps_name_signature_and_annotations(handler: Any) -> None:
    marked = long_running(handler)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
        assert getattr(marked, name) == getattr(handler, name)
    assert inspect.signature(marked) == inspect.signature(handler)
    assert inspect.unwrap(marked) is handler


def test_a_marked_handler_keeps_its_attributes() -> None:
    function = _copy(sync_handler)
    function.csrf_exempt = True
    assert long_running(function).csrf_exempt


def test_only_a_coroutine_function_is_one_when_it_is_marked(handler: Any) -> None:
    marked = long_running(handler)
    expected = handler.__name__ == "async_handler"
    assert inspect.iscoroutinefunction(marked) is expected
    assert iscoroutinefunction(marked) is expected


def test_a_function_that_asgiref_counts_as_a_coroutine_function_is_awaited() -> None:
    def view(order: str) -> Any:
        return async_handler(order)

    marked = long_running(markcoroutinefunction(view))
    assert inspect.iscoroutinefunction(marked)
    with handling() as request:
        assert asyncio.run(marked("tea")) == "tea"
        assert request.deferred == 1


ELSEWHERE = """
from __future__ import annotations

def sync_handler(order: Order) -> list[Order]:
    return [order]

async def async_handler(order: Order) -> list[Order]:
    return [order]
"""


@pytest.mark.parametrize("name", ["sync_handler", "async_handler"])
def test_annotations_are_resolved_where_the_handler_was_written(name: str) -> None:
    namespace: dict[str, Any] = {"__name__": "elsewhere"}
    exec(ELSEWHERE, namespace)  # noqa: S102 - a module whose globals are not this one's
    marked = long_running(namespace[name])
    namespace["Order"] = int  # defined below the handler
    assert marked.__globals__ is namespace
    assert get_type_hints(marked) == {"order": int, "return": list[int]}


# --- what can't be marked ----------------------------------------------------------------------


class CallableObject:
    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("what", "name"),
    [
        (Oven, "Oven"),
        (Oven.__dict__["clean"], "classmethod"),
        (staticmethod(sync_handler), "staticmethod"),
        (property(sync_handler), "property"),
        (CallableObject(), "CallableObject"),
        ("a string", "str"),
    ],
)
def test_what_is_no_function_can_not_be_marked(what: Any, name: str) -> None:
    with pytest.raises(TypeError, match=rf"can't mark {name}: put it directly above the function"):
        long_running(what)


def test_a_classmethod_may_lie_above_the_mark() -> None:
    class Kitchen:
        @classmethod
        @long_running
        def cook(cls) -> str:
            return cls.__name__

    with handling() as request:
        assert Kitchen.cook() == "Kitchen"
        assert request.deferred == 1


# --- the current operation ---------------------------------------------------------------------


def test_without_a_request_the_current_operation_does_nothing() -> None:
    operation = current_operation()
    operation.progress(1, total=2, message="half done")
    operation.raise_if_cancelled()
    assert operation.id is None
    assert operation.cancelled is False


def test_progress_is_reported_to_the_request() -> None:
    with handling() as request:
        current_operation().progress(1)
        current_operation().progress(2, total=4, message="half done")
    assert request.reports == [Progress(1), Progress(2, 4, "half done")]


def test_the_operation_has_an_id_once_its_request_is_deferred() -> None:
    with handling() as request:
        operation = current_operation()
        assert operation.id is None
        request.operation_id = "abc"
        assert operation.id == "abc"


def test_a_cancelled_operation_can_be_seen_and_raised() -> None:
    with handling() as request:
        operation = current_operation()
        operation.raise_if_cancelled()
        request.is_cancelled = True
        assert operation.cancelled
        with pytest.raises(OperationCancelled):
            operation.raise_if_cancelled()


def test_an_operation_may_be_passed_to_a_thread_that_inherits_nothing() -> None:
    def work() -> None:
        seen.append(current_operation().id)
        operation.progress(1)

    seen: list[str | None] = []
    with handling() as request:
        request.operation_id = "abc"
        operation = current_operation()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == [None]
    assert request.reports == [Progress(1)]
