"""What users decide about following: one set of options for all transports. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from raincheck.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an operation is, as far as its server says.

    Attributes:
        completed: What is done.
        total: Of how much.
        message: What it is at, in words.
        estimate: When it is expected to end.
    """

    completed: float | None = None
    total: float | None = None
    message: str | None = None
    estimate: datetime | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """How an operation is followed.

    Attributes:
        deadline: Seconds from the request to the operation's end; None: however long it takes. Reading the response is not counted. Default: 3600.
        wait: Seconds that the server is asked to hold a poll until there is news (`Prefer: wait`); 0: it is not asked. At most 1 where there is an `on_progress`, which would hear of nothing meanwhile. Default: 20.
        patience: Seconds for which polls may fail (502, 503, 504, no connection) in a row. Default: 120.
        cancel: Whether the operation is cancelled (DELETE) when the caller is interrupted, or the deadline passes. Default: True.
        strict: Whether a 202 that says nowhere to poll is an error; else it is returned as it is, since a handler may mean it. Default: False.
        place: Where to poll, relative to the request's URL, if only the body tells: `"/status/{id}"` takes the member `id` of the JSON. With it a 200 that is an Operation of AIP-151 (`"/v1/{name}"`) is followed, too. Default: None.
        idempotency_key: Whether a POST or PATCH without an `Idempotency-Key` gets one. A request that has one is sent again if its answer is lost, or 502, 503 or 504. Default: False.
        on_progress: Called with a `Progress` after each poll that shows the operation running.
        on_token: Called with a token for `resume` once the operation is known, and whenever it changes.
    """  # noqa: E501

    deadline: float | None = 3600.0
    wait: float = 20.0
    patience: float = 120.0
    cancel: bool = True
    strict: bool = False
    place: str | None = None
    idempotency_key: bool = False
    on_progress: Callable[[Progress], object] | None = None
    on_token: Callable[[str], object] | None = None

    def __post_init__(self) -> None:
        """Refuse what can't be meant."""
        for name in ("deadline", "wait", "patience"):
            value = getattr(self, name)
            if value is None and name == "deadline":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ConfigurationError(f"`{name}` is a number of seconds, not {value!r}")
            if not math.isfinite(value) or value < 0:
                raise ConfigurationError(f"`{name}` is a number of seconds from 0, not {value!r}")
        if self.place is not None and not isinstance(self.place, str):
            raise ConfigurationError(
                f'`place` is a text such as "/status/{{id}}", not {self.place!r}'
            )


DEFAULT = Options()
