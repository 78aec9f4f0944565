"""Sessions of requests that wait for something else's end: they must not undo what it saves.

A session is loaded when a poll's user is asked for, and saved when the poll is answered, by
`SESSION_SAVE_EVERY_REQUEST` or because some middleware has changed it. Meanwhile the handler may
have saved it, too.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib.sessions.backends.base import UpdateError
from django.utils.cache import patch_vary_headers

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

_SAVED = "_raincheck_saved"  # on a session: before its request began to wait


def save_before(request: HttpRequest) -> None:
    """Save a session that was changed, before its request waits; may block."""
    session: Any = getattr(request, "session", None)
    if getattr(session, "modified", False):
        try:
            session.save()
        except UpdateError:  # it was deleted: Django's middleware will say so
            return
        session.modified = False
        setattr(session, _SAVED, True)


def was_accessed(request: HttpRequest) -> bool:
    """Tell whether anybody has asked for the session so far."""
    return bool(getattr(getattr(request, "session", None), "accessed", False))


def leave_alone(request: HttpRequest, response: HttpResponseBase) -> None:
    """Have a session not saved after its request has waited, unless it was changed since."""
    session: Any = getattr(request, "session", None)
    if session is None or getattr(session, "modified", True):
        return
    if getattr(session, _SAVED, False):  # its cookie may have to be sent
        session.save = _do_nothing
        session.modified = True
        return
    if session.accessed:
        patch_vary_headers(response, ("Cookie",))
    session.is_empty = partial(_is_empty, session)


def _do_nothing(*args: Any, **kwargs: Any) -> None:
    """Save nothing: it has been."""


def _is_empty(session: Any) -> bool:
    """Tell it if the session is to be saved; else there is none, as far as is said here."""
    if not session.modified:
        raise AttributeError("a poll leaves the session as it is")
    return bool(type(session).is_empty(session))
