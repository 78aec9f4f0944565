"""What a Redis store tells an operator."""

from __future__ import annotations

from raincheck.stores.describing import Description
from raincheck.stores.redis.names import Names, to_bytes, to_text
from raincheck.stores.redis.server import Server

BATCH = 1_000  # entries of an index that are looked at, at a time


class Described:
    """The part of a store that is `Describing` and `Completing`."""

    _server: Server
    _names: Names

    def describe(self) -> Description:
        settings = self._server.settings
        place = f"{settings.address}, database {settings.database}, prefix {settings.prefix}"
        kind, version = self._server.about()
        return Description(kind, place, version, counts_ends=False)

    def complete(self, beginning: str, limit: int) -> list[str]:
        pattern, found = to_bytes(beginning) + b"*", set[str]()
        begun, cursor = False, 0
        while not begun or (cursor and len(found) < limit):
            scan = ("ZSCAN", self._names.all, cursor, "MATCH", pattern, "COUNT", BATCH)
            (cursor, entries), begun = self._server.command(*scan), True
            found.update(to_text(member) for member, _ in entries)
        return sorted(found)[:limit]
