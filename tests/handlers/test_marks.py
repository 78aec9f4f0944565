"""How a mark is found behind what is around it, without anything of that being run."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from werkzeug.local import LocalProxy

from raincheck import long_running
from raincheck.inspection.directory import OPAQUE, Candidates
from raincheck.inspection.marks import bypassed, leads_to_mark


def view(*args: Any) -> None:
    raise AssertionError("it was run")


def fresh() -> Any:
    def handler() -> None:
        raise AssertionError("it was run")

    return handler


marked = long_running(fresh())


class Hostile:
    """Whatever is done to it that runs its code fails the test."""

    def __init__(self, function: Any) -> None:
        object.__setattr__(self, "function", function)

    def __fail__(self, *args: Any) -> NoReturn:
        raise AssertionError("its code was run")

    __call__ = __getattr__ = __getattribute__ = __eq__ = __hash__ = __bool__ = __len__ = __fail__
    __iter__ = __contains__ = __getitem__ = __instancecheck__ = __repr__ = __fail__
    __raincheck__ = property(__fail__)
    operations = view_func = view_class = cls = __wrapped__ = property(__fail__)

    __class__ = property(__fail__)


class HostileKind(type):
    """A metaclass that watches as well."""

    def __getattribute__(cls, name: str) -> NoReturn:
        raise AssertionError("its code was run")

    def __instancecheck__(cls, instance: object) -> NoReturn:
        raise AssertionError("its code was run")

    __subclasscheck__ = __instancecheck__


class HostileClass(metaclass=HostileKind):
    @property
    def post(self) -> NoReturn:
        raise AssertionError("its code was run")


def closing_over(content: Any) -> Any:
    def closure() -> Any:
        return content

    return closure


def noting(name: str, content: Any) -> Any:
    function = fresh()
    function.__dict__[name] = content
    return function


# Made within the test: pytest looks at its parameters.
HOSTILE: dict[str, Callable[[], object]] = {
    "object": lambda: Hostile(marked),
    "class": lambda: HostileClass,
    "proxy": lambda: LocalProxy(lambda: 1 / 0),
    "object in a closure": lambda: closing_over(Hostile(view)),
    "class in a closure": lambda: closing_over(HostileClass),
    "proxy in a closure": lambda: closing_over(LocalProxy(lambda: 1 / 0)),
    "object that is wrapped": lambda: noting("__wrapped__", Hostile(view)),
    "object for a class": lambda: noting("view_class", Hostile(view)),
    "class-based view": lambda: noting("cls", HostileClass),
    "object for a mark": lambda: noting("__raincheck__", Hostile(view)),
    "object for actions": lambda: noting("actions", Hostile(view)),
    "argument": lambda: functools.partial(view, Hostile(view)),
    "candidates": lambda: Candidates((Hostile(view), HostileClass)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_of_theirs_is_run(name: str) -> None:
    verdict = leads_to_mark(HOSTILE[name](), "POST")
    assert verdict is (name == "object")
    found = [function.__name__ for function in bypassed(HOSTILE[name](), "POST")]
    assert found == (["handler"] if name == "object" else [])


def test_a_mark_behind_a_hostile_object_is_found() -> None:
    assert leads_to_mark(Hostile(marked), "GET")


def test_a_mark_is_found_through_many_wrappers_of_all_kinds() -> None:
    handler: Any = marked
    for wrap in (closing_over, functools.partial, functools.partial, closing_over, Hostile):
        handler = wrap(handler)
    assert leads_to_mark(handler, "GET")
    assert leads_to_mark(Candidates((view, handler)), "GET")


def test_a_mark_is_found_in_what_a_partial_is_given() -> None:
    assert leads_to_mark(functools.partial(view, 1, marked), "GET")
    assert not leads_to_mark(functools.partial(view, 1, view), "GET")


def test_a_static_or_class_method_is_looked_into() -> None:
    class Views:
        get = staticmethod(marked)
        post: Any = classmethod(marked)
        put = staticmethod(fresh())

    for method, expected in {"GET": True, "POST": True, "PUT": False}.items():
        assert leads_to_mark(noting("view_class", Views), method) is expected


def test_what_was_marked_and_is_called_by_itself_does_not_lead_to_a_mark() -> None:
    original = fresh()
    wrapper = long_running(original)
    assert not leads_to_mark(original, "GET")
    assert list(bypassed(original, "GET")) == [original]
    assert leads_to_mark(wrapper, "GET")
    assert not leads_to_mark(functools.wraps(original)(lambda: None), "GET")


def test_what_can_not_be_looked_into_may_lead_to_a_mark() -> None:
    assert leads_to_mark(OPAQUE, "GET")
    assert leads_to_mark(Candidates((view, OPAQUE)), "GET")


def test_circles_come_to_an_end() -> None:
    first, second = fresh(), fresh()
    first.__wrapped__, second.__wrapped__ = second, first
    assert not leads_to_mark(first, "GET")
    assert not leads_to_mark(noting("view_class", type), "GET")


def test_a_chain_without_end_is_given_up() -> None:
    handler: Any = marked
    for _ in range(1_000):
        handler = closing_over(handler)
    assert not leads_to_mark(handler, "GET")


def test_a_variable_that_is_not_set_yet_is_no_trouble() -> None:
    def handler() -> Any:
        return later

    assert not leads_to_mark(handler, "GET")
    later = marked
    assert leads_to_mark(handler, "GET")


@pytest.mark.parametrize("handler", [None, 3, "text", object(), len, "".join, dict, Ellipsis])
def test_what_is_no_handler_leads_nowhere(handler: object) -> None:
    assert not leads_to_mark(handler, "GET")
