"""Which requests may be deferred, when, and within what limits. Pure.

A decision is made from the request line and header fields alone, before the application is
called. It is on the path of every request: what can be computed at construction is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from raincheck.config.left_alone import KINDS, LeftAlone
from raincheck.config.limits import REQUEST_BODY
from raincheck.errors import ConfigurationError
from raincheck.http.preferences import Preferences, parse_prefer

Mode = Literal["auto", "prefer", "marked"]

# A HEAD can't be captured for the GET that polls; the others have no response worth keeping.
NEVER_DEFERRED = frozenset({"HEAD", "OPTIONS", "TRACE", "CONNECT"})

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 §9.2.1

DECISIONS_REMEMBERED = 1_000
PATH_REMEMBERED = 256  # characters: longer ones are rare, or meant to fill the memory


@dataclass(frozen=True, slots=True)
class Candidate:
    """A request that may be deferred.

    Attributes:
        budget: Seconds its handler may take; 0 defers at once, None only if the handler is marked.
        applied: What the 202 says in `Preference-Applied`.
        in_person: Whether its client takes nothing but the response itself: it is recorded under
            its key, and never deferred.
        queue: Where it waits for workers, without its handler being called here; None: it does
            not.
    """

    budget: float | None
    applied: str | None = None
    in_person: bool = False
    queue: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that insists (`handling=strict`) on what can't be done for it."""

    budget: ClassVar[None] = None  # as a candidate's: it has none
    status: int
    code: str
    detail: str


Decision = Candidate | Refusal | None
_Match = Callable[[str], re.Match[str] | None]


class Decisions(dict[str, Candidate | None]):
    """What was decided by path alone: most requests ask again what others have asked.

    Args:
        decide: Makes the decision.
    """

    def __init__(self, decide: Callable[[str], Candidate | None]) -> None:
        super().__init__()
        self._decide = decide

    def __missing__(self, path: str) -> Candidate | None:
        decision = self._decide(path)
        if len(path) <= PATH_REMEMBERED:
            if len(self) >= DECISIONS_REMEMBERED:
                self.clear()
            self[path] = decision
        return decision


class Policy:
    """Decides which requests may be deferred.

    Args:
        mode: `auto`, `prefer` or `marked`.
        budget: Seconds; 0 defers every candidate at once, None leaves it to `@long_running`.
        include: Patterns of paths that may be deferred; empty means all.
        exclude: Patterns of paths that are never deferred; they win.
        budgets: Budgets of single patterns; the first that matches wins.
        max_wait: The longest `Prefer: wait` that is honoured, in seconds.
        request_body: The limit of that name, in bytes.
        retry: For patterns of paths, whether their handlers may be run again; the first that
            matches wins. Others may if their method is safe.
        max_attempts: How often a handler may be begun; 1: none is ever run again.
        coalesce: Patterns of paths where identical safe requests share one operation.
        left_alone: Kinds of requests that are never deferred.
        runners: The workers that run the handlers of patterns; the first that matches wins.

    Raises:
        ConfigurationError: A pattern doesn't begin with a slash or an asterisk.
    """

    def __init__(
        self,
        *,
        mode: Mode = "auto",
        budget: float | None = 10.0,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        budgets: Mapping[str, float | None] | None = None,
        max_wait: float = 25.0,
        request_body: int = REQUEST_BODY,
        retry: Mapping[str, bool] | None = None,
        max_attempts: int = 1,
        coalesce: Iterable[str] = (),
        left_alone: Iterable[str] = tuple(KINDS),
        runners: Mapping[str, str] | None = None,
    ) -> None:
        self._is_unasked = mode != "prefer"
        self._max_wait = max_wait
        self._request_body = request_body
        self._include = _compile(include)
        self._exclude = _compile(exclude)
        self._retry = [(_compile([pattern]), may) for pattern, may in (retry or {}).items()]
        self._is_never_repeated = max_attempts <= 1
        self._coalesce = _compile(coalesce)
        self.leaves_alone = LeftAlone(left_alone)
        self._default = Candidate(None if mode == "marked" else budget)
        self._overrides = [
            (_compile([pattern]), Candidate(None if mode == "marked" else value))
            for pattern, value in (budgets or {}).items()
        ]
        self._runners = [(_compile([each]), name) for each, name in (runners or {}).items()]
        self.unasked = Decisions(self._decide_unasked)

    def decide(
        self, method: str, path: str, prefer: bytes | None, length: int | None = None
    ) -> Decision:
        """Say whether and when a request may be deferred; None: not at all.

        Without `prefer`, and for a method that may be deferred, `unasked[path]` says the same.

        Args:
            path: Without the application's root path.
            prefer: The `Prefer` field's value.
            length: The request's `Content-Length`, where it has one.
        """
        preferences = parse_prefer(prefer)
        if method in NEVER_DEFERRED or not self._may(path):
            return _refuse_if_strict(preferences)
        if preferences.respond_async and preferences.strict and (length or 0) > self._request_body:
            return Refusal(413, "request-too-large", "The request is too large to be deferred.")
        return self._by_preference(self._by_path(path), preferences)

    def decide_in_person(self, prefer: bytes | None, *, has_key: bool = False) -> Decision:
        """Say what becomes of a request whose client takes nothing but the response itself.

        It has had its connection switched, or reads events as they come. It is never deferred.

        Args:
            has_key: Whether it has an `Idempotency-Key`, which holds for it as for others.
        """
        refusal = _refuse_if_strict(parse_prefer(prefer))
        return Candidate(None, in_person=True) if refusal is None and has_key else refusal

    def may_repeat(self, method: str, path: str, marked: bool | None = None) -> bool:
        """Tell whether a handler may be run again if its process is lost.

        Args:
            path: Without the application's root path.
            marked: What the handler says of itself (`@long_running(retry=...)`).
        """
        if self._is_never_repeated:
            return False
        if marked is not None:
            return marked
        for matches, may in self._retry:
            if matches is not None and matches(path):
                return may
        return method in SAFE  # an old PUT or DELETE would undo what has come after it

    def coalesces(self, method: str, path: str) -> bool:
        """Tell whether a request may share the operation of an identical one."""
        return self._coalesce is not None and method in SAFE and self._coalesce(path) is not None

    def _decide_unasked(self, path: str) -> Candidate | None:
        return self._by_path(path) if self._is_unasked and self._may(path) else None

    def _may(self, path: str) -> bool:
        if self._exclude is not None and self._exclude(path):
            return False
        return self._include is None or self._include(path) is not None

    def _by_path(self, path: str) -> Candidate:
        for matches, queue in self._runners:
            if matches is not None and matches(path):
                return Candidate(0, queue=queue)
        for matches, candidate in self._overrides:
            if matches is not None and matches(path):
                return candidate
        return self._default

    def _by_preference(self, by_path: Candidate, preferences: Preferences) -> Candidate | None:
        """Apply RFC 7240 §4.1 and §4.3: async at once, or what isn't done within the wait."""
        wait = None if preferences.wait is None else min(preferences.wait, self._max_wait)
        is_marked_only = by_path.budget is None
        if by_path.queue is not None:
            applied = "respond-async" if preferences.respond_async else None
            is_wanted = self._is_unasked or preferences.respond_async
            return replace(by_path, applied=applied) if is_wanted else None
        if preferences.respond_async:
            return Candidate(None if is_marked_only else (wait or 0), "respond-async")
        if not self._is_unasked:
            return None
        return by_path if wait is None or is_marked_only else Candidate(wait, f"wait={wait:g}")


def _refuse_if_strict(preferences: Preferences) -> Refusal | None:
    if preferences.strict and preferences.respond_async:
        return Refusal(400, "preference-not-honoured", "This request can't be answered later.")
    return None


_TOKEN = re.compile(r"\*\*|\*|\{\w+:path\}|\{\w*(?::\w+)?\}|<path:\w+>|<(?:\w+:)?\w+>")


def path_matcher(pattern: str) -> Callable[[str], bool]:
    """Return what tells whether a path has a pattern, as in the options.

    Raises:
        ConfigurationError: It doesn't begin with a slash or an asterisk.
    """
    matches = _compile([pattern])
    return lambda path: matches is not None and matches(path) is not None


def _compile(patterns: Iterable[str]) -> _Match | None:
    """Join patterns to one regular expression; `*` stays within a segment, `**` does not.

    Placeholders as the frameworks write them (`{name}`, `{name:path}`, `<int:name>`) stand for
    the same, so that a route can be pasted.

    To match takes time in proportion to the path, whatever the pattern: each `*` takes as little as
    it can, the last one as much, and atomic groups (`(?>...)`) see to it that none is asked twice.
    Nothing is lost by that: what follows an asterisk, and begins with another, may as well begin
    where it is found first.
    """
    expressions = [_expression(pattern) for pattern in patterns]
    return re.compile("|".join(expressions), re.DOTALL).fullmatch if expressions else None


def _expression(pattern: str) -> str:
    if not str(pattern).startswith(("/", "*")):
        raise ConfigurationError(f"a path pattern begins with a slash or *, unlike {pattern!r}")
    first, *others = _parts(pattern)
    if not others:
        return _anchored(first, is_last=True)
    middle = "".join(_sought(texts) for texts in others[:-1])
    end = rf"{_ANYWHERE}{_found(others[-1], is_last=True)}" if others[-1] != [""] else ".*"
    return _anchored(first, is_last=False) + middle + end


# Up to some segment: what is not found from the first place in one is not found from another there.
_ANYWHERE = "(?:[^/]*+/)*?"


def _parts(pattern: str) -> list[list[str]]:
    """Split a pattern at each `**`, and what is between at each `*`."""
    parts, position = [[""]], 0
    for token in _TOKEN.finditer(pattern):
        parts[-1][-1] += pattern[position : token.start()]
        deep = token[0] == "**" or token[0].endswith(":path}") or token[0].startswith("<path:")
        if deep:
            parts.append([""])
        else:
            parts[-1].append("")
        position = token.end()
    parts[-1][-1] += pattern[position:]
    return parts


def _anchored(texts: list[str], *, is_last: bool) -> str:
    """Match texts with asterisks between them, from where it is on."""
    first, *others = texts
    if not others:
        return re.escape(first) + (r"\Z" if is_last else "")
    return re.escape(first) + _found(others, is_last=is_last)


def _sought(texts: list[str]) -> str:
    return f"(?>{_ANYWHERE}{_found(texts, is_last=False)})"


def _found(texts: list[str], *, is_last: bool) -> str:
    """Match an asterisk before each of some texts; the last of all ends the path."""
    *before, last = [re.escape(text) for text in texts]
    end = rf"(?>[^/]*{last})\Z" if is_last else f"(?>[^/]*?{last})"
    return "".join([*(f"(?>[^/]*?{text})" for text in before), end])
