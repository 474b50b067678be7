"""Socket addresses, IP networks and host names: what parses to what, and what the others are told."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import PurePosixPath

import pytest

from postroad.config.addresses import (
    TcpAddress,
    UnixAddress,
    anchor_unix,
    parse_host_name,
    parse_ip,
    parse_listen_address,
    parse_network,
    parse_server_address,
)
from postroad.config.networks import NetworkSet


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:25", TcpAddress("0.0.0.0", 25)),
        ("[::]:25", TcpAddress("::", 25)),
        ("[2001:DB8::0:1]:65535", TcpAddress("2001:db8::1", 65_535)),
        ("127.0.0.1:0", TcpAddress("127.0.0.1", 0)),
        ("unix:/run/postroad.sock", UnixAddress("/run/postroad.sock")),
    ],
)
def test_where_a_listener_listens(text: str, address: TcpAddress | UnixAddress) -> None:
    assert parse_listen_address(text) == address
    assert parse_listen_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", TcpAddress("192.0.2.1", 53)),
        ("127.0.0.1:5353", TcpAddress("127.0.0.1", 5353)),
        ("::1", TcpAddress("::1", 53)),
        ("[::1]:5353", TcpAddress("::1", 5353)),
        ("[::1]", TcpAddress("::1", 53)),
    ],
)
def test_where_a_server_is(text: str, address: TcpAddress) -> None:
    assert parse_server_address(text, port_default=53) == address


LISTEN, SERVER = parse_listen_address, lambda text: parse_server_address(text, port_default=53)


@pytest.mark.parametrize(
    ("parse", "text", "told"),
    [
        (LISTEN, "", 'Write where to listen, such as "0.0.0.0:25"'),
        (LISTEN, "0.0.0.0", 'Write "0.0.0.0:25"'),
        (LISTEN, ":25", '"" is not an IP address'),
        (LISTEN, "*:25", 'Write "0.0.0.0:25" for IPv4 or "[::]:25" for IPv6'),
        (LISTEN, "localhost:25", 'Write "127.0.0.1" or "[::1]"'),
        (LISTEN, "mail.example.org:25", "not an IP address"),
        (LISTEN, "::1:25", 'Write "[::1]:25"'),
        (LISTEN, "2001:db8::5", 'Write "[2001:db8::5]:25"'),
        (LISTEN, "[::1", "Write host and port"),
        (LISTEN, "[127.0.0.1]:25", "in brackets is not an IPv6 address"),
        (LISTEN, "[fe80::1%eth0]:25", "in brackets is not an IPv6 address"),
        (LISTEN, "0.0.0.0:65536", "Ports go up to 65535"),
        (LISTEN, "0.0.0.0:٢٥", "Write host and port"),
        (LISTEN, "0.0.0.0:25:25", "Write host and port"),
        (LISTEN, "fd:2", 'The first is "fd:3"'),
        (LISTEN, "fd:+3", "no socket handed over"),
        (LISTEN, "fd:٣", "no socket handed over"),
        (LISTEN, "fd:251", "no socket handed over"),
        (LISTEN, "unix:", "The path of the socket is missing"),
        (LISTEN, "unix:/run/", "The path of the socket is missing"),
        (LISTEN, "unix:run/x", "not an absolute path"),
        (LISTEN, "unix:/" + "é" * 54, "at most 107 octets, this one has 109"),
        (LISTEN, "unix:/a\0b", "at most 107 octets"),
        (SERVER, "dns.example", "not an IP address"),
        (SERVER, "127.0.0.1:0", "0 is not the port of a server"),
        (SERVER, "", "not an IP address"),
        (parse_ip, "192.0.2.256", "Write one such as"),
        (parse_ip, "fe80::1%eth0", 'a zone ("%") cannot be used'),
        (parse_network, "10.0.0.1/8", 'Write "10.0.0.0/8", or "10.0.0.1" for one host'),
        (parse_network, "10.0.0.0/33", "is not a network"),
        (parse_network, "example.org", "is not a network"),
        (parse_network, "", "is not a network"),
        (parse_network, "::ffff:10.0.0.0/104", "IPv4 in the clothes of IPv6"),
        (parse_host_name, "", "The name is empty"),
        (parse_host_name, "[192.0.2.1]", "is an address"),
        (parse_host_name, "192.0.2.1", "is an address"),
        (parse_host_name, "my_host.example", "is not a domain name"),
        (parse_host_name, "a..b", "is not a domain name"),
        (parse_host_name, "-a.example", "is not a domain name"),
        (parse_host_name, "a" * 64 + ".example", "is not a domain name"),
    ],
)
def test_what_the_others_are_told(parse: Callable[[str], object], text: str, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert told in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Relay.Example.ORG", "relay.example.org"),
        ("relay.example.org.", "relay.example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("localhost", "localhost"),
    ],
)
def test_a_host_name(text: str, name: str) -> None:
    assert parse_host_name(text) == name
    assert parse_host_name(name) == name


@pytest.mark.parametrize(
    ("text", "network"), [("10.0.0.0/8", "10.0.0.0/8"), ("192.0.2.1", "192.0.2.1/32"), ("::1", "::1/128")]
)
def test_a_network(text: str, network: str) -> None:
    assert parse_network(text) == ipaddress.ip_network(network)


def test_a_relative_socket_is_beside_the_file() -> None:
    base = PurePosixPath("/etc/postroad")
    assert anchor_unix("unix:run/x", base) == "unix:/etc/postroad/run/x"
    assert anchor_unix("unix:/run/x", base) == "unix:/run/x"
    assert anchor_unix("unix:", base) == "unix:"
    assert anchor_unix("0.0.0.0:25", base) == "0.0.0.0:25"


def test_a_set_of_networks() -> None:
    networks = NetworkSet(map(parse_network, ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1"]))
    inside = ["10.0.0.0", "10.255.255.255", "192.0.2.7", "2001:db8:ffff::", "::1", "::ffff:10.1.2.3"]
    outside = ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "2001:db9::", "::", "::2", "::ffff:11.0.0.0"]
    assert [text for text in inside + outside if ipaddress.ip_address(text) in networks] == inside


def test_a_set_of_no_networks() -> None:
    assert not NetworkSet([])
    assert ipaddress.ip_address("10.0.0.1") not in NetworkSet([])
    assert NetworkSet([parse_network("0.0.0.0/0")])
    assert ipaddress.ip_address("10.0.0.1") in NetworkSet([parse_network("0.0.0.0/0")])
    assert ipaddress.ip_address("::") not in NetworkSet([parse_network("0.0.0.0/0")])
