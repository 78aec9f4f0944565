"""The request's side of an exchange: what the handler receives, and what is kept of it.

Messages go straight from the server to the handler. Before a 202 leaves, what the handler has not
read of the body is read ahead for it; where the request may have to be run again, what the handler
reads is kept as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from raincheck.asgi.arrival import Arrival
from raincheck.asgi.gateway import Gateway
from raincheck.asgi.translation import has_body
from raincheck.asgi.upload import Upload
from raincheck.engine.start import Captured
from raincheck.handler import outside

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope

    from raincheck.asgi.handler_end import HandlerEnd
    from raincheck.asgi.loops import Loop, Task
    from raincheck.asgi.stored_upload import StoredUpload


class Receiving(Arrival):
    """Receives for a handler; the rest of the exchange is with its subclass."""

    # As those of the subclass: to set them on each instance would cost every request.
    in_receive = 0
    body_is_complete = False
    client_is_gone = False
    kept: Upload | None = None
    _reader: Task | None = None
    _is_unkept = False

    gateway: Gateway
    loop: Loop
    server_receive: Receive
    upload: Upload | StoredUpload | None
    capture: Any
    deferral: Any

    def _needs_no_202(self) -> bool:
        raise NotImplementedError

    def _wake(self) -> None:
        raise NotImplementedError

    async def _pause(self) -> None:
        raise NotImplementedError

    def _end(self) -> HandlerEnd:
        raise NotImplementedError

    # --- for the server's task -----------------------------------------------------------------

    async def _read_ahead(self) -> bool:
        """Read what the handler has not read of the body: after the 202 it would be lost.

        Returns:
            False if it is too large, the client has left, or the application has answered.
        """
        upload: Upload | None = None
        while not self.body_is_complete and has_body(self.arrived):
            if upload is None:
                upload = self.upload = self._new_upload()
            if self._needs_no_202() or self.client_is_gone or upload.is_too_large:
                return False
            # While the handler is reading, the message is its own.
            if not self.in_receive and not upload.is_being_read:
                upload.begin_reading()  # now: the application may run before the new task does
                self._reader = self.loop.spawn(self._read_one(upload))
            await self._pause()
        return not (self.client_is_gone or (upload is not None and upload.is_too_large))

    async def _read_one(self, upload: Upload) -> None:
        # In a task of its own: the application may be over before the message comes.
        try:
            message = await self.server_receive()
            await upload.put(message)
            if message.get("body"):
                await self._keep(message)
            self._note(message)
        except Exception:
            self.client_is_gone = True  # the handler asks the server itself, and gets to see why
        finally:
            upload.end_reading()
            self._wake()

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.cancel()

    async def _close_upload(self) -> None:
        for upload in (self.upload, self.kept):
            if upload is not None:
                await upload.close()

    def askable(self) -> Iterator[Scope]:
        """Yield what the application can be asked about whose request it is."""
        return filter(self.gateway.is_askable, super().askable())

    def body(self) -> Iterable[bytes] | None:
        """Return the body that was received; None if it was not kept."""
        if self._is_unkept:
            return None
        return self.kept.pieces() if self.kept is not None else ()

    def capture_request(self) -> Captured | None:
        """Return what the request can be run again from; None if its body was not kept."""
        body = self.body()
        return None if body is None else Captured(self.describe(), body)

    async def _keep(self, message: Message) -> None:
        """Keep what the handler reads of the body, where the request may have to be run again."""
        if self.body_is_complete:  # what is given twice came once
            return
        if self.kept is None:
            may = self.gateway.engine.may_need_again(self.arrived["method"], self.route)
            self._is_unkept = self._is_unkept or not may
            if self._is_unkept:
                return
            self.kept = self._new_upload()
        await self.kept.put(message)
        if self.kept.is_too_large:
            self._is_unkept = True
            await self.kept.close()
            self.kept = None

    def _new_upload(self) -> Upload:
        engine = self.gateway.engine
        return Upload(engine.limits.request_body, engine.admission.spooled)

    # --- for the application's task ------------------------------------------------------------

    async def receive(self) -> Message:
        """Pass a message of the server on; after the 202 there is no disconnect."""
        if self.deferral is not None:  # else there is neither
            if self.upload is not None and (ahead := await self.upload.take()) is not None:
                return ahead
            if self.capture is not None:
                return await self._receive_after_202()
        self.in_receive += 1
        try:
            message = await outside(self.server_receive)
            if message.get("body"):
                await self._keep(message)  # before anybody else may receive
        finally:
            self.in_receive -= 1
            if self.upload is not None:
                self._wake()
        if message["type"] == "http.disconnect" and self._is_deferred:
            return await self._receive_after_202()  # it was deferred while it waited here
        self._note(message)
        return message

    @property
    def _is_deferred(self) -> bool:
        return self.capture is not None

    def _note(self, message: Message) -> None:
        if message["type"] == "http.disconnect":
            self.client_is_gone = True
        elif not message.get("more_body", False):
            self.body_is_complete = True

    async def _receive_after_202(self) -> Message:
        if not self.body_is_complete:  # none was announced, so none was read ahead
            self.body_is_complete = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._end().wait_for_disconnect()
        return {"type": "http.disconnect"}
