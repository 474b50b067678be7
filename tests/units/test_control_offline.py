"""Which queue a command steers: the relay's if one answers, else the spool itself, and only as its owner."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from tests.units.api_world import served
from tests.units.spool_world import ListSpool
from tests.units.steering_world import SetClock, message_id

from postroad.config.load import load_text
from postroad.config.model import Settings
from postroad.core.faces import Clock, NameNotFound, Outlet
from postroad.core.facts import Dropped, Held, Steered, Trouble
from postroad.core.ids import format_id
from postroad.outbound.front import FrontSteering
from postroad.outbound.steering import Change, ControlRefused, NoRelay, NotThere
from postroad.service.offline import TOLD_AT_ONCE, FactsOfCommand, ask_relay, open_queue, resolve
from postroad.spool.face import Selection, Spool
from postroad.spool.owner import LockOwner


class Shards:
    """Opens a spool of a few messages as the house would: with the lock of data_dir/shard-0."""

    def __init__(self) -> None:
        self.spool = ListSpool()
        self.opened_as: list[int] = []
        self.groups: list[int] = []
        self.closed = 0

    @asynccontextmanager
    async def open(self, settings: Settings, clock: Clock, outlet: Outlet) -> AsyncIterator[list[Spool]]:
        owner = LockOwner(str(settings.data_dir / "shard-0"))
        self.opened_as.append(os.geteuid())
        self.groups = os.getgroups()
        try:
            yield [self.spool]  # type: ignore[list-item]
        finally:
            owner.release()
            self.closed += 1


def settings(data_dir: Path) -> Settings:
    return load_text(f'data_dir = "{data_dir}"').settings


async def first_ids(data_dir: Path, shards: Shards) -> list[str]:
    async with open_queue(settings(data_dir), SetClock(), shards.open) as steering:
        page = await steering.list_messages(Selection(), after=None, limit=10)
        return [row.id for row in page.messages]


def refusal(data_dir: Path, shards: Shards) -> str:
    with pytest.raises(ControlRefused) as refused:
        asyncio.run(first_ids(data_dir, shards))
    assert refused.value.status == 1
    return refused.value.text


def test_the_relay_that_runs_is_asked(tmp_path: Path) -> None:
    async def test() -> None:
        shards = Shards()
        async with served(tmp_path) as api:
            ids = [format_id(await api.front.spools.put("b@example.com")) for _ in range(3)]
            assert sorted(await first_ids(tmp_path, shards)) == sorted(ids)
        assert shards.opened_as == []

    asyncio.run(test())


def test_without_a_relay_the_spool_is_opened_and_closed(tmp_path: Path) -> None:
    shards = Shards()
    assert len(asyncio.run(first_ids(tmp_path, shards))) == 4
    assert (len(shards.opened_as), shards.closed) == (1, 1)
    assert len(asyncio.run(first_ids(tmp_path, shards))) == 4  # the lock was given back


def test_it_is_closed_too_when_the_command_breaks(tmp_path: Path) -> None:
    async def test(shards: Shards) -> None:
        async with open_queue(settings(tmp_path), SetClock(), shards.open) as steering:
            await steering.show(message_id(9))

    shards = Shards()
    with pytest.raises(ControlRefused, match="is not in the queue"):
        asyncio.run(test(shards))
    assert shards.closed == 1


def test_who_steers_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from postroad.net.local import user_name

    async def test() -> None:
        async with open_queue(settings(tmp_path), SetClock(), Shards().open) as steering:
            await steering.change(Change.HOLD, Selection(domain="example.com"))

        async with (
            open_queue(settings(tmp_path), SetClock(), Shards().open) as steering,
            aclosing(steering.trace("frank@example.com")) as facts,
        ):
            held = [fact async for fact in facts]
        who = user_name(os.geteuid())
        at, message = SetClock().now(), message_id(4)
        assert held == [Held(at=at, message=message, number=0, recipient="frank@example.com", who=who)]

    asyncio.run(test())
    assert capsys.readouterr().err == ""  # what was done is what the command says; no line of a log


def test_a_relay_that_does_not_answer_is_not_gone_around(tmp_path: Path) -> None:
    """It holds the lock: whoever changed the spool beside it would break the promise of one owner."""
    (tmp_path / "shard-0").mkdir()
    lock = os.open(tmp_path / "shard-0" / "owner.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.write(lock, b"4242\n")
    shards = Shards()
    text = refusal(tmp_path, shards)
    assert text.startswith(f"A relay holds the queue, but does not answer on {tmp_path}/control.sock")
    assert "process 4242" in text
    assert shards.opened_as == []
    os.close(lock)


def test_where_there_is_no_queue_nothing_is_made(tmp_path: Path) -> None:
    assert "There is no queue" in refusal(tmp_path / "missing", Shards())
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert "is not a directory" in refusal(tmp_path / "file", Shards())


def test_somebody_else_may_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 4242)
    shards = Shards()
    assert f"you are uid {tmp_path.stat().st_uid + 4242}. Run this as " in refusal(tmp_path, shards)
    assert shards.opened_as == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_acts_as_the_owner_and_is_root_again(tmp_path: Path) -> None:
    for path in (tmp_path, *list(tmp_path.parents)[:-2]):
        path.chmod(path.stat().st_mode | 0o011)
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    os.chown(data_dir, 54321, 54322)
    groups = os.getgroups()
    shards = Shards()
    assert len(asyncio.run(first_ids(data_dir, shards))) == 4
    assert (shards.opened_as, shards.groups) == ([54321], [54322])
    lock = (data_dir / "shard-0" / "owner.lock").stat()
    assert (lock.st_uid, lock.st_gid) == (54321, 54322)
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, groups)


def test_a_spool_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    class Broken(Shards):
        @asynccontextmanager
        async def open(self, settings: Settings, clock: Clock, outlet: Outlet) -> AsyncIterator[list[Spool]]:
            raise OSError(5, "Input/output error", "spool.db")
            yield

    assert refusal(tmp_path, Broken()).startswith(f"The queue in {tmp_path} cannot be opened: [Errno 5]")


def test_asking_the_relay_never_opens_the_spool(tmp_path: Path) -> None:
    with pytest.raises(NoRelay):
        asyncio.run(ask_relay(settings(tmp_path)).health())


def test_only_trouble_is_shown_and_as_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outlet = FactsOfCommand(settings(tmp_path), SetClock())
    outlet.emit(Steered(at=1.0, who="x", verb="hold", recipients=1, selection="all"))
    outlet.emit(Trouble(at=1.0, what="disk", why="it is full"))
    assert capsys.readouterr().err == "postroad: trouble with disk begins: it is full.\n"


def test_one_dns_server_is_asked() -> None:
    from postroad.testing.dns_server import DnsServer
    from postroad.testing.zone import Zone

    async def test() -> None:
        zone = Zone({"relay.example.org": {"A": ["192.0.2.1"]}})
        async with DnsServer(zone) as server:
            assert await resolve(server.address, "relay.example.org", 3.0) == ("192.0.2.1",)
            with pytest.raises(NameNotFound):
                await resolve(server.address, "other.example.org", 3.0)

    asyncio.run(test())


def test_without_a_relay_destinations_are_steered_all_the_same(tmp_path: Path) -> None:
    async def test() -> None:
        async with open_queue(settings(tmp_path), SetClock(), Shards().open) as steering:
            assert isinstance(steering, FrontSteering)
            await steering.suspend("example.com", until=None)
            with pytest.raises(NoRelay, match="No relay runs here, so there is nothing to reload"):
                await steering.reload()
        async with open_queue(settings(tmp_path), SetClock(), Shards().open) as steering:
            assert isinstance(steering, FrontSteering)
            assert [row.destination for row in await steering.suspensions()] == ["example.com"]
            rows, _ = await steering.audit(after="", limit=9)
            assert sorted(row.what for row in rows) == ["reload", "suspend"]
            with pytest.raises(NotThere):
                async with aclosing(steering.trace(format_id(message_id(99)))) as facts:
                    await facts.__anext__()

    asyncio.run(test())


def test_what_was_steered_without_a_relay_is_among_its_facts(tmp_path: Path) -> None:
    async def test() -> None:
        outlet = FactsOfCommand(settings(tmp_path), SetClock())
        at = SetClock().now()
        told = [
            Dropped(at=at, message=message_id(7), number=number, recipient="a@b.example", rule="x")
            for number in range(2 * TOLD_AT_ONCE + 5)
        ]
        for fact in told:
            outlet.emit(fact)
        assert len(outlet._told) == 5
        await outlet.close()
        async with (
            open_queue(settings(tmp_path), SetClock(), Shards().open) as steering,
            aclosing(steering.trace(format_id(message_id(7)))) as facts,
        ):
            assert [fact async for fact in facts] == told

    asyncio.run(test())


def test_looking_makes_no_records(tmp_path: Path) -> None:
    asyncio.run(first_ids(tmp_path, Shards()))
    assert not (tmp_path / "records.db").exists()
    assert not (tmp_path / "facts").exists()
