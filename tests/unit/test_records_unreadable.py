"""Records and requests that can't be read: none is met later, and all say what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from raincheck.errors import NewerRecord, StoreError
from raincheck.operations.records import decode, decode_request, encode
from tests.unit.records.expected import NEW, frozen, parsed

TEXTS = (
    *("owner", "queue", "worker", "reason", "fingerprint", "application", "code", "webhook"),
    "form_token",
)
TIMES = ("lease", "expires", "polled", "not_before", "started")
WRONG: list[tuple[str, Any]] = [
    *((name, wrong) for name in ("id", "state", "method", "route") for wrong in (7, None)),
    *((name, wrong) for name in ("created", "updated", "retention") for wrong in ("x", None)),
    *(
        (name, wrong)
        for name in ("version", "fence", "unbegun", "deliveries")
        for wrong in ("1", None)
    ),
    *((name, "soon") for name in TIMES),
    *((name, 7) for name in TEXTS),
    *(
        ("progress", {"completed": 1} | wrong)
        for wrong in ({"completed": "x"}, {"completed": None})
    ),
    *(("progress", {"completed": 1} | wrong) for wrong in ({"total": "x"}, {"message": 7})),
    *(
        ("result", parsed(frozen("succeeded"))["result"] | {name: wrong})
        for name in ("status", "length", "chunk_size", "fence")
        for wrong in ("1", None)
    ),
    *(
        ("result", parsed(frozen("succeeded"))["result"] | {name: 7})
        for name in ("error_code", "error_message", "headers", "trailers")
    ),
    ("result", parsed(frozen("succeeded"))["result"] | {"chunk_size": 0}),
    ("result", parsed(frozen("succeeded"))["result"] | {"length": 0, "chunk_size": "1"}),
]


@pytest.mark.parametrize(("member", "wrong"), WRONG, ids=str)
def test_no_member_of_another_kind_is_met_later(member: str, wrong: Any) -> None:
    with pytest.raises(StoreError) as caught:
        decode(json.dumps(parsed(frozen("running")) | {member: wrong}))
    assert type(caught.value) is StoreError, "upgrading would not help"


@pytest.mark.parametrize("member", [*TIMES, *TEXTS, "progress", "result"])
def test_what_may_be_missing_may_be_none(member: str) -> None:
    assert getattr(decode(json.dumps(parsed(frozen("running")) | {member: None})), member) is None


@pytest.mark.parametrize("member", ["method", "path", "scheme", "http_version", "root_path"])
def test_a_request_whose_members_are_of_another_kind_can_not_be_read(member: str) -> None:
    with pytest.raises(StoreError):
        decode_request(json.dumps(parsed(frozen("request")) | {member: 7}))


@pytest.mark.parametrize(("length", "chunk_size"), [(0, 0), (1, 1)])
def test_a_body_with_bytes_needs_chunks_of_at_least_one(length: int, chunk_size: int) -> None:
    body = {"length": length, "chunk_size": chunk_size}
    result = parsed(frozen("succeeded"))["result"] | body
    read = decode(json.dumps(parsed(frozen("succeeded")) | {"result": result})).result
    assert read is not None
    assert (read.length, read.chunk_size) == (length, chunk_size)


@pytest.mark.parametrize(
    ("document", "which", "kind"),
    [
        ({"id": NEW.id, "v": 2}, "record of operation 8f14e4… of version 2:", NewerRecord),
        ({"v": 1}, "record of version 1:", StoreError),
        ({}, "record of version unknown:", StoreError),
        ({"v": "2"}, "record of version 2:", StoreError),
    ],
)
def test_who_can_not_read_a_record_says_which_and_whether_a_newer_version_can(
    document: dict[str, Any], which: str, kind: type[StoreError]
) -> None:
    with pytest.raises(StoreError, match=which) as caught:
        decode(json.dumps(document))
    assert type(caught.value) is kind


def test_what_is_nested_too_deep_is_no_record() -> None:
    with pytest.raises(StoreError):
        decode("[" * 100_000)


def test_a_record_holds_what_json_can_say_and_nothing_else() -> None:
    with pytest.raises(TypeError, match="a record can't hold"):
        encode(replace(NEW, unknown={"odd": object()}))
