"""The SQLite store between processes: races, kills, forks, and who lives."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from raincheck.contracts import Filter
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing.material import HOUR, in_threads, make_operation, run_in_fork
from tests.support.processes import ROOT

pytestmark = pytest.mark.server

PATIENCE = 60.0  # seconds for a process to answer; a machine under load is slow
ignore_forks = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

PRELUDE = """
import os, sys, time
from dataclasses import replace
from raincheck.stores.sqlite import SQLiteStore
from tests.stores.scripts import make_operation
path, *arguments = sys.argv[1:]
store = SQLiteStore(path)
def say(*words): print(*words, flush=True)
"""


class Process:
    """Python code that runs in a process of its own, with a `store` on the same file."""

    def __init__(self, code: str, path: Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + code, str(path), *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def read(self) -> str:
        """Return the next line it says."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def go_on(self) -> None:
        """Send it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def rest(self) -> list[str]:
        """Wait for its end and return what else it said."""
        return self._process.communicate(timeout=PATIENCE)[0].split()

    def end(self) -> None:
        """Kill it if it still lives."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def running(code: str, path: Path, *arguments: str) -> Iterator[Process]:
    process = Process(code, path, *arguments)
    try:
        yield process
    finally:
        process.end()


def run(code: str, path: Path, *arguments: str) -> list[str]:
    """Run code in another process and return the words it said."""
    with running(code, path, *arguments) as process:
        return process.rest()


def ask(processes: list[Process]) -> list[str]:
    """Let all go on at once, and return what each says next."""
    for process in processes:
        process.go_on()
    return [process.read() for process in processes]


def knows(path: Path, *ids: str) -> list[str]:
    """Return those ids that another process finds, which closes the store properly."""
    code = "say(*[i for i in arguments if store.get(i)]); store.close()"
    return run(code, path, *ids)


def eventually(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(path)
    yield store
    store.close()


# --- races -------------------------------------------------------------------------------------

SWAP = """
for line in sys.stdin:
    old = store.get("a")
    say("ready")
    sys.stdin.readline()
    say(store.swap(old, replace(old, version=old.version + 1, worker=arguments[0])))
"""


def test_of_4_processes_that_swap_exactly_one_wins(path: Path, store: SQLiteStore) -> None:
    store.create(make_operation())
    processes = [Process(SWAP, path, f"{n}") for n in range(4)]
    try:
        for _ in range(20):
            assert ask(processes) == ["ready"] * 4
            said = ask(processes)
            assert sorted(said) == ["False", "False", "False", "True"]
            operation = store.get("a")
            assert operation is not None
            assert operation.worker == f"{said.index('True')}"
    finally:
        for process in processes:
            process.end()


def test_4_processes_that_create_lose_nothing(path: Path, store: SQLiteStore) -> None:
    code = "[store.create(make_operation(f'{arguments[0]}-{n}')) for n in range(250)]"
    in_threads(4, lambda i: run(code, path, f"{i}"))
    assert len(store.find(Filter(), limit=2000)[0]) == 1000


# --- kills -------------------------------------------------------------------------------------

WRITE = """
n = 0
while True:
    store.create(make_operation(f"{n}", route="x" * (n % 5000)))
    say(n)
    n += 1
"""


@pytest.mark.parametrize("acknowledged", [1, 50, 333])
def test_what_was_acknowledged_outlives_a_kill(path: Path, acknowledged: int) -> None:
    with running(WRITE, path) as process:
        said = [process.read() for _ in range(acknowledged)]
        process.send(signal.SIGKILL)
        said += process.rest()
    with closing(SQLiteStore(path)) as store:
        assert [id for id in said if store.get(id) is None] == []
        store.create(make_operation("next"))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# The store asks for the time when a chunk is in its file and its row is not yet committed.
DIE_IN_A_BODY = """
import signal
store = SQLiteStore(path, clock=lambda: os.kill(os.getpid(), signal.SIGKILL) or 0.0)
store.create(make_operation())
store.write_chunk("a", 1, 0, b"x" * 100_000)
"""


def test_a_body_file_of_a_killed_process_is_swept_after_an_hour(path: Path) -> None:
    run(DIE_IN_A_BODY, path)
    leftover = path.with_name(f"{path.name}-bodies") / "a.1"
    assert leftover.exists()
    later = 0.0
    with closing(SQLiteStore(path, clock=lambda: time.time() + later)) as store:
        store.purge(0.0)
        assert leftover.exists()
        later = 2 * HOUR
        store.purge(0.0)
        assert not leftover.exists()
        assert store.get("a") == make_operation()


# --- several opens of one file -----------------------------------------------------------------


def test_nothing_is_lost_when_the_last_other_process_closes(path: Path, store: SQLiteStore) -> None:
    store.create(make_operation("a"))
    assert knows(path, "a") == ["a"]
    store.create(make_operation("b"))
    assert knows(path, "a", "b") == ["a", "b"]


def test_a_second_store_in_a_process_takes_no_locks_from_the_first(
    path: Path, store: SQLiteStore
) -> None:
    store.create(make_operation("a"))
    with closing(SQLiteStore(path)) as second:
        second.create(make_operation("b"))
        assert knows(path, "a", "b") == ["a", "b"]
        store.create(make_operation("c"))
        second.create(make_operation("d"))
        assert knows(path, "a", "b", "c", "d") == ["a", "b", "c", "d"]


# --- forks -------------------------------------------------------------------------------------


@ignore_forks
def test_a_fork_may_use_the_store_that_its_parents_threads_use(
    path: Path, store: SQLiteStore
) -> None:
    own = store.incarnation()
    done = threading.Event()

    def work(i: int) -> bool:
        if i == 0:
            try:
                return all(run_in_fork(lambda n=n: child(f"child {n}")) for n in range(5))  # type: ignore[misc]
            finally:
                done.set()
        n = 0
        while not done.is_set():
            store.create(make_operation(f"{i} {n}"))
            assert store.get(f"{i} {n}") is not None
            store.glance(f"{i} {n}")
            n += 1
        return True

    def child(id: str) -> None:
        store.create(make_operation(id, worker=store.incarnation()))
        assert store.incarnation() != own
        assert store.lives(own)

    assert in_threads(4, work) == [True] * 4
    for n in range(5):
        made = store.get(f"child {n}")
        assert made is not None
        assert made.worker is not None
        assert not store.lives(made.worker)


@ignore_forks
def test_a_parents_lock_outlives_its_fork(path: Path, store: SQLiteStore) -> None:
    own = store.incarnation()
    assert run_in_fork(store.incarnation)
    assert run_in_fork(store.close)
    assert run("say(store.lives(arguments[0]))", path, own) == ["True"]


@ignore_forks
def test_what_a_fork_writes_outlives_its_parents_close(path: Path, store: SQLiteStore) -> None:
    store.create(make_operation("a"))
    to_child, to_parent = os.pipe(), os.pipe()

    def child() -> None:
        store.create(make_operation("b"))
        os.write(to_parent[1], b"x")
        os.read(to_child[0], 1)
        store.create(make_operation("c"))

    def parent() -> None:
        os.read(to_parent[0], 1)
        store.close()
        assert knows(path, "a", "b") == ["a", "b"]
        os.write(to_child[1], b"x")

    thread = threading.Thread(target=parent)
    thread.start()
    assert run_in_fork(child, timeout=PATIENCE)
    thread.join()
    for end in (*to_child, *to_parent):
        os.close(end)
    assert knows(path, "a", "b", "c") == ["a", "b", "c"]


# --- who lives ---------------------------------------------------------------------------------

LIVE = "say(store.incarnation()); sys.stdin.readline()"


def test_another_process_lives_until_it_is_killed(path: Path, store: SQLiteStore) -> None:
    with running(LIVE, path) as process:
        name = process.read()
        assert name != store.incarnation()
        assert store.lives(name)
        process.send(signal.SIGKILL)
        assert eventually(lambda: not store.lives(name), timeout=PATIENCE)


def test_a_stopped_process_lives(path: Path, store: SQLiteStore) -> None:
    with running(LIVE, path) as process:
        name = process.read()
        process.send(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert store.lives(name)
        process.send(signal.SIGCONT)
        process.go_on()
        process.rest()
        assert not store.lives(name)


def test_a_process_lives_though_its_store_is_closed(path: Path, store: SQLiteStore) -> None:
    with running("say(store.incarnation()); store.close(); sys.stdin.readline()", path) as process:
        name = process.read()
        assert store.lives(name)


def test_asking_takes_no_life(path: Path, store: SQLiteStore) -> None:
    with running(LIVE, path) as process:
        names = process.read(), store.incarnation()
        for _ in range(3):
            assert run("say(*map(store.lives, arguments))", path, *names) == ["True", "True"]
            assert all(store.lives(name) for name in names)


def test_what_tells_who_lives_never_looks_unused(path: Path, store: SQLiteStore) -> None:
    store.incarnation()
    locks = path.with_name(f"{path.name}-processes")
    os.utime(locks, (0, 0))
    store.incarnation()
    assert time.time() - locks.stat().st_mtime < 60


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_who_uses_another_name_of_the_file_sees_who_lives(
    path: Path, store: SQLiteStore, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    own, other = store.incarnation(), tmp_path / "elsewhere" / "another.db"
    other.parent.mkdir()
    link(path, other)
    assert run("say(store.lives(arguments[0]))", other, own) == ["True"]
    with running(LIVE, other) as process:
        name = process.read()
        assert store.lives(name)
        process.send(signal.SIGKILL)
        assert eventually(lambda: not store.lives(name), timeout=PATIENCE)


def test_who_uses_a_link_to_the_file_finds_what_it_keeps(
    path: Path, store: SQLiteStore, tmp_path: Path
) -> None:
    store.create(make_operation())
    store.write_chunk("a", 1, 0, b"x" * 100_000)
    other = tmp_path / "elsewhere.db"
    other.symlink_to(path)
    code = """
say(len(next(store.read_chunks("a", 1, 0, 1))))
store.write_chunk("a", 1, 1, b"y" * 100_000)
"""
    assert run(code, other) == ["100000"]
    assert list(store.read_chunks("a", 1, 1, 2)) == [b"y" * 100_000]


def test_what_lies_beside_a_link_since_an_earlier_version_is_read_and_goes(
    path: Path, store: SQLiteStore, tmp_path: Path
) -> None:
    store.create(make_operation())
    store.write_chunk("a", 1, 0, b"x" * 100_000)
    other = tmp_path / "elsewhere.db"
    other.symlink_to(path)
    bodies = path.with_name(f"{path.name}-bodies")
    bodies = bodies.rename(other.with_name(f"{other.name}-bodies"))
    with closing(SQLiteStore(other)) as linked:
        assert list(linked.read_chunks("a", 1, 0, 1)) == [b"x" * 100_000]
        linked.discard("a")
        assert list(bodies.iterdir()) == []


def test_a_process_lives_though_the_file_that_tells_so_is_deleted(
    path: Path, store: SQLiteStore
) -> None:
    with running(LIVE, path) as process:
        name, own = process.read(), store.incarnation()
        path.with_name(f"{path.name}-processes").unlink()
        assert run("say(*map(store.lives, arguments))", path, name, own) == ["True", "True"]
        assert store.lives(name)
        assert store.incarnation() == own


# What an earlier raincheck does to live, and to see who else does.
EARLIER = """
import fcntl
file = open(path + "-processes", "r+b")
def is_held(offset):
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
    except BlockingIOError:
        return True
say(is_held(int(arguments[0], 16)))
fcntl.lockf(file, fcntl.LOCK_EX, 1, 4711)
say("here")
sys.stdin.readline()
"""


def test_processes_of_an_earlier_version_and_of_this_one_see_each_other(
    path: Path, store: SQLiteStore
) -> None:
    with running(EARLIER, path, store.incarnation()) as process:
        assert (process.read(), process.read()) == ("True", "here")
        assert store.lives(f"{4711:x}")
        process.send(signal.SIGKILL)
        assert eventually(lambda: not store.lives(f"{4711:x}"), timeout=PATIENCE)


REFUSING = """
import fcntl, struct
from raincheck.stores.sqlite import processes

def descriptors():
    return sum(os.path.samestat(os.stat(f"/proc/self/fd/{n}"), os.stat(arguments[0]))
               for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}"))

store.get("a")
other = os.open(arguments[0], os.O_RDWR)
wanted = (fcntl.F_WRLCK, 0, processes._own_offset(), 1, 0)
fcntl.fcntl(other, fcntl.F_OFD_SETLK, struct.pack("hhqqi0q", *wanted))
before = descriptors()
for _ in range(5):
    try:
        store.incarnation()
    except Exception as error:
        say(type(error).__name__)
say(descriptors() - before)
fcntl.fcntl(other, fcntl.F_OFD_SETLK, struct.pack("hhqqi0q", fcntl.F_UNLCK, *wanted[1:]))
say(store.incarnation() == f"{wanted[2]:x}")
say(descriptors() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_a_lock_that_is_refused_again_and_again_keeps_one_descriptor(path: Path) -> None:
    # Never none: SQLite's own locks would go with the first that is closed.
    refused = ["StoreUnavailable"] * 5
    assert run(REFUSING, path, str(path)) == [*refused, "1", "True", "1"]


@ignore_forks
def test_a_fork_keeps_no_parent_alive(path: Path, store: SQLiteStore) -> None:
    code = """
say(store.incarnation())
if os.fork() == 0:
    say(store.lives(arguments[0]))
    sys.stdin.readline()
    os._exit(0)
sys.stdin.readline()
"""
    with running(code, path, store.incarnation()) as process:
        name = process.read()
        assert process.read() == "True"
        process.send(signal.SIGKILL)
        assert eventually(lambda: not store.lives(name), timeout=PATIENCE)
