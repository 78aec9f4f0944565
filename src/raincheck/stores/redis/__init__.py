"""A store that several machines share: a Redis or Valkey server, or a cluster of them.

What one operation has lies in one hash slot and is changed there by scripts; the indexes lie in
others and may say too much (see `names`). What a server deletes by itself is a net under
`purge` and no more: it takes an operation only days after the last raincheck should have.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing
from typing import Any

from raincheck.errors import BodyMissing, StoreError, StoreUnavailable, abbreviate
from raincheck.http.messages import Request
from raincheck.operations.operation import CLAIMED, REQUEST_FENCE, Operation, is_mere_renewal
from raincheck.operations.records import decode, decode_request, encode, encode_request
from raincheck.operations.store import LEFTOVER_AGE, Filter
from raincheck.stores.paging import parse_cursor, to_page
from raincheck.stores.reading import fetched, read_known
from raincheck.stores.redis import scripts
from raincheck.stores.redis.described import Described
from raincheck.stores.redis.indexes import BATCH, Indexes, batches
from raincheck.stores.redis.keeping import Keeper
from raincheck.stores.redis.names import (
    Command,
    Entry,
    Names,
    quoted,
    to_bytes,
    to_ms,
    to_run,
    to_text,
    unquoted,
)
from raincheck.stores.redis.purging import Purging
from raincheck.stores.redis.server import Server
from raincheck.stores.redis.url import parse

NET = 8 * 86400.0  # seconds after its expiry when the server deletes what nobody has purged
FAR = 1e11  # seconds since the epoch; not all servers take a much later expiry
ATTEMPTS = 50  # at a dedupe key whose holder changes; each that fails means that another one won

logger = logging.getLogger("raincheck")


def from_url(url: str) -> RedisStore:
    """Return the store on a server: `redis://user:password@host:6379/0`, or `rediss://` for TLS.

    `valkey://` and `valkeys://` mean the same. Parameters: `prefix` of all keys (default
    `raincheck`), `cluster=true` for a cluster, `timeout` in seconds for each answer (default 5, at
    most 10), `max_connections` per process (default: one for each thread; others wait; in a cluster
    for each node; each `watch` has one more), and some of redis-py's: `client_name`,
    `health_check_interval`, `protocol`, and with TLS `ssl_ca_certs`, `ssl_ca_path`,
    `ssl_certfile`, `ssl_keyfile`, `ssl_password`, `ssl_cert_reqs`, `ssl_check_hostname`,
    `ssl_min_version`, `ssl_ciphers`.

    Raises:
        ConfigurationError: The URL names no server, or has another parameter.
    """
    return RedisStore(url)


class RedisStore(Purging, Keeper, Described):
    """Keep operations on a Redis or Valkey server, usable by processes of many machines.

    Args:
        url: As `from_url` takes it.
        clock: Returns seconds since the epoch; by default the server's clock, which all share.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] | None = None) -> None:
        settings = parse(url)
        self._names = Names(settings.prefix)
        self._server = Server(settings)
        self._clock = clock or self._server_time
        self._indexes = Indexes(self._server, self._names, self._clock)

    def _server_time(self) -> float:
        return self._server.now(self._names.clock)

    # --- records -------------------------------------------------------------------------------

    def create(
        self, operation: Operation, request: Request | None = None, dedupe: str | None = None
    ) -> Operation:
        if dedupe is not None:
            return self._create_once(operation, request, dedupe)
        document = encode(operation)
        fields = self._fields(operation, document, request)
        self._insert(operation, document, fields, self._last(operation), quoted(operation.id))
        return operation

    def _create_once(self, operation: Operation, request: Request | None, dedupe: str) -> Operation:
        """Create what holds a dedupe key, in another slot, in steps that others can finish.

        A record is prepared, and counts only after the key leads to it. Whoever finds the key
        confirms the record, so it does not matter where the one who prepared it was killed.
        """
        key, own = self._names.dedupe(dedupe), to_bytes(operation.id)
        document = encode(operation)
        fields = self._fields(operation, document, request, "prepared ")
        prepared = [*fields, "k", to_bytes(dedupe)]
        for _ in range(ATTEMPTS):
            held, holder = self._find_holder(dedupe)
            if holder is not None:
                if held != own:
                    self._take_back(operation)
                return holder
            last = to_ms(self._server_time() + LEFTOVER_AGE)
            self._insert(operation, document, prepared, last, hint="")
            if held is None:
                self._server.command("SET", key, own, "NX")
            else:  # it led to an operation that is gone, or has dropped it
                self._run(scripts.IF_IT_HOLDS, [key], [held, "SET", own])
        raise StoreUnavailable("a dedupe key changes hands too often")

    def holder(self, dedupe: str) -> Operation | None:
        return self._find_holder(dedupe)[1]

    def _find_holder(self, dedupe: str) -> tuple[bytes | None, Operation | None]:
        """Return what a dedupe key leads to, and the operation if that does hold the key."""
        held: bytes | None = self._server.command("GET", self._names.dedupe(dedupe))
        return held, None if held is None else self._confirm(to_text(held), dedupe)

    def _confirm(self, operation_id: str, dedupe: str) -> Operation | None:
        arguments = [self._names.changes, quoted(operation_id)]
        record = self._names.record(operation_id)
        document = self._run(scripts.CONFIRM, [record], [*arguments, to_bytes(dedupe)])
        return None if document is None else decode(document)

    def _take_back(self, operation: Operation) -> None:
        """Leave nothing of an operation that was prepared, if it was."""
        if self._run(scripts.TAKE_BACK, [self._names.record(operation.id)], []):
            self._server.commands([entry.remove() for entry in self._names.entries(operation)])

    def _fields(
        self, operation: Operation, document: str, request: Request | None, prepared: str = ""
    ) -> list[str | bytes]:
        fields: list[str | bytes] = [f"{prepared}v", str(operation.version)]
        fields += [f"{prepared}d", document]
        return fields if request is None else [*fields, "r", encode_request(request)]

    def _insert(
        self,
        operation: Operation,
        document: str,
        fields: list[str | bytes],
        last: str,
        hint: str,
    ) -> None:
        entries = [entry.add() for entry in self._names.entries(operation)]
        is_old = operation.created <= self._clock() - LEFTOVER_AGE / 2
        created = self._run(
            scripts.CREATE,
            [self._names.record(operation.id)],
            [document, last, self._names.changes, hint, *fields],
            first=entries,
            # It is made again, and who found no record may have removed its entries meanwhile.
            again=entries if is_old else (),
        )
        if not created:
            raise StoreError(f"operation {abbreviate(operation.id)} exists already")

    def get(self, operation_id: str) -> Operation | None:
        document: bytes | None = self._server.command("HGET", self._names.record(operation_id), "d")
        return None if document is None else decode(document)

    def fetch(self, operation_id: str) -> tuple[Operation, Request | None] | None:
        record = self._names.record(operation_id)
        return fetched(*self._server.command("HMGET", record, "d", "r"))

    def get_all(self, operation_ids: Collection[str]) -> dict[str, Operation]:
        commands = [("HGET", self._names.record(each), "d") for each in operation_ids]
        return read_known(self._server.commands(commands))

    def swap(
        self,
        old: Operation,
        new: Operation,
        *,
        drop_request: bool = False,
        drop_dedupe: bool = False,
    ) -> bool:
        return self._swap(old, new, drop_request, drop_dedupe)

    def conclude(
        self,
        old: Operation,
        new: Operation,
        n: int,
        data: bytes,
        *,
        drop_request: bool = False,
        drop_dedupe: bool = False,
    ) -> bool:
        return self._swap(old, new, drop_request, drop_dedupe, (n, data))

    def _swap(
        self,
        old: Operation,
        new: Operation,
        drop_request: bool,
        drop_dedupe: bool,
        chunk: tuple[int, bytes] | None = None,
    ) -> bool:
        hint = "" if is_mere_renewal(old, new) else quoted(old.id)
        last = self._last(new)
        document = encode(new)
        arguments = [str(old.version), str(new.version), document, last]
        member = f"{new.fence}:{chunk[0]}" if chunk else ""
        arguments += [self._names.changes, hint, member]
        added = self._names.entries(new) - self._names.entries(old)
        add = Entry.add_all_the_same if new.forgotten else Entry.add
        first = self._to_write(new.id, new.fence, *chunk) if chunk else []
        first += [add(entry) for entry in added]
        left, later = self._left(old, new), list[Command]()
        if member and last:  # if this is refused, the chunk is nobody's, or is written again
            later.append(("PEXPIREAT", self._names.chunk(old.id, member), last))
        if left and not self._server.settings.cluster:
            keys = [self._names.record(new.id), *(entry.key for entry in left)]
            members = (entry.member for entry in left)
            later.append(to_run(scripts.LEAVE, keys, [document, *members]))
        if drop_request or drop_dedupe:
            drops = ["1" if drop else "" for drop in (drop_request, drop_dedupe)]
            answer = self._swap_and_drop(old.id, [*arguments, *drops], first, later)
        else:
            # Again: who has left one of these indexes for it just before may remove its entry.
            again = [add(entry) for entry in added if self._may_be_removed(entry, old, new)]
            script = scripts.SWAP_ALL_THE_SAME if new.forgotten else scripts.SWAP
            keys = self._record_and_list(old.id)
            answer = self._run(script, keys, arguments, first, again, later)
        if answer is None:
            self._indexes.operations([entry for entry in added if self._is_passing(entry)])
            return False
        dedupe, chunks = answer
        others = [each for each in chunks if each != member.encode()]
        self._tend_others(old.id, last, dedupe, others, drop_dedupe)
        if self._server.settings.cluster:
            self._leave_indexes(new, left)
        return True

    def _may_be_removed(self, entry: Entry, old: Operation, new: Operation) -> bool:
        is_renewal = entry.key == self._names.leases and new.state is old.state
        return self._is_passing(entry) and not new.is_terminal and not is_renewal

    def _is_passing(self, entry: Entry) -> bool:
        return self._names.is_passing(entry.key)

    def _left(self, old: Operation, new: Operation) -> list[Entry]:
        """Return the entries that a change makes wrong."""
        right = {(entry.key, entry.member) for entry in self._names.passing(new)}
        left = [e for e in self._names.passing(old) if (e.key, e.member) not in right]
        if old.expires not in (None, new.expires):
            left += [e for e in self._names.entries(old) if e.key == self._names.expiring]
        # At the end those by which others would find the rest.
        left.sort(key=lambda entry: entry.key in (self._names.leases, self._names.waiting))
        return left

    def _leave_indexes(self, new: Operation, left: list[Entry]) -> None:
        """Remove them in a cluster, where no script can; or else who meets them does."""
        try:
            self._indexes.remove([(entry, new.version) for entry in left])
        except StoreError as error:
            logger.info("%s is in indexes still: %s", abbreviate(new.id), error)

    def _swap_and_drop(
        self,
        operation_id: str,
        arguments: list[str],
        first: list[Command],
        later: list[Command],
    ) -> Any:
        """Swap as soon as the script has been given all chunks that it is to delete."""
        members: list[bytes] = []
        while True:
            chunks = [self._names.chunk(operation_id, member.decode()) for member in members]
            keys = [*self._record_and_list(operation_id), *chunks]
            given: list[str | bytes] = [*arguments, f"{REQUEST_FENCE}:", *members]
            answer = self._run(scripts.SWAP_AND_DROP, keys, given, first, later=later)
            if answer is None or len(answer) > 1:
                return answer
            members += answer[0]

    def _last(self, operation: Operation) -> str:
        """Return when the server may delete an operation (ms since the epoch); '' for never."""
        if operation.expires is None:
            return ""
        last = max(operation.expires, self._server_time()) + NET
        return to_ms(min(last, FAR))

    def _tend_others(
        self, operation_id: str, last: str, dedupe: bytes, chunks: list[bytes], has_dropped: bool
    ) -> None:
        """Give an operation's other keys its expiry; let a dropped dedupe key lead nowhere."""
        try:
            for batch in batches(chunks):
                keys = [self._names.chunk(operation_id, member.decode()) for member in batch]
                self._server.commands([("PEXPIREAT", key, last) for key in keys])
            if dedupe and has_dropped:
                self._server.command(*self._if_it_leads_to(operation_id, dedupe, "UNLINK"))
            elif dedupe and last:
                self._server.command(*self._if_it_leads_to(operation_id, dedupe, "PEXPIREAT", last))
        except StoreError as error:  # the swap is done, and a purge will delete them all the same
            logger.info("keys of %s have no expiry: %s", abbreviate(operation_id), error)

    def read_request(self, operation_id: str) -> Request | None:
        record = self._names.record(operation_id)
        version, document = self._server.command("HMGET", record, "v", "r")
        return None if None in (version, document) else decode_request(document)

    # --- bodies --------------------------------------------------------------------------------

    def write_chunk(self, operation_id: str, fence: int, n: int, data: bytes) -> None:
        self._server.commands(self._to_write(operation_id, fence, n, data))

    def _to_write(self, operation_id: str, fence: int, n: int, data: bytes) -> list[Command]:
        """Return the commands that keep a chunk; the last one does, if that may be."""
        member, given = f"{fence}:{n}", "" if fence == REQUEST_FENCE else str(fence)
        keys = [*self._record_and_list(operation_id), self._names.chunk(operation_id, member)]
        entry = Entry(self._names.bodies, self._clock(), to_bytes(operation_id))
        return [entry.add(), to_run(scripts.WRITE_CHUNK, keys, [member, data, given])]

    def read_chunks(self, operation_id: str, fence: int, start: int, stop: int) -> Iterator[bytes]:
        for n in range(start, stop):
            chunk: bytes | None = self._server.command(
                "GET", self._names.chunk(operation_id, f"{fence}:{n}")
            )
            if chunk is None:
                raise BodyMissing(operation_id, fence)
            yield chunk

    # --- finding -------------------------------------------------------------------------------

    def find(
        self, which: Filter, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[Operation], str | None]:
        after = None if cursor is None else parse_cursor(cursor)
        found: list[Operation] = []
        for entries in self._indexes.candidates(which, after, min(max(limit + 1, 100), BATCH)):
            found += [o for o in self._indexes.operations(entries) if which.matches(o)]
            if len(found) > limit:
                break
        page, cursor = to_page(found, limit)
        if cursor is not None and which.expires_before is not None:
            cursor = self._names.expiry_cursor(page[-1])
        return page, cursor

    def count(self, which: Filter, limit: int) -> int:
        counted = self._indexes.count(which)
        return len(self.find(which, limit=limit)[0]) if counted is None else min(limit, counted)

    def workers(self) -> set[str]:
        found, cursor = self.find(Filter(states=CLAIMED))
        while cursor is not None:
            more, cursor = self.find(Filter(states=CLAIMED), cursor=cursor)
            found += more
        return {operation.worker for operation in found if operation.worker is not None}

    # --- hints, the clock, closing -------------------------------------------------------------

    def watch(self, interval: float) -> Generator[str | None, None, None]:
        with closing(self._server.subscribe(self._names.changes)) as subscription:
            yield None
            while True:
                heard = subscription.hear(interval)
                yield None if heard is None else unquoted(heard)

    def now(self) -> float:
        return self._clock()

    def close(self) -> None:
        self._server.close()
