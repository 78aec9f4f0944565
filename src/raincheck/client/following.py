"""Following one operation from its 202 to its end: a state machine without I/O and clock.

A transport gives it each answer, and does what it is told next: to send a request after a while,
or to return a response. What goes wrong is raised. One machine follows one operation.
"""

from __future__ import annotations

import math
from dataclasses import replace

from raincheck.client import documents
from raincheck.client.documents import StatusDocument, Told
from raincheck.client.enclosed import NotEnclosed, unpacked
from raincheck.client.errors import (
    CredentialsRefused,
    DeadlineExceeded,
    FollowError,
    LostTouch,
    RedirectLoop,
    shown,
)
from raincheck.client.exchange import MONITOR_FIELDS, Answer, Ask, Asked, Final, Step
from raincheck.client.fields import (
    SETS_COOKIES,
    Cookies,
    Fields,
    carried,
    origin,
    preference_applied,
    resolve,
    value_of,
)
from raincheck.client.options import Options, Progress
from raincheck.client.starting import cancellable
from raincheck.client.tokens import MONITOR, RESULT, Place, to_token

SHORTEST_WAIT, LONGEST_WAIT = 0.1, 300.0  # seconds between polls, whatever the server says
REDIRECTS = 10  # in a row
_PASSING = frozenset({408, 425, 502, 503, 504})
_ASIDE = frozenset({301, 302, 303, 307, 308})
_OF_A_BODY = frozenset({"content-length", "content-encoding", "transfer-encoding"})
_BACKOFF, _GROWTH, _SLOWEST = 0.5, 1.5, 10.0  # seconds, where the server says nothing
_HELD = 0.5  # seconds that an answer takes at least, if a server did hold it
_SHOWN = 1.0  # seconds that a poll is held where somebody looks at the progress


class Following:
    """One operation that is followed.

    Args:
        asked: The original request.
        place: Where the operation is polled.
        began: Seconds by a clock that never goes back, when the request was sent.
    """

    def __init__(self, asked: Asked, options: Options, place: Place, began: float) -> None:
        self.place = place
        self._asked = asked
        self._options = options
        self._end = math.inf if options.deadline is None else began + options.deadline
        self._is_monitor = place.kind == MONITOR
        self._is_watched = options.on_progress is not None
        self._cookies = Cookies()
        self._earlier = 0  # cookies that were set before the last answer
        self._hops = self._failures = self._quiet = 0
        self._failing_since: float | None = None
        self._status: int | None = None
        self._progress = Progress()

    @property
    def token(self) -> str:
        """With what another process can go on."""
        return to_token(self.place)

    # --- what happens ------------------------------------------------------------------------

    def begin(self, answer: Answer, now: float, wall: float) -> Ask:
        """Take in the answer to the request."""
        self._status = answer.status
        self._cookies.learn(answer.headers, wall)
        self._look(answer, answer.document())
        said = [answer.header(name) for name in ("location", "content-location")]
        holds = all(resolve(self._asked.url, place) == self.place.url for place in said)
        return self._ask(now, 0.0 if holds else self._pause(answer, wall))  # as raincheck does

    def resume(self, now: float) -> Ask:
        """Go on at the place of a token."""
        return self._ask(now, 0.0)

    def received(self, answer: Answer, now: float, wall: float) -> Step:
        """Take in the answer to a poll.

        Args:
            now: Seconds by the clock that never goes back.
            wall: Seconds since the epoch.

        Raises:
            FollowError: There is no way on.
        """
        self._status = answer.status
        self._earlier = len(self._cookies.set)
        if not self._is_abroad(self.place.url):
            self._cookies.learn(answer.headers, wall)
        if answer.status != 202 and answer.header("operation-status") is not None:
            return self._final(_as_the_handler_said(answer))
        if answer.status in _ASIDE and answer.header("location"):
            return self._aside(answer, now)
        if answer.status in _PASSING:
            return self._failed(f"{answer.status}", answer.retry_after(wall), now)
        if answer.status in (401, 407):
            raise self._refused(answer)
        self._failures, self._failing_since, self._hops = 0, None, 0
        if answer.status == 429:
            return self._ask(now, self._pause(answer, wall))
        if answer.header("asyncresult") is not None:
            return self._enclosed(answer)
        return self._told(answer, now, wall)

    def lost(self, error: Exception, now: float) -> Ask:
        """Take in that a poll has had no answer.

        Raises:
            LostTouch: It has been so for too long.
        """
        self._status = None
        return self._failed(f"no answer ({type(error).__name__})", None, now, error)

    def cancellation(self) -> Ask | None:
        """Return what to send to cancel the operation; None: there is nothing to send."""
        url = self.place.cancel
        if url is None or self._is_abroad(url):  # a server may not have others' things deleted
            return None
        method = "POST" if url.endswith(":cancel") else "DELETE"
        return Ask(method, url, self._fields(url, 0))

    # --- what answers mean -------------------------------------------------------------------

    def _told(self, answer: Answer, now: float, wall: float) -> Step:
        document = answer.document()
        if answer.status == 202 or (answer.status == 404 and answer.header("retry-after")):
            return self._running(answer, document, now, wall)
        if document is None or not self._speaks_of_it(answer, document):
            return self._final(Final(answer.status, answer.headers))
        told = document.tells()
        if told is Told.NOTHING:
            return self._final(Final(answer.status, answer.headers))
        if told in (Told.RUNNING, Told.UNKNOWN):
            self._is_monitor = True
            return self._running(answer, document, now, wall)
        return self._ended(answer, document, told, now)

    def _speaks_of_it(self, answer: Answer, document: StatusDocument) -> bool:
        """Tell whether a document is about the operation, and not the operation's own result."""
        if self.place.kind == RESULT or not 200 <= answer.status < 300:
            return False
        if self._is_monitor or document.is_named_as_aip or document.is_ogc:
            return True
        if document.id is not None and document.id == self.place.id:
            return True
        if document.tells() is not Told.RUNNING:
            return False
        is_hinted = any(answer.header(name) is not None for name in ("retry-after", "location"))
        return is_hinted or document.is_surely_running

    def _running(
        self, answer: Answer, document: StatusDocument | None, now: float, wall: float
    ) -> Ask:
        if answer.status == 202:
            self._moved(answer)
        if self.place.id is None and document is not None:
            self.place = cancellable(replace(self.place, id=document.id), document)
        self._look(answer, document)
        if preference_applied(answer.headers, "wait") and answer.took >= _HELD:
            return self._ask(now, 0.0)
        return self._ask(now, self._pause(answer, wall))

    def _moved(self, answer: Answer) -> None:
        """Go where an answer says that the next poll goes."""
        for name in MONITOR_FIELDS if self._is_monitor else ("location",):
            target = self._url(answer.header(name))
            if target is not None:
                self.place = replace(self.place, url=target)
                return

    def _look(self, answer: Answer, document: StatusDocument | None) -> None:
        members = document.members if document is not None else {}
        self._progress = documents.progress(members, answer.headers)

    def _ended(self, answer: Answer, document: StatusDocument, told: Told, now: float) -> Step:
        within = documents.answer_within(document) if told is Told.SUCCEEDED else None
        if document.is_aip:
            return self._final(Final(*(within or documents.error_within(document, told))))
        target = self._result_place(answer, document, told, has_within=within is not None)
        if target is not None and target != self.place.url:
            self.place = replace(self.place, url=target, kind=RESULT)
            return self._ask(now, 0.0)
        if told is not Told.SUCCEEDED:
            return self._final(Final(*documents.error_within(document, told)))
        return self._final(Final(*within) if within else Final(answer.status, answer.headers))

    def _result_place(
        self, answer: Answer, document: StatusDocument, told: Told, *, has_within: bool
    ) -> str | None:
        """Return where the result is, or the handler's own error; None: here."""
        accept = value_of(self._asked.headers, "accept") or ""
        said = self._url(document.result(accept)) or self._url(answer.header("location"))
        if said is None and document.is_ogc and told is not Told.CANCELLED:
            said = self.place.url.partition("?")[0] + "/results"
        if said is not None or told is not Told.SUCCEEDED or has_within:
            return said
        if self.place.result is not None:
            return self.place.result
        return self.place.asked if self.place.method in ("PUT", "PATCH") else None

    def _enclosed(self, answer: Answer) -> Final:
        try:
            return self._final(Final(*unpacked(answer.status, answer.headers, answer.body)))
        except NotEnclosed as error:
            raise self._error(FollowError, f"a result can't be read: {error}") from error

    def _aside(self, answer: Answer, now: float) -> Ask:
        self._hops += 1
        target = self._url(answer.header("location"))
        if self._hops > REDIRECTS or target is None:
            what = f"more than {REDIRECTS} times" if target else "to what is no http URL"
            raise self._error(RedirectLoop, f"{shown(self.place.url)} redirects {what}")
        kind = RESULT if answer.status == 303 else self.place.kind
        self.place = replace(self.place, url=target, kind=kind)
        return self._ask(now, 0.0)

    def _failed(
        self, how: str, advised: float | None, now: float, cause: Exception | None = None
    ) -> Ask:
        """Poll again, a little later each time, until it has been going on for too long."""
        since = self._failing_since = now if self._failing_since is None else self._failing_since
        left = since + self._options.patience - now
        if left <= 0 and self._failures:
            raise self._error(
                LostTouch,
                f"polls of {shown(self.place.url)} have failed for {now - since:.0f} s: {how}; "
                "the operation may go on",
            ) from cause
        self._failures += 1
        return self._ask(now, pause_after_failure(self._failures, advised, left))

    # --- what follows ------------------------------------------------------------------------

    def _url(self, reference: str | None) -> str | None:
        """Resolve against where the last answer came from."""
        return resolve(self.place.url, reference)

    def _is_abroad(self, url: str) -> bool:
        return origin(url) != origin(self._asked.url)

    def _pause(self, answer: Answer, wall: float) -> float:
        """Return the seconds to the next poll: as advised, else ever longer."""
        advised = answer.retry_after(wall)
        if advised:
            return min(max(advised, SHORTEST_WAIT), LONGEST_WAIT)
        self._quiet += 1
        return float(min(_BACKOFF * _GROWTH ** min(self._quiet - 1, 20), _SLOWEST))

    def _ask(self, now: float, after: float) -> Ask:
        left = self._end - now
        if left <= 0:
            raise self._error(
                DeadlineExceeded,
                f"{shown(self.place.url)} has not ended within {self._options.deadline:g} s",
            )
        url, after = self.place.url, min(after, left)
        within = left - after
        hold = int(min(self._options.wait, within, _SHOWN if self._is_watched else math.inf))
        end = None if within == math.inf else within
        return Ask("GET", url, self._fields(url, hold), after, hold, end, self._progress)

    def _fields(self, url: str, hold: int) -> Fields:
        abroad = self._is_abroad(url)
        fields = carried(self._asked.headers, abroad=abroad)
        if not abroad:
            fields = self._cookies.added_to(fields, url)
        if self.place.kind != RESULT:
            fields = _with_json(fields)
        return (*fields, ("prefer", f"wait={hold}")) if hold else fields

    def _final(self, final: Final) -> Final:
        if self._is_abroad(self.place.url):  # a client would keep them as the first origin's
            kept = tuple(field for field in final.headers if field[0] not in SETS_COOKIES)
            final = replace(final, headers=kept, is_abroad=True)
        if final.body is not None:
            kept = tuple(field for field in final.headers if field[0] not in _OF_A_BODY)
            length = ("content-length", f"{len(final.body)}")
            final = replace(final, headers=(*kept, length))
        seen = self._cookies.set[: self._earlier] if final.body is None else self._cookies.set
        return replace(final, cookies=tuple(seen), token=self.token)

    def _refused(self, answer: Answer) -> FollowError:
        return self._error(
            CredentialsRefused,
            f"a poll of {shown(self.place.url)} was answered {answer.status}: resume it with the "
            "token, and with credentials that it accepts",
        )

    def _error(self, kind: type[FollowError], message: str) -> FollowError:
        return kind(message, token=self.token, status=self._status)


def pause_after_failure(failures: int, advised: float | None, left: float) -> float:
    """Return the seconds to the next try, of those that are left."""
    wait = advised or min(_BACKOFF * 2 ** min(failures - 1, 10), _SLOWEST)
    return max(0.0, min(max(wait, SHORTEST_WAIT), left))


def _with_json(fields: Fields) -> Fields:
    """Accept JSON beside what the request accepts: a monitor may have nothing else."""
    accept = value_of(fields, "accept")
    if accept is None or "json" in accept or "*/*" in accept:
        return fields
    others = (field for field in fields if field[0] != "accept")
    return (*others, ("accept", f"{accept}, application/json;q=0.1"))


def _as_the_handler_said(answer: Answer) -> Final:
    """Give back the status that raincheck does not show to those who poll."""
    own = answer.header("operation-result-status") or ""
    is_one = own.isascii() and own.isdigit() and len(own) == 3 and "200" <= own <= "599"
    return Final(int(own) if is_one else answer.status, answer.headers)
