"""Answering polls: from the store, by the rules of `monitor`, the same for every gateway.

Synchronous and thread-safe, like the engine; may block on the store. A client that would rather
wait for the end of its operation than poll again says `Prefer: wait`; how its gateway waits is its
own.
"""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from raincheck.config.policy import Candidate
from raincheck.engine.deferral import Deferral
from raincheck.engine.engine import Engine
from raincheck.engine.refusals import STORE_RETRY_AFTER
from raincheck.engine.start import Key
from raincheck.errors import BodyMissing, StoreError
from raincheck.http.messages import Headers, Request, Response, StoredBody, for_method
from raincheck.http.preferences import parse_prefer
from raincheck.http.problems import unavailable
from raincheck.monitor import views
from raincheck.monitor.dialects import DIALECTS
from raincheck.monitor.links import Resource, fill, is_id, local_path, locate, signature_of
from raincheck.monitor.signing import Signer
from raincheck.monitor.views import View
from raincheck.monitor.waiters import Seen, Watcher
from raincheck.operations.operation import Operation, State, is_expired

logger = logging.getLogger("raincheck")

UNBOUND_RETRY_AFTER = 1  # seconds: a handler is soon reached
UNREADABLE = "Operations can't be read now."
CANCELS = (State.CANCELLING, State.CANCELLED)
_REFUSED = (406, 412)  # whatever the operation becomes


@dataclass(frozen=True, slots=True)
class Poll:
    """A request to the status monitor.

    Attributes:
        owner: Names the principal it comes from; called for what belongs to one only, in the thread
            that looks.
        path: Where R lies, root path included; None: below the configured prefix.
        root_path: Where the application is mounted; None: as the request says.
    """

    request: Request
    operation_id: str
    resource: Resource
    owner: Callable[[], str | None] = lambda: None
    path: str | None = None
    root_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat(Poll):
    """A request of the original route that is one with an operation: it is answered as a poll.

    Attributes:
        key: What they have in common.
        candidate: As what it came; it may wait for the end as long as its handler might take.
        first: The header fields as the handler gave them, for whoever has had it called.
    """

    resource: Resource = Resource.RESPONSE
    key: Key
    candidate: Candidate
    first: Headers | None = None

    @classmethod
    def of(
        cls,
        deferral: Deferral,
        request: Request,
        operation: Operation,
        template: str | None,
        first: Headers | None = None,
    ) -> Repeat:
        """Return a request that has become an operation under a key, whoever has it called.

        Args:
            template: The path of R where the application has mounted it, with a placeholder.
        """
        assert deferral.key is not None  # noqa: S101 - or there would be nothing to share
        return cls(
            request=request,
            operation_id=operation.id,
            path=fill(template, operation.id),
            key=deferral.key,
            candidate=deferral.candidate,
            first=first,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be said to a poll now.

    Attributes:
        wait: Seconds that the client would rather wait for the end of its operation; 0: it would
            not, or has nothing to wait for.
    """

    response: Response
    wait: float = 0


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

    def started(
        self, operation: Operation, request: Request, applied: str | None, path: str | None = None
    ) -> Response:
        """Return the 202 for the request that has just become this operation."""
        # The store is not asked for the time: it may fail, and the operation is there.
        return views.started(self._seen(operation, request, path, operation.updated), applied)

    def look(self, poll: Poll, *, waited: float = 0, seen: Seen | None = None) -> Answer:
        """Find an answer to a request as things are now; never raises for a store that fails.

        Args:
            waited: Seconds that the client has been made to wait at most.
            seen: What was seen of the operation while it waited; default: to look now.

        Raises:
            Exception: The option `owner` has.
        """
        self.engine.heartbeat.try_to_ensure()
        try:
            answer = self._look(poll, seen)
        except _OwnerError as failed:
            raise failed.error from None
        except StoreError as error:
            logger.error("a poll could not be answered: %s", error)
            answer, waited = Answer(unreadable(error)), 0
        except Exception:  # the server's 500 would look like the handler's
            logger.exception("a poll could not be answered")
            answer, waited = Answer(unavailable(UNREADABLE, STORE_RETRY_AFTER)), 0
        response = for_method(poll.request.method, answer.response)
        if waited and not isinstance(poll, Repeat):
            response = views.after_waiting(response, waited)
        return Answer(response, answer.wait)

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
            return Seen(operation)
        except StoreError as error:
            return Seen(failure=error)
        except Exception:
            logger.exception("an operation could not be looked at")
            return Seen(failure=StoreError("the store failed unexpectedly"))

    def _look(self, poll: Poll, seen: Seen | None) -> Answer:
        if not is_id(poll.operation_id):
            return Answer(views.not_found())
        is_repeat = isinstance(poll, Repeat)
        if not is_repeat and poll.request.method not in views.ALLOWED[poll.resource]:
            return Answer(views.method_not_allowed(poll.resource))
        if seen is not None and seen.failure is not None:
            raise seen.failure.with_traceback(None)  # or each waiter would make it longer
        operation = seen.operation if seen is not None else self.engine.look(poll.operation_id)
        if operation is None or not _same(operation.id, poll.operation_id):
            return Answer(views.not_found())
        if isinstance(poll, Repeat):
            return self._repeat(poll, operation, has_waited=seen is not None)
        root_path = poll.request.root_path if poll.root_path is None else poll.root_path
        if not self.engine.application.may_show(operation.application, root_path):
            return Answer(views.not_found())
        signature = self._valid_signature(poll)
        if signature is None and not _may_see(poll, operation):
            return Answer(views.not_found())
        if operation.unbound:
            if operation.result is not None:  # a raincheck that knows nothing of this has ended it
                return Answer(views.not_found())
            operation = replace(operation, progress=None)
        if seen is None:
            self.engine.note_poll(operation)
        response = self._respond(poll, operation, signature)
        is_final = operation.is_terminal or response.status in _REFUSED
        return Answer(response, 0 if is_final else self._wait_of(poll.request))

    def _valid_signature(self, poll: Poll) -> str | None:
        """Return the signature that lets anybody read this operation, if the poll has one."""
        if self._signer is None or poll.request.method not in ("GET", "HEAD"):
            return None
        token = signature_of(poll.request)
        if token is None:
            return None
        is_valid = self._signer.is_valid(token, poll.operation_id, self.engine.store.now())
        return token if is_valid else None

    def _repeat(self, repeat: Repeat, operation: Operation, *, has_waited: bool) -> Answer:
        """Answer as draft-ietf-httpapi-idempotency-key-header §2.6 has it, but let who comes early
        have the operation that runs instead of an error.
        """
        if operation.fingerprint != repeat.key.fingerprint:
            return Answer(views.key_reused())
        if repeat.key.is_anonymous and repeat.first is None:
            if operation.is_terminal and operation.owner is not None:
                return Answer(views.key_reused())  # by somebody else, for all that is known
            operation = replace(operation, progress=None)
        view = self._view(operation, repeat.request, repeat.path)
        if operation.is_terminal:
            return Answer(views.repeated(view, repeat.first))
        in_person = repeat.candidate.in_person
        patience = self.engine.settings.max_wait if in_person else repeat.candidate.budget or 0
        wait = patience if self._has_room else 0
        if has_waited or not wait:  # whoever began it may have left unnoticed
            self.engine.leave_alone(operation)
        if in_person:
            return Answer(views.key_in_use(view), wait)
        return Answer(views.started(view, repeat.candidate.applied), wait)

    @property
    def _has_room(self) -> bool:
        """Whether one more may wait."""
        return self.watcher.waiters < self.engine.limits.pollers

    def _wait_of(self, request: Request) -> float:
        prefer = request.header(b"prefer")
        if prefer is None or request.method == "DELETE":
            return 0
        if not self._has_room:
            return 0
        return min(parse_prefer(prefer).wait or 0, self.engine.settings.max_wait)

    def _respond(self, poll: Poll, operation: Operation, signature: str | None) -> Response:
        view = self._view(operation, poll.request, poll.path, signature)
        if poll.request.method == "DELETE" and operation.unbound and not operation.is_terminal:
            return unavailable("It is not known yet whose this is.", UNBOUND_RETRY_AFTER)
        if poll.request.method == "DELETE" and not is_expired(operation, view.now):
            return views.refused_deletion(view, poll.request) or self._delete(poll, operation)
        return views.read(view, poll.resource, poll.request)

    def _delete(self, poll: Poll, operation: Operation) -> Response:
        engine, writes = self.engine, self.engine.health.writes
        changed = None
        if not operation.is_terminal:
            changed = writes.run(lambda: engine.cancel(operation.id))
        if changed is None:  # or it has ended since the look
            # What is large may take its time.
            changed = writes.run(lambda: engine.forget(operation.id), may_be_slow=True)
        operation = changed or operation
        if not operation.forgotten and operation.state not in CANCELS:  # a newer raincheck's
            return unavailable("This can't be cancelled now.", STORE_RETRY_AFTER)
        return views.deleted(self._view(operation, poll.request, poll.path))

    def read(self, body: StoredBody) -> Iterator[bytes]:
        """Yield the bytes of a stored body, chunk by chunk.

        Raises:
            BodyMissing: The response was purged meanwhile.
            StoreError: It can't be read.
        """
        size = body.chunk_size
        first, last = body.start // size, -(-body.stop // size)
        try:
            chunks = self.engine.store.read_chunks(body.operation_id, body.fence, first, last)
            for n, chunk in enumerate(chunks, first):
                yield chunk[max(0, body.start - n * size) : body.stop - n * size]
        except StoreError:
            raise
        except Exception as error:  # the server's 500 would look like the handler's
            raise StoreError(f"the store failed unexpectedly: {error!r}") from error

    def _view(
        self, operation: Operation, request: Request, path: str | None, guest: str | None = None
    ) -> View:
        """Return what there is to see now.

        Args:
            guest: The signature by which the client sees it; it gets no other, or it could prolong
                its access.
        """
        view = self._seen(operation, request, path, self.engine.store.now())
        if guest is None:
            return view
        return replace(view, links=view.links.signed(guest), signature=None)

    def _seen(self, operation: Operation, request: Request, path: str | None, now: float) -> View:
        settings = self.engine.settings
        path = path or local_path(request, settings.prefix, operation.id)
        links = locate(request, path, settings.location, settings.public_url)
        past = None if operation.is_terminal else self.engine.durations.of(operation)
        signature = self._sign(operation, now)
        return View(operation, links, self._dialect, now, signature, past)

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
    return owner is not None and _same(owner, operation.owner)


def _same(text: str, other: str) -> bool:
    """Compare in a time that tells nothing of where they differ."""
    return hmac.compare_digest(_bytes(text), _bytes(other))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
