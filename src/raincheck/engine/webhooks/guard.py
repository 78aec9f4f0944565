"""Which addresses a webhook may reach, however its host is spelled.

A host's name says nothing: it may be resolved to anything, and to something else a moment later.
So the addresses that it has now are judged, and one of these is connected to.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Iterable[str]]

# What the IANA special-purpose address registries list, where ever a webhook could end that is
# meant for somebody else; written out, because the lists of `ipaddress` differ between Pythons.
_NOT_PUBLIC = [
    ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by carriers; metadata of Alibaba Cloud
        "127.0.0.0/8",
        "168.63.129.16/32",  # public, but every machine in Azure reaches its own platform there
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocols; metadata of Oracle Cloud
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "2001::/23",  # protocols, Teredo
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address is in it, and nobody needs it any more
        "2620:4f:8000::/48",
        "3fff::/20",
    )
]
_GLOBAL_UNICAST = ip_network("2000::/3")  # all that is public in IPv6 is in here
_NAT64 = ip_network("64:ff9b::/96")


class NotSent(Exception):
    """A message has reached nobody, or nobody who answered; says why, without the URL."""


class Guard:
    """Tells the addresses of hosts, if all of them may be reached.

    Args:
        networks: May be reached although they are not public.
        resolve: Returns the addresses of a host.
    """

    def __init__(self, networks: Iterable[str] = (), resolve: Resolve | None = None) -> None:
        self._networks = [ip_network(network) for network in networks]
        self._resolve = resolve or _resolve

    def addresses(self, host: str, port: int) -> list[str]:
        """Return where to connect to; nothing but these addresses themselves.

        Raises:
            NotSent: There is none, or one that may not be reached.
        """
        try:
            found = list(dict.fromkeys(self._resolve(host, port)))
        except (OSError, UnicodeError) as error:  # UnicodeError: no name can be like this
            raise NotSent(f"its address is not found: {error}") from None
        for address in found:
            if not self.allows(address):
                raise NotSent(
                    f"{address} is not public: allow it with webhook_networks if it is yours"
                )
        if not found:
            raise NotSent("it has no address")
        return found

    def allows(self, address: str) -> bool:
        """Tell whether an address may be reached."""
        given = ip_address(address)
        meant = _innermost(given)
        return _is_public(meant) or any(
            form in network for form in (given, meant) for network in self._networks
        )


def _innermost(address: Address) -> Address:
    """Return the IPv4 address that is meant by an IPv6 address, where one is."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_public(address: Address) -> bool:
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


def _resolve(host: str, port: int) -> Iterable[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(endpoint[0]) for *_, endpoint in found]
