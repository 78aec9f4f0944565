"""Deleting what was forgotten, and bodies that no record refers to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from raincheck.operations.operation import Operation
from raincheck.operations.store import LEFTOVER_AGE
from raincheck.stores.redis import scripts
from raincheck.stores.redis.indexes import BATCH, Indexes, batches
from raincheck.stores.redis.names import Command, Names, to_bytes, to_run, to_text
from raincheck.stores.redis.server import Server


class Purging:
    """The part of a store that purges and discards."""

    _server: Server
    _names: Names
    _indexes: Indexes
    _clock: Callable[[], float]

    def purge(self, before: float, limit: int = 500) -> int:
        deleted = 0
        for entries in self._indexes.read(self._names.forgotten, None, min(limit, BATCH), before):
            due = self._indexes.operations(entries)
            deleted += self._delete(due[: limit - deleted])
            if deleted >= limit:
                break
        self._sweep()
        return deleted

    def _delete(self, operations: list[Operation]) -> int:
        """Delete those that nobody changes meanwhile; return how many."""
        lists = [("SMEMBERS", self._names.chunk_list(operation.id)) for operation in operations]
        chunks = self._server.commands(lists)
        purges = [
            self._to_purge(operation, sorted(members))
            for operation, members in zip(operations, chunks, strict=True)
        ]
        dedupe_keys = self._server.commands(purges)
        deleted = [
            (operation, dedupe)
            for operation, dedupe in zip(operations, dedupe_keys, strict=True)
            if dedupe is not None
        ]
        self._server.commands(
            [self._if_it_leads_to(found.id, key, "UNLINK") for found, key in deleted if key]
        )
        left = [entry for found, _ in deleted for entry in self._names.entries(found)]
        self._indexes.remove([(entry, None) for entry in left])
        return len(deleted)

    def _to_purge(self, operation: Operation, members: list[bytes]) -> Command:
        if len(members) > BATCH:  # rare: what is forgotten has been discarded
            self._discard([operation.id])
            members = []
        keys = [
            *self._record_and_list(operation.id),
            *(self._names.chunk(operation.id, member.decode()) for member in members),
        ]
        return to_run(scripts.PURGE, keys, [str(operation.version), *members])

    def _sweep(self) -> None:
        """Delete old bodies without a record; from then on, those with one are its purge's."""
        key, until = self._names.bodies, repr(self._clock() - LEFTOVER_AGE)
        find: Command = ("ZRANGEBYSCORE", key, "-inf", until, "LIMIT", 0, BATCH)
        while members := self._server.command(*find):
            ids = [to_text(member) for member in members]
            known = self._server.commands([("HEXISTS", self._names.record(id), "d") for id in ids])
            self._discard([id for id, is_known in zip(ids, known, strict=True) if not is_known])
            self._run(scripts.REMOVE_UNTIL, [key], [until, *members])

    def discard(self, operation_id: str) -> None:
        self._discard([operation_id])

    def _discard(self, ids: list[str]) -> None:
        lists = [("SMEMBERS", self._names.chunk_list(operation_id)) for operation_id in ids]
        for operation_id, members in zip(ids, self._server.commands(lists), strict=True):
            for batch in batches(sorted(members)) if members else [[]]:
                keys = [self._names.chunk(operation_id, member.decode()) for member in batch]
                keys = [*self._record_and_list(operation_id), *keys]
                self._run(scripts.DISCARD, keys, batch)

    # --- what the rest of the store needs, too ---------------------------------------------------

    def _run(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[str | bytes | float],
        first: Sequence[Command] = (),
        again: Sequence[Command] = (),
        later: Sequence[Command] = (),
    ) -> Any:
        return self._server.after(first, to_run(script, keys, args), again, later)

    def _record_and_list(self, operation_id: str) -> list[str]:
        return [self._names.record(operation_id), self._names.chunk_list(operation_id)]

    def _if_it_leads_to(self, operation_id: str, dedupe: bytes, *command: str) -> Command:
        """Return what runs a command on a dedupe key that still leads to an operation."""
        key = self._names.dedupe(to_text(dedupe))
        return to_run(scripts.IF_IT_HOLDS, [key], [to_bytes(operation_id), *command])
