"""Captured requests in the store: what an operation is to be run from, in this process or another.

A body is kept in chunks under fence 0, before the record is created; in memory there is never more
of it than a chunk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from io import BytesIO
from typing import IO

from raincheck.engine.encryption import PLAIN, Sealing, is_sealed
from raincheck.engine.start import Captured
from raincheck.errors import BodyMissing, StoreError, StoreUnavailable
from raincheck.http.messages import Request
from raincheck.operations.operation import REQUEST_FENCE, Operation
from raincheck.operations.store import Fetching, Store

IN_MEMORY = 1024 * 1024  # bytes; a larger body is read back into a temporary file


class CapturedRequests:
    """The captured requests of a store.

    Args:
        chunk_size: Bytes of a body's chunks, before they are sealed.
        sealing: How the store is to have them.
    """

    def __init__(self, store: Store, chunk_size: int, sealing: Sealing = PLAIN) -> None:
        self._store = store
        self._fetching = store if isinstance(store, Fetching) else None
        self._chunk_size = chunk_size
        self._sealing = sealing

    def keep(
        self, operation_id: str, captured: Captured, written: Callable[[], None] = lambda: None
    ) -> Request:
        """Write the body of a request, and return what `create` is to be given.

        Args:
            written: Called after each chunk.

        Raises:
            StoreError: It could not be written.
        """
        length = 0
        for n, chunk in enumerate(_chunks(captured.body, self._chunk_size)):
            sealed = self._sealing.seal_chunk(chunk, operation_id, n)
            self._store.write_chunk(operation_id, REQUEST_FENCE, n, sealed)
            written()
            length += len(chunk)
        request = replace(captured.request, length=length, chunk_size=self._chunk_size)
        return self._sealing.seal(request, operation_id)

    def fetch(self, operation_id: str) -> tuple[Operation, Request | None] | None:
        """Return an operation as it is now, and for `read` its request if that is at hand."""
        if self._fetching is not None:
            try:
                return self._fetching.fetch(operation_id)
            except StoreUnavailable:
                raise
            except StoreError:  # of which of the two, those will tell who can do without the other
                pass
        operation = self._store.get(operation_id)
        return None if operation is None else (operation, None)

    def read(
        self, operation: Operation, stored: Request | None = None
    ) -> tuple[Request, IO[bytes]] | None:
        """Return the request as it came and its body from the beginning; the caller closes that.

        Args:
            stored: The request as the store has it; default: it is asked for.

        Returns:
            None if the store has no request, or no longer.

        Raises:
            BodyMissing: Not all of the body is there.
            StoreError: It can't be read; `WrongKey` if for lack of a key.
        """
        stored = stored or self._store.read_request(operation.id)
        if stored is None:
            return None
        # One that is not sealed is from before there was a key.
        sealing = self._sealing if is_sealed(stored) else PLAIN
        request = sealing.open(stored, operation.id)
        return request, self._body(operation.id, request, sealing)

    def _body(self, operation_id: str, request: Request, sealing: Sealing) -> IO[bytes]:
        # No file at all where that is known before: who reads it need not fear to block.
        is_small = request.length <= IN_MEMORY
        body = BytesIO() if is_small else tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        try:
            for chunk in self._opened(operation_id, request, sealing):
                body.write(chunk)
            if body.tell() != request.length:
                raise BodyMissing(operation_id, REQUEST_FENCE)
            body.seek(0)
        except OSError as error:
            body.close()
            raise StoreUnavailable(f"a request can't be read into a file: {error}") from error
        except BaseException:
            body.close()
            raise
        return body

    def _opened(self, operation_id: str, request: Request, sealing: Sealing) -> Iterator[bytes]:
        count = -(-request.length // max(1, request.chunk_size))
        chunks = self._store.read_chunks(operation_id, REQUEST_FENCE, 0, count)
        for n, chunk in enumerate(chunks):
            yield sealing.open_chunk(chunk, operation_id, n)


def _chunks(body: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield what the pieces of a body hold in chunks of `size` bytes, the last one shorter."""
    gathered = bytearray()
    for piece in body:
        rest = memoryview(piece)
        while rest:
            taken = size - len(gathered)
            gathered += rest[:taken]
            rest = rest[taken:]
            if len(gathered) == size:
                yield bytes(gathered)
                gathered.clear()
    if gathered:
        yield bytes(gathered)
