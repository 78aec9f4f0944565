"""What a transport and a machine that follows tell each other. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from raincheck.client.documents import StatusDocument, read
from raincheck.client.fields import Fields, is_json, retry_after, value_of
from raincheck.client.options import Progress

STARTING = frozenset({200, 201, 202})  # statuses: of all others nothing else need be looked at
MONITOR_FIELDS = ("operation-location", "azure-asyncoperation")
_PLACES = frozenset(MONITOR_FIELDS)


@dataclass(frozen=True, slots=True)
class Asked:
    """The original request, as far as it decides on the polls.

    Attributes:
        headers: With names in lower case.
    """

    method: str
    url: str
    headers: Fields


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to it, or to a poll.

    Attributes:
        headers: With names in lower case.
        body: The whole body, as it came, if it `is_read` and small; else None.
        took: Seconds that it has taken.
    """

    status: int
    headers: Fields
    body: bytes | None = None
    took: float = 0.0

    def header(self, name: str) -> str | None:
        """Return a header field's value."""
        return value_of(self.headers, name)

    def retry_after(self, wall: float) -> float | None:
        """Return the seconds to wait that it advises; None: nothing usable."""
        return retry_after(self.headers, wall)

    def document(self) -> StatusDocument | None:
        """Return the JSON object in the body; None: it is something else."""
        members = read(self.body, self.headers)
        return StatusDocument(members) if members is not None else None


@dataclass(frozen=True, slots=True)
class Ask:
    """What to send next.

    Attributes:
        after: Seconds to wait before.
        wait: Seconds that the server may hold its answer, beyond the usual.
        within: Seconds until the deadline, when it is sent; None: there is none.
        progress: What the last answer has told.
    """

    method: str
    url: str
    headers: Fields
    after: float = 0.0
    wait: float = 0.0
    within: float | None = None
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Final:
    """The response to return.

    Attributes:
        body: None: the last answer's own.
        cookies: `Set-Cookie` of the answers before, which nobody else will see.
        token: With it the same response can be had again.
        is_abroad: Whether another origin says it, whose cookies are not the request's.
    """

    status: int
    headers: Fields
    body: bytes | None = None
    cookies: tuple[str, ...] = ()
    token: str | None = None
    is_abroad: bool = False


Step = Ask | Final


def may_start(status: int, headers: Fields, *, templated: bool = False) -> bool:
    """Tell whether the answer to a request may be one to follow; most are not.

    Args:
        templated: Whether a body may say where, so that any JSON may.
    """
    if status == 202:
        return True
    if status not in STARTING:
        return False
    if templated and status == 200 and is_json(headers):
        return True
    return any(name in _PLACES or (name == "location" and status == 201) for name, _ in headers)


_SHORT = 65_536  # bytes of a body that is read only to keep its connection
_PASSED_OVER = frozenset({301, 302, 303, 307, 308, 408, 425, 429, 502, 503, 504})


def is_read(answer: Answer) -> bool:
    """Tell whether the body is read: it has a say, or a connection is to be kept."""
    if answer.status == 202:  # a handler's own may be a stream that somebody waits for
        return is_json(answer.headers) or _is_short(answer)
    if answer.header("operation-status") is not None:
        return False
    if answer.header("asyncresult") is not None:
        return (answer.header("content-type") or "").lower().startswith("application/http")
    is_told = 200 <= answer.status < 300 and is_json(answer.headers)
    return is_told or answer.status in _PASSED_OVER


def _is_short(answer: Answer) -> bool:
    length = answer.header("content-length") or ""
    return length.isascii() and length.isdigit() and len(length) < 6 and int(length) <= _SHORT
