"""What a polling convention decides; the rest of the wire is the same in all (`monitor`)."""

from __future__ import annotations

from dataclasses import dataclass

from raincheck.monitor.links import Resource


@dataclass(frozen=True, slots=True)
class Dialect:
    """One polling convention.

    Attributes:
        name: The value of the `dialect` option.
        poll: The resource whose URL is the `Location` of a 202.
        see_other: Whether the status monitor of a finished operation answers 303 to R, and R
            answers 404 before that.
    """

    name: str
    poll: Resource
    see_other: bool = False
