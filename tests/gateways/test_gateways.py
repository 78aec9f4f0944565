"""The same HTTP script through every gateway: whoever changes gateways sees no difference."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gateways.contract import Contract
from tests.gateways.gateways import GATEWAYS, Gateway, Site
from tests.gateways.transcript import Transcript
from tests.support.slow import others_slow

pytestmark = [pytest.mark.server, pytest.mark.gateway]

TRANSCRIPTS: dict[str, Transcript] = {}  # by gateway, for the last test


@pytest.fixture(scope="module", params=others_slow(GATEWAYS, 2), ids=lambda gateway: gateway.name)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    gateway: Gateway = request.param
    site = Site(gateway, tmp_path_factory.mktemp(gateway.name))
    with site.process:
        yield site


@pytest.fixture
def transcript(site: Site, request: pytest.FixtureRequest) -> Transcript:
    transcript = TRANSCRIPTS.setdefault(site.gateway.name, Transcript())
    transcript.check = request.node.name.replace(site.gateway.name, "any", 1)
    return transcript


class TestGateway(Contract):
    pass


def test_all_gateways_have_said_the_same() -> None:
    if len(TRANSCRIPTS) < 2:
        pytest.skip("there are no two gateways to compare")
    (name, first), *others = TRANSCRIPTS.items()
    for other, transcript in others:
        assert transcript.checks.keys() == first.checks.keys()
        for check, said in first.checks.items():
            assert transcript.checks[check] == said, f"{check}: {other} unlike {name}"
