"""A set of IP networks that is quick to ask, however many they are.

Owns: membership. Does not own: parsing (config/addresses.py), what a member may
do (access). One dict lookup per length of prefix in the set, not per network.
"""

from __future__ import annotations

from collections.abc import Iterable

from postroad.config.addresses import IPAddress, IPNetwork


class NetworkSet:
    """Networks of IPv4 and IPv6. Immutable, picklable.

    An IPv4 address that comes as IPv6 (::ffff:192.0.2.1), as
    it does on a socket of both families, counts as the IPv4 address it is.
    """

    __slots__ = ("_prefixes",)

    def __init__(self, networks: Iterable[IPNetwork]) -> None:
        prefixes: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            prefixes.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)
        self._prefixes = {
            version: tuple((shift, frozenset(found)) for (of, shift), found in prefixes.items() if of == version)
            for version in (4, 6)
        }

    def __contains__(self, address: IPAddress) -> bool:
        if address.version == 6 and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        bits = int(address)
        return any(bits >> shift in found for shift, found in self._prefixes[address.version])

    def __bool__(self) -> bool:
        return any(self._prefixes.values())
