"""What the start-up check complains about, and how it says so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with a mark, or with what is around the middleware.

    Attributes:
        code: `no-effect`, `before-authentication`, `no-middleware`, `no-name`, `no-store`,
            `main-thread` or `task-state`; of what is around: `cors`, `compression`, `base-http`,
            `instrument`, `labels` or `no-route`.
        where: The route, and the line of the function; or what is in the wrong place.
        what: What is wrong.
        advice: What to do.
    """

    code: str
    where: str
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.advice}."
