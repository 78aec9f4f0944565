"""Where the response to a request goes that may be deferred: a table of states and events. Pure."""

from __future__ import annotations

from enum import Enum, auto


class Fate(Enum):
    """What is known of where the response to a request goes."""

    OPEN = "to the client, if it begins now"
    HELD = "it may not begin: the operation is being recorded"
    KEPT = "to the client, however late it is"
    ANSWERED = "to the client: it has begun, or its handler is over"
    DEFERRED = "into the store"
    HANDED_OVER = "nowhere: workers run the handler, which has been left before it began"

    __hash__ = object.__hash__  # every request looks into the tables; the name's takes four times


class Moment(Enum):
    """What happens to a request."""

    DUE = "its budget is over, or its handler is marked"
    RECORDED = "it has become an operation"
    REFUSED = "it becomes none"
    RESPONSE = "its response is about to begin"
    OVER = "its handler is over"
    LEFT = "its handler is left to workers, before it begins"

    __hash__ = object.__hash__


class Where(Enum):
    """Where the response goes that is about to begin."""

    CLIENT = auto()
    STORE = auto()
    WAIT = auto()  # until it is decided
    NOWHERE = auto()


_O, _H, _K, _A, _D, _L = Fate
FATES: dict[Moment, dict[Fate, Fate]] = {
    Moment.DUE: {_O: _H, _H: _H, _K: _K, _A: _A, _D: _D, _L: _L},
    Moment.RECORDED: {_O: _D, _H: _D},  # what has been answered can't become an operation
    Moment.REFUSED: {_O: _K, _H: _K, _K: _K, _A: _A, _D: _D, _L: _L},
    Moment.RESPONSE: {_O: _A, _H: _H, _K: _A, _A: _A, _D: _D, _L: _L},
    # Who is marked is answered 202, however fast the handler fails.
    Moment.OVER: {_O: _A, _H: _H, _K: _A, _A: _A, _D: _D, _L: _L},
    # While it is being recorded as one of this process, it is too late.
    Moment.LEFT: {_O: _L, _H: _H, _K: _K, _A: _A, _D: _L, _L: _L},
}
WHERE = {_H: Where.WAIT, _D: Where.STORE, _L: Where.NOWHERE}
