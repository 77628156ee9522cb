"""Whose address it is: never what a stranger writes."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.peers import Peers

OURS = Peers([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


@pytest.mark.parametrize(
    ("peer", "forwarded", "name"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1:5544", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::7]:443", "2001:db8::/64"),
        ("10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "6.6.6.6, nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("::ffff:203.0.113.9", "", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::/64"),
        ("fd00::1", "198.51.100.1", "198.51.100.1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_only_our_own_proxies_are_believed(peer: str, forwarded: str, name: str) -> None:
    """Anybody can write X-Forwarded-For; the part that our proxy wrote is at its end."""
    assert OURS.name(peer, forwarded) == name


def test_without_a_proxy_of_ours_nobody_is_believed() -> None:
    """The default: an attacker would choose a new address for every call."""
    assert Peers([]).name("10.0.0.1", "198.51.100.1") == "10.0.0.1"


@given(st.text(max_size=60), st.text(max_size=200))
def test_whatever_stands_there_is_no_error(peer: str, forwarded: str) -> None:
    """Headers are strangers' bytes."""
    assert isinstance(OURS.name(peer, forwarded), str)
    assert isinstance(OURS.name("10.0.0.1", forwarded), str)
