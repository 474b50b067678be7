"""Delivery into a Maildir, on a real file system: names, line ends, repeats, trouble with the disk."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.core import facts
from postroad.core.address import Mailbox
from postroad.core.envelope import Envelope, Recipient
from postroad.core.ids import MessageId
from postroad.core.outcome import Deferred, Delivered, DeliveryState, Dropped, Failed, Stage
from postroad.outbound.hops import DestinationLimits, Target, ToMaildir, ToNothing, ToRefusal
from postroad.outbound.house import OutboundHouse
from postroad.outbound.job import Job
from postroad.outbound.local import deliver_locally
from postroad.outbound.maildir import COMPONENT_MAX, LineEnds, MaildirFile, escape, fields, maildir_path
from postroad.outbound.settle import Settler
from postroad.policy.schedule import Schedule
from postroad.service.threads import WorkerThreads
from postroad.spool.face import Delivery, QueuedMessage, Ruling
from postroad.spool.real_disk import OsDisk, OsFile
from postroad.testing.fake_clock import NOON, FakeClock
from postroad.testing.fake_outlet import FakeOutlet
from postroad.testing.seeded_dice import SeededDice

CONTENT = b"Subject: x\r\n\r\n.one\r\nbare\rcr\nlf\r\n"
STORED = b"Subject: x\n\n.one\nbare\rcr\nlf\n"
ALICE = Mailbox("alice", "example.org")


class FullDisk(OsDisk):
    """Fails where it is told to."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def rename(self, old: str, new: str) -> None:
        raise OSError(self.number, "No")


class WatchedFile(OsFile):
    """Tells of its syncs."""

    def __init__(self, descriptor: int, told: list[str]) -> None:
        super().__init__(descriptor)
        self.told = told

    def write(self, octets: bytes | memoryview) -> None:
        self.told.append("write")
        super().write(octets)

    def sync(self) -> None:
        self.told.append("sync")
        super().sync()


class WatchedDisk(OsDisk):
    """Tells what is done to it, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def create(self, path: str, mode: int = 0o600) -> OsFile:
        self.told.append(f"create in {Path(path).parent.name}")
        return WatchedFile(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), self.told)

    def rename(self, old: str, new: str) -> None:
        self.told.append(f"rename into {Path(new).parent.name}")
        super().rename(old, new)

    def sync_directory(self, path: str) -> None:
        self.told.append(f"sync {Path(path).name}")
        super().sync_directory(path)


class OnlyContent:
    """A spool that gives one content, in pieces of five octets."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)
        self.is_closed = False

    async def open(self, message: MessageId) -> OnlyContent:
        return self

    async def read(self, offset: int, octets_max: int) -> bytes:
        return self.content[offset : offset + min(5, octets_max)]

    def close(self) -> None:
        self.is_closed = True


def make_house(outlet: FakeOutlet, threads: WorkerThreads, disk: OsDisk, spool: object = None) -> OutboundHouse:
    def unused(*_: object, **__: object) -> object:
        raise AssertionError("local delivery asks nothing of the net")

    return OutboundHouse(
        spool=spool,  # type: ignore[arg-type]
        clock=FakeClock(),
        dice=SeededDice(),
        outlet=outlet,
        resolver=None,  # type: ignore[arg-type]
        limits=None,  # type: ignore[arg-type]
        disk=disk,
        threads=threads,
        hostname="relay.example.org",
        retry=Schedule(),
        connect=unused,  # type: ignore[arg-type]
        connect_unix=unused,  # type: ignore[arg-type]
        tls_context=unused,  # type: ignore[arg-type]
        limits_for=lambda _target, _domain: DestinationLimits(1, 1, None, Schedule()),
        domain_rule=lambda _domain: "",
        time=lambda: 0.0,
    )


def job_for(*recipients: Mailbox, content: bytes | None = CONTENT, attempts: int = 0) -> Job:
    envelope = Envelope(ALICE, tuple(Recipient(mailbox) for mailbox in recipients))
    deliveries = tuple(
        Delivery(MessageId(99), number, mailbox.domain, 0, DeliveryState.DUE, attempts, NOON, False, None)
        for number, mailbox in enumerate(recipients)
    )
    message = QueuedMessage(MessageId(99), envelope, NOON, len(CONTENT), deliveries, content)
    return Job(message, deliveries, Schedule())


def deliver(
    job: Job, target: Target, disk: OsDisk | None = None, spool: object = None
) -> tuple[list[Ruling], FakeOutlet]:
    outlet, threads = FakeOutlet(), WorkerThreads(1)

    async def work() -> list[Ruling]:
        house = make_house(outlet, threads, disk or OsDisk(), spool)
        async with asyncio.timeout(20):
            return await deliver_locally(house, Settler(house), job, target)  # type: ignore[arg-type]

    try:
        return asyncio.run(work()), outlet
    finally:
        threads.close()


def into(tmp_path: Path) -> ToMaildir:
    return ToMaildir("maildir", f"{tmp_path}/{{domain}}/{{user}}")


BOB = Mailbox("Bob+lists", "example.net")


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_message_is_stored_as_unix_has_it(tmp_path: Path, in_memory: bool) -> None:
    spool = OnlyContent(CONTENT)
    job = job_for(BOB, content=CONTENT if in_memory else None)
    rulings, outlet = deliver(job, into(tmp_path), spool=spool)
    home = tmp_path / "example.net" / "bob"
    [file] = (home / "new").iterdir()
    top = b"Return-Path: <alice@example.org>\nDelivered-To: Bob+lists@example.net\n"
    assert file.read_bytes() == top + STORED
    assert file.stat().st_mode & 0o777 == 0o600
    assert [*(home / "tmp").iterdir(), *(home / "cur").iterdir()] == []
    assert [(type(one.outcome), one.next) for one in rulings] == [(Delivered, None)]
    [fact] = outlet.of(facts.Delivered)
    assert (fact.recipient, fact.destination) == ("Bob+lists@example.net", "maildir")
    assert spool.is_closed is not in_memory


@pytest.mark.parametrize("moved_to", ["new/{}", "cur/{}:2,S", "cur/{}"])
def test_a_repeat_after_a_crash_does_not_double(tmp_path: Path, moved_to: str) -> None:
    deliver(job_for(BOB), into(tmp_path))
    home = tmp_path / "example.net" / "bob"
    [file] = (home / "new").iterdir()
    file.rename(home / moved_to.format(file.name))
    rulings, _ = deliver(job_for(BOB, content=None), into(tmp_path), spool=OnlyContent(CONTENT))
    assert isinstance(rulings[0].outcome, Delivered)
    assert len([*(home / "new").iterdir(), *(home / "cur").iterdir()]) == 1


@pytest.mark.parametrize("flags", ["", ":2,S"])
def test_what_a_reader_has_moved_is_durable_where_it_is_now(tmp_path: Path, flags: str) -> None:
    """We were killed before the sync of new, and readers sync nothing: after a power cut it would be nowhere."""
    deliver(job_for(BOB), into(tmp_path))
    home = tmp_path / "example.net" / "bob"
    [file] = (home / "new").iterdir()
    file.rename(home / "cur" / f"{file.name}{flags}")
    disk = WatchedDisk()
    rulings, _ = deliver(job_for(BOB, content=None), into(tmp_path), disk, OnlyContent(CONTENT))
    assert isinstance(rulings[0].outcome, Delivered)
    assert disk.told == ["sync bob", "sync bob", "sync bob", "sync cur"], (
        "the names of tmp, new and cur, once a process"
    )


@pytest.mark.parametrize("in_memory", [True, False])
def test_it_is_durable_before_anybody_is_told(tmp_path: Path, in_memory: bool) -> None:
    deliver(job_for(ALICE), into(tmp_path))  # directories are there
    disk = WatchedDisk()
    job = job_for(BOB, BOB, content=CONTENT if in_memory else None)
    deliver(job_for(BOB), into(tmp_path), disk)
    disk.told.clear()
    deliver(job, into(tmp_path), disk, OnlyContent(CONTENT))
    writes = [step for step in disk.told if step != "write"]
    # The first recipient's file is there already: its name may not be durable yet, so it is made so before 250.
    assert writes == ["sync new", "create in tmp", "sync", "rename into new", "sync new"]
    last_write = len(disk.told) - 1 - disk.told[::-1].index("write")
    assert last_write < disk.told.index("sync")


def test_each_recipient_has_a_file_of_its_own(tmp_path: Path) -> None:
    deliver(job_for(BOB, Mailbox("bob", "example.net")), into(tmp_path))
    assert len(list((tmp_path / "example.net" / "bob" / "new").iterdir())) == 2


def test_what_an_earlier_try_left_in_tmp_is_no_obstacle(tmp_path: Path) -> None:
    rulings, _ = deliver(job_for(BOB), into(tmp_path), FullDisk(errno.EIO))
    assert isinstance(rulings[0].outcome, Deferred)
    home = tmp_path / "example.net" / "bob"
    assert list((home / "tmp").iterdir()) == []
    file = MaildirFile(OsDisk(), str(home), "name")
    assert file.begin(b"half")
    again = MaildirFile(OsDisk(), str(home), "name")
    assert again.begin(b"top\n")
    again.write(b"whole\n")
    again.finish()
    file.give_up()
    assert (home / "new" / "name").read_bytes() == b"top\nwhole\n"


@pytest.mark.parametrize(("number", "status"), [(errno.ENOSPC, "4.3.1"), (errno.EDQUOT, "4.3.1"), (errno.EIO, "4.3.0")])
def test_trouble_with_the_disk_is_for_later(tmp_path: Path, number: int, status: str) -> None:
    rulings, outlet = deliver(job_for(BOB), into(tmp_path), FullDisk(number))
    [ruling] = rulings
    assert isinstance(ruling.outcome, Deferred)
    assert (ruling.outcome.reply.status, ruling.outcome.stage, ruling.next) == (status, Stage.STORE, DeliveryState.DUE)
    assert len(outlet.of(facts.Deferred)) == 1
    assert list((tmp_path / "example.net" / "bob" / "new").iterdir()) == []


def test_a_content_that_ends_early_is_never_made_visible(tmp_path: Path) -> None:
    spool = OnlyContent(CONTENT)
    spool.size += 10
    rulings, _ = deliver(job_for(BOB, content=None), into(tmp_path), spool=spool)
    assert isinstance(rulings[0].outcome, Deferred)
    home = tmp_path / "example.net" / "bob"
    assert [*(home / "new").iterdir(), *(home / "tmp").iterdir()] == []


def test_discard_names_its_rule() -> None:
    rulings, outlet = deliver(job_for(BOB), ToNothing("discard", "route:discard"))
    assert rulings == [Ruling(0, Dropped("route:discard"), None)]
    assert [fact.rule for fact in outlet.of(facts.Dropped)] == ["route:discard"]


def test_reject_fails_with_the_text() -> None:
    rulings, outlet = deliver(job_for(BOB), ToRefusal("reject", "Nobody here"))
    [ruling] = rulings
    assert isinstance(ruling.outcome, Failed)
    assert (str(ruling.outcome.reply), ruling.next) == ("550 5.7.1 Nobody here", DeliveryState.REPORT_FAILED)
    assert len(outlet.of(facts.Bounced)) == 1


NASTY = st.lists(st.sampled_from(["..", ".", "/", "\0", "%", "%2E", "a", "é", " ", "~", "\n", "new"])).map("".join)


@given(NASTY)
def test_no_local_part_escapes_its_directory(local_part: str) -> None:
    path = maildir_path("/mail/{domain}/{user}/{detail}", Mailbox(local_part, "example.net"), "relay")
    parts = path.split("/")
    assert len(parts) == 5
    assert parts[:3] == ["", "mail", "example.net"]
    assert all(part and not part.startswith(".") and "\0" not in part for part in parts[1:])


@given(NASTY, NASTY)
def test_different_texts_stay_different(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) is (one == other)


LONG = st.lists(st.sampled_from(["/" * 30, "é" * 30, "a" * 60, "b", "%", "ß"]), min_size=2, max_size=12).map("".join)


@given(LONG, LONG)
def test_what_is_too_long_for_a_name_is_cut_and_stays_different(one: str, other: str) -> None:
    assert len(escape(one).encode()) <= COMPONENT_MAX
    assert (escape(one) == escape(other)) is (one == other)


def test_an_address_that_is_too_long_for_a_name_is_stored(tmp_path: Path) -> None:
    mailbox = Mailbox("/" * 60, ".".join(["x" * 60] * 3) + ".example")
    rulings, _ = deliver(job_for(mailbox), ToMaildir("maildir", f"{tmp_path}/{{address}}"))
    assert isinstance(rulings[0].outcome, Delivered)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b""])), st.lists(st.integers(1, 9)))
def test_line_ends_turn_the_same_however_the_content_is_cut(words: list[bytes], cuts: list[int]) -> None:
    content = rest = b"".join(words)
    turn, out = LineEnds(), b""
    for cut in cuts:
        out += turn.turn(rest[:cut])
        rest = rest[cut:]
    assert out + turn.turn(rest) + turn.end() == content.replace(b"\r\n", b"\n")


def test_the_null_path_on_top() -> None:
    assert fields(None, BOB) == b"Return-Path: <>\nDelivered-To: Bob+lists@example.net\n"
