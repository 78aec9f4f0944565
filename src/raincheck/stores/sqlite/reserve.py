"""Room on the disk that is kept for deleting, as even to delete takes some for a while.

A file of that size lies beside the database. Who deletes and finds the disk full gives it up; until
it is there again, nobody adds anything.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

LARGEST = 2 * 1024 * 1024  # bytes: with a log of half of it, writers are held up more often
PART = 8  # of a small disk: one part in so many
PAGE = 4096  # bytes
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Reserve:
    """The reserve of one database.

    Args:
        path: Says where it is; asked once.
    """

    def __init__(self, path: Callable[[], Path]) -> None:
        self._path = cache(path)
        self._size: int | None = None

    @property
    def size(self) -> int:
        """How many bytes it has.

        Raises:
            OSError: Nothing is known of the disk.
        """
        if self._size is None:
            disk = os.statvfs(self._path().parent)
            total = disk.f_frsize * disk.f_blocks
            part = total // PART // PAGE * PAGE
            self._size = min(LARGEST, max(part, PAGE)) if total else LARGEST
        return self._size

    def keep(self, spare: int = 0) -> bool:
        """Have it there; False if there is no room for it, and as much more.

        Args:
            spare: Bytes that the database has freed within itself, as a file never gets smaller.
        """
        path = self._path()
        with suppress(OSError):
            if os.stat(path).st_size >= self.size:
                return True
        try:
            disk = os.statvfs(path.parent)
            # Twice: what somebody has given up to delete is not to be taken from him.
            least = self.size + max(0, self.size - spare)
            if disk.f_blocks and disk.f_frsize * disk.f_bavail < least:
                return False
            self._make(path)
        except OSError as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return error.errno not in _NO_ROOM  # a disk that knows no reserves does without
        return True

    def give_up(self) -> None:
        """Have its room be free."""
        with suppress(OSError):
            self._path().unlink(missing_ok=True)

    def _make(self, path: Path) -> None:
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):  # macOS has none
                os.posix_fallocate(descriptor, 0, self.size)
            else:
                os.write(descriptor, bytes(self.size))
        finally:
            os.close(descriptor)
