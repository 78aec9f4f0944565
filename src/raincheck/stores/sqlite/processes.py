"""Who lives: every process holds a lock on one byte, and the kernel lets go for the dead.

The byte's offset is random and is the process's name, the same in every file. This is known within
a millisecond after `kill -9`, and it is right where a heartbeat errs: while a process is stopped or
holds the GIL.

The byte is one of the database itself, far behind its end, so whoever has the database sees it, by
whichever name. There it is a lock of an open file description, where the system knows such locks:
SQLite's own closing of the file does not drop it, as it drops POSIX locks. A fork inherits it, and
lets go of it first of all.

What an earlier raincheck looks at, and holds, is a byte of a file beside the database. Two traps of
POSIX locks rule that. A process's own locks look free to itself, so own names are known from
`_NAMES`, whichever store object asks. Closing *any* descriptor of a file drops all locks the
process has on it, so no descriptor here is closed while its file is there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from raincheck.errors import StoreUnavailable
from raincheck.stores.sqlite.database import Database

FRESH = 3600.0  # seconds that a file beside the database may look unused
_FLOCK = "hhqqi0q"  # C's struct flock, with offsets of 64 bits
_SET, _GET = getattr(fcntl, "F_OFD_SETLK", None), getattr(fcntl, "F_OFD_GETLK", None)

_NOT_THERE = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # in this file system

File = tuple[int, int]  # device and inode


class _Held(NamedTuple):
    descriptor: int
    is_own: bool  # whether the lock is one of the open file description
    works: bool = True


_NAMES: dict[int, int] = {}  # by process: its offset
_HELD: dict[tuple[int, File], _Held] = {}  # by process and file
_REFUSED: dict[tuple[int, File], int] = {}  # descriptors without a lock, kept for the next try
_TAKING = threading.Lock()


def _let_go() -> None:
    """Let go of what a fork has inherited; it has no other locks yet."""
    global _TAKING
    _TAKING = threading.Lock()
    for held in _HELD.values():
        if held.is_own:
            os.close(held.descriptor)
    for descriptor in _REFUSED.values():
        os.close(descriptor)
    _HELD.clear()
    _REFUSED.clear()


os.register_at_fork(after_in_child=_let_go)


class ProcessLock:
    """This process's byte in one database.

    Args:
        database: That one; it is made at first use.
        beside: Says which files beside it have the byte, too; they are made at first use.
    """

    def __init__(self, database: Database, beside: Callable[[], list[Path]]) -> None:
        self._database = database
        self._beside = beside

    def name(self) -> str:
        """Return this process's name, taking its locks where it has none yet (a fork has none)."""
        self._hold()
        return f"{_own_offset():x}"

    def is_held(self, name: str) -> bool:
        """Tell whether the process of that name lives."""
        files = self._hold()
        try:
            offset = int(name, 16)
        except ValueError:
            return False
        if not 0 <= offset < 1 << 62:
            return False
        if offset == _own_offset():
            return True
        try:
            return any(_is_locked(held, offset) for held in files)
        except OSError as error:
            raise StoreUnavailable(f"it can't be seen who lives: {error}") from error

    def _hold(self) -> list[_Held]:
        held = [self._hold_byte(path) for path in self._beside()]
        if _SET is not None:
            held.append(self._hold_byte(self._database.path, is_own=True))
        return held

    def _hold_byte(self, path: Path, *, is_own: bool = False) -> _Held:
        try:
            known = os.stat(path)
        except OSError:
            return self._take(path, is_own)  # which says what is wrong, if anything is
        held = _HELD.get(_key(known)) or self._take(path, is_own)
        if not is_own and time.time() - known.st_mtime > FRESH:
            # It is never written, and what cleans temporary directories goes by its age.
            with suppress(OSError):  # somebody else's, who lives and does the same
                os.utime(held.descriptor)
        return held

    def _take(self, path: Path, is_own: bool) -> _Held:
        with _TAKING:
            _drop_deleted()
            try:
                self._database.make()
                if path.exists() and (held := _HELD.get(_key(os.stat(path)))) is not None:
                    return held  # another thread was first
                descriptor = _open(path)
                key = _key(os.fstat(descriptor))
                _REFUSED[key] = descriptor
                held = _lock(descriptor, _own_offset(), is_own)
                del _REFUSED[key]
                return _HELD.setdefault(key, held)
            except OSError as error:
                raise StoreUnavailable(f"can't take a lock in {path}: {error}") from error


def _key(status: os.stat_result) -> tuple[int, File]:
    return os.getpid(), (status.st_dev, status.st_ino)


def _own_offset() -> int:
    return _NAMES.setdefault(os.getpid(), secrets.randbits(62) | 1 << 61)


def _open(path: Path) -> int:
    if path.exists() and (kept := _REFUSED.pop(_key(os.stat(path)), None)) is not None:
        return kept
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _lock(descriptor: int, offset: int, is_own: bool) -> _Held:
    """Lock a byte."""
    if not is_own or _SET is None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        return _Held(descriptor, is_own)
    try:
        fcntl.fcntl(descriptor, _SET, struct.pack(_FLOCK, fcntl.F_WRLCK, 0, offset, 1, 0))
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        return _Held(descriptor, is_own, works=False)
    return _Held(descriptor, is_own)


def _is_locked(held: _Held, offset: int) -> bool:
    """Tell whether another process has locked a byte."""
    if not held.works:
        return False
    if held.is_own and _GET is not None:
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, 0, offset, 1, 0)
        kind: int = struct.unpack(_FLOCK, fcntl.fcntl(held.descriptor, _GET, wanted))[0]
        return kind != fcntl.F_UNLCK
    try:
        fcntl.lockf(held.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
    except (BlockingIOError, PermissionError):  # some systems say the latter
        return True
    fcntl.lockf(held.descriptor, fcntl.LOCK_UN, 1, offset)
    return False


def _drop_deleted() -> None:
    """Let go of files that are deleted: they would take up room for as long as they are open."""
    for key, held in list(_HELD.items()):
        with suppress(OSError):
            if key[0] == os.getpid() and not os.fstat(held.descriptor).st_nlink:
                _HELD.pop(key, None)
                os.close(held.descriptor)
