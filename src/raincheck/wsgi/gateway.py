"""What all requests of one middleware share: application, core, threads, and who still runs."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

from raincheck.engine.engine import Raincheck
from raincheck.engine.start import owner_of, webhook_of
from raincheck.engine.threads import Threads
from raincheck.errors import BodyMissing, StoreError
from raincheck.http.messages import Response, StoredBody
from raincheck.monitor.endpoint import Poll, StatusMonitor, unreadable
from raincheck.monitor.links import Resource, fill
from raincheck.operations.operation import Reason
from raincheck.wsgi import leaving
from raincheck.wsgi.hooks import Hooks, hooks_of
from raincheck.wsgi.translation import send_response, send_start, to_request
from raincheck.wsgi.waiting import Waiting, serving_threads

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from raincheck.wsgi.race import Race

logger = logging.getLogger("raincheck")

LAST_WORDS = 2.0  # seconds that shutdown gives handlers it has cancelled


class Gateway:
    """Holds no state of any request; those are races.

    Args:
        at_end: Called in each thread of handlers before it ends.
    """

    def __init__(
        self, app: WSGIApplication, core: Raincheck, at_end: Callable[[], None] | None = None
    ) -> None:
        self.app = app
        self.core = core
        self.monitor = StatusMonitor(core)
        # What an earlier process has left is looked for as soon as this one may defer anything.
        self.threads = Threads(at_end, lambda: core.heartbeat.ensure(soon=False))
        self.waiting = Waiting(core.limits.waiters)
        self._races_of: dict[int, set[Race]] = {}  # by process: a fork has none of the threads
        self._stopping: int | None = None  # the process that is
        self._released = threading.Condition(threading.Lock())

    @property
    def running(self) -> int:
        """How many deferred handlers run in this process."""
        return len(self._races)

    @property
    def _races(self) -> set[Race]:
        return self._races_of.setdefault(os.getpid(), set())

    def owner(self, environ: Any) -> str | None:
        """Name the principal that a request belongs to."""
        return owner_of(self.core.settings, environ)

    def webhook(self, environ: Any) -> str | None:
        """Name the URL that is to be told of the end of a request's operation."""
        return webhook_of(self.core.settings, environ)

    def adopt(self, race: Race) -> None:
        """Count a request whose server has forgotten it, so that the process waits for it."""
        leaving.wait_for(self)
        with self._released:
            self._races.add(race)

    def release(self, race: Race) -> None:
        """Let go of a deferred request that is over."""
        with self._released:
            self._races.discard(race)
            self._released.notify_all()
        if race.operation is not None:
            self.core.land(race.operation)

    @cached_property
    def hooks(self) -> Hooks | None:
        """What the application does to its own responses, and has to be done to these."""
        return hooks_of(self.app)

    def show(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        operation_id: str,
        resource: Resource,
    ) -> Iterable[bytes]:
        """Answer a request to the status monitor."""
        return self.send(environ, start_response, self._look(environ, operation_id, resource))

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
        response = self._look(environ, operation_id, resource, template, root_path)
        return self._send(environ["REQUEST_METHOD"], start_response, response)

    def _look(
        self,
        environ: WSGIEnvironment,
        operation_id: str,
        resource: Resource,
        template: str | None = None,
        root_path: str | None = None,
    ) -> Response:
        path, request = fill(template, operation_id), to_request(environ)
        root_path = request.root_path if root_path is None else root_path
        self.core.come_in_at(root_path)
        owner = cache(partial(self.owner, environ))
        return self.answer(Poll(request, operation_id, resource, owner, path, root_path))

    def send(
        self, environ: WSGIEnvironment, start_response: StartResponse, response: Response
    ) -> Iterable[bytes]:
        """Send a response of raincheck's own; returns what to return to the server."""
        if self.hooks is not None:
            response = self.hooks(environ, response)
        return self._send(environ["REQUEST_METHOD"], start_response, response)

    def _send(
        self, method: str, start_response: StartResponse, response: Response
    ) -> Iterable[bytes]:
        if not isinstance(response.body, StoredBody):
            return send_response(method, start_response, response)
        try:
            # Before the status is sent: a body that has just been purged is no 200.
            chunks = self.open(response.body)
        except StoreError as error:
            return send_response(method, start_response, unreadable(error))
        send_start(start_response, response)
        return chunks

    def answer(self, poll: Poll) -> Response:
        """Return the response to a poll; where its client would rather wait, wait in this thread.

        Not where too many threads wait already, and not in a server's only one: nobody else could
        say anything to it meanwhile.
        """
        answer = self.monitor.look(poll)
        if not answer.wait or not self._may_wait():
            return answer.response
        leaving.wait_for(self)
        try:
            return self.monitor.wait(poll, answer.wait)
        finally:
            self.waiting.end()

    def _may_wait(self) -> bool:
        if self.core.limits.waiters is None and serving_threads() == 1:
            return False
        return self.waiting.begin()

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

    @property
    def is_stopping(self) -> bool:
        """Whether this process is about to end."""
        return self._stopping == os.getpid()

    def stop(self) -> None:
        """Run nothing again here, and let all who wait have their answers now."""
        self._stopping = os.getpid()
        self.monitor.close()

    def drain(self, begin: float | None = None) -> None:
        """Let running handlers end for a while, then release the rest, or end it.

        Args:
            begin: When the shutdown began, by the monotonic clock; default: now.
        """
        self.stop()
        begin = time.monotonic() if begin is None else begin
        end = begin + self.core.settings.drain
        self._wait_until_idle(end)
        left = list(self._races)
        for race in left:
            race.give_up(Reason.SHUTDOWN)
        if left:
            logger.warning("shutdown stopped %d operations that were still running", len(left))
            self._wait_until_idle(end + LAST_WORDS)
            for race in left:
                self.release(race)  # it has had its time, should there be a second drain
        self.core.close()

    def _wait_until_idle(self, end: float) -> None:
        with self._released:
            rest = max(0.0, end - time.monotonic())
            self._released.wait_for(lambda: not self._races, rest)


def _rest(first: bytes, chunks: Iterator[bytes], body: StoredBody) -> Iterator[bytes]:
    yield first
    rest = body.stop - body.start - len(first)
    for chunk in chunks:
        yield chunk
        rest -= len(chunk)
    if rest:
        raise BodyMissing(body.operation_id, body.fence)
