"""Where a socket is: "0.0.0.0:25", "[::1]:53", "unix:/run/postroad.sock", and networks.

Owns: parsing and printing of socket addresses and IP networks as settings write
them. Does not own: mailboxes (core/address.py), next hops (config/via.py).
Every error says what would be right.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from postroad.core.address import AddressError, parse_domain, to_ascii

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

PORT_MAX: Final = 65_535
UNIX_PATH_MAX: Final = 107
"""Octets of the path of a Unix socket on Linux: sun_path of 108 without its NUL."""

FD_MIN: Final = 3
FD_MAX: Final = 250
"""Sockets handed over: from SD_LISTEN_FDS_START of sd_listen_fds(3) up to what one message to a child carries."""

_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_HOST_PORT: Final = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::(\d{1,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An IP address and a port; ``host`` without brackets. Port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket, by its path."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class FdAddress:
    """A socket that listens already, handed over by whoever starts us (systemd's socket activation: 3, 4, ...)."""

    number: int

    def __str__(self) -> str:
        return f"fd:{self.number}"


ListenTo = TcpAddress | UnixAddress | FdAddress
"""What a listener listens on."""


def bracketed(host: str) -> str:
    """Return the host as it stands before a port: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def parse_listen_address(text: str) -> ListenTo:
    """Return the address that a listener binds.

    Raises:
        ValueError: no such address.
    """
    if text.startswith("fd:"):
        number = text.removeprefix("fd:")
        if not (number.isascii() and number.isdecimal()) or not FD_MIN <= int(number) <= FD_MAX:
            raise ValueError(f'"{text}" is no socket handed over. The first is "fd:3", the next "fd:4".')
        return FdAddress(int(number))
    if text.startswith("unix:"):
        return UnixAddress(parse_unix_path(text.removeprefix("unix:")))
    if not text:
        raise ValueError('The address is empty. Write where to listen, such as "0.0.0.0:25".')
    host, port = split_host_port(text)
    if port is None:
        raise ValueError(f'"{text}" has no port. Write "{text}:25".')
    if host == "*":
        raise ValueError(f'"*" is not an IP address. Write "0.0.0.0:{port}" for IPv4 or "[::]:{port}" for IPv6.')
    return TcpAddress(_ip_text(host), port)


def parse_server_address(text: str, *, port_default: int) -> TcpAddress:
    """Return the address of a server by IP: "192.0.2.1", "192.0.2.1:5353", "::1", "[::1]:5353".

    Raises:
        ValueError: no IP address.
    """
    if text.count(":") > 1 and not text.startswith("["):
        return TcpAddress(_ip_text(text), port_default)
    host, port = split_host_port(text)
    if port == 0:
        raise ValueError(f'"{text}": 0 is not the port of a server.')
    return TcpAddress(_ip_text(host), port_default if port is None else port)


def parse_unix_path(path: str) -> str:
    """Return the path of a Unix socket, checked.

    Raises:
        ValueError: empty, relative, or longer than the kernel takes.
    """
    if not path or path.endswith("/"):
        raise ValueError('The path of the socket is missing. Write it, such as "unix:/run/postroad.sock".')
    if not path.startswith("/"):
        raise ValueError(f'"{path}" is not an absolute path.')
    if "\0" in path or len(path.encode()) > UNIX_PATH_MAX:
        raise ValueError(f"The path of a socket has at most {UNIX_PATH_MAX} octets, this one has {len(path.encode())}.")
    return path


def split_host_port(text: str) -> tuple[str, int | None]:
    """Return host (brackets taken off) and port (None when there is none).

    Raises:
        ValueError: not of the form host:port.
    """
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        if ipv6_port := _unbracketed_ipv6(text):
            raise ValueError(f'"{text}": an IPv6 address stands in brackets. Write "{ipv6_port}".')
        raise ValueError(
            f'"{text}" is not an address. Write host and port, such as "192.0.2.1:25" or "[2001:db8::1]:25".'
        )
    port = int(match[2]) if match[2] is not None else None
    if port is not None and port > PORT_MAX:
        raise ValueError(f'"{text}": {port} is not a port. Ports go up to {PORT_MAX}.')
    host = match[1]
    if host.startswith("["):
        host = host[1:-1]
        if not is_ip(host, version=6):
            raise ValueError(f'"{text}": "{host}" in brackets is not an IPv6 address.')
    return host, port


def parse_ip(text: str) -> IPAddress:
    """Return the IP address.

    Raises:
        ValueError: none, or one with a zone.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f'"{text}" is not an IP address. Write one such as "192.0.2.1" or "2001:db8::1".') from None
    if "%" in text:
        raise ValueError(f'"{text}": an address with a zone ("%") cannot be used here.')
    return address


def parse_network(text: str) -> IPNetwork:
    """Return the network: "10.0.0.0/8", "2001:db8::/32", or one address.

    Raises:
        ValueError: none, or bits set outside of its prefix.
    """
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'"{text}" is not a network. Write one such as "10.0.0.0/8" or "2001:db8::/32".') from None
    host = text.partition("/")[0]
    if int(ipaddress.ip_address(host)) != int(network.network_address):
        raise ValueError(f'"{text}" has bits set outside of its prefix. Write "{network}", or "{host}" for one host.')
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        raise ValueError(f'"{text}" is IPv4 in the clothes of IPv6. Write the IPv4 network, such as "10.0.0.0/8".')
    return network


def parse_host_name(text: str) -> str:
    """Return a host or domain name as A-labels in lower case.

    Raises:
        ValueError: no domain name, or an address.
    """
    if not text:
        raise ValueError('The name is empty. Write a domain name, such as "relay.example.org".')
    if text.startswith("[") or is_ip(text):
        raise ValueError(f'"{text}" is an address. Write a domain name, such as "relay.example.org".')
    try:
        return to_ascii(parse_domain(text.removesuffix(".")))
    except AddressError as error:
        raise ValueError(f'"{text}" is not a domain name. Write one such as "relay.example.org".') from error


def anchor_unix(text: str, base: PurePath) -> str:
    """Return "unix:run/x.sock" with its path taken from ``base``; other addresses as they are."""
    path = text.removeprefix("unix:")
    return f"unix:{base / path}" if path and text.startswith("unix:") else text


def is_ip(text: str, *, version: int | None = None) -> bool:
    """True if ``text`` is an IP address (of this version), without a zone."""
    try:
        return "%" not in text and ipaddress.ip_address(text).version in ((version,) if version else (4, 6))
    except ValueError:
        return False


def _ip_text(host: str) -> str:
    if host == "localhost":
        raise ValueError('"localhost" is not an IP address. Write "127.0.0.1" or "[::1]" and the port.')
    return str(parse_ip(host))


def _unbracketed_ipv6(text: str) -> str | None:
    host, _, port = text.rpartition(":")
    if is_ip(host, version=6) and port.isdecimal() and host.count(":") > 1:
        return f"[{host}]:{port}"
    return f"[{text}]:25" if is_ip(text, version=6) else None
