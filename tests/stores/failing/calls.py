"""Each kind of call, what it needs beforehand, and what must hold when it went wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from raincheck.contracts import REQUEST_FENCE, Filter, Store
from raincheck.errors import BodyMissing
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, State
from raincheck.testing.material import changed, forgotten, ids, make_operation

CHUNK = bytes(range(256)) * 1024  # 256 KiB: many pieces of a network's
PIECES = [bytes([n]) * 100_000 for n in range(4)]
OPERATION = make_operation("a", owner="somebody", lease=2000.0)
NEXT = changed(OPERATION, state=State.SUCCEEDED, expires=3000.0)
REQUEST = Request(
    method="POST",
    path="/reports",
    headers=((b"x", b"\xff"),),
)
MANY = [make_operation(f"many-{n}", created=float(n), owner="x" * 500) for n in range(50)]
OLD = [forgotten(f"old-{n}", expires=500.0) for n in range(20)]


@dataclass(frozen=True)
class Call:
    """One kind of call.

    Attributes:
        prepare: Makes what it is about.
        run: Makes the call once, and returns what the store returned.
        check: Asserts that the call has happened completely, once; it gets what `run` returned.
        check_unknown: Asserts that it has happened completely or not at all.
    """

    prepare: Callable[[Store], object]
    run: Callable[[Store], object]
    check: Callable[[Store, object], None]
    check_unknown: Callable[[Store], None]


def _nothing(store: Store) -> None:
    """Leave it as it is."""


def _create(store: Store) -> object:
    return store.create(OPERATION, REQUEST, "key")


def _check_created(store: Store, returned: object) -> None:
    assert returned == OPERATION
    _check_whole(store)
    assert store.get("a") == OPERATION


def _check_whole(store: Store) -> None:
    """The record is there with its request and its dedupe key, or nothing of them is."""
    if store.get("a") is None:
        assert store.read_request("a") is None
        assert ids(store.find(Filter())[0]) == []
    else:
        assert store.read_request("a") == REQUEST
        assert store.create(make_operation("b"), dedupe="key") == OPERATION
        assert ids(store.find(Filter(owner="somebody"))[0]) == ["a"]


def _check_got(store: Store, returned: object) -> None:
    assert returned == OPERATION


def _check_swapped(store: Store, returned: object) -> None:
    assert returned is True, "no other process has changed it"
    assert store.get("a") == NEXT
    assert ids(store.find(Filter(states=frozenset({State.SUCCEEDED})))[0]) == ["a"]
    assert ids(store.find(Filter(states=frozenset({State.RUNNING})))[0]) == []


def _check_perhaps_swapped(store: Store) -> None:
    stored = store.get("a")
    assert stored is not None
    assert stored in (OPERATION, NEXT)
    assert ids(store.find(Filter(states=frozenset({stored.state})))[0]) == ["a"]
    assert store.swap(OPERATION, NEXT), "it may be repeated"


def _create_with_body(store: Store) -> object:
    store.write_chunk("a", REQUEST_FENCE, 0, CHUNK)
    store.write_chunk("a", REQUEST_FENCE, 1, b"x")
    return _create(store)


def _check_dropped(store: Store, returned: object) -> None:
    _check_swapped(store, returned)
    assert store.read_request("a") is None
    for n in range(2):
        with pytest.raises(BodyMissing):
            list(store.read_chunks("a", REQUEST_FENCE, n, n + 1))
    assert store.create(make_operation("b"), dedupe="key").id == "b"


def _check_perhaps_dropped(store: Store) -> None:
    if store.get("a") == OPERATION:
        assert store.read_request("a") == REQUEST
        assert list(store.read_chunks("a", REQUEST_FENCE, 0, 2)) == [CHUNK, b"x"]
        assert store.create(make_operation("b"), dedupe="key") == OPERATION
    _check_dropped(store, store.swap(OPERATION, NEXT, drop_request=True, drop_dedupe=True))


def _check_written(store: Store, returned: object) -> None:
    assert list(store.read_chunks("a", 1, 0, 1)) == [CHUNK]


def _check_perhaps_written(store: Store) -> None:
    try:
        found = list(store.read_chunks("a", 1, 0, 1))
    except BodyMissing:
        return
    assert found == [CHUNK]


def _write_pieces(store: Store) -> None:
    store.create(OPERATION, REQUEST)
    for n, piece in enumerate(PIECES):
        store.write_chunk("a", 1, n, piece)


def _check_read(store: Store, returned: object) -> None:
    assert returned == PIECES


def _check_discarded(store: Store, returned: object) -> None:
    assert store.get("a") == OPERATION
    assert not _has_body(store)
    assert store.read_request("a") is None


def _check_perhaps_discarded(store: Store) -> None:
    assert store.get("a") == OPERATION
    assert _has_body(store) == (store.read_request("a") is not None)


def _has_body(store: Store) -> bool:
    try:
        return list(store.read_chunks("a", 1, 0, 4)) == PIECES
    except BodyMissing:
        return False


def _create_all(operations: list[Operation]) -> Callable[[Store], None]:
    def create(store: Store) -> None:
        for operation in operations:
            store.create(operation)

    return create


def _check_found(store: Store, returned: object) -> None:
    assert returned == MANY


def _check_purged(store: Store, returned: object) -> None:
    assert isinstance(returned, int)
    assert 0 <= returned <= len(OLD), "less if the answer to the first attempt was lost"
    assert ids(store.find(Filter())[0]) == []


def _check_perhaps_purged(store: Store) -> None:
    left = ids(store.find(Filter())[0])
    assert set(left) <= set(ids(OLD))
    assert all((store.get(operation.id) is not None) == (operation.id in left) for operation in OLD)


CALLS = {
    "create": Call(_nothing, _create, _check_created, _check_whole),
    "holder": Call(_create, lambda store: store.holder("key"), _check_got, _nothing),
    "get": Call(_create, lambda store: store.get("a"), _check_got, _nothing),
    "swap": Call(
        _create,
        lambda store: store.swap(OPERATION, NEXT),
        _check_swapped,
        _check_perhaps_swapped,
    ),
    "swap and drop": Call(
        _create_with_body,
        lambda store: store.swap(OPERATION, NEXT, drop_request=True, drop_dedupe=True),
        _check_dropped,
        _check_perhaps_dropped,
    ),
    "write_chunk": Call(
        _nothing,
        lambda store: store.write_chunk("a", 1, 0, CHUNK),
        _check_written,
        _check_perhaps_written,
    ),
    "read_chunks": Call(
        _write_pieces,
        lambda store: list(store.read_chunks("a", 1, 0, 4)),
        _check_read,
        _nothing,
    ),
    "discard": Call(
        _write_pieces,
        lambda store: store.discard("a"),
        _check_discarded,
        _check_perhaps_discarded,
    ),
    "find": Call(
        _create_all(MANY),
        lambda store: store.find(Filter(states=frozenset({State.RUNNING})))[0],
        _check_found,
        _nothing,
    ),
    "purge": Call(
        _create_all(OLD),
        lambda store: store.purge(1000.0),
        _check_purged,
        _check_perhaps_purged,
    ),
}

EVERY_CALL: dict[str, Callable[[Store], object]] = {
    "now": lambda store: store.now(),
    "read_request": lambda store: store.read_request("a"),
} | {name: call.run for name, call in CALLS.items()}


def use(store: Store, id: str) -> None:
    """Have an operation live its life: nothing of it may go wrong."""
    operation = make_operation(id)
    assert store.create(operation) == operation
    store.write_chunk(id, 1, 0, b"x" * 1000)
    done = replace(operation, version=2, state=State.SUCCEEDED, expires=3000.0)
    assert store.swap(operation, done)
    assert store.get(id) == done
    assert list(store.read_chunks(id, 1, 0, 1)) == [b"x" * 1000]
