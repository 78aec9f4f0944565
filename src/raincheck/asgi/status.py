"""The status monitor's routes: a poll comes in, and the response goes out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from raincheck.asgi.event_streams import EventStream
from raincheck.asgi.gathering import Gatherer
from raincheck.asgi.long_polls import LongPoll
from raincheck.asgi.loops import Loop
from raincheck.asgi.translation import send_response, send_start, send_trailers, to_request
from raincheck.errors import BodyMissing, StoreError, is_passing
from raincheck.http.messages import Response, StoredBody
from raincheck.monitor.endpoint import StatusMonitor, unreadable
from raincheck.monitor.links import Resource, fill
from raincheck.monitor.poll import Answer, Poll

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

logger = logging.getLogger("raincheck")


class PollRoute:
    """What instruments look for in the scope of a request, to name it without its operation's id.

    Attributes:
        path: The template of the path, as Starlette writes it; also `path_format` and `name`.
    """

    def __init__(self, prefix: str, resource: Resource) -> None:
        self.path = self.path_format = f"{prefix}/{{operation_id}}{resource.value}"
        self.name = f"raincheck-operation{resource.value}"


class Principal:
    """Whose a request is: asked for once, and only if that matters.

    Args:
        owner: Names the principal that a request belongs to; may block.
    """

    __slots__ = ("_known", "_owner", "_scope")

    def __init__(self, owner: Callable[[Scope], str | None], scope: Scope) -> None:
        self._owner = owner
        self._scope = scope
        self._known: tuple[str | None] | None = None

    def __call__(self) -> str | None:
        """Return its name; None: nobody's."""
        if self._known is None:
            self._known = (self._owner(self._scope),)
        return self._known[0]


class Status:
    """Answers polls.

    Args:
        owner: Names the principal that a request belongs to; may block.
        loop: Returns the running event loop.
    """

    def __init__(
        self,
        monitor: StatusMonitor,
        owner: Callable[[Scope], str | None],
        loop: Callable[[], Loop],
    ) -> None:
        self.monitor = monitor
        self._owner = owner
        self._loop = loop
        self._gatherer: Gatherer | None = None

    async def show(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        operation_id: str,
        resource: Resource,
        template: str | None = None,
        root_path: str | None = None,
    ) -> None:
        """Answer a request to the status monitor."""
        self.monitor.engine.application.come_in_at(
            scope.get("root_path", "") if root_path is None else root_path
        )

        poll = Poll(
            request=to_request(scope, scope["path"], scope.get("root_path", "")),
            operation_id=operation_id,
            resource=resource,
            owner=Principal(self._owner, scope),
            path=fill(template, operation_id),
            root_path=root_path,
        )
        answer = self.monitor.glance(poll) or await self._look_together(poll)
        if (feed := answer.feed) is None:
            await self.send(scope, send, await self._follow(poll, answer, receive))
            return
        del poll, answer  # or they would be held as long as the client listens
        await EventStream(self._loop(), self.monitor, feed).send(scope, receive, send)

    async def send(self, scope: Scope, send: Send, response: Response) -> None:
        """Send a response, wherever its body is."""
        if isinstance(response.body, StoredBody):
            await self._show_stored(scope, send, response, response.body)
        else:
            await send_response(scope, send, response)

    async def refuse(self, scope: Scope, send: Send, response: Response) -> None:
        """Refuse a request, in a form that its client can read."""
        request = to_request(scope, scope["path"], scope.get("root_path", ""))
        await send_response(scope, send, self.monitor.refusal(response, request))

    async def answer(self, to_poll: Callable[[], Poll], receive: Receive | None = None) -> Response:
        """Return the response to a poll, after waiting if that is what its client would rather do.

        Args:
            to_poll: Called in a thread.
            receive: The server's; None where this task is cancelled when the client leaves.
        """

        def look() -> tuple[Poll, Answer]:
            poll = to_poll()
            return poll, self.monitor.look(poll)

        try:
            poll, answer = await self._loop().poll(look)
        except RuntimeError as error:
            return _unanswered_for_now(error)
        return await self._follow(poll, answer, receive)

    async def _look_together(self, poll: Poll) -> Answer:
        """Find an answer with other polls; what nobody else could be told is looked for alone."""
        loop, seen = self._loop(), None
        if poll.request.method in ("GET", "HEAD") and self.monitor.engine.gathers:
            gatherer = self._gatherer
            if gatherer is None or gatherer.loop is not loop:  # another thread may have its own
                gatherer = self._gatherer = Gatherer(loop, self.monitor.see_all)
            seen = await gatherer.see(poll.operation_id)
            if (answer := self.monitor.glance(poll, seen)) is not None:
                return answer
        try:
            return await loop.poll(partial(self.monitor.look, poll, seen=seen))
        except RuntimeError as error:
            return Answer(_unanswered_for_now(error))

    async def _follow(self, poll: Poll, answer: Answer, receive: Receive | None) -> Response:
        seconds = answer.wait
        if not seconds:
            return answer.response
        del answer  # or it would be held as long as the client waits
        return await self.wait(poll, seconds, receive)

    async def wait(self, poll: Poll, seconds: float, receive: Receive | None = None) -> Response:
        """Return the response to a poll whose client would rather wait so long."""
        return await LongPoll(self._loop(), self.monitor, receive).outcome(poll, seconds)

    async def _show_stored(
        self, scope: Scope, send: Send, response: Response, body: StoredBody
    ) -> None:
        loop = self._loop()
        if (whole := self.monitor.read_at_once(body)) is not None and not response.trailers:
            await send_response(scope, send, replace(response, body=whole))
            return
        chunks = self.monitor.read(body)
        try:
            # Before the status is sent: a body that has just been purged is no 200.
            chunk = await loop.read(next, chunks, b"")
        except (StoreError, RuntimeError) as error:
            if not (isinstance(error, StoreError) or is_passing(error)):
                raise
            await self.refuse(scope, send, _unanswered(error))
            return
        with_trailers = await send_start(scope, send, response)
        rest = body.stop - body.start - len(chunk)
        while rest:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await loop.read(next, chunks, b"")
            if not chunk:
                raise BodyMissing(body.operation_id, body.fence)
            rest -= len(chunk)
        await send({"type": "http.response.body", "body": chunk, "more_body": False})
        if with_trailers:
            await send_trailers(send, response)


def _unanswered_for_now(error: RuntimeError) -> Response:
    """Answer a poll for which there is no thread now; raise what is no passing trouble."""
    if not is_passing(error):
        raise error
    return _unanswered(error)


def _unanswered(error: Exception) -> Response:
    logger.error("a poll could not be answered: %s", error)
    return unreadable(error)
