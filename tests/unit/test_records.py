"""Records are read by newer and older versions: `records/` holds what was once written.

What is in `records/` never changes: a file there stands for the stores of those who upgrade. New
files may come.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from raincheck.config.options import Settings
from raincheck.contracts import Filter, Store
from raincheck.engine.engine import Engine
from raincheck.errors import InvalidTransition, NewerRecord, StoreError
from raincheck.http.messages import Request
from raincheck.monitor.links import Resource
from raincheck.operations.operation import Operation, Progress, Reason, State
from raincheck.operations.records import (
    RECORD_VERSION,
    decode,
    decode_request,
    encode,
    encode_request,
)
from raincheck.operations.transitions import (
    CancelRequested,
    Claimed,
    Delivered,
    Delivering,
    Ended,
    Event,
    Forgotten,
    HandedOver,
    Marked,
    Polled,
    Released,
    Renewed,
    Responded,
    Told,
    advance,
)
from raincheck.stores.memory import MemoryStore
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing.material import changed, hears, ids, make_operation
from tests.unit.engines import NoHeartbeat, Time, poll
from tests.unit.records.expected import (
    ADDED,
    NEW,
    OPERATIONS,
    RECORDS,
    REQUESTS,
    RESULT,
    SUCCEEDED,
    VERSION_1,
    frozen,
    parsed,
)

DEFAULTS = {f.name: f.default for f in fields(Operation) if f.default is not MISSING}


def written(operation: Operation) -> dict[str, Any]:
    """Return what a record says, with what it leaves out."""
    return DEFAULTS | parsed(encode(operation))


def of_newer(document: dict[str, Any], **changes: Any) -> Operation:
    """Read what a newer version may have written."""
    return decode(json.dumps(document | {"v": 2} | changes))


# --- what version 1 wrote ----------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_record_of_version_1_is_read(name: str) -> None:
    assert decode(frozen(name)) == OPERATIONS[name]


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_record_of_version_1_is_written_again_without_loss(name: str) -> None:
    assert parsed(frozen(name)).items() <= (written(decode(frozen(name))) | {"v": 1}).items()


def test_what_records_leave_out_never_changes() -> None:
    zeros = dict.fromkeys(("fence", "deliveries", "unbegun"), 0)
    falses = dict.fromkeys(("unbound", "forgotten", "repeatable", "captured", "coalesced"), False)
    told = {name: value for name, value in DEFAULTS.items() if value is not None}
    assert told == {"version": 1} | zeros | falses


def test_a_record_leaves_out_what_has_its_default() -> None:
    least = Operation("a", State.ACCEPTED, 1.0, 1.0, 60.0, "GET", "/")
    assert parsed(encode(least)).keys() == {"v", *(f.name for f in fields(Operation)[:7])}
    assert decode(encode(least)) == least


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_of_version_1_is_read(name: str) -> None:
    assert decode_request(frozen(name)) == REQUESTS[name]
    again = parsed(encode_request(decode_request(frozen(name))))
    assert parsed(frozen(name)).items() <= again.items()
    assert again["v"] == RECORD_VERSION


def test_every_frozen_record_is_known() -> None:
    assert {path.stem for path in VERSION_1.iterdir()} == {*OPERATIONS, *REQUESTS}


def test_a_field_that_an_older_version_did_not_know_has_its_default() -> None:
    needed = {"id", "state", "created", "updated", "retention", "method", "route"}
    oldest = {name: value for name, value in parsed(frozen("accepted")).items() if name in needed}
    assert decode(json.dumps(oldest)) == replace(NEW, owner=None, queue=None)


# --- what a newer version writes ---------------------------------------------------------------


@pytest.fixture
def newer() -> str:
    return (RECORDS / "of-a-newer-version.json").read_text()


def test_a_newer_record_with_more_fields_is_read(newer: str) -> None:
    assert parsed(newer)["v"] == 2
    assert replace(decode(newer), unknown={}) == SUCCEEDED


def test_more_fields_survive_being_read_and_written(newer: str) -> None:
    assert written(decode(newer)) == ADDED | parsed(newer) | {"v": 1}
    assert decode(encode(decode(newer))) == decode(newer)


def test_more_fields_survive_a_change_of_other_fields(newer: str) -> None:
    after = written(replace(decode(newer), owner="bob", version=5))
    assert after == ADDED | parsed(newer) | {"v": 1, "owner": "bob", "version": 5}


def test_what_belonged_to_a_replaced_value_goes_with_it(newer: str) -> None:
    forgotten = parsed(encode(advance(decode(newer), Forgotten(60.0), 1795000030.0)))
    assert forgotten["result"] is None
    assert forgotten["colour"] == parsed(newer)["colour"]
    moved = parsed(encode(replace(decode(newer), progress=Progress(7))))
    assert moved["progress"] == {"completed": 7, "total": None, "message": None}


def test_an_unknown_reason_reads_as_the_most_general_one_and_survives() -> None:
    failed = of_newer(parsed(frozen("failed-timeout")), reason="quota_exceeded")
    assert (failed.state, failed.reason) == (State.FAILED, Reason.EXCEPTION)
    forgotten = advance(failed, Forgotten(60.0), 1795000030.0)
    assert parsed(encode(decode(encode(forgotten))))["reason"] == "quota_exceeded"


def test_a_reason_that_replaces_an_unknown_one_is_written() -> None:
    odd = of_newer(parsed(frozen("running")), reason="paused_before")
    ended = advance(odd, Ended(Reason.INTERRUPTED), 1795000005.0)
    assert parsed(encode(ended))["reason"] == "interrupted"


EVENTS: list[Event] = [
    Claimed("w", 30.0),
    Renewed(30.0, Progress(1)),
    CancelRequested(),
    Responded(RESULT),
    Ended(Reason.INTERRUPTED),
    Released(),
    HandedOver("nightly", 1.0),
    Told(1.0),
    Marked(repeatable=True),
    Polled(),
    Forgotten(60.0),
    Delivering(30.0),
    Delivered(),
]


def test_every_event_is_tried() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_nothing_can_happen_to_an_operation_in_an_unknown_state(event: Event) -> None:
    paused = of_newer(parsed(frozen("running")), state="paused")
    assert (paused.state, paused.state.value, str(paused.state)) == ("paused",) * 3
    assert not paused.is_terminal
    with pytest.raises(InvalidTransition, match="an operation that is paused"):
        advance(paused, event, 1795000005.0)
    assert decode(encode(paused)) == paused


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "\x00\xff",
        "[]",
        "null",
        "{}",
        '{"v":9,"id":"8f14e45fceea167a5a36dedd4bea2543"}',
        *(
            json.dumps(parsed(frozen("succeeded")) | {"v": 9} | change)
            for change in (
                {"result": {"status": 200}},
                {"result": [200]},
                {"progress": {"done": 3}},
                {"progress": "all"},
            )
        ),
    ],
)
def test_what_can_not_be_read_is_a_store_error(text: str) -> None:
    with pytest.raises(StoreError) as caught:
        decode(text)
    assert NEW.id not in str(caught.value)
    assert "version 9: upgrade" in str(caught.value) or "v" not in text
    with pytest.raises(StoreError):
        decode_request(text)


def make_engine(store: Store) -> Engine:
    engine = Engine(Settings(), store)
    engine.heartbeat = NoHeartbeat(engine)
    return engine


# --- two versions on one store -----------------------------------------------------------------


@pytest.fixture
def time() -> Time:
    time = Time()
    time.now = 1795000100.0
    return time


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path, time: Time) -> Iterator[Store]:
    kinds: dict[str, Store] = {
        "memory": MemoryStore(clock=time),
        "sqlite": SQLiteStore(tmp_path / "operations.db", clock=time),
    }
    with closing(kinds[request.param]) as store:
        yield store


def test_an_unknown_state_holds_up_no_recovery_and_no_purge(store: Store) -> None:
    document = parsed(frozen("running")) | {"worker": "gone"}
    paused = of_newer(document, id="paused", state="paused", created=1.0)
    archived = of_newer(
        parsed(frozen("succeeded")), id="archived", state="archived", created=2.0, expires=3.0
    )
    for operation in (paused, archived, decode(json.dumps(document | {"id": "abandoned"}))):
        store.create(operation)
    engine = make_engine(store)
    assert engine.recover() == 1
    assert engine.purge()
    assert (store.get("paused"), store.get("archived")) == (paused, archived)
    abandoned = store.get("abandoned")
    assert abandoned is not None
    assert abandoned.reason is Reason.INTERRUPTED
    assert ids(store.find(Filter())[0]) == ["paused", "archived", "abandoned"]


def test_a_poll_of_an_unknown_state_is_told_to_come_again(store: Store) -> None:
    paused = of_newer(parsed(frozen("running")), id="paused", state="paused", owner=None)
    store.create(paused)
    engine = make_engine(store)
    for resource, status in ((Resource.RESPONSE, 202), (Resource.STATUS, 200)):
        answer = poll(engine, "paused", resource=resource)
        assert (answer.status, answer.header(b"retry-after")) == (status, b"10")
        assert isinstance(answer.body, bytes)
        assert json.loads(answer.body)["status"] == "paused"
    assert store.get("paused") == paused


def test_a_poll_of_an_unknown_reason_is_answered(store: Store) -> None:
    failed = parsed(frozen("failed-timeout")) | {"id": "a", "owner": None}
    store.create(of_newer(failed, reason="quota_exceeded"))
    answer = poll(make_engine(store), "a")
    assert answer.status == 500
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body)["code"] == "exception"


def test_what_a_newer_version_wrote_survives_a_cancellation(store: Store) -> None:
    document = parsed(frozen("running-with-progress")) | {"id": "a", "colour": "blue"}
    document["progress"]["unit"] = "pages"
    store.create(of_newer(document))
    assert make_engine(store).cancel("a") is not None
    after = store.get("a")
    assert after is not None
    assert after.state is State.CANCELLING
    assert (after.unknown["colour"], parsed(encode(after))["progress"]["unit"]) == ("blue", "pages")


# --- the file of the release before ------------------------------------------------------------


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    """An SQLite store as raincheck 0.1.0 left it, before there were other shared stores."""
    with zipfile.ZipFile(RECORDS / "sqlite-1.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path / "operations.db"


def test_a_file_of_the_release_before_is_read(old_file: Path) -> None:
    with closing(SQLiteStore(old_file)) as store:
        assert ids(store.find(Filter())[0]) == ["failed", "forgotten", "running", "succeeded"]
        assert store.get("succeeded") == replace(SUCCEEDED, id="succeeded")
        chunks = list(store.read_chunks("succeeded", 1, 0, 2))
        assert chunks == [b"\x00\xff" * 131_072, b"end" * 12_618 + b"ab"]
        assert store.create(make_operation("b"), dedupe="key").id == "succeeded"


def test_a_file_of_the_release_before_goes_on(old_file: Path, time: Time) -> None:
    with closing(SQLiteStore(old_file, clock=time)) as store, closing(store.watch(0.05)) as watch:
        assert next(watch) is None
        engine = make_engine(store)
        assert engine.recover() == 1
        assert hears(watch, "running")
        interrupted = store.get("running")
        assert interrupted is not None
        assert interrupted.reason is Reason.INTERRUPTED
        assert store.swap(interrupted, changed(interrupted, owner="bob"))
        store.create(make_operation("new"), Request("GET", "/"), "another key")
        store.write_chunk("new", 1, 0, b"x" * 100_000)
        time.now += 2 * 86_400
        assert engine.purge()
        assert ids(store.find(Filter(forgotten=False))[0]) == ["new"]
        with closing(SQLiteStore(old_file)) as other:
            assert other.get("new") == store.get("new")


@pytest.mark.parametrize(
    ("change", "is_read"), [({"v": 2}, True), ({"v": 2, "query": None}, False), ({"zip": 1}, False)]
)
def test_a_request_of_a_newer_shape_is_for_those_who_understand_it(
    change: dict[str, Any], is_read: bool
) -> None:
    name = next(iter(REQUESTS))
    text = json.dumps(parsed(frozen(name)) | change)
    if is_read:
        assert decode_request(text) == REQUESTS[name]
    else:
        with pytest.raises(NewerRecord):
            decode_request(text)


@pytest.mark.parametrize(
    "change",
    [{"created": "x"}, {"lease": "soon"}, {"fence": None}, {"owner": 7}, {"retention": None}],
)
def test_a_record_whose_members_are_of_another_kind_can_not_be_read(change: dict[str, Any]) -> None:
    with pytest.raises(StoreError):
        decode(json.dumps(parsed(frozen("running")) | change))
