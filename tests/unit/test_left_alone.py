"""Which requests are left alone."""

from __future__ import annotations

import pytest

from raincheck.config.left_alone import KINDS, LeftAlone
from raincheck.config.options import Settings
from raincheck.errors import ConfigurationError

BOTH = b"application/json, text/event-stream"


@pytest.mark.parametrize(
    ("kind", "fields", "query", "is_it"),
    [
        ("events", {b"accept": b"text/event-stream"}, b"", True),
        ("events", {b"accept": b"*/*"}, b"", False),
        ("mcp", {b"accept": BOTH}, b"", True),
        ("mcp", {b"accept": b"text/event-stream"}, b"", False),
        ("mcp", {b"accept": b"application/json"}, b"", False),
        ("mcp", {b"mcp-session-id": b"1868a90c"}, b"", True),
        ("mcp", {b"mcp-protocol-version": b"2025-06-18"}, b"", True),
        ("engine.io", {}, b"EIO=4&transport=polling", True),
        ("engine.io", {}, b"transport=polling&t=P1&EIO=3&sid=a", True),
        ("engine.io", {}, b"EIO=4", False),
        ("engine.io", {}, b"q=EIO=4&transport=bus", False),
        ("engine.io", {}, b"", False),
        ("download", {b"sec-fetch-mode": b"navigate", b"sec-fetch-dest": b"empty"}, b"", True),
        ("download", {b"sec-fetch-mode": b"cors", b"sec-fetch-dest": b"empty"}, b"", False),
        ("download", {b"sec-fetch-mode": b"navigate", b"sec-fetch-dest": b"document"}, b"", False),
    ],
)
def test_a_request_is_left_alone_by_its_fields_and_query(
    kind: str, fields: dict[bytes, bytes], query: bytes, is_it: bool
) -> None:
    assert LeftAlone([kind])(fields.get, query) is is_it
    assert LeftAlone()(fields.get, query) is (is_it or b"event" in fields.get(b"accept", b""))
    assert not LeftAlone([])(fields.get, query)


def test_all_kinds_are_left_alone_by_default() -> None:
    assert list(Settings().left_alone) == list(KINDS)


@pytest.mark.parametrize("wrong", ["mcp", ["mcp", "sse"], 1])
def test_a_kind_that_is_not_known_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigurationError, match="left_alone"):
        Settings.build({"left_alone": wrong})
