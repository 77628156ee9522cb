"""Addresses of listeners, as settings write them: ``host:port``, IPv6 in brackets."""

import ipaddress
import socket

from feedbackloop.errors import SettingsError


def split(address: str) -> tuple[str, int]:
    """Take an address apart; the brackets around IPv6 go."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach a host name or IP address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_loopback(setting: str, address: str) -> None:
    """Refuse to answer strangers where no API key is asked for.

    Raises:
        SettingsError: If other machines could reach the address.
    """
    host, _ = split(address)
    if not is_loopback(host):
        raise SettingsError(
            f"FEEDBACKLOOP_KEYS__REQUIRED: may be false only on loopback, and {setting} is {host}"
        )


def listen(setting: str, address: str, *, backlog: int = 128) -> socket.socket:
    """Take an address for a server; port 0 takes any that is free.

    Args:
        setting: Where the address is from, for the message.
        address: As settings write it.
        backlog: How many connections may wait to be accepted.

    Raises:
        SettingsError: If it is taken, or no address of this machine.
    """
    host, port = split(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"{setting}: {address} cannot be bound: {error.strerror or error}"
        ) from error
    listener.listen(backlog)
    return listener


def shown(listener: socket.socket) -> str:
    """Write the address that a listener has."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
