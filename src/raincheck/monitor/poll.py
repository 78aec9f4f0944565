"""A request to the status monitor, and what is to be said to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from raincheck.config.policy import Candidate
from raincheck.engine.deferral import Deferral
from raincheck.engine.start import Key
from raincheck.http.messages import Headers, Request, Response
from raincheck.monitor.feed import Feed
from raincheck.monitor.links import Resource, fill
from raincheck.operations.operation import Operation


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

    @property
    def outside(self) -> Request:
        """The request as it came to the application, which may have mounted the monitor."""
        if self.root_path is None:
            return self.request
        return replace(self.request, root_path=self.root_path)


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
        feed: What it would rather hear from now on, instead of `response`; None: nothing.
    """

    response: Response
    wait: float = 0
    feed: Feed | None = None
