"""What errors of all kinds say of themselves, and what none can do to the status document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.http.json_errors import NOTHING_SAID, Said, error_of

JSON = ((b"Content-Type", b"application/json"),)


def said(document: Any) -> Said:
    return error_of(JSON, json.dumps(document).encode())


@pytest.mark.parametrize(
    ("document", "code", "message"),
    [
        ({"error": {"code": "Boom", "message": "it failed"}}, "Boom", "it failed"),
        ({"error": {"code": 404, "message": "gone", "status": "NOT_FOUND"}}, "404", "gone"),
        ({"code": "E1", "message": "it failed"}, "E1", "it failed"),
        ({"code": "E1"}, "E1", None),
        ({"message": "it failed"}, None, "it failed"),
        ({"detail": "Not found."}, None, "Not found."),
        ({"title": "Conflict", "status": 409, "type": "about:blank"}, None, "Conflict"),
        ({"title": "Conflict", "detail": "it exists", "code": "E2"}, "E2", "it exists"),
        ({"error": "it failed"}, None, "it failed"),
        ({"error": "x", "message": "it failed", "code": "E3"}, "E3", "it failed"),
        ({"detail": [{"loc": ["body"], "msg": "Field required"}]}, None, None),
        ({"code": True, "message": 5}, None, None),
        ({"code": "x" * 101}, None, None),
        ({"message": "x" * 2000}, None, "x" * 1000),
        ({"message": "a\0b \ud800"}, None, "ab ?"),
        ({"message": "", "title": "Bad"}, None, "Bad"),
        ({"error": {"token": "secret"}}, None, None),
        ([], None, None),
        (None, None, None),
        ("text", None, None),
    ],
)
def test_code_and_message_of_an_error(document: Any, code: str | None, message: str | None) -> None:
    assert said(document) == Said(code, message)


@pytest.mark.parametrize(
    ("kind", "is_read"),
    [
        (b"application/json", True),
        (b"Application/JSON; charset=utf-8", True),
        (b"application/problem+json", True),
        (b"application/vnd.api+json;v=1", True),
        (b"text/html", False),
        (b"application/json-seq", False),
        (b"application/x-ndjson", False),
    ],
)
def test_only_json_is_read(kind: bytes, is_read: bool) -> None:
    found = error_of(((b"content-type", kind),), b'{"message":"it failed"}')
    assert found == (Said(None, "it failed") if is_read else NOTHING_SAID)


def test_what_is_compressed_is_not_read() -> None:
    fields = (*JSON, (b"Content-Encoding", b"gzip"))
    assert error_of(fields, b'{"message":"it failed"}') == NOTHING_SAID


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 60_000, b"9" * 60_000, b'{"a":NaN'])
def test_what_is_no_json_says_nothing(body: bytes) -> None:
    assert error_of(JSON, body) == NOTHING_SAID


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(codec=None)),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["error", "code", "message", "detail", "title", "other"]), inner
            )
        ),
        max_leaves=8,
    )
)
def test_whatever_an_error_says_can_be_written_down(document: Any) -> None:
    found = said(document)
    for text in (found.code, found.message):
        assert text is None or (text.encode() and "\0" not in text)
