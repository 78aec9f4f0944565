"""A private RabbitMQ to mistreat; where there is none a test is skipped, but never on CI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from kombu import Connection
from kombu.exceptions import OperationalError

from tests.support.processes import free_port
from tests.support.real_servers import RealServer

DEBIAN = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one in PATH changes the user


def rabbitmq_binary() -> str:
    """Find `rabbitmq-server`."""
    found = str(DEBIAN) if DEBIAN.exists() else shutil.which("rabbitmq-server")
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("CI has to have rabbitmq-server", pytrace=False)
    if found is None:
        pytest.skip("there is no rabbitmq-server")
    return found


class RabbitMQServer(RealServer):
    """A broker whose node has a name and ports of its own."""

    def __init__(self) -> None:
        self._binary = rabbitmq_binary()
        self._distribution = free_port()
        super().__init__()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def _command(self) -> list[str]:
        place = self.directory
        settings = {
            "RABBITMQ_NODENAME": f"raincheck-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": self.port,
            "RABBITMQ_DIST_PORT": self._distribution,
            "RABBITMQ_MNESIA_BASE": place / "data",
            "RABBITMQ_LOG_BASE": place / "logs",
            "RABBITMQ_PID_FILE": place / "pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": place / "plugins",
            "RABBITMQ_CONFIG_FILE": place / "none",
            "RABBITMQ_LOGS": "-",
            "HOME": place,
        }
        return ["env", *(f"{name}={value}" for name, value in settings.items()), self._binary]

    def _answers(self) -> bool:
        try:
            with Connection(self.url, connect_timeout=2) as connection:
                connection.connect()
        except (OperationalError, OSError):
            return False
        return True

    def wipe(self) -> None:
        shutil.rmtree(self.directory / "data", ignore_errors=True)
