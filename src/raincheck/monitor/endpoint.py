"""Answering polls: from the store, by the rules of `monitor`, the same for every gateway.

Synchronous and thread-safe, like the engine; may block on the store. A client that would rather
wait for the end of its operation than poll again says `Prefer: wait`; how its gateway waits is its
own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Protocol
from urllib.parse import quote

from raincheck.engine.engine import Engine
from raincheck.engine.refusals import STORE_RETRY_AFTER
from raincheck.errors import BodyMissing, StoreError
from raincheck.http.messages import Request, Response, StoredBody, for_method
from raincheck.http.preferences import parse_prefer
from raincheck.http.problems import unavailable
from raincheck.http.urls import QUERY_SAFE, encode_path, with_one_slash
from raincheck.monitor import changes, events, views
from raincheck.monitor.changes import same
from raincheck.monitor.dialects import DIALECTS
from raincheck.monitor.feed import BUSY_RETRY, Feed, patience
from raincheck.monitor.links import Resource, is_id, local_path, locate, signature_of
from raincheck.monitor.listeners import Seen, unseen
from raincheck.monitor.poll import Answer, Poll, Repeat
from raincheck.monitor.presentation import Presentation, is_form
from raincheck.monitor.remembered import Chunks, Remembered
from raincheck.monitor.script import no_operation
from raincheck.monitor.signing import Signer
from raincheck.monitor.views import View
from raincheck.monitor.waiters import Watcher
from raincheck.operations.durations import Sketch
from raincheck.operations.operation import Operation, is_expired

logger = logging.getLogger("raincheck")

UNBOUND_RETRY_AFTER = 1  # seconds: a handler is soon reached
UNREADABLE = "Operations can't be read now."
_REFUSED = (406, 412)  # whatever the operation becomes


class _OwnerError(Exception):
    """Who asks can't be told, which is the application's to answer for."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def unreadable(error: Exception) -> Response:
    """Answer a poll for which the store failed, or the machine."""
    if isinstance(error, BodyMissing):  # purged between the look and the reading
        return views.gone("The response is no longer kept.")
    return unavailable(UNREADABLE, STORE_RETRY_AFTER)


class Alarm(Protocol):
    """What a thread waits by, as a `threading.Event`."""

    def set(self) -> object:
        """End the waiting."""
        ...

    def wait(self, seconds: float) -> object:
        """Wait for that, so long at most."""
        ...


class StatusMonitor:
    """Shows the operations of one engine to those who may see them.

    Attributes:
        watcher: Wakes those who wait for the end of an operation.

    Raises:
        ConfigurationError: URLs are to be signed, and what that needs is not installed.
    """

    def __init__(self, engine: Engine) -> None:
        self.watcher = Watcher(lambda interval: engine.store.watch(interval), self._see)
        self.engine = engine
        self._dialect = DIALECTS[engine.settings.dialect]
        secrets, lifetime = engine.settings.url_secret, engine.settings.url_lifetime
        self._signer = Signer(secrets, lifetime) if secrets is not None else None
        html, page = engine.settings.html, engine.settings.page
        is_placed = engine.settings.public_url is not None
        self._remembered, self._chunks = Remembered(), Chunks()
        self._presentation = Presentation(html, page, is_placed=is_placed)

    def started(
        self, operation: Operation, request: Request, applied: str | None, path: str | None = None
    ) -> Response:
        """Return the 202 for the request that has just become this operation.

        A browser is led to R instead, with 303.
        """
        # The store is not asked for the time: it may fail, and the operation is there.
        view = self._seen(operation, request, path, operation.updated)
        return self._presentation.started(view, request, applied)

    def refusal(self, response: Response, request: Request) -> Response:
        """Return what a request is told that is refused, in a form that its client can read."""
        return self._presentation.refusal(response, request)

    def glance(self, poll: Poll, seen: Seen | None = None, *, waited: float = 0) -> Answer | None:
        """Find an answer at once, in an event loop; None: `look` has to, which may block.

        Args:
            seen: What is to be seen of the operation; default: what the store has at hand.
            waited: As of `look`.

        Raises:
            Exception: `look` does.
        """
        operation = self.engine.glance(poll.operation_id) if seen is None else seen.operation
        if operation is None or operation.owner is not None:  # `owner` may block
            return None
        now = self.engine.store.now() if seen is None else seen.now
        past = self._past(operation)
        answer = None if waited else self._remembered.recall(poll, operation, now, past)
        if answer is not None:
            self.engine.heartbeat.try_to_ensure()
            return answer
        if poll.request.method not in ("GET", "HEAD") or self._presentation.may_block(poll.request):
            return None
        answer = self.look(poll, waited=waited, seen=Seen(operation), now=now)
        # Whether there is room for one who would listen depends on the others who do.
        if not (waited or events.are_wanted(poll.request, poll.resource, operation)):
            self._remembered.note(poll, operation, now, past, answer)
        return answer

    def see_all(self, operation_ids: Collection[str]) -> Mapping[str, Seen]:
        """Look at several operations at once, for all who ask for them; may block."""
        try:
            found, now = self.engine.gather(operation_ids), self.engine.store.now()
        except Exception as error:
            return dict.fromkeys(operation_ids, unseen(error))
        seen = {each: Seen(operation, now=now) for each, operation in found.items()}
        return seen | {each: self._see(each) for each in operation_ids if each not in seen}

    def look(
        self, poll: Poll, *, waited: float = 0, seen: Seen | None = None, now: float | None = None
    ) -> Answer:
        """Find an answer to a request as things are now; never raises for a store that fails.

        Args:
            waited: Seconds that the client has been made to wait at most.
            seen: What was seen of the operation while it waited; default: to look now.
            now: The time by the store's clock, as far as is known; default: to ask for it.

        Raises:
            Exception: The option `owner` has.
        """
        self.engine.heartbeat.try_to_ensure()
        try:
            answer = self._look(poll, seen, now)
        except _OwnerError as failed:
            raise failed.error from None
        except StoreError as error:
            logger.error("a poll could not be answered: %s", error)
            answer, waited = Answer(unreadable(error)), 0
        except Exception:  # the server's 500 would look like the handler's
            logger.exception("a poll could not be answered")
            answer, waited = Answer(unavailable(UNREADABLE, STORE_RETRY_AFTER)), 0
        is_poll = not isinstance(poll, Repeat)
        response = self._presentation.refusal(answer.response, poll.outside, is_poll=is_poll)
        response = for_method(poll.request.method, response)
        if waited and is_poll:
            response = views.after_waiting(response, waited)
        return answer if response is answer.response else replace(answer, response=response)

    def wait(self, poll: Poll, seconds: float, alarm: Alarm | None = None) -> Response:
        """Wait in this thread for the end of an operation, and return what to say then.

        Args:
            seconds: How long at most.
            alarm: By which it waits, and others may end that; default: they may not.
        """
        alarm = threading.Event() if alarm is None else alarm
        with self.watcher.waiting(poll.operation_id, alarm.set) as waiter:
            alarm.wait(seconds)
            return self.look(poll, waited=seconds, seen=waiter.seen).response

    def close(self) -> None:
        """Let all who wait have their answers now."""
        self.watcher.close()

    def _see(self, operation_id: str) -> Seen:
        """Look at an operation for all who wait for it."""
        try:
            operation = self.engine.look(operation_id)
            if operation is not None:
                self.engine.note_poll(operation)
            return Seen(operation, now=self.engine.store.now())
        except Exception as error:
            return unseen(error)

    def _look(self, poll: Poll, seen: Seen | None, now: float | None) -> Answer:
        if not is_id(poll.operation_id):
            served = self.engine.settings.client_js
            return Answer(no_operation(poll.operation_id, poll.request, with_script=served))
        if not isinstance(poll, Repeat) and not self._has_method(poll):
            return Answer(views.method_not_allowed(poll.resource))
        if seen is not None and seen.failure is not None:
            raise seen.failure.with_traceback(None)  # or each waiter would make it longer
        operation = seen.operation if seen is not None else self.engine.look(poll.operation_id)
        if operation is None or not same(operation.id, poll.operation_id):
            return Answer(views.not_found())
        now = self.engine.store.now() if now is None else now
        if isinstance(poll, Repeat):
            return self._repeat(poll, operation, now, has_waited=seen is not None)
        root_path = poll.outside.root_path
        if not self.engine.application.may_show(operation.application, root_path):
            return Answer(views.not_found())
        signature = self._valid_signature(poll, now)
        if signature is None and not _may_see(poll, operation):
            return Answer(views.not_found())
        if operation.unbound:
            if operation.result is not None:  # a raincheck that knows nothing of this has ended it
                return Answer(views.not_found())
            operation = replace(operation, progress=None)
        if seen is None:
            self.engine.note_poll(operation)
        if events.are_wanted(poll.request, poll.resource, operation):
            return self._listen(poll, operation, signature, now)
        response = self._respond(poll, operation, signature, now)
        is_final = operation.is_terminal or response.status in _REFUSED
        return Answer(response, 0 if is_final else self._wait_of(poll.request))

    def _valid_signature(self, poll: Poll, now: float) -> str | None:
        """Return the signature that lets anybody read this operation, if the poll has one."""
        if self._signer is None or poll.request.method not in ("GET", "HEAD"):
            return None
        token = signature_of(poll.request)
        if token is None:
            return None
        is_valid = self._signer.is_valid(token, poll.operation_id, now)
        return token if is_valid else None

    def _repeat(
        self, repeat: Repeat, operation: Operation, now: float, *, has_waited: bool
    ) -> Answer:
        """Answer as draft-ietf-httpapi-idempotency-key-header §2.6 has it, but let who comes early
        have the operation that runs instead of an error.
        """
        if operation.fingerprint != repeat.key.fingerprint:
            return Answer(views.key_reused())
        if repeat.key.is_anonymous and repeat.first is None:
            if operation.is_terminal and operation.owner is not None:
                return Answer(views.key_reused())  # by somebody else, for all that is known
            operation = replace(operation, progress=None)
        view = self._seen(operation, repeat.request, repeat.path, now)
        if operation.is_terminal:
            return Answer(views.repeated(view, repeat.first))
        in_person = repeat.candidate.in_person
        patience = self.engine.settings.max_wait if in_person else repeat.candidate.budget or 0
        if operation.queue is not None:  # its own client was told at once, too
            patience = 0
        wait = patience if self._has_room else 0
        if has_waited or not wait:  # whoever began it may have left unnoticed
            self.engine.leave_alone(operation)
        if in_person:
            return Answer(views.key_in_use(view), wait)
        applied = repeat.candidate.applied
        return Answer(self._presentation.started(view, repeat.request, applied), wait)

    @property
    def _has_room(self) -> bool:
        """Whether one more may wait."""
        return self.watcher.waiters < self.engine.limits.pollers

    def _wait_of(self, request: Request) -> float:
        prefer = request.header(b"prefer")
        if prefer is None or request.method not in ("GET", "HEAD") or not self._has_room:
            return 0
        return min(parse_prefer(prefer).wait or 0, self.engine.settings.max_wait)

    def _listen(
        self, poll: Poll, operation: Operation, signature: str | None, now: float
    ) -> Answer:
        """Answer a client that would rather listen than poll."""
        view = self._view(operation, poll, signature, now)
        response = events.whole(view, poll.request, patience(BUSY_RETRY))
        if poll.request.method == "HEAD" or operation.is_terminal or not self._has_room:
            return Answer(response)
        return Answer(response, feed=Feed(view, poll.request, partial(_may_see, poll), self._sign))

    def _respond(
        self, poll: Poll, operation: Operation, signature: str | None, now: float
    ) -> Response:
        view = self._view(operation, poll, signature, now)
        if poll.request.method in ("GET", "HEAD"):
            if self._presentation.is_astray(view, poll.resource, poll.request):
                return views.see_other(self._route_url(operation, poll.outside))
            return self._presentation.read(view, poll.resource, poll.request)
        if operation.unbound and not operation.is_terminal:
            return unavailable("It is not known yet whose this is.", UNBOUND_RETRY_AFTER)
        if is_form(poll.request):
            return changes.cancel_by_form(self.engine, poll, view)
        if is_expired(operation, view.now):
            return self._presentation.read(view, poll.resource, poll.request)
        return views.refused_deletion(view, poll.request) or self._delete(poll, operation)

    def _has_method(self, poll: Poll) -> bool:
        if self._presentation.has_html and is_form(poll.request):
            return poll.resource is Resource.RESPONSE
        return poll.request.method in views.ALLOWED[poll.resource]

    def _delete(self, poll: Poll, operation: Operation) -> Response:
        self._chunks.forget(operation.id)
        changed = changes.delete(self.engine, operation)
        if isinstance(changed, Response):
            return changed
        return views.deleted(self._view(changed, poll, None, self.engine.store.now()))

    def read_at_once(self, body: StoredBody) -> bytes | None:
        """Return all of a stored body, in an event loop; None: `read` has to, which may block."""
        if body.stop > body.chunk_size:
            return None
        chunk = self.engine.glance_at_chunk(body.operation_id, body.fence, 0)
        chunk = self._chunks.recall(body) if chunk is None else chunk
        if chunk is None or len(chunk) < body.stop:
            return None
        return chunk[body.start : body.stop]

    def read(self, body: StoredBody) -> Iterator[bytes]:
        """Yield the bytes of a stored body, chunk by chunk.

        Raises:
            BodyMissing: The response was purged meanwhile.
            StoreError: It can't be read.
        """
        if whole := self.read_at_once(body):
            yield whole
            return
        size = body.chunk_size
        first, last = body.start // size, -(-body.stop // size)
        try:
            chunks = self.engine.store.read_chunks(body.operation_id, body.fence, first, last)
            for n, chunk in enumerate(chunks, first):
                if n == 0:
                    self._chunks.note(body, chunk)
                yield chunk[max(0, body.start - n * size) : body.stop - n * size]
        except StoreError:
            raise
        except Exception as error:  # the server's 500 would look like the handler's
            raise StoreError(f"the store failed unexpectedly: {error!r}") from error

    def _view(self, operation: Operation, poll: Poll, guest: str | None, now: float) -> View:
        """Return what there is to see now.

        Args:
            guest: The signature by which the client sees it; it gets no other, or it could prolong
                its access.
        """
        view = self._seen(operation, poll.request, poll.path, now)
        if guest is None:
            return view
        return replace(view, links=view.links.signed(guest), signature=None)

    def _seen(self, operation: Operation, request: Request, path: str | None, now: float) -> View:
        settings = self.engine.settings
        path = path or local_path(request, settings.prefix, operation.id)
        links = locate(request, path, settings.location, settings.public_url)
        past = self._past(operation)
        signature = self._sign(operation, now)
        return View(operation, links, self._dialect, now, signature, past)

    def _past(self, operation: Operation) -> Sketch | None:
        return None if operation.is_terminal else self.engine.durations.of(operation)

    def _route_url(self, operation: Operation, request: Request) -> str:
        """Return the URL of the route that an operation came from, with the query of a poll."""
        settings = self.engine.settings
        path = with_one_slash(encode_path(request.root_path.rstrip("/") + operation.route))
        url = locate(request, path, settings.location, settings.public_url).url(Resource.RESPONSE)
        return f"{url}?{quote(request.query, safe=QUERY_SAFE)}"

    def _sign(self, operation: Operation, now: float) -> str | None:
        # What belongs to nobody is read by its URL alone, for ever: an expiry would be a lie.
        if self._signer is None or operation.owner is None:
            return None
        return self._signer.sign(operation.id, now)


def _may_see(poll: Poll, operation: Operation) -> bool:
    """Tell whether whoever polls may see an operation: its owner, or anybody if it has none."""
    if operation.owner is None:
        return True
    try:
        owner = poll.owner()
    except Exception as error:
        raise _OwnerError(error) from error
    return owner is not None and same(owner, operation.owner)
