"""Small values by their names: a key for each, which the server itself deletes at last."""

from __future__ import annotations

from raincheck.operations.store import KEPT_AGE
from raincheck.stores.redis.names import Names, to_run
from raincheck.stores.redis.scripts import KEEP
from raincheck.stores.redis.server import Server


class Keeper:
    """The part of a store that is `Keeping`."""

    _server: Server
    _names: Names

    def recall(self, name: str) -> bytes | None:
        value: bytes | None = self._server.command("GET", self._names.kept(name))
        return value

    def keep(self, name: str, old: bytes | None, new: bytes) -> bool:
        lifetime, had_one = str(int(KEPT_AGE * 1000)), "" if old is None else "1"
        arguments: list[str | bytes] = [new, lifetime, had_one, old or b""]
        return bool(self._server.command(*to_run(KEEP, [self._names.kept(name)], arguments)))
