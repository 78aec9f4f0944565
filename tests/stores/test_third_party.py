"""The store that the README shows keeps the contract, and stores that are broken do not."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raincheck.contracts import Filter
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation
from raincheck.stores.memory import MemoryStore
from raincheck.testing import Clock, StoreContract
from raincheck.testing.material import HOUR, changed, make_operation
from tests.stores.third_party import Files, FolderStore
from tests.support.processes import ROOT

pytestmark = pytest.mark.load


class TestFolderStore(StoreContract):
    """The contract, as a third party runs it."""

    @pytest.fixture
    def store(self, tmp_path: Path, clock: Clock) -> Iterator[FolderStore]:
        with closing(FolderStore(tmp_path / "operations", clock)) as store:
            yield store


@pytest.mark.slow
class TestFolderStoreWithItsOwnClock(StoreContract):
    """The contract of a store whose time can't be set."""

    @pytest.fixture
    def clock(self) -> None:
        return None

    @pytest.fixture
    def store(self, tmp_path: Path) -> FolderStore:
        return FolderStore(tmp_path / "operations")


def test_it_is_as_short_as_is_said() -> None:
    lines = (ROOT / "tests" / "stores" / "third_party.py").read_text().splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100


# --- what only other processes can do to it ----------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from tests.stores.scripts import changed, make_operation
from tests.stores.third_party import FolderStore
store = FolderStore(Path(sys.argv[1]))
operation = store.create(make_operation("0", owner="x" * 100_000))
print("ready", flush=True)
while True:
    store.write_chunk("0", 1, operation.version % 5, b"x" * 300_000)
    assert store.swap(operation, operation := changed(operation))
"""


@pytest.mark.server
def test_a_writer_that_is_killed_leaves_whole_records(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "operations")
    for round in range(5):
        command = [sys.executable, "-c", WRITER, str(store.folder)]
        writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(0.03 * round)  # to kill it somewhere else each time
        writer.kill()
        writer.communicate()
        operation = store.get("0")
        assert operation is not None
        assert operation.owner == "x" * 100_000
        assert store.swap(operation, replace(operation, forgotten=True, expires=0.0))
        assert store.purge(1.0) == 1
        assert not [path for path in store.folder.iterdir() if path.name.startswith("chunk")]


class CutShort(Files):
    """A folder whose disk is full as soon as a record is to be written."""

    def __setitem__(self, key: str, value: bytes) -> None:
        if key.startswith("record"):
            raise OSError("no space left on device")
        super().__setitem__(key, value)


def test_what_is_cut_short_leaves_nothing_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    store = FolderStore(tmp_path, clock)
    with monkeypatch.context() as patched:
        patched.setattr("tests.stores.third_party.Files", CutShort)
        for id in "abc":
            with pytest.raises(StoreUnavailable, match="no space"):
                store.create(make_operation(id), Request("GET", "/"), f"key of {id}")
    assert store.get("a") is None
    assert store.holder("key of a") is None
    assert store.create(make_operation("a"), dedupe="key of a").id == "a"
    assert store.read_request("a") is None
    assert store.create(make_operation("d"), dedupe="key of b").id == "d"
    clock.now += 2 * HOUR
    assert store.purge(clock.now) == 0
    kinds = sorted(path.name.partition(".")[0] for path in tmp_path.iterdir())
    assert kinds == ["changes", "dedupe", "dedupe", "lock", "record", "record"]


@pytest.mark.server
def test_a_holder_of_the_lock_that_stands_still_makes_it_unavailable(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.create(make_operation())
    with open(tmp_path / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailable, match="locked for five seconds"):
            store.get("a")
    assert store.get("a") == make_operation()


# --- stores that break a clause ----------------------------------------------------------------


class Careless(MemoryStore):
    """Swaps whatever the version is."""

    def swap(self, old: Operation, new: Operation, **drops: bool) -> bool:
        stored = self.get(old.id)
        return stored is not None and super().swap(stored, new, **drops)


class Forgetful(MemoryStore):
    """Does not know its own writing again."""

    def swap(self, old: Operation, new: Operation, **drops: bool) -> bool:
        return self.get(old.id) != new and super().swap(old, new, **drops)


class Racing(MemoryStore):
    """Looks, and then writes."""

    def swap(self, old: Operation, new: Operation, **drops: bool) -> bool:
        stored = self.get(old.id)
        if stored is None or stored.version != old.version:
            return False
        time.sleep(0.02)  # so that others look meanwhile, on a machine under load too
        swapped = super().swap(stored, new, **drops)
        return swapped or super().swap(self._operations[old.id], new, **drops)


class Keeping(MemoryStore):
    """Forgets to drop the request."""

    def swap(self, old: Operation, new: Operation, **drops: bool) -> bool:
        return super().swap(old, new, **drops | {"drop_request": False})


class Hasty(MemoryStore):
    """Drops the request before it looks at the version."""

    def swap(self, old: Operation, new: Operation, **drops: bool) -> bool:
        if drops.get("drop_request") and old.id in self._shelves:
            self._drop_request(self._shelves[old.id])
        return super().swap(old, new, **drops)


class Tardy(MemoryStore):
    """Drops the request soon after the swap."""

    def swap(self, old: Operation, new: Operation, **drops: bool) -> bool:
        swapped = super().swap(old, new)
        time.sleep(0.02)
        return swapped and super().swap(old, new, **drops)


class Sweeping(MemoryStore):
    """Drops the response with the request."""

    def _drop_request(self, shelf: Any) -> None:
        shelf.request, shelf.chunks = None, {}


class Clinging(MemoryStore):
    """Keeps a dedupe key until the purge."""

    def swap(self, old: Operation, new: Operation, **drops: bool) -> bool:
        return super().swap(old, new, **drops | {"drop_dedupe": False})


class Grudging(MemoryStore):
    """Frees, at the purge, the key that an operation once held, whoever holds it now."""

    def _free(self, shelf: Any) -> None:
        key = shelf.dedupe
        super()._free(shelf)
        shelf.dedupe = key


class Nostalgic(MemoryStore):
    """Names who was the first to hold a dedupe key, as it was then."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str | None, Operation] = {}

    def create(
        self, operation: Operation, request: Request | None = None, dedupe: str | None = None
    ) -> Operation:
        held = super().create(operation, request, dedupe)
        return self.first.setdefault(dedupe, held) if held == operation else held

    def holder(self, dedupe: str) -> Operation | None:
        return self.first.get(dedupe)


class Overwriting(MemoryStore):
    """Creates what exists."""

    def create(
        self, operation: Operation, request: Request | None = None, dedupe: str | None = None
    ) -> Operation:
        self._operations.pop(operation.id, None)
        return super().create(operation, request, dedupe)


class Talkative(MemoryStore):
    """Names ids in its errors."""

    def create(
        self, operation: Operation, request: Request | None = None, dedupe: str | None = None
    ) -> Operation:
        try:
            return super().create(operation, request, dedupe)
        except StoreError as error:
            raise StoreError(f"{operation.id} exists") from error


class Counting(MemoryStore):
    """Takes the cursor for the number of operations that came before."""

    def find(
        self, which: Filter, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[Operation], str | None]:
        start = int(cursor or 0)
        found, more = super().find(which, limit=start + limit)
        return found[start:], str(start + limit) if more else None


class Greedy(MemoryStore):
    """Purges what is expired though nobody has forgotten it, and more than it may."""

    def purge(self, before: float, limit: int = 500) -> int:
        for operation in super().find(Filter(expires_before=before))[0]:
            self.swap(operation, changed(operation, forgotten=True))
        return super().purge(before)


class Thorough(MemoryStore):
    """Discards the record, too."""

    def discard(self, operation_id: str) -> None:
        super().discard(operation_id)
        self._operations.pop(operation_id, None)


class Lenient(MemoryStore):
    """Takes a chunk that is not there for an empty one."""

    def read_chunks(self, operation_id: str, fence: int, start: int, stop: int) -> Iterator[bytes]:
        shelf = self._shelves.get(operation_id)
        for n in range(start, stop):
            yield shelf.chunks.get((fence, n), b"") if shelf else b""


class Hungry(MemoryStore):
    """Reads a whole body at once."""

    def read_chunks(self, operation_id: str, fence: int, start: int, stop: int) -> Iterator[bytes]:
        chunks = super().read_chunks(operation_id, fence, start, stop)
        return iter([bytes(bytearray(chunk)) for chunk in chunks])


class Late(MemoryStore):
    """Begins to watch only when it is asked again."""

    def watch(self, interval: float) -> Generator[str | None, None, None]:
        yield None
        for heard in super().watch(interval):
            yield heard or "something"


BROKEN: list[tuple[type[MemoryStore], str]] = [
    (Careless, "test_a_swap_of_another_version_changes_nothing"),
    (Careless, "test_a_swap_repeated_after_another_one_is_refused"),
    (Careless, "test_of_16_threads_that_swap_exactly_one_wins"),
    (Forgetful, "test_swapping_the_same_again_succeeds_as_the_answer_may_have_been_lost"),
    (Racing, "test_of_16_threads_that_swap_exactly_one_wins"),
    (Keeping, "test_a_swap_drops_the_request_with_its_body"),
    (Keeping, "test_a_repeated_swap_drops_what_is_still_there"),
    (Hasty, "test_a_refused_swap_drops_nothing"),
    (Hasty, "test_a_swap_of_what_is_gone_drops_nothing"),
    (Tardy, "test_who_sees_what_was_swapped_finds_no_request"),
    (Sweeping, "test_a_swap_drops_the_request_with_its_body"),
    (Clinging, "test_a_dropped_key_is_the_next_ones"),
    (Grudging, "test_a_purge_leaves_a_dropped_key_to_the_next_one"),
    (Grudging, "test_a_repeated_swap_leaves_a_dropped_key_to_the_next_one"),
    (Nostalgic, "test_who_holds_a_dedupe_key_can_be_asked"),
    (Nostalgic, "test_a_dropped_key_has_no_holder_until_the_next_one"),
    (Nostalgic, "test_a_dedupe_key_has_no_holder_after_the_purge"),
    (Overwriting, "test_an_id_can_be_taken_only_once"),
    (Overwriting, "test_of_8_threads_with_one_id_exactly_one_creates"),
    (Overwriting, "test_creating_again_what_has_changed_since_is_refused"),
    (Talkative, "test_an_error_names_no_whole_id"),
    (Counting, "test_changing_what_was_found_skips_nothing"),
    (Counting, "test_purging_what_was_found_skips_nothing"),
    (Greedy, "test_only_what_is_forgotten_and_expired_is_purged"),
    (Greedy, "test_a_purge_deletes_no_more_than_its_limit"),
    (Thorough, "test_a_dedupe_key_is_held_until_the_operation_is_purged"),
    (Hungry, "test_a_body_of_100_mb_is_read_in_little_memory"),
    (Hungry, "test_chunks_are_read_one_by_one"),
    (Late, "test_a_watch_that_hears_nothing_says_so"),
]


@pytest.mark.parametrize(
    ("broken", "name"), BROKEN, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_broken_store_does_not_pass(broken: type[MemoryStore], name: str) -> None:
    test: Any = getattr(StoreContract(), name)
    with pytest.raises((AssertionError, KeyError, StoreError, pytest.fail.Exception)):
        test(broken())


def test_a_chunk_that_is_taken_for_an_empty_one_does_not_pass() -> None:
    with pytest.raises(pytest.fail.Exception):
        StoreContract().test_a_missing_chunk_is_an_error(Lenient(), "a", 1, 1, 2)
