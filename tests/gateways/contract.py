"""The script that every gateway is run through: the wire of the README, from a client's side.

What is written down by `client` is compared between gateways; `poller` is for what may be asked
any number of times.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.gateways.choosing import Choosing
from tests.gateways.gateways import Site
from tests.gateways.idempotency import Keys
from tests.gateways.large_bodies import LargeBodies
from tests.gateways.limiting import Limiting
from tests.gateways.listening import Listening
from tests.gateways.monitoring import Monitoring
from tests.gateways.replaying import Replaying
from tests.gateways.rerunning import Rerunning
from tests.gateways.showing_pages import ShowingPages
from tests.gateways.signing import Signing
from tests.gateways.starting import Starting
from tests.gateways.transcript import Transcript
from tests.gateways.waiting import Waiting


# The last is run first: a server's memory is measured when all its workers have been at work.
class Contract(
    LargeBodies,
    Rerunning,
    Limiting,
    Keys,
    Listening,
    Waiting,
    Choosing,
    ShowingPages,
    Signing,
    Replaying,
    Monitoring,
    Starting,
):
    """All checks, and the clients that they use."""

    @pytest.fixture
    def client(self, site: Site, transcript: Transcript) -> Iterator[httpx.Client]:
        with site.client(transcript=transcript) as client:
            yield client

    @pytest.fixture
    def poller(self, site: Site) -> Iterator[httpx.Client]:
        with site.client() as client:
            yield client
