"""What a request may ask of the torture applications, and what it must be answered. Pure.

A body depends on a number that the handler draws when it begins and tells in `X-Nonce`: bytes of
two runs of one request, mixed, or of one run after another was seen, are told apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from urllib.parse import urlencode

from tests.servers.material import content

BEAT = 0.1  # seconds between the side effects of a handler that works
NOTES = ("one", "two")  # the values of X-Note, a field that each response has twice
MAKES_SAFE = frozenset({"GET"})  # methods whose handlers may be run again


@dataclass(frozen=True)
class Work:
    """One request to an application.

    Attributes:
        route: The first segment of its path, which names the handler.
        seconds: How long the handler works.
        parts: In how many pieces the response is sent.
        pause: Seconds between the first piece and the others.
        upload: Bytes of the request's body.
    """

    rid: str
    route: str
    method: str
    seed: int
    seconds: float = 0.0
    size: int = 0
    status: int = 200
    parts: int = 1
    pause: float = 0.0
    upload: int = 0

    @property
    def path(self) -> str:
        """The request's target."""
        names = ("seed", "seconds", "size", "status", "parts", "pause")
        return f"/{self.route}/{self.rid}?" + urlencode({n: getattr(self, n) for n in names})

    @property
    def is_repeatable(self) -> bool:
        """Whether its handler may be begun more than once."""
        return self.route == "again" or self.method in MAKES_SAFE

    @property
    def uploaded(self) -> bytes:
        """The request's body."""
        return content(self.seed, self.upload)

    def expected(self, nonce: int) -> bytes:
        """The response's body, if the handler has drawn this number."""
        return response_body(self.seed, nonce, self.size)

    def as_json(self) -> dict[str, object]:
        """Return what `from_json` takes."""
        return asdict(self)


def response_body(seed: int, nonce: int, size: int) -> bytes:
    """Return the body of a response."""
    return content(seed << 32 | nonce, size)


def from_query(rid: str, route: str, method: str, query: Mapping[str, str]) -> Work:
    """Read what a request asks for."""
    return Work(
        rid=rid,
        route=route,
        method=method,
        seed=int(query["seed"]),
        seconds=float(query["seconds"]),
        size=int(query["size"]),
        status=int(query["status"]),
        parts=int(query["parts"]),
        pause=float(query["pause"]),
    )
