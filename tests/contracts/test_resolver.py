"""The contract of core.faces.Resolver: the real one against a DNS server on loopback, and the shipped fake."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.contracts.streams import run
from tests.units.resolvers import resolving

from postroad.core.faces import MxHost, NameNotFound, NameTrouble
from postroad.testing.fake_resolver import FakeResolver
from postroad.testing.zone import Zone

NAMES = {
    "example.org": {
        "MX": ["10 MX1.example.org.", "10 mx2.example.org.", "20 backup.example.net."],
        "TXT": ['"v=spf1 " "-all"', '"other"', '"\\255\\000"'],
    },
    "mx1.example.org": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1"]},
    "four.example.org": {"A": ["192.0.2.3"]},
    "six.example.org": {"AAAA": ["2001:db8::2"]},
    "alias.example.org": {"CNAME": ["alias2.example.org."]},
    "alias2.example.org": {"CNAME": ["example.org."]},
    "dangling.example.org": {"CNAME": ["nowhere.example.org."]},
    "circle.example.org": {"CNAME": ["circle.example.org."]},
    "null.example.org": {"MX": ["0 ."]},
    "deep.under.example.org": {"A": ["192.0.2.4"]},
    "broken.example.org": "SERVFAIL",
    "refused.example.org": "REFUSED",
    "silent.example.org": "SILENT",
    "garbage.example.org": "GARBAGE",
    "many.example.org": {"A": [f"192.0.{high}.{low}" for high in (2, 3) for low in range(200)]},
    "large.example.org": {"TXT": [f'"{"x" * 200}{number}"' for number in range(50)]},
    "1.2.0.192.in-addr.arpa": {"PTR": ["MX1.example.org.", "other.example.org."]},
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa": {"PTR": ["six.example.org."]},
}


@asynccontextmanager
async def fake(zone):
    yield FakeResolver(zone)


@asynccontextmanager
async def real(zone):
    async with resolving(zone) as (resolver, _):
        yield resolver


@pytest.fixture(params=[(real, "uvloop"), (real, "asyncio"), (fake, "asyncio")], ids=["uvloop", "asyncio", "fake"])
def play(request):
    make, loop = request.param

    def player(script):
        async def work():
            async with make(Zone(NAMES)) as resolver:
                await script(resolver)

        run(loop, work())

    return player


def values(answer):
    return list(answer[0])


def test_mx_hosts(play):
    async def script(resolver):
        found = values(await resolver.mx("example.org"))
        assert len(found) == 3
        assert set(found) == {
            MxHost(10, "mx1.example.org"),
            MxHost(10, "mx2.example.org"),
            MxHost(20, "backup.example.net"),
        }

    play(script)


def test_aliases_are_followed(play):
    """RFC 5321 section 5.1."""

    async def script(resolver):
        direct = values(await resolver.mx("example.org"))
        assert set(values(await resolver.mx("alias.example.org"))) == set(direct)

    play(script)


def test_a_null_mx_is_an_empty_host(play):
    async def script(resolver):
        assert values(await resolver.mx("null.example.org")) == [MxHost(0, "")]

    play(script)


def test_addresses_ipv6_first(play):
    async def script(resolver):
        found = values(await resolver.addresses("mx1.example.org"))
        assert found[0] == "2001:db8::1"
        assert sorted(found[1:]) == ["192.0.2.1", "192.0.2.2"]
        assert values(await resolver.addresses("four.example.org")) == ["192.0.2.3"]
        assert values(await resolver.addresses("six.example.org")) == ["2001:db8::2"]

    play(script)


def test_names_of_an_address(play):
    async def script(resolver):
        assert sorted(values(await resolver.names("192.0.2.1"))) == ["mx1.example.org", "other.example.org"]
        assert values(await resolver.names("2001:db8::1")) == ["six.example.org"]
        with pytest.raises(NameNotFound):
            await resolver.names("192.0.2.99")
        with pytest.raises(NameNotFound):
            await resolver.names("unix")

    play(script)


def test_texts_are_joined_octets(play):
    async def script(resolver):
        assert sorted(values(await resolver.texts("example.org"))) == [b"other", b"v=spf1 -all", b"\xff\x00"]

    play(script)


def test_answers_that_do_not_fit_into_a_datagram(play):
    async def script(resolver):
        found = values(await resolver.texts("large.example.org"))
        assert sorted(found) == sorted(f"{'x' * 200}{number}".encode() for number in range(50))

    play(script)


@pytest.mark.parametrize("name", ["four.example.org", "under.example.org"])
def test_a_name_without_such_records_is_an_empty_answer(play, name):
    async def script(resolver):
        assert values(await resolver.mx(name)) == []
        assert values(await resolver.texts(name)) == []

    play(script)


def test_a_name_without_addresses_is_an_empty_answer(play):
    async def script(resolver):
        assert values(await resolver.addresses("example.org")) == []

    play(script)


@pytest.mark.parametrize(
    "name",
    ["nowhere.example.org", "dangling.example.org", "x" * 64 + ".org", "a..b", ".".join(["a" * 60] * 5), "é.org"],
)
def test_a_name_that_does_not_exist(play, name):
    async def script(resolver):
        for ask in (resolver.mx, resolver.addresses, resolver.texts):
            with pytest.raises(NameNotFound):
                await ask(name)

    play(script)


@pytest.mark.parametrize("name", ["broken", "refused", "silent", "garbage", "circle"])
def test_trouble_says_nothing_of_the_name(play, name):
    async def script(resolver):
        for ask in (resolver.mx, resolver.addresses, resolver.texts):
            with pytest.raises(NameTrouble, match=rf"{name}\.example\.org"):
                await ask(f"{name}.example.org")

    play(script)


@pytest.mark.parametrize("name", ["localhost", "a.localhost"])
def test_localhost_is_here(play, name):
    """RFC 6761 section 6.3."""

    async def script(resolver):
        assert values(await resolver.addresses(name)) == ["::1", "127.0.0.1"]
        assert values(await resolver.mx(name)) == []

    play(script)


def test_an_answer_tells_for_how_long(play):
    async def script(resolver):
        _, answer = await resolver.mx("example.org")
        assert 299 < answer.seconds <= 300
        assert answer.secure is False

    play(script)


def test_answers_are_bounded(play):
    async def script(resolver):
        assert len(values(await resolver.addresses("many.example.org"))) == 100

    play(script)


def test_many_at_once(play):
    async def script(resolver):
        answers = await asyncio.gather(*(resolver.addresses("mx1.example.org") for _ in range(50)))
        assert len({answer[0] for answer in answers}) == 1

    play(script)
