"""What the HTTP standards say about header fields."""

from __future__ import annotations

from raincheck.http.messages import connection_options, field_value, without


def test_repeated_fields_are_joined_and_names_know_no_case() -> None:
    assert field_value([(b"A", b"1"), (b"b", b"2"), (b"a", b"3")], b"a") == b"1, 3"
    assert field_value([], b"a") is None
    assert without([(b"Date", b""), (b"x", b"1")], frozenset({b"date"})) == ((b"x", b"1"),)
    assert connection_options([(b"Connection", b"Close, X-Hop")]) == {b"close", b"x-hop"}
