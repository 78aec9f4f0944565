"""A program whose forks serve while their instructions are counted; for `asgi_cost` alone.

It imports the server and the framework once, as that takes longest where instructions are counted.
raincheck is imported by those forks that use it: what more the garbage collector has to look after
costs the others instructions. Each line of its input is a port and a target; it answers with the
fork's process id.
"""

from __future__ import annotations

import json
import os
import signal
import sys

import uvicorn
import uvicorn.lifespan.on
import uvicorn.loops.uvloop
import uvicorn.protocols.http.httptools_impl

from tests.benchmarks.asgi_apps import APPLICATIONS, Target


def main() -> None:
    """Fork a server for each line."""
    APPLICATIONS[sys.argv[1]]()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they have ended
    while line := sys.stdin.readline():
        port, target = json.loads(line)
        if (pid := os.fork()) == 0:
            return serve(port, Target(**target))
        print(pid, flush=True)


def serve(port: int, target: Target) -> None:
    """Serve a target on uvicorn's fastest parts until SIGINT."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    uvicorn.run(
        target.build(),
        interface="asgi3",
        loop="uvloop",
        http="httptools",
        port=port,
        access_log=False,
        log_level="error",
        timeout_keep_alive=60,
    )


if __name__ == "__main__":
    main()
