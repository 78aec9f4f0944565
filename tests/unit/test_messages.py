"""What the HTTP standards say about header fields."""

from __future__ import annotations

import pytest

from raincheck.http.messages import (
    HOP_BY_HOP,
    WITHOUT_CONTENT,
    Request,
    Response,
    connection_options,
    field_value,
    for_method,
    without,
)


def test_repeated_fields_are_joined_and_names_know_no_case() -> None:
    assert field_value([(b"A", b"1"), (b"b", b"2"), (b"a", b"3")], b"a") == b"1, 3"
    assert field_value([], b"a") is None
    assert without([(b"Date", b""), (b"x", b"1")], frozenset({b"date"})) == ((b"x", b"1"),)
    assert connection_options([(b"Connection", b"Close, X-Hop")]) == {b"close", b"x-hop"}


def test_fields_of_one_connection_are_for_nobody_behind_it() -> None:
    names = b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade"
    assert set(names.split()) == HOP_BY_HOP
    assert connection_options([(b"connection", b"close,, "), (b"Connection", b"x-a")]) == {
        *(b"close", b"x-a")
    }
    assert connection_options([]) == frozenset()


def test_of_a_request_no_more_needs_to_be_said_than_method_and_path() -> None:
    plain = ("http", "1.1", b"", b"", "", (), None, None, 0, 0)
    assert Request("GET", "/") == Request("GET", "/", *plain)
    assert Response(204) == Response(204, (), b"", ())
    assert {204, 304} == WITHOUT_CONTENT


def test_a_field_is_asked_for_by_its_name_in_small_letters() -> None:
    headers = ((b"X-A", b"1"), (b"x-a", b"2"))
    assert Request("GET", "/", headers=headers).header(b"x-a") == b"1, 2"
    assert Response(200, headers).header(b"x-a") == b"1, 2"
    assert Response(200).header(b"x-a") is None


@pytest.mark.parametrize(
    ("query", "value"),
    [
        (b"", None),
        (b"b=1", None),
        (b"aa=1", None),
        (b"b=1&a=2&a=3", b"2"),
        (b"a=%41=b", b"%41=b"),
        (b"a", b""),
    ],
)
def test_a_parameter_of_the_query_has_its_first_value_as_it_came(
    query: bytes, value: bytes | None
) -> None:
    assert Request("GET", "/", query=query).parameter(b"a") == value


def test_a_head_gets_the_fields_of_a_get_and_no_content() -> None:
    response = Response(200, ((b"content-length", b"4"),), b"done")
    assert for_method("HEAD", response) == Response(200, response.headers, b"")
    assert for_method("GET", response) is response
