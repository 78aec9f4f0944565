"""Running a captured request again: through the application, without a server.

That it is a re-run says an object in the context of the handler's thread, which no client can put
there.
"""

from __future__ import annotations

from typing import IO

from raincheck.config.policy import Candidate
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation
from raincheck.wsgi.exchange import Exchange
from raincheck.wsgi.gateway import Gateway
from raincheck.wsgi.race import Race
from raincheck.wsgi.translation import decoded, to_environ


class Rerunner:
    """Runs captured requests in threads of one gateway."""

    needs_loop = False

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @property
    def is_ready(self) -> bool:
        """Whether this process goes on."""
        return not self._gateway.running.is_stopping

    def begin(self) -> None:
        """Have this process keep its promises, although no server may ever come in here."""
        self._gateway.engine.heartbeat.ensure()

    def drain(self) -> None:
        """Wait for what runs, within bounds, and record how the rest has ended."""
        self._gateway.running.drain()

    def rerun(self, operation: Operation, request: Request, body: IO[bytes]) -> Race:
        """Begin to run a request; from any thread.

        Raises:
            RuntimeError: The system allows no more threads.
        """
        race = self.to_race(request, body)
        race.resume(operation, request)
        if not race.start():
            self._gateway.running.release(race)
            raise RuntimeError("the system allows no more threads")
        return race

    def to_race(self, request: Request, body: IO[bytes]) -> Race:
        """Return what handles the request."""
        environ = to_environ(request, body)
        path = decoded(environ["PATH_INFO"])
        return Exchange(self._gateway, environ, path, body, Candidate(0))
