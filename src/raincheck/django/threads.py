"""One request in a project's sync middleware chain that may be deferred.

The rest of the chain and the view run in a thread of their own. The database connections go with
them, and come back with a response in time (`lending`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.core.cache import caches

from raincheck.config.options import Settings
from raincheck.django.bodies import Body
from raincheck.django.conf import is_known
from raincheck.django.contexts import Carried, Origin
from raincheck.django.keeping import Kept, keep_for_handler
from raincheck.django.lending import Lent, return_to_pools
from raincheck.django.sessions import save_before
from raincheck.django.streaming import begin, pieces_of
from raincheck.django.translation import from_response, is_file, to_captured
from raincheck.engine.idempotency import Sharing
from raincheck.engine.response_writer import ResponseWriter
from raincheck.engine.start import Accepted
from raincheck.http.messages import Request
from raincheck.wsgi.arrival import Arrival
from raincheck.wsgi.channel import Channel, Outlet
from raincheck.wsgi.race import Race

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

logger = logging.getLogger("raincheck")


class DjangoArrival(Arrival):
    """A request that a sync chain has brought here.

    Args:
        body: The request's, read ahead.
    """

    def __init__(self, request: HttpRequest, body: Body, settings: Settings) -> None:
        self._request = request
        self._body = body
        self._settings = settings

    @property
    def environ(self) -> Mapping[str, Any]:
        """The environ as the server gave it."""
        environ: Mapping[str, Any] = self._request.META
        return environ

    @property
    def is_authenticated(self) -> bool:
        """Whether its user is known: what is around has authenticated it."""
        return is_known(self._settings, self._request)

    def askable(self) -> Iterator[HttpRequest]:
        """Yield the request as Django has it."""
        yield self._request

    def describe(self) -> Request:
        """Return the request as it came, without its body."""
        return to_captured(self._request)

    def body(self) -> Iterable[bytes] | None:
        """Return its body; None if middleware around has taken it apart."""
        return self._body.pieces()


class Exchange(Race):
    """Runs the rest of the chain for one request, and defers it if need be."""

    _request: HttpRequest
    _get_response: Callable[[HttpRequest], HttpResponseBase]
    _body: Body
    _origin: Origin
    _response: Any = None
    _error: BaseException | None = None
    _kept: Kept | None = None
    _carried: Carried | None = None
    _lent: Lent | None = None  # None: it runs in the thread that it comes from

    def bind(
        self,
        request: HttpRequest,
        body: Body,
        get_response: Callable[[HttpRequest], HttpResponseBase],
    ) -> None:
        """Say what is to be run, in the thread that it comes from."""
        self._request = request
        self._body = body
        self._get_response = get_response
        if request is not None:
            settings = self.gateway.engine.settings
            self.deferral.source = DjangoArrival(request, body, settings)
        self._origin = Origin()
        self._closers: list[Callable[[], None]] = []
        self._channel = Channel(self.news, is_ahead=False)  # one of the two uses a connection

    # --- the server's thread -------------------------------------------------------------------

    def start(self) -> bool:
        """Begin `work` in another thread, with this one's connections; False if there is none."""
        return self.start_with(super().start)

    def start_with(self, begin: Callable[[], bool]) -> bool:
        """Begin the handler's thread with this one's connections; False if there is none."""
        lent = self._lent = Lent()
        lent.lend()
        if begin():
            return True
        self._lent = None
        lent.come_back()
        return False

    def accept(self, sharing: Sharing | None = None) -> Accepted:
        """Record the operation that this becomes, as every race does."""
        if self._lent is not None:
            self._lent.stand_in()  # `owner` may ask the database, too
        return super().accept(sharing)

    def is_answered_in_time(self) -> bool:
        """Wait for the response, as every race does."""
        is_in_time = super().is_answered_in_time()
        self.part()
        return is_in_time

    def part(self) -> None:
        """Leave the connections to the handler, if there is one and it still has them."""
        if self._lent is not None:
            self._lent.part()

    def told(self, response: HttpResponseBase) -> HttpResponseBase:
        """Return what the client is told in place of the handler's response."""
        self.part()
        response._resource_closers.append(return_to_pools)
        return response

    def response(self) -> HttpResponseBase:
        """Return the response to a request that was not deferred, or raise what was raised."""
        if self._lent is not None and not self.is_passing:
            self._lent.come_back()
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # or its traceback would keep this object alive
        self.unpack()
        response: HttpResponseBase = self._response
        response._resource_closers.append(self._body.close)
        return response

    def unpack(self) -> None:
        """Have what the handler has set seen around, if it has come so far."""
        if self._carried is not None:
            self._carried.unpack()

    def drop(self) -> None:
        """Let go of the request's body: its handler is not called."""
        self._body.close()
        save_before(self._request)  # it may wait for another one's

    def abandon(self) -> None:
        """Take note that the server's thread is gone: nobody takes the response."""
        self._channel.abandon()
        self.part()

    def break_off(self, error: BaseException) -> None:
        """Have the server's thread wait for nothing any more: the handler's is gone."""
        self._channel.break_off(error)

    def detached(self) -> None:
        """Keep what Django closes when the 202 is sent."""
        self.part()
        self._kept = keep_for_handler(self._request)

    # --- the handler's thread ------------------------------------------------------------------

    def work(self) -> None:
        """Get the response and send it on: to the server, or into the store."""
        try:
            self._handle()
        finally:
            self._leave()

    def _handle(self) -> None:
        source: Iterable[bytes] = ()
        try:
            self._take()
            self._origin.arrive()
            self._response = self._get_response(self._request)
            source = self._take_content()
            self._carried = Carried()
        except BaseException as error:
            self._error = error
        writer = self.settle()
        if self.is_left:
            self.until_recorded()
            self._close()
            return
        if writer is not None:
            self._record(writer, source)
            return
        self._leave()
        self.news.tell_all()
        if source != ():
            self._pass_on(source)
        caches.close_all()

    def _take(self) -> None:
        if self._lent is not None:
            self._lent.take()

    def _leave(self) -> None:
        if self._lent is not None:
            self._lent.leave()

    def _take_content(self) -> Iterable[bytes]:
        """Return what is to be iterated in this thread, because it may use its connections.

        Its first piece is made at once: until there is one, the response has not begun.
        """
        response = self._response
        is_left_alone = is_file(response) and self.deferral.writer is None
        content = None if is_left_alone else pieces_of(response, self._request)
        if content is None:
            return ()
        # A generator is to end in the thread that runs it.
        self._closers, response._resource_closers[:] = list(response._resource_closers), []
        response.streaming_content = _Outlet(self._channel, self._lent or Lent())
        return begin(content, response)

    def _pass_on(self, content: Iterable[bytes]) -> None:
        error: BaseException | None = None
        try:
            for chunk in content:
                self._leave()
                if not self._channel.put(chunk):
                    break
                self._take()
        except BaseException as raised:
            error = raised
        self._leave()
        self._channel.end(error)
        self._channel.until_closed()
        self._take()
        self._close_content()
        self._leave()
        error = self._channel.closed()
        if error is not None:
            logger.error("%r raised after its response", self.path, exc_info=error)
        del error  # its traceback refers to this frame

    def _record(self, writer: ResponseWriter, content: Iterable[bytes]) -> None:
        error, self._error = self._error, None
        try:
            if self._response is not None:
                self.begin(writer, *from_response(self._response))
                if content:
                    self.begin_passing(self._channel)
                self._record_all(writer, content or self._response)
        except BaseException as raised:
            error = raised
        try:
            self._close()
        finally:
            self.conclude(writer, error)
            self.cut(self._channel, error)
            del error  # its traceback refers to this frame

    def _record_all(self, writer: ResponseWriter, content: Iterable[bytes]) -> None:
        for n, chunk in enumerate(content):
            if n and self.is_cancelled:  # the first piece may be all: then it has answered
                return
            if writer.feed(chunk):
                writer.flush()
            # Recorded or not, it is the client's, if there is one.
            if not self.pass_on(self._channel, chunk) and writer.is_over:
                return
        self.complete(writer)
        self._channel.end()

    def _close_content(self) -> None:
        while self._closers:
            with suppress(Exception):  # as Django does
                self._closers.pop(0)()

    def _close(self) -> None:
        """Do what Django's handlers do when a response has been sent."""
        self._close_content()
        try:
            if self.is_passing:  # what serves it closes it
                caches.close_all()
            elif self._response is not None:
                self._channel.abandon()  # no server waits for the end of its content
                self._response.close()  # sends `request_finished`
        finally:
            self._leave()
            if self._kept is not None:
                self._kept.close()
            self._body.close()


class _Outlet(Outlet):
    """Has the handler's thread go on with the connections of the one that iterates."""

    def __init__(self, channel: Channel, lent: Lent) -> None:
        super().__init__(channel)
        self._lent = lent

    def __next__(self) -> bytes:
        with self._lent.turn():
            return super().__next__()

    def close(self) -> None:
        with self._lent.turn():
            super().close()
