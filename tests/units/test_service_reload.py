"""Another configuration for inbound: sessions keep what they began with, new ones get the new, nobody is dropped."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest
from tests.units.inbound_world import STRANGER, KeepingSpool, Talker
from tests.units.test_inbound_sessions import PLAIN, run

from postroad.config.load import load_text
from postroad.ledger.local import LocalLimits
from postroad.net.tls import CertificateError
from postroad.service.build_inbound import Inbound
from postroad.spool.face import Spool
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet
from postroad.testing.memory_stream import stream_pair


def text(domain: str, listeners: str = 'role = "mx"', limits: str = "", host: str = "one.example.org") -> str:
    return f"""
hostname = "{host}"
[relay]
domains = ["{domain}"]
[limits]
{limits}
[[listener]]
address = "127.0.0.1:0"
tls = "off"
{listeners}
"""


TWO = 'name = "a"\nrole = "mx"\n[[listener]]\naddress = "127.0.0.1:0"\ntls = "off"\nname = "b"\n'


class World:
    """Inbound and its listeners, by number."""

    def __init__(self, config: str) -> None:
        time = asyncio.get_running_loop().time
        self.spool, self.settings = KeepingSpool(), load_text(config).settings
        self.inbound = Inbound(
            self.settings,
            spool=cast(Spool, self.spool),
            clock=FakeClock(),
            outlet=FakeOutlet(),
            limits=LocalLimits(time),
            time=time,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def reload(self, config: str) -> None:
        self.inbound.switch(self.inbound.prepare(load_text(config).settings))

    async def connect(self, listener: int = 0) -> Talker:
        client, server = stream_pair(names=(STRANGER, "192.0.2.25"))
        serve = self.inbound.serve_of(self.settings.listener[listener])
        self._tasks.append(asyncio.ensure_future(serve(server)))  # type: ignore[arg-type]
        talker = Talker(client)
        talker.greeting = await talker.hear()
        return talker


def test_open_sessions_keep_their_house_and_new_ones_get_the_new() -> None:
    async def work() -> None:
        world = World(text("example.org"))
        old = await world.connect()
        assert old.greeting.startswith("220 one.example.org")
        world.reload(text("example.com", limits='message_size = "64KiB"', host="two.example.org"))
        new = await world.connect()
        assert new.greeting.startswith("220 two.example.org")
        assert (await old.hand_in(PLAIN, "bob@example.org")).startswith("250")
        assert (await old.hand_in(PLAIN, "bob@example.com")).startswith("550")
        assert (await new.hand_in(PLAIN, "bob@example.com")).startswith("250")
        assert (await new.hand_in(PLAIN, "bob@example.org")).startswith("550")
        assert "SIZE 65536" in await new.say("EHLO c.example")
        assert "SIZE 65536" not in await old.say("EHLO c.example")

    run(work)


def test_a_listener_changes_its_profile_for_new_sessions() -> None:
    async def work() -> None:
        world = World(text("example.org"))
        old = await world.connect()
        world.reload(text("example.org", 'role = "lmtp"\nname = "another"'))
        new = await world.connect()
        assert new.greeting.endswith("LMTP")
        assert (await new.say("LHLO c.example")).startswith("250")
        assert (await old.say("EHLO c.example")).startswith("250")

    run(work)


def test_listeners_with_one_address_are_told_apart_by_their_names() -> None:
    async def work() -> None:
        world = World(text("example.org", TWO + 'role = "mx"'))
        world.reload(text("example.org", TWO + 'role = "submission"'))
        first, second = await world.connect(0), await world.connect(1)
        assert (await first.hand_in(PLAIN, "bob@example.org")).startswith("250")
        assert (await second.hand_in(PLAIN, "bob@example.org")).startswith("530")

    run(work)


def test_a_listener_that_is_gone_is_served_as_before_while_its_socket_is_open() -> None:
    async def work() -> None:
        world = World(text("example.org", TWO + 'role = "lmtp"'))
        world.reload(text("example.org", 'name = "a"\nrole = "mx"'))
        talker = await world.connect(1)
        assert talker.greeting.endswith("LMTP")

    run(work)


def test_a_certificate_that_cannot_be_used_refuses_the_reload_whole(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(text("example.org"))
        certificate = tmp_path / "cert.pem"
        certificate.write_text("nonsense")
        new = text("example.com", 'tls = "starttls"').replace('tls = "off"\n', "", 1)
        new += f'[[tls.certificate]]\ncertificate = "{certificate}"\nprivate_key = "{certificate}"\n'
        with pytest.raises(CertificateError, match=str(certificate)):
            world.inbound.prepare(load_text(new).settings)
        talker = await world.connect()
        assert (await talker.hand_in(PLAIN, "bob@example.org")).startswith("250")

    run(work)


def test_ids_of_sessions_are_given_once_across_a_reload() -> None:
    async def work() -> None:
        world = World(text("example.org"))
        before = world.inbound.server.house.session_ids
        world.reload(text("example.com"))
        assert world.inbound.server.house.session_ids is before

    run(work)
