"""What webhooks may reach is what is public, however it is spelled."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.engine.webhooks.guard import Guard, NotSent
from raincheck.testing.strategies import with_examples

PUBLIC = ["93.184.216.34", "8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001:80b::200e"]
METADATA = ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"]
PRIVATE = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254"),  # noqa: S104
    *("169.254.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "198.18.0.1", "224.0.0.1"),
    *("239.255.255.250", "240.0.0.1", "255.255.255.255", "192.88.99.1", "203.0.113.9"),
    *("::", "::1", "fc00::1", "fd12::1", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1"),
    *("100::1", "5f00::1", "2001::1", "2001:db8::1", "2002:808:808::1", "3fff::1"),
    *("64:ff9b:1::808:808", "::7f00:1", "::808:808", "::ffff:0:808:808"),
]


def nat64(address: str) -> str:
    return str(ipaddress.IPv6Address("64:ff9b::") + int(ipaddress.IPv4Address(address)))


def mapped(address: str) -> str:
    return f"::ffff:{address}"


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_reached(address: str) -> None:
    assert Guard().allows(address)


@pytest.mark.parametrize("address", [*METADATA, *PRIVATE])
def test_nothing_else_may_be_reached(address: str) -> None:
    assert not Guard().allows(address)


@pytest.mark.parametrize("wrap", [nat64, mapped])
@pytest.mark.parametrize("address", [a for a in [*METADATA, *PRIVATE] if ":" not in a])
def test_nothing_else_may_be_reached_as_an_ipv6_address(wrap: object, address: str) -> None:
    assert callable(wrap)
    assert not Guard().allows(wrap(address))


@pytest.mark.parametrize("wrap", [nat64, mapped])
def test_a_public_address_in_an_ipv6_address_may_be_reached(wrap: object) -> None:
    assert callable(wrap)
    assert Guard().allows(wrap("8.8.8.8"))


networks = st.sampled_from(["10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "fc00::/7", "fe80::/10"])
near_networks = networks.map(ipaddress.ip_network).flatmap(
    lambda network: st.ip_addresses(network=network)
)


@given(st.ip_addresses() | near_networks)
@with_examples
def test_the_standard_library_calls_nothing_private_that_may_be_reached(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if Guard().allows(str(address)) and address not in ipaddress.ip_network("64:ff9b::/96"):
        meant = getattr(address, "ipv4_mapped", None) or address
        assert meant.is_global
        assert not meant.is_multicast


@given(st.ip_addresses(v=4) | st.ip_addresses(network="2a00::/12"))
@with_examples
def test_what_the_standard_library_calls_global_may_be_reached(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    special = ("192.0.0.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24")
    more = ("192.175.48.0/24", "168.63.129.16/32", "224.0.0.0/3")
    if address.is_global and not any(
        address in ipaddress.ip_network(network) for network in (*special, *more)
    ):
        assert Guard().allows(str(address))


@given(st.ip_addresses(network="10.1.0.0/16"))
@with_examples
def test_a_network_that_is_allowed_may_be_reached_in_every_form(
    address: ipaddress.IPv4Address,
) -> None:
    guard = Guard(["10.1.0.0/16"])
    assert all(guard.allows(form) for form in (f"{address}", mapped(f"{address}")))
    assert not guard.allows("10.2.0.1")
    assert not guard.allows("127.0.0.1")


def saying(*addresses: str) -> Guard:
    return Guard(resolve=lambda host, port: addresses)


def test_all_addresses_of_a_host_have_to_be_public() -> None:
    assert saying(*PUBLIC).addresses("example.org", 80) == PUBLIC
    for mixed in (["8.8.8.8", "127.0.0.1"], ["::1", "8.8.8.8"]):
        with pytest.raises(NotSent, match="is not public: allow it with webhook_networks"):
            saying(*mixed).addresses("example.org", 80)


def test_a_host_without_addresses_is_not_reached() -> None:
    with pytest.raises(NotSent, match="no address"):
        saying().addresses("example.org", 80)


def failing(error: Exception) -> Guard:
    def resolve(host: str, port: int) -> Iterable[str]:
        raise error

    return Guard(resolve=resolve)


def test_a_host_that_is_not_found_is_not_reached() -> None:
    with pytest.raises(NotSent, match="not found"):
        failing(socket.gaierror(socket.EAI_NONAME, "unknown")).addresses("example.org", 80)
    with pytest.raises(NotSent, match="not found"):
        Guard().addresses("a..b", 80)
    with pytest.raises(NotSent, match="not found"):
        Guard().addresses("a" * 64 + ".example", 80)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "LOCALHOST", "127.1", "2130706433", "0x7f000001", "0x7f.1"),
        *("017700000001", "0177.0.0.1", "127.0.0.1.", "0", "::1", "::ffff:127.0.0.1", "::7f00:1"),
        *("127。0。0。1", "①②⑦.⓪.⓪.①", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "fe80::1%lo", "127%2e0%2e0%2e1"),
    ],
)
def test_no_spelling_of_this_machine_is_reached(host: str) -> None:
    with pytest.raises(NotSent, match=r"not public|not found"):
        Guard().addresses(host, 80)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "①②⑦.⓪.⓪.①"])
def test_it_is_the_address_that_is_judged_and_not_the_spelling(host: str) -> None:
    assert Guard(["127.0.0.1/32"]).addresses(host, 80) == ["127.0.0.1"]
