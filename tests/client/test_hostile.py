"""Servers that say anything at all: following ends, in time, and asks only http URLs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raincheck.client import FollowError, InvalidToken, Options
from raincheck.client.documents import read
from raincheck.client.exchange import Answer
from raincheck.client.fields import BODY_LIMIT, decoded, linked, resolve
from raincheck.client.tokens import to_place
from tests.client.playing import answer, play

TEXT = st.text(max_size=30)
PLACES = st.one_of(
    TEXT,
    st.sampled_from(
        [
            *(
                "/operations/1",
                "x",
                "",
                "?",
                "#",
                "//",
                "///x",
                "http:",
                "http:///x",
                "http://[::1",
            ),
            *(
                "https://api.example/a",
                "https://b.example:99999/",
                "ftp://x/",
                "javascript:alert(1)",
            ),
            *("http://a\r\nX: y/", "https://api.example\\@evil/", "\u2028", "/" + "a" * 9000),
        ]
    ),
)
WAITS = st.one_of(TEXT, st.integers().map(str), st.floats().map(str))
WORDS = st.sampled_from(
    ["running", "Succeeded", "failed", "canceled", "Undefined", "successful", ""]
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT, WORDS, PLACES)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.sampled_from(
    [
        *("status", "id", "name", "done", "response", "error", "links", "_links", "progress"),
        *("jobID", "type", "resourceLocation", "percentComplete", "result", "metadata", "estimate"),
        *("message", "statusUrl", "state"),
    ]
)
DOCUMENTS = st.one_of(
    st.binary(max_size=40),
    st.dictionaries(MEMBERS, JSON, max_size=6).map(lambda document: json.dumps(document).encode()),
)
FIELDS = {
    **dict.fromkeys(("location", "content-location", "operation-location"), PLACES),
    **dict.fromkeys(("azure-asyncoperation", "link", "set-cookie", "asyncresult"), TEXT | PLACES),
    "retry-after": WAITS,
    "date": TEXT,
    "preference-applied": st.sampled_from(["wait=20", "respond-async", ";;,=", ""]),
    "operation-status": st.sampled_from(["succeeded", ""]),
    "operation-result-status": st.sampled_from(["202", "999", "-1", "20२", "abc"]),
    "content-type": st.sampled_from(["application/json", "application/http", "a/b+json", ";", ""]),
    "content-encoding": st.sampled_from(["gzip", "br", "deflate", "identity"]),
    "x-progress": TEXT,
}
HEADERS = st.fixed_dictionaries({}, optional=FIELDS).map(lambda fields: tuple(fields.items()))
STATUSES = st.sampled_from(
    [200, 201, 202, 202, 202, 204, 301, 303, 304, 307, 400, 401, 404, 429, 500, 503, 999]
)
ANSWERS = st.builds(Answer, STATUSES, HEADERS, DOCUMENTS)


@settings(max_examples=150, deadline=None)
@given(st.lists(ANSWERS, min_size=1, max_size=12), st.booleans())
def test_hostile_answers_end_in_a_response_or_in_an_error_of_following(
    answers: list[Answer], strict: bool
) -> None:
    script = [answer(202, location="/operations/1"), *answers, answer(200, b"the end")]
    for lines in (script, answers + script):
        played = play(iter(lines), Options(strict=strict, place="/status/{id}"))
        if played.error is not None and not isinstance(played.error, StopIteration):
            assert isinstance(played.error, FollowError), repr(played.error)
        assert all(0 <= wait <= 300 for wait in played.waits)
        for ask in played.asks:
            assert ask.url.startswith(("http://", "https://"))
            assert ask.url.isprintable()
            assert " " not in ask.url
            assert all("\r" not in value and "\n" not in value for _, value in ask.headers)


@given(TEXT | PLACES)
def test_hostile_references_are_urls_or_nothing(reference: str) -> None:
    url = resolve("https://api.example/a/b", reference)
    assert url is None or url.startswith(("http://", "https://"))
    assert url is None or (url.isprintable() and " " not in url and len(url) < 3 * 8_192)


@pytest.mark.parametrize(
    "reference", ["/a\nb", "/a\x00", "/a\u202eb", "/" + "a" * 9_000, " ", None]
)
def test_hostile_references_that_no_url_has_are_nothing(reference: str | None) -> None:
    assert resolve("https://api.example/a/b", reference) in (None, "https://api.example/a/b")
    assert reference == " " or resolve("https://api.example/a/b", reference) is None


@given(st.text(max_size=80))
def test_hostile_links_are_read_or_passed_over(value: str) -> None:
    linked((("link", value),), ("status",))


@pytest.mark.parametrize(
    "value", ["<" * 100_000, "<a>" + ";" * 100_000, '<a>;rel="' + " " * 99_999]
)
def test_hostile_links_take_no_long_time(value: str) -> None:
    assert linked((("link", value),), ("status",)) is None


def test_hostile_packing_is_not_unpacked_beyond_the_limit() -> None:
    import gzip

    bomb = gzip.compress(b"0" * (BODY_LIMIT + 1))
    assert decoded(bomb, (("content-encoding", "gzip"),)) is None
    small = gzip.compress(b'{"status": "running"}')
    fields = (("content-encoding", "gzip"), ("content-type", "application/json"))
    assert read(small, fields) == {"status": "running"}


def test_hostile_json_is_no_document() -> None:
    fields = (("content-type", "application/json"),)
    for body in (b"[" * 100_000, b"\xff", b"[]", b"{", b'"x"', b"NaN", b""):
        assert read(body, fields) is None


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_hostile_tokens_are_no_tokens(token: str) -> None:
    with pytest.raises(InvalidToken):
        to_place(token)
