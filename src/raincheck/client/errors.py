"""What can go wrong while an operation is followed, and what its error tells.

FollowError
├── NothingToFollow       a 202 does not say where to poll (only if `strict`)
├── DeadlineExceeded      the operation has not ended in time
├── LostTouch             polls have failed for longer than `patience`
├── CredentialsRefused    a poll was answered 401 or 407: the credentials may have expired
├── RedirectLoop          polls are sent from one place to the next
└── InvalidToken          what should be resumed is no token
"""

from __future__ import annotations

from urllib.parse import urlsplit

from raincheck.errors import RaincheckError


class FollowError(RaincheckError):
    """An operation could not be followed to its end.

    Attributes:
        token: With it `resume` goes on, also in another process; None: there is nothing to resume.
        status: The status of the last answer; None: there was none.
    """

    def __init__(self, message: str, *, token: str | None = None, status: int | None = None):
        super().__init__(message)
        self.token = token
        self.status = status


class NothingToFollow(FollowError):
    """The answer is 202, but says nowhere to poll."""


class DeadlineExceeded(FollowError):
    """The operation has not ended within the deadline."""


class LostTouch(FollowError):
    """Polls have failed for too long; the operation may well go on."""


class CredentialsRefused(FollowError):
    """A poll was answered 401 or 407.

    It is no response of the handler's: whoever took it for one would send the request again.
    """


class RedirectLoop(FollowError):
    """A poll was redirected too often."""


class InvalidToken(FollowError, ValueError):
    """This is not a token that raincheck has made."""


def shown(url: str) -> str:
    """Return a URL for people to read: its user and its query may be credentials."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(no URL)"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{parts.scheme}://{host}{port}{parts.path}"
