"""What comes before a handler is called: whether it may be, and what is said where it may not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

from raincheck.config.limits import Limits
from raincheck.config.policy import Candidate, Refusal
from raincheck.engine.engine import Engine
from raincheck.engine.idempotency import NotAKeyError, Sharing, is_anonymous, key_of
from raincheck.engine.start import Key
from raincheck.errors import Overloaded, RaincheckError
from raincheck.http.messages import Request, Response
from raincheck.http.problems import problem, unavailable

logger = logging.getLogger("raincheck")

STORE_RETRY_AFTER = 5  # seconds, for a client whose request met a store that fails
OVERLOADED_RETRY_AFTER = 5  # seconds
ANONYMOUS_KEY = (
    "a request for %r has an Idempotency-Key and nothing that says who asks: whoever sends the "
    "same request under the same key gets the same response. Set owner, or name the header fields "
    "that tell clients apart in identity_headers; [] if that is meant so, as keys are random"
)


class Admitted(NamedTuple):
    """A request whose handler may be called.

    Attributes:
        sharing: How another request may have become the same operation; None: not at all.
    """

    candidate: Candidate
    sharing: Sharing | None


def admit(
    decision: Candidate | Refusal, engine: Engine, share: Callable[[], Sharing | None]
) -> Admitted | Response:
    """Say whether a handler may be called at all; if not, refuse before anything has run.

    Args:
        share: Says how other requests may be one with this one; may raise `NotAKeyError`.
    """
    try:
        sharing = share()
    except NotAKeyError as error:
        return problem(400, "idempotency-key-invalid", f"{error}.")
    if isinstance(decision, Refusal):
        return problem(decision.status, decision.code, decision.detail)
    # Where another one may have become the same operation, nothing need be called.
    if decision.budget != 0 or _has_key(sharing):
        return Admitted(decision, sharing)
    if engine.is_full and sharing is None and decision.queue is None:
        return _overloaded(Overloaded("operations", engine.limits.operations))
    return _unrecordable() if engine.is_cut_off else Admitted(decision, sharing)


def _has_key(sharing: Sharing | None) -> bool:
    """Tell whether a request has to be one with others; who only coalesces may be alone."""
    return sharing is not None and sharing.key is not None


def key_for(
    engine: Engine,
    sharing: Sharing,
    request: Request,
    route: str,
    owner: str | None,
    body: Iterable[bytes],
) -> Key:
    """Return what makes a request one with others; warn, once, where a key may be a stranger's.

    Args:
        route: The request's path, without the root path.
        body: All of it, in pieces of any size.
    """
    settings, is_of_key = engine.settings, sharing.key is not None
    is_known = owner is not None or settings.owner is not None
    is_known = is_known or settings.identity_headers is not None or engine.is_warned_of_keys
    if is_of_key and not is_known and is_anonymous(request, sharing.identity):
        engine.is_warned_of_keys = True
        logger.warning(ANONYMOUS_KEY, request.path)
    return key_of(sharing, request, route, owner, body)


def is_accepted_first(candidate: Candidate, sharing: Sharing | None) -> bool:
    """Tell whether a request becomes an operation before its handler is called.

    That it does so from the start, so that limits are looked at before anything runs; or because
    another request may have become the same operation.
    """
    return candidate.budget == 0 or sharing is not None


def may_pass(candidate: Candidate, sharing: Sharing | None) -> bool:
    """Tell whether the response of such a request may go to its client as well, if it is in time.

    Who is one with others waits as others do; who is deferred from the start is told to poll.
    """
    return sharing is not None and candidate.budget != 0


def refuse_unread(
    candidate: Candidate,
    sharing: Sharing | None,
    limits: Limits,
    *,
    has_room: bool,
    is_late: bool = False,
    queue: str | None = None,
) -> Response | None:
    """Refuse a request whose body could not be read ahead; None if it may go on as it is.

    Args:
        has_room: Whether there was room for what was read.
        is_late: Whether it does not come.
        queue: Whose workers were to run its handler; None: it runs here.
    """
    if not has_room and (queue is not None or is_accepted_first(candidate, sharing)):
        return _overloaded(Overloaded("spooled", limits.spooled))
    if queue is None and not _has_key(sharing):
        return None
    if is_late:
        close = ((b"connection", b"close"),)  # RFC 9110 §15.5.9
        return problem(408, "request-timeout", "The request did not come whole.", close)
    what = "be kept for a worker" if queue is not None else "have a key"
    return problem(413, "request-too-large", f"The request is too large to {what}.")


def refuse_unaccepted(
    error: Exception, sharing: Sharing | None, path: str, queue: str | None = None
) -> Response | None:
    """Refuse a request that has become no operation; None if it may go on as it is.

    Args:
        error: Why it has not.
        path: The request's, for the log.
        queue: Whose workers were to run its handler; None: it runs here.
    """
    if isinstance(error, Overloaded):
        return _overloaded(error)
    unexpected = None if isinstance(error, RaincheckError) else error
    # Under a key, another request might be handled as well.
    is_refused = queue is not None or _has_key(sharing)
    outcome = "is refused" if is_refused else "stays synchronous"
    logger.warning("%r %s: %s", path, outcome, error, exc_info=unexpected)
    return _unrecordable() if is_refused else None


def _overloaded(error: Overloaded) -> Response:
    """Refuse because a limit is reached; the client's own, if it is that (RFC 6585 §4)."""
    wait = (b"retry-after", b"%d" % OVERLOADED_RETRY_AFTER)
    if error.limit == "operations_per_owner":
        return problem(429, "too-many-operations", "Yours are too many at once.", (wait,))
    return unavailable("Too many operations are in flight.", OVERLOADED_RETRY_AFTER)


def _unrecordable() -> Response:
    return unavailable("Operations can't be recorded now.", STORE_RETRY_AFTER)
