"""A store in a folder, for the processes of one machine: a file for each key, one lock for all."""

import fcntl
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path

from raincheck.errors import StoreUnavailable
from raincheck.stores.mapping import MappingStore


class Files(MutableMapping[str, bytes]):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, key: str) -> bytes:
        try:
            return (self.folder / key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None

    def __setitem__(self, key: str, value: bytes) -> None:
        new = self.folder / "new"
        new.write_bytes(value)
        new.replace(self.folder / key)  # whole, or not at all

    def __delitem__(self, key: str) -> None:
        (self.folder / key).unlink()

    def __iter__(self) -> Iterator[str]:
        return (path.name for path in self.folder.iterdir() if "." in path.name)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class FolderStore(MappingStore):
    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self.folder = folder  # opened by nobody yet

    @contextmanager
    def transaction(self) -> Iterator[Files]:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(self.folder / "lock", "w") as lock:
                for _ in range(1000):
                    with suppress(BlockingIOError):
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    time.sleep(0.005)
                else:
                    raise TimeoutError("locked for five seconds")
                try:
                    yield Files(self.folder)
                finally:
                    fcntl.flock(lock, fcntl.LOCK_UN)  # or a fork that has inherited it keeps it
        except OSError as error:
            raise StoreUnavailable(f"the store in {self.folder} failed: {error}") from error
