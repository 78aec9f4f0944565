"""Who lives: every process holds a lock on one byte of a file, and the kernel lets go for the dead.

The byte's offset is random and is the process's name. This is known within a millisecond after
`kill -9`, and it is right where a heartbeat errs: while a process is stopped or holds the GIL.

Two traps of POSIX locks rule this module. A process's own locks look free to itself, so own names
are known from `_HELD`, whichever store object asks. Closing *any* descriptor of a file drops all
locks the process has on it, so no descriptor here is ever closed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from raincheck.errors import StoreUnavailable

FRESH = 3600.0  # seconds that the file may look unused
# (pid, device, inode) of the file: (descriptor, offset)
_HELD: dict[tuple[int, int, int], tuple[int, int]] = {}
os.register_at_fork(after_in_child=_HELD.clear)


class ProcessLock:
    """This process's byte in one file.

    Args:
        path: Says which file; it is made at first use.
    """

    def __init__(self, path: Callable[[], Path]) -> None:
        self._path = path

    def name(self) -> str:
        """Return this process's name, taking its lock if it has none yet (a fork has none)."""
        return f"{self._hold()[1]:x}"

    def is_held(self, name: str) -> bool:
        """Tell whether the process of that name lives."""
        descriptor, own = self._hold()
        try:
            offset = int(name, 16)
        except ValueError:
            return False
        if not 0 <= offset < 1 << 62:
            return False
        if offset == own:
            return True
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except BlockingIOError:
            return True
        except PermissionError:  # what some systems say instead
            return True
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset)
        return False

    def _hold(self) -> tuple[int, int]:
        try:
            known = os.stat(self._path())
        except OSError:
            return self._take()  # which says what is wrong, if anything is
        held = _HELD.get((os.getpid(), known.st_dev, known.st_ino)) or self._take()
        if time.time() - known.st_mtime > FRESH:
            # It is never written, and what cleans temporary directories goes by its age.
            with suppress(OSError):  # somebody else's, who lives and does the same
                os.utime(held[0])
        return held

    def _take(self) -> tuple[int, int]:
        path = self._path()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            status = os.fstat(descriptor)
            offset = secrets.randbits(62)
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except OSError as error:
            raise StoreUnavailable(f"can't take a lock in {path}: {error}") from error
        # Two threads may get here at once; the loser keeps its lock, unused, and uses this one.
        return _HELD.setdefault((os.getpid(), status.st_dev, status.st_ino), (descriptor, offset))
