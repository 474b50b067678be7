"""The resolver beyond its contract: the cache, lookups shared, tries over servers, forged and hostile answers."""

from __future__ import annotations

import asyncio

import dns.exception
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contracts.streams import LOOPS, run
from tests.units.resolvers import Dice, resolving

from postroad.config.addresses import TcpAddress
from postroad.core.faces import MxHost, NameNotFound, NameTrouble
from postroad.net import name_servers, resolve
from postroad.net.name_servers import NameServers, parse_resolv_conf
from postroad.net.resolve import DnsResolver
from postroad.testing.dns_server import DnsServer
from postroad.testing.zone import Zone

MX = {"MX": ["10 mx.example.org."]}


@pytest.fixture(params=list(LOOPS))
def loop(request):
    return request.param


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# --- the cache ---


@pytest.mark.parametrize(("ttl", "kept"), [(0, 5), (60, 60), (86_400, 3600)])
def test_an_answer_is_asked_again_when_its_time_is_up(ttl, kept):
    async def work():
        time = Time()
        async with resolving(Zone({"example.org": MX}, ttl=ttl), time=time) as (resolver, server):
            for _ in range(3):
                await resolver.mx("example.org")
            time.now += kept - 0.1
            _, answer = await resolver.mx("example.org")
            assert answer.seconds == pytest.approx(0.1)
            assert len(server.asked) == 1
            time.now += 0.2
            await resolver.mx("example.org")
            assert len(server.asked) == 2

    run("uvloop", work())


@pytest.mark.parametrize(("ttl", "kept"), [(0, 5), (60, 60), (86_400, 300)])
@pytest.mark.parametrize("name", ["nowhere.example.org", "example.org"])
def test_what_is_not_there_is_remembered_for_less(name, ttl, kept):
    async def ask(resolver):
        try:
            assert (await resolver.texts(name))[0] == ()
        except NameNotFound:
            assert name == "nowhere.example.org"

    async def work():
        time = Time()
        async with resolving(Zone({"example.org": MX}, ttl=ttl), time=time) as (resolver, server):
            await ask(resolver)
            time.now += kept - 0.1
            await ask(resolver)
            assert len(server.asked) == 1
            time.now += 0.2
            await ask(resolver)
            assert len(server.asked) == 2

    run("uvloop", work())


def test_a_failure_is_remembered_for_seconds():
    async def work():
        time = Time()
        zone = Zone({"example.org": "SERVFAIL"})
        async with resolving(zone, time=time) as (resolver, server):
            for _ in range(3):
                with pytest.raises(NameTrouble, match="says SERVFAIL"):
                    await resolver.mx("example.org")
            assert len(server.asked) == 1  # a server that has answered is not asked the same again
            zone.set("example.org", MX)
            time.now += 5.1
            assert (await resolver.mx("example.org"))[0] == (MxHost(10, "mx.example.org"),)

    run("uvloop", work())


def test_the_cache_is_bounded_and_keeps_what_is_used(monkeypatch):
    monkeypatch.setattr(resolve, "CACHE_MAX", 3)

    async def work():
        zone = Zone({f"n{number}.example.org": MX for number in range(5)})
        async with resolving(zone) as (resolver, server):
            for number in (0, 1, 2, 0, 3, 4, 0):  # 0 stays, for it is used
                await resolver.mx(f"n{number}.example.org")
            assert len(resolver._cache) == 3
            assert [name[:2] for name, _, _ in server.asked] == ["n0", "n1", "n2", "n3", "n4"]

    run("uvloop", work())


def test_an_emptied_cache_asks_again():
    async def work():
        async with resolving(Zone({"example.org": MX})) as (resolver, server):
            await resolver.mx("example.org")
            resolver.forget()
            await resolver.mx("example.org")
            assert len(server.asked) == 2

    run("uvloop", work())


# --- sharing ---


def test_a_lookup_under_way_is_shared_and_outlives_who_asked_first(loop):
    async def work():
        zone = Zone({"example.org": MX})
        zone.delays["example.org"] = 0.02
        async with resolving(zone, timeout=5) as (resolver, server):
            first = asyncio.ensure_future(resolver.mx("example.org"))
            others = [asyncio.ensure_future(resolver.mx("example.org")) for _ in range(20)]
            while not server.asked:
                await asyncio.sleep(0)
            first.cancel()
            for other in others:
                assert (await other)[0] == (MxHost(10, "mx.example.org"),)
            assert first.cancelled()
            assert len(server.asked) == 1

    run(loop, work())


def test_lookups_under_way_are_bounded(monkeypatch):
    monkeypatch.setattr(resolve, "IN_FLIGHT_MAX", 2)

    async def work():
        names = [f"n{number}.example.org" for number in range(6)]
        zone = Zone(dict.fromkeys(names, MX))
        zone.delays = dict.fromkeys(names, 0.01)
        async with resolving(zone, timeout=5) as (resolver, server):
            asking = [asyncio.ensure_future(resolver.mx(name)) for name in names]
            most = 0
            while not all(one.done() for one in asking):
                most = max(most, len(server._tasks))
                await asyncio.sleep(0)
            assert most == 2
            assert len(server.asked) == 6

    run("uvloop", work())


def test_both_families_are_asked_at_once_and_one_may_fail(loop):
    class HalfBroken(Zone):
        def find(self, name, kind):
            if kind == "AAAA":
                return super().find("broken.example.org", kind)
            return super().find(name, kind)

    async def work():
        zone = HalfBroken({"example.org": {"A": ["192.0.2.1"]}, "broken.example.org": "SILENT"})
        async with resolving(zone, timeout=0.05) as (resolver, server):
            addresses, answer = await resolver.addresses("example.org")
            assert addresses == ("192.0.2.1",)
            assert answer.seconds <= resolve.FAILURE_TTL  # the other family is looked up again soon
            assert {kind for _, kind, _ in server.asked[:2]} == {"A", "AAAA"}

    run(loop, work())


def test_one_family_in_trouble_is_not_an_empty_answer(loop):
    class HalfBroken(Zone):
        def find(self, name, kind):
            return super().find("broken.example.org" if kind == "A" else name, kind)

    async def work():
        zone = HalfBroken({"example.org": MX, "broken.example.org": "SERVFAIL"})
        async with resolving(zone) as (resolver, _):
            with pytest.raises(NameTrouble):
                await resolver.addresses("example.org")

    run(loop, work())


# --- servers ---


async def over(loop_time, servers, zone_name="example.org", timeout=0.1):
    resolver = DnsResolver(NameServers(servers, time=loop_time), timeout=timeout, dice=Dice(), time=loop_time)
    return await resolver.mx(zone_name)


@pytest.mark.parametrize("trouble", ["SERVFAIL", "REFUSED", "SILENT", "GARBAGE", "FORMERR"])
def test_the_next_server_is_asked(loop, trouble):
    async def work():
        bad, good = DnsServer(Zone({"example.org": trouble})), DnsServer(Zone({"example.org": MX}))
        async with bad, good:
            time = asyncio.get_running_loop().time
            found, _ = await over(time, [bad.address, good.address], timeout=0.05)
            assert found == (MxHost(10, "mx.example.org"),)
            assert bad.asked

    run(loop, work())


def test_a_server_that_is_not_there_is_known_at_once(loop):
    async def work():
        async with DnsServer(Zone()) as gone:
            pass
        async with DnsServer(Zone({"example.org": MX})) as good:
            time = asyncio.get_running_loop().time
            began = time()
            await over(time, [gone.address, good.address], timeout=10)
            assert time() - began < 5
            with pytest.raises(NameTrouble, match=f"{gone.address}: .*refused"):
                await over(time, [gone.address], timeout=10)

    run(loop, work())


def test_a_lost_datagram_is_asked_again(loop):
    class Lossy(Zone):
        lost = 0

        def find(self, name, kind):
            self.lost += 1
            return super().find("silent.example.org" if self.lost == 1 else name, kind)

    async def work():
        zone = Lossy({"example.org": MX, "silent.example.org": "SILENT"})
        async with resolving(zone, timeout=0.05) as (resolver, _):
            assert (await resolver.mx("example.org"))[0] == (MxHost(10, "mx.example.org"),)

    run(loop, work())


def test_a_server_from_before_edns(loop):
    async def work():
        async with resolving(Zone({"example.org": MX})) as (resolver, server):
            server.edns = False
            assert (await resolver.mx("example.org"))[0] == (MxHost(10, "mx.example.org"),)

    run(loop, work())


def test_tcp_is_for_what_does_not_fit(loop):
    async def work():
        zone = Zone({"large.example.org": {"TXT": [f'"{"x" * 250}{number}"' for number in range(40)]}})
        async with resolving(zone, timeout=5) as (resolver, server):
            texts, _ = await resolver.texts("large.example.org")
            assert len(texts) == 40
            assert [transport for _, _, transport in server.asked] == ["udp", "tcp"]

    run(loop, work())


# --- the hostile ---


def test_forged_answers_are_passed_over(loop):
    async def work():
        async with resolving(Zone({"example.org": MX}), timeout=5) as (resolver, server):
            server.forge = True
            assert (await resolver.mx("example.org"))[0] == (MxHost(10, "mx.example.org"),)

    run(loop, work())


def test_each_query_has_its_own_port_and_id(loop):
    async def work():
        seen = set()

        class Watching(DnsServer):
            def take_datagram(self, octets, peer):
                seen.add((peer[1], octets[:2]))
                super().take_datagram(octets, peer)

        names = [f"n{number}.example.org" for number in range(20)]
        async with Watching(Zone(dict.fromkeys(names, MX))) as server:
            time = asyncio.get_running_loop().time
            resolver = DnsResolver(NameServers([server.address], time=time), timeout=5, dice=Dice(), time=time)
            for name in names:
                await resolver.mx(name)
        assert len({port for port, _ in seen}) > 15
        assert len({identifier for _, identifier in seen}) > 15

    run(loop, work())


@given(st.binary(max_size=80), st.integers(0, 80), st.integers(0, 255))
def test_no_octets_break_the_reader(noise, at, octet):
    """What dnspython raises for a hostile packet is what we catch, nothing else."""
    query = dns.message.make_query("example.org.", "MX", id=1)
    response = dns.message.make_response(query)
    response.answer.append(dns.rrset.from_text("example.org.", 300, "IN", "MX", "10 mx.example.org.", "20 ."))
    wire = bytearray(response.to_wire())
    wire[min(at, len(wire) - 1)] = octet
    for octets in (bytes(wire), bytes(wire[:at]) + noise, query.id.to_bytes(2) + noise):
        try:
            found = dns.message.from_wire(octets)
        except dns.exception.DNSException:
            continue
        if query.is_response(found) and isinstance(found, dns.message.QueryMessage):
            try:
                found.resolve_chaining()
            except dns.exception.DNSException:
                continue


# --- resolv.conf ---


def test_resolv_conf():
    text = """
# nameserver 192.0.2.9
; nameserver 192.0.2.9
search example.org
nameserver 192.0.2.1
 nameserver\t2001:db8::1   # the second
nameserver fe80::1%eth0
nameserver not-an-address
nameserver
nameserver 192.0.2.4
options timeout:1
"""
    assert parse_resolv_conf(text) == (
        TcpAddress("192.0.2.1", 53),
        TcpAddress("2001:db8::1", 53),
        TcpAddress("fe80::1%eth0", 53),
    )


def test_resolv_conf_is_read_again_when_it_changes(tmp_path):
    time, path = Time(), tmp_path / "resolv.conf"
    servers = NameServers(time=time, path=str(path))
    local = (TcpAddress("127.0.0.1", 53),)
    assert servers.current() == local
    path.write_text("nameserver 192.0.2.1\n")
    assert servers.current() == local
    time.now += name_servers.LOOK_EVERY
    assert servers.current() == (TcpAddress("192.0.2.1", 53),)
    path.unlink()  # while it is replaced
    time.now += name_servers.LOOK_EVERY
    assert servers.current() == (TcpAddress("192.0.2.1", 53),)
    path.write_text("nameserver 192.0.2.22\n")
    time.now += name_servers.LOOK_EVERY
    assert servers.current() == (TcpAddress("192.0.2.22", 53),)
    path.write_text("# none\n")
    time.now += name_servers.LOOK_EVERY
    assert servers.current() == local


def test_settings_go_before_resolv_conf(tmp_path):
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\n")
    mine = TcpAddress("127.0.0.1", 5353)
    assert NameServers([mine], time=Time(), path=str(path)).current() == (mine,)
