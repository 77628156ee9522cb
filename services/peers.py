"""Which address a request comes from: the connection's, or what a proxy of ours says."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network

_KNOWN = 8_192
_LONGEST = 2_000
_V6_PREFIX = 64


class Peers:
    """Addresses by which callers are told apart.

    Only a proxy of ``trusted`` is believed: anybody can write ``X-Forwarded-For``. It is read from
    the right, where the nearest proxy wrote, up to the first address that is none of ours.

    Args:
        trusted: Networks of our own proxies.
    """

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = tuple(trusted)
        self._known = lru_cache(maxsize=_KNOWN)(self._find)

    def name(self, peer: str, forwarded: str) -> str:
        """Name the caller's network: an IPv4 address, or the first 64 bits of an IPv6 one.

        Args:
            peer: Address of the connection's other end.
            forwarded: The request's ``X-Forwarded-For``, or empty.
        """
        if not self._trusted or len(forwarded) > _LONGEST:
            forwarded = ""
        return self._known(peer, forwarded)

    def _find(self, peer: str, forwarded: str) -> str:
        found = _address(peer)
        if found is None:
            return peer
        for text in reversed(forwarded.split(",") if forwarded else []):
            if not self._is_ours(found):
                break
            before = _address(text.strip())
            if before is None:
                break
            found = before
        if found.version == 4:  # noqa: PLR2004  # IPv4
            return str(found)
        # One household or host has a whole /64: it would have as many buckets as it likes.
        return str(ipaddress.ip_network((int(found), _V6_PREFIX), strict=False))

    def _is_ours(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        return any(address in network for network in self._trusted)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address as proxies write it: bare, or with a port."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
