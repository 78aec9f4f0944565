"""A place for objects, through obstore: clients by process, what may go wrong, and directories.

The engine below obstore is one per process and does not survive a fork. A process that was forked
after its parent had used it would wait for ever, so it is told at once instead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, InvalidPathError, NotSupportedError
from obstore.store import LocalStore, from_url

from raincheck.engine.per_process import PerProcess
from raincheck.errors import ConfigurationError, StoreError, StoreUnavailable
from raincheck.stores.patience import SLACK, Patience

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore

    _Page = Sequence[obstore.ObjectMeta]
    _Pages = Iterator[_Page]

TIMEOUT = timedelta(seconds=5)  # for one request
CONNECT_TIMEOUT = timedelta(seconds=2)
_PAGE = 1000  # objects; what S3 gives at once
_PART = 256 * 1024  # bytes of an object
# obstore forgets what the environment says of this as soon as it is given timeouts.
_ALLOW_HTTP = ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP")
_STATUS = re.compile(r"status code: (\d{3} [A-Za-z -]+)")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")

_T = TypeVar("_T")
_engine_of: int | None = None  # the process that has used obstore


def is_usable() -> bool:
    """Tell whether this process can use objects: none of its parents did before they forked."""
    return _engine_of in (None, os.getpid())


class Entry(NamedTuple):
    """One object: its key, and when it was written by the storage's clock (epoch seconds)."""

    key: str
    written: float


def open_storage(url: str) -> Storage:
    """Return the storage that a URL names; nothing is opened before its first use.

    Raises:
        ConfigurationError: The URL names none, or its settings in the environment are wrong.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _not_a_storage(url, "it is no URL") from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise _not_a_storage(url, "credentials and settings come from the environment")
    if parts.scheme == "file":
        return Directory(_directory(url, parts))
    try:
        _connect(url)
    except (BaseError, ValueError) as error:
        # Not the error's text nor the error: they show the URL and the settings.
        reason = f"{type(error).__name__}; are its settings in the environment?"
        raise _not_a_storage(url, reason) from None
    kind = InMemory if parts.scheme == "memory" else Storage
    return kind(lambda: _connect(url))


def _directory(url: str, parts: SplitResult) -> Path:
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/") or not path.strip("/") or "\0" in path:
        raise _not_a_storage(url, "a directory is file:///and/its/path")
    return Path(path)


def _connect(url: str) -> ObjectStore:
    options: ClientConfig = {"timeout": TIMEOUT, "connect_timeout": CONNECT_TIMEOUT}
    if any(os.environ.get(name, "").lower() in ("1", "true", "yes") for name in _ALLOW_HTTP):
        options["allow_http"] = True
    # No retries here: `Patience` has them, and knows when to stop asking.
    return from_url(url, client_options=options, retry_config={"max_retries": 0})


def _not_a_storage(url: str, reason: str) -> ConfigurationError:
    scheme = f"{url.partition(':')[0]}:…" if "://" in url else "this"
    return ConfigurationError(
        f"{scheme} is not the URL of an object storage ({reason}); known: s3://bucket/prefix, "
        "gs://bucket/prefix, az://container/prefix, file:///directory, memory:///"
    )


class Storage:
    """Objects in one place.

    Every method raises `StoreUnavailable` where the storage fails, after about ten seconds at most.

    Args:
        connect: Returns a client.
    """

    def __init__(self, connect: Callable[[], ObjectStore]) -> None:
        self._client = PerProcess(
            lambda: (_translate(connect), Patience(TIMEOUT.total_seconds() + SLACK))
        )

    def put(self, key: str, data: bytes) -> None:
        """Write an object: all of it, or nothing."""
        self._call(lambda store: obstore.put(store, key, data, use_multipart=False))

    def get(self, key: str) -> bytes | None:
        """Return an object; None if there is none."""

        def work(store: ObjectStore) -> bytes | None:
            try:
                # Not whole: each thread of obstore would keep as much memory as it had to hold.
                return b"".join(obstore.get(store, key).stream(min_chunk_size=_PART))
            except FileNotFoundError:
                return None

        return self._call(work)

    def list(self, path: str) -> Iterator[Sequence[Entry]]:
        """Yield the objects below a path in pages."""
        pages, page = self._call(lambda store: self._first_page(store, path))
        while page:
            yield [Entry(meta["path"], meta["last_modified"].timestamp()) for meta in page]
            page = _translate(lambda: next(pages, ()))

    @staticmethod
    def _first_page(store: ObjectStore, path: str) -> tuple[_Pages, _Page]:
        pages: _Pages = obstore.list(store, path, chunk_size=_PAGE)
        return pages, next(pages, ())

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are gone already are fine."""
        if keys:
            self._call(lambda store: _delete(store, keys))

    def close(self) -> None:
        """Let go of this process's client."""
        self._client.take()

    def _call(self, work: Callable[[ObjectStore], _T]) -> _T:
        global _engine_of
        if not is_usable():
            raise StoreUnavailable(
                "objects can't be used in a process that was forked from one that had used them: "
                "fork before the first use"
            )
        _engine_of = os.getpid()
        store, patience = self._client.get()
        return patience.call(lambda: _translate(lambda: work(store)))


class InMemory(Storage):
    """Objects in this process's memory."""

    def close(self) -> None:
        """Keep everything: it would be lost otherwise."""


class Directory(Storage):
    """Objects in a directory; what is made in it can be entered by its owner only.

    Deleting is done here, as obstore does not see the unfinished files of killed processes, and
    leaves empty directories.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(lambda: LocalStore(path, mkdir=True))
        self._path = path

    def put(self, key: str, data: bytes) -> None:
        private = self._path / key.partition("/")[0]
        _translate(lambda: private.mkdir(mode=0o700, parents=True, exist_ok=True))
        super().put(key, data)

    def get(self, key: str) -> bytes | None:
        data = super().get(key)
        namespace = self._path / key.partition("/")[0]
        if data is None and not _translate(namespace.is_dir):
            raise StoreUnavailable(f"the directory {self._path} has lost its objects: mounted?")
        return data

    def list(self, path: str) -> Iterator[Sequence[Entry]]:
        for directory, _, names in os.walk(self._path / path):
            page = []
            for file in (Path(directory, name) for name in names):
                with suppress(FileNotFoundError):
                    key = file.relative_to(self._path).as_posix()
                    page.append(Entry(key, file.stat().st_mtime))
            yield page

    def delete(self, keys: Iterable[str]) -> None:
        _translate(lambda: [self._unlink(self._path / key) for key in keys])

    @staticmethod
    def _unlink(path: Path) -> None:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # it is not empty yet, or gone already
            path.parent.rmdir()


def _delete(store: ObjectStore, keys: Sequence[str]) -> None:
    try:
        obstore.delete(store, keys)
    except FileNotFoundError:  # somebody else was faster; it has stopped there
        for key in keys:
            with suppress(FileNotFoundError):
                obstore.delete(store, key)


def _translate(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except (InvalidPathError, NotSupportedError) as error:
        raise StoreError(f"the object storage can't do this: {_describe(error)}") from error
    except (BaseError, OSError, ValueError) as error:
        # Refusals, too: somebody may be about to correct a policy or to renew a credential.
        raise StoreUnavailable(f"the object storage failed: {_describe(error)}") from error


def _describe(error: Exception) -> str:
    """Say what happened without obstore's own text, which shows keys, URLs and headers."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if status := _STATUS.search(str(error)):
        code = _CODE.search(str(error))
        return f"it answered {status[1].strip()}" + (f" ({code[1]})" if code else "")
    if number := _OS_ERROR.search(str(error)):
        return os.strerror(int(number[1]))
    return "no answer" if "HTTP error" in str(error) else type(error).__name__
