"""Files for large chunks: one per operation and fence, only ever appended to."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

from raincheck.errors import BodyMissing, StoreUnavailable

BodyFile = tuple[str, int]  # operation id, fence


class BodyFiles:
    """The files in one directory.

    Args:
        directories: Says which directory, made at the first write; then others where files may
            lie.
        durable: Whether a write waits until the disk has it.
    """

    def __init__(self, directories: Callable[[], list[Path]], *, durable: bool = False) -> None:
        self._directories = directories
        self._durable = durable

    def append(self, operation_id: str, fence: int, data: bytes) -> int:
        """Write `data` at the end of the file and return where it begins.

        Raises:
            StoreUnavailable: Not all of it could be written; what was is never referred to.
        """
        path = self._paths(operation_id, fence)[0]
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)  # several threads may write one body
                return self._write(descriptor, data)
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a fork may have inherited it
                os.close(descriptor)
        except OSError as error:
            raise StoreUnavailable(f"can't write the body file {path}: {error}") from error

    def _write(self, descriptor: int, data: bytes) -> int:
        start = os.fstat(descriptor).st_size
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            os.ftruncate(descriptor, start)  # or every retry takes more of a full disk
            raise
        if self._durable:
            os.fsync(descriptor)
        return start

    @contextmanager
    def reader(self, operation_id: str, fence: int) -> Iterator[Callable[[int, int], bytes]]:
        """Give a function (start, size) → bytes that opens the file at its first use.

        Once open, the file stays readable when somebody purges it.
        """
        descriptor: int | None = None

        def read(start: int, size: int) -> bytes:
            nonlocal descriptor
            try:
                if descriptor is None:
                    descriptor = self._open(operation_id, fence)
                data = os.pread(descriptor, size, start)
            except FileNotFoundError as error:
                raise BodyMissing(operation_id, fence) from error
            except OSError as error:
                raise StoreUnavailable(f"can't read a body file: {error}") from error
            if len(data) != size:
                raise BodyMissing(operation_id, fence)
            return data

        try:
            yield read
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _open(self, operation_id: str, fence: int) -> int:
        first, *others = self._paths(operation_id, fence)
        path = next((path for path in others if path.exists()), first) if others else first
        return os.open(path, os.O_RDONLY)

    def remove(self, files: Iterable[BodyFile]) -> None:
        """Delete files; those that are gone already are fine, others are left to be swept."""
        for operation_id, fence in files:
            for path in self._paths(operation_id, fence):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def older_than(self, moment: float) -> Iterator[BodyFile]:
        """Yield the files that were last written at or before `moment`, epoch seconds."""
        for directory in self._directories():
            with suppress(OSError), os.scandir(directory) as entries:
                for entry in entries:
                    name, _, fence = entry.name.rpartition(".")
                    with suppress(OSError):
                        if fence.isdigit() and entry.stat().st_mtime <= moment:
                            yield unquote(name), int(fence)

    def _paths(self, operation_id: str, fence: int) -> list[Path]:
        name = f"{quote(operation_id, safe='')}.{fence}"
        return [directory / name for directory in self._directories()]
