"""The status monitor's routes: a poll comes in, and the response goes out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

from raincheck.errors import BodyMissing, StoreError
from raincheck.http.messages import Response, StoredBody
from raincheck.monitor import events
from raincheck.monitor.endpoint import StatusMonitor, unreadable
from raincheck.monitor.links import Resource, fill
from raincheck.monitor.poll import Answer, Poll, Repeat
from raincheck.wsgi import leaving
from raincheck.wsgi.event_streams import EventStream
from raincheck.wsgi.hooks import Hooks, hooks_of
from raincheck.wsgi.running import Running
from raincheck.wsgi.translation import send_response, send_start, to_request
from raincheck.wsgi.waiting import Turn, Waiting

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

logger = logging.getLogger("raincheck")


class Status:
    """Answers polls, and sends whatever else is raincheck's own.

    Args:
        app: What the middleware is immediately around.
        owner: Names the principal that a request belongs to.
        waiting: Counts the server's threads that wait.
        running: Is waited for as long as polls wait.
        at_wait: Called before a thread waits.
    """

    def __init__(
        self,
        app: object,
        monitor: StatusMonitor,
        owner: Callable[[Any], str | None],
        waiting: Waiting,
        running: Running,
        at_wait: Callable[[], None],
    ) -> None:
        self.monitor = monitor
        self._app = app
        self._owner = owner
        self._waiting = waiting
        self._running = running
        self._at_wait = at_wait

    @cached_property
    def hooks(self) -> Hooks | None:
        """What the application does to its own responses, and has to be done to these."""
        return hooks_of(self._app)

    def show(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        operation_id: str,
        resource: Resource,
    ) -> Iterable[bytes]:
        """Answer a request to the status monitor."""
        answer = self._look(environ, operation_id, resource)
        if isinstance(answer, Response):
            return self.send(environ, start_response, answer)
        if self.hooks is not None:
            answer.head = self.hooks(environ, answer.head)
        return answer.begun(start_response)

    def show_inside(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        operation_id: str,
        resource: Resource,
        template: str | None = None,
        root_path: str | None = None,
    ) -> Iterable[bytes]:
        """Answer a request to the status monitor that the application has routed itself."""
        answer = self._look(environ, operation_id, resource, template, root_path)
        if isinstance(answer, Response):
            return self._send(environ, start_response, answer)
        return answer.begun(start_response)

    def _look(
        self,
        environ: WSGIEnvironment,
        operation_id: str,
        resource: Resource,
        template: str | None = None,
        root_path: str | None = None,
    ) -> Response | EventStream:
        path, request = fill(template, operation_id), to_request(environ)
        root_path = request.root_path if root_path is None else root_path
        self.monitor.engine.application.come_in_at(root_path)
        owner = cache(partial(self._owner, environ))
        poll = Poll(request, operation_id, resource, owner, path, root_path)
        return self.follow(poll, self.monitor.look(poll))

    def send(
        self, environ: WSGIEnvironment, start_response: StartResponse, response: Response
    ) -> Iterable[bytes]:
        """Send a response of raincheck's own; returns what to return to the server."""
        if self.hooks is not None:
            response = self.hooks(environ, response)
        return self._send(environ, start_response, response)

    def refuse(
        self, environ: WSGIEnvironment, start_response: StartResponse, response: Response
    ) -> Iterable[bytes]:
        """Refuse a request, in a form that its client can read."""
        refusal = self.monitor.refusal(response, to_request(environ))
        return self.send(environ, start_response, refusal)

    def _send(
        self, environ: WSGIEnvironment, start_response: StartResponse, response: Response
    ) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if not isinstance(response.body, StoredBody):
            return send_response(method, start_response, response)
        try:
            # Before the status is sent: a body that has just been purged is no 200.
            chunks = self.open(response.body)
        except StoreError as error:
            refusal = self.monitor.refusal(unreadable(error), to_request(environ))
            return send_response(method, start_response, refusal)
        send_start(start_response, response)
        return chunks

    def answer(self, poll: Poll) -> Response:
        """Return the response to a poll; where its client would rather wait, wait in this thread.

        As long as others don't need the thread. Who repeats a request waits as who has begun it.
        """
        return self._wait(poll, self.monitor.look(poll))

    def follow(self, poll: Poll, answer: Answer) -> Response | EventStream:
        """Return the response to a poll that was looked at, or what its client listens to.

        As above, a client waits and listens only as long as nobody else needs this thread.
        """
        if answer.feed is None:
            return self._wait(poll, answer)
        if self._waiting.most_polls == 0:
            return events.no_thread()
        woken = threading.Event()
        turn = self._waiting.begin_poll(woken.set)
        if turn is None:
            return answer.response
        leaving.wait_for(self._running)
        self._at_wait()
        return EventStream(self.monitor.watcher, answer.feed, turn, woken)

    def _wait(self, poll: Poll, answer: Answer) -> Response:
        if not answer.wait:
            return answer.response
        woken = threading.Event()
        is_request = isinstance(poll, Repeat)
        begin = self._waiting.begin if is_request else self._waiting.begin_poll
        turn = begin(woken.set)
        if turn is None:
            return answer.response
        with turn:
            leaving.wait_for(self._running)
            self._at_wait()
            return self.monitor.wait(poll, answer.wait, _Alarm(turn, woken))

    def open(self, body: StoredBody) -> Iterator[bytes]:
        """Return a stored body's chunks, the first of which is there.

        Raises:
            StoreError: It is not.
        """
        chunks = self.monitor.read(body)
        try:
            first = next(chunks, b"")
        except StoreError as error:
            logger.error("a response could not be read: %s", error)
            raise
        return _rest(first, chunks, body)


class _Alarm:
    """What wakes a thread that waits for an operation, also when others need the thread."""

    def __init__(self, turn: Turn, woken: threading.Event) -> None:
        self.set = woken.set
        self._turn = turn
        self._woken = woken

    def wait(self, seconds: float) -> None:
        self._turn.wait(self._woken.wait, seconds)


def _rest(first: bytes, chunks: Iterator[bytes], body: StoredBody) -> Iterator[bytes]:
    yield first
    rest = body.stop - body.start - len(first)
    for chunk in chunks:
        yield chunk
        rest -= len(chunk)
    if rest:
        raise BodyMissing(body.operation_id, body.fence)
