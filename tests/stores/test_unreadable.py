"""A record that can't be read stops nobody else, on every store; and is left alone."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from psycopg import sql

from raincheck.config.options import Settings
from raincheck.contracts import Filter, Store
from raincheck.engine.engine import Engine
from raincheck.engine.repository import Repository
from raincheck.errors import StoreError
from raincheck.operations.operation import Operation, Progress, Reason, State
from raincheck.operations.records import encode
from raincheck.stores.reading import Reader
from raincheck.stores.redis import RedisStore
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing.material import forgotten, ids, make_operation
from tests.stores.postgresql.schemas import administering, new_schema, store_at, table_of
from tests.stores.redis.keys import keys_on
from tests.stores.third_party import FolderStore
from tests.support.real_servers import postgresql_url, redis_url
from tests.unit.engines import NoHeartbeat, Rerunner, lost, poll, start

Spoil = Callable[[str, str], None]
Site = tuple[Store, Spoil]
RUNNING = json.loads(encode(make_operation("poison")))
UNREADABLE = {
    "newer": json.dumps({"v": 2, "id": "poison", "state": "running"}),
    "no JSON": "garbage",
    "of wrong kinds": json.dumps(RUNNING | {"created": "x", "lease": "soon"}),
    "with a wrong part": json.dumps(RUNNING | {"progress": {"completed": "half"}}),
    "endless": "[" * 100_000,
}


def sqlite(directory: Path, stack: ExitStack) -> Site:
    path = directory / "operations.db"

    def spoil(id: str, document: str) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            update = "UPDATE operations SET document = ? WHERE id = ?"
            connection.execute(update, (document, id))

    return SQLiteStore(path), spoil


def redis(directory: Path, stack: ExitStack) -> Site:
    keys = stack.enter_context(keys_on(redis_url()))

    def spoil(id: str, document: str) -> None:
        keys.client.hset(keys.names.record(id), "d", document)

    return RedisStore(keys.url), spoil


def postgresql(directory: Path, stack: ExitStack) -> Site:
    admin = stack.enter_context(administering())
    schema = stack.enter_context(new_schema(admin))
    table = table_of(schema)("operations")

    def spoil(id: str, document: str) -> None:
        update = sql.SQL("UPDATE {} SET document = {} WHERE id = {}")
        admin.execute(update.format(table, sql.Literal(document), sql.Literal(id)))

    return store_at(postgresql_url(), schema), spoil


def folder(directory: Path, stack: ExitStack) -> Site:
    def spoil(id: str, document: str) -> None:
        name = hashlib.sha256(id.encode()).hexdigest()
        (directory / f"record.{name}").write_text(document)

    return FolderStore(directory), spoil


@pytest.fixture(params=[sqlite, redis, postgresql, folder])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        store, spoil = request.param(tmp_path, stack)
        stack.callback(store.close)
        yield store, spoil


def make_engine(store: Store, **options: object) -> Engine:
    engine = Engine(Settings(**options), store)  # type: ignore[arg-type]
    engine.heartbeat = NoHeartbeat(engine)
    return engine


def left_by_the_dead(id: str, created: float, store: Store) -> Operation:
    lease = store.now() - 1
    return make_operation(id, created=created, fence=1, worker="gone", lease=lease)


@pytest.mark.parametrize("document", UNREADABLE.values(), ids=UNREADABLE)
def test_others_are_found_and_it_is_said_once(
    site: Site, document: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, spoil = site
    for n, id in enumerate(("first", "poison", "last")):
        store.create(make_operation(id, created=1000.0 + n, progress=Progress(1)))
    spoil("poison", document)
    for _ in range(2):
        page, cursor = store.find(Filter(states=frozenset({State.RUNNING})), limit=1)
        assert ids(page) == ["first"]
        assert cursor is not None
        assert ids(store.find(Filter(), limit=1, cursor=cursor)[0]) == ["last"]
    assert caplog.text.count("is left out of what is found") == 1
    with pytest.raises(StoreError):
        store.get("poison")


def test_a_page_goes_on_behind_many_of_them(site: Site) -> None:
    store, spoil = site
    for n in range(9):
        store.create(make_operation(f"{n}", created=1000.0 + n))
    for n in range(1, 8):
        spoil(f"{n}", "garbage")
    assert ids(store.find(Filter(), limit=2)[0]) == ["0", "8"]


def test_others_are_recovered_counted_purged_and_polled(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raincheck.engine.recovery.STEADY", 0.0)
    store, spoil = site
    now = store.now()
    for n, id in enumerate(("poison", "abandoned")):
        store.create(left_by_the_dead(id, 1000.0 + n, store))
    ended = make_operation("ended", state=State.SUCCEEDED, expires=now - 1)
    for operation in (ended, forgotten("purged", now - 2), forgotten("poisoned", now - 2)):
        store.create(operation)
    for id in ("poison", "poisoned"):
        spoil(id, "garbage")
    engine = make_engine(store, limits={"operations_in_store": 3})  # a count reads no record
    engine.admission.check(None)
    engine.recover()
    assert engine.purge()
    left = {id: store.get(id) for id in ("abandoned", "ended", "purged")}
    assert left["abandoned"] is not None
    assert left["abandoned"].reason is Reason.INTERRUPTED
    assert left["ended"] is not None
    assert left["ended"].forgotten
    assert left["purged"] is None
    assert poll(engine, "ended").status in (404, 410)
    with pytest.raises(StoreError):
        store.get("poison")


def test_a_captured_request_of_a_newer_shape_is_left_to_those_who_understand_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, rerunner = tmp_path / "operations.db", Rerunner()
    with closing(SQLiteStore(path)) as store:
        engine, other = make_engine(store), make_engine(store)
        operation = lost(engine, start(engine, "GET"))
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            [(request,)] = connection.execute("SELECT document FROM requests")
            newer = json.dumps(json.loads(request) | {"v": 2, "zipped": True})
            connection.execute("UPDATE requests SET document = ?", (newer,))
            other.recovery.rerunner = rerunner
            for _ in range(2):
                other.recover()
            left = store.get(operation.id)
            assert left is not None
            assert (left.state, rerunner.runs) == (State.ACCEPTED, [])
            assert caplog.text.count("can't be run again here") == 1
            connection.execute("UPDATE requests SET document = ?", (request,))
        other.recover()
        assert len(rerunner.runs) == 1


def test_of_very_many_it_is_only_said_that_there_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("raincheck.stores.reading.SAID_AT_MOST", 3)
    reader = Reader()
    for _ in range(2):
        assert reader.read_all(f"garbage {n}" for n in range(10)) == []
    assert caplog.text.count("is left out of what is found") == 3
    assert caplog.text.count("more operations can't be read") == 1


@pytest.mark.parametrize("make", [sqlite, postgresql])
def test_a_page_passes_over_so_many_at_most_and_the_next_goes_on_behind(
    make: Callable[[Path, ExitStack], Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raincheck.stores.reading.PASSED_AT_MOST", 3)
    with ExitStack() as stack:
        store, spoil = make(tmp_path, stack)
        stack.callback(store.close)
        for n in range(9):
            store.create(make_operation(f"{n}", created=1000.0 + n))
        for n in range(1, 8):
            spoil(f"{n}", "garbage")
        page, cursor = store.find(Filter(), limit=2)
        assert (ids(page), cursor is None) == (["0"], False)
        assert ids(Repository(store).find_all(Filter())) == ["0", "8"]


@pytest.mark.parametrize("spoilt", [b"", b"garbage", b"x\ny"])
def test_a_kept_value_that_is_spoilt_stops_no_purge(tmp_path: Path, spoilt: bytes) -> None:
    store = FolderStore(tmp_path)
    assert store.keep("table", None, b"learned")
    [kept] = tmp_path.glob("kept.*")
    kept.write_bytes(spoilt)
    store.recall("table")
    store.create(forgotten("old", expires=1.0))
    assert store.purge(before=2.0) == 1
    assert not list(tmp_path.glob("kept.*"))


def test_a_purge_looks_at_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raincheck.engine.purging.BATCH", 2)
    with ExitStack() as stack:
        store, spoil = sqlite(tmp_path, stack)
        engine, now = make_engine(store), store.now()
        stack.callback(store.close)
        for n in range(20):
            ended = make_operation(f"{n:02}", state=State.SUCCEEDED, expires=now - 100 + n)
            store.create(ended)
        for n in range(4):
            spoil(f"{n:02}", f"garbage {n}")
        met, read = list[str](), Reader.read

        def note(self: Reader, document: str | bytes) -> Operation | None:
            met.append(document.decode() if isinstance(document, bytes) else document)
            return read(self, document)

        monkeypatch.setattr(Reader, "read", note)
        assert engine.purge()
        assert all(store.get(f"{n:02}").forgotten for n in range(4, 20))  # type: ignore[union-attr]
        assert met.count("garbage 0") == 1
