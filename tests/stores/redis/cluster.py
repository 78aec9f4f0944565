"""A real Redis Cluster: three primaries on free ports, each with a third of the slots."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import redis

from tests.support.real_servers import START_TIMEOUT, RedisServer

NODES = 3
SLOTS = 16_384
BUS = 10_000  # what a node adds to its port for the other nodes
OUTGOING = 32_768  # from here on ports are taken by outgoing connections, at any moment


class Node(RedisServer):
    """A Redis server that is a part of a cluster."""

    def __init__(self) -> None:
        super().__init__(fsync="always")  # on a busy disk a kill would lose two seconds otherwise
        while _is_taken(self.port + BUS):
            super().remove()
            super().__init__(fsync="always")

    def _command(self) -> list[str]:
        return [*super()._command(), "--cluster-enabled", "yes", "--cluster-node-timeout", "30000"]

    def command(self, *command: str | int) -> Any:
        """Return the node's own answer."""
        with redis.Redis.from_url(self.url, protocol=2) as client:
            return client.execute_command(*command)


@contextmanager
def redis_cluster() -> Iterator[list[Node]]:
    """Start three nodes and make them a cluster."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(Node()) for _ in range(NODES)]
        for n, node in enumerate(nodes):
            slots = range(SLOTS * n // NODES, SLOTS * (n + 1) // NODES)
            node.command("CLUSTER ADDSLOTS", *slots)
            node.command("CLUSTER SET-CONFIG-EPOCH", n + 1)
        for node in nodes[1:]:
            node.command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
        wait_until_complete(nodes)
        yield nodes


def wait_until_complete(nodes: list[Node]) -> None:
    """Return once every node knows the place of every slot."""
    deadline = time.monotonic() + START_TIMEOUT
    while not all(_is_complete(node) for node in nodes):
        assert time.monotonic() < deadline, "the nodes did not become a cluster"
        time.sleep(0.05)


def _is_complete(node: Node) -> bool:
    info: dict[str, str] = node.command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_slots_ok"] == str(SLOTS)


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return port >= OUTGOING or probe.connect_ex(("127.0.0.1", port)) == 0
