"""The parts of the simulation, each by itself: time and order, connections, threads, TLS, blows, letters."""

from __future__ import annotations

import asyncio
import ssl
from types import SimpleNamespace
from typing import cast

import pytest

from postroad.net.errors import TlsFailed
from postroad.net.tls_layer import TlsLayer
from postroad.testing.memory_disk import MemoryDisk
from postroad.testing.seeded_dice import SeededDice
from postroad.testing.sim import mail
from postroad.testing.sim.book import Book, Sent
from postroad.testing.sim.chaos import Blow, Chaos, Spell
from postroad.testing.sim.clients import Client
from postroad.testing.sim.disk import ProcessDisk
from postroad.testing.sim.house import Worker
from postroad.testing.sim.kernel import START, Kernel, Process
from postroad.testing.sim.machine import Machine
from postroad.testing.sim.network import Network, Weather
from postroad.testing.sim.story import Letter, Sender
from postroad.testing.sim.talk import Talk
from postroad.testing.sim.teller import tell
from postroad.testing.sim.threads import SimThreads
from postroad.testing.sim.tls import context_of


def run(kernel: Kernel, seconds: float = 100.0) -> None:
    kernel.run(lambda: False, START + seconds)


# --- time and processes ---


def test_things_happen_in_the_order_of_time_then_of_asking():
    kernel, seen = Kernel(), []
    for when, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (500.0, "too late")):
        kernel.at(START + when, seen.append, name)
    run(kernel)
    assert seen == ["a", "b", "c"]
    assert kernel.now == START + 2.0
    kernel.run(lambda: False, START + 600.0)
    assert seen[-1] == "too late"


def test_what_is_stopped_early_goes_on_where_it_was():
    kernel, seen = Kernel(), []
    for second in range(1, 6):
        kernel.at(START + second, seen.append, second)
    kernel.run(lambda: len(seen) >= 3, START + 100.0)
    assert seen == [1, 2, 3]
    run(kernel)
    assert seen == [1, 2, 3, 4, 5]


def test_the_dead_do_nothing_more():
    kernel, seen = Kernel(), []
    process = Process(kernel, "worker")

    async def live() -> None:
        while True:
            await asyncio.sleep(1.0)
            seen.append(kernel.now - START)

    task = kernel.enter(process, lambda: process.loop.create_task(live()))
    assert task is None
    kernel.at(START + 3.5, process.die)
    run(kernel)
    assert seen == [1.0, 2.0, 3.0]
    process.loop.tasks.clear()


def test_who_is_stopped_does_what_was_due_when_it_goes_on():
    kernel = Kernel()
    process, done = Process(kernel, "one"), []
    process.loop.call_later(1.0, done.append, "a timer")
    kernel.after(0.5, process.stop)
    kernel.after(0.7, kernel.enter, process, done.append, "a word")
    kernel.after(2.0, lambda: done.append(f"{len(done)} until now"))
    kernel.after(3.0, process.go_on)
    kernel.after(3.5, kernel.enter, process, done.append, "the next")
    run(kernel)
    assert done == ["0 until now", "a word", "a timer", "the next"]


def test_who_dies_while_it_is_stopped_does_nothing_more():
    kernel = Kernel()
    process, done = Process(kernel, "one"), []
    kernel.after(0.5, process.stop)
    kernel.after(0.7, kernel.enter, process, done.append, "a word")
    kernel.after(0.8, process.die)
    kernel.after(0.9, process.go_on)
    run(kernel)
    assert done == []


def test_what_nobody_caught_is_told():
    kernel, told = Kernel(), []
    process = Process(kernel, "worker")
    process.broke = told.append
    process.loop.call_soon(lambda: 1 / 0)
    run(kernel)
    assert "ZeroDivisionError" in told[0]


# --- connections ---


class Hearing(Talk):
    """Keeps what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[bytes] = []
        self.is_over = False

    def heard(self) -> None:
        self.said.append(self.buffer)
        self.buffer = b""

    def ended(self) -> None:
        self.is_over = True


def connected(kernel: Kernel, network: Network, process: Process) -> tuple[Hearing, Hearing]:
    """Connect 10.0.0.1 (outside) to 10.0.0.2 (the process); return both ends."""
    far = Hearing()
    network.host("10.0.0.2").accept = lambda port: (process, lambda: far)
    found: list[Hearing] = []

    async def connect() -> None:
        _, near = await network.open(kernel.outside, Hearing, "10.0.0.1", "10.0.0.2", 25)
        assert isinstance(near, Hearing)
        found.append(near)

    kernel.outside.loop.create_task(connect())
    run(kernel, kernel.now - START + 5.0)
    return found[0], far


@pytest.fixture
def world():
    kernel = Kernel()
    network = Network(kernel, SeededDice(), Weather(latency=0.01, pieces=1.0))
    return kernel, network, Process(kernel, "worker")


def test_octets_arrive_whole_in_pieces_and_are_counted(world):
    kernel = world[0]
    near, far = connected(*world)
    arrived = []
    near.say(b"0123456789" * 10, lambda: arrived.append(kernel.now))
    assert not arrived
    run(kernel, 50.0)
    assert b"".join(far.said) == b"0123456789" * 10
    assert len(far.said) > 1
    assert arrived


def test_a_process_that_dies_resets_its_connections(world):
    kernel, network, process = world
    near, _ = connected(*world)
    process.die()
    network.process_died(process, silently=False)
    run(kernel, 50.0)
    assert near.is_over


def test_after_a_power_cut_nobody_is_told_until_the_machine_is_back(world):
    kernel, network, process = world
    near, _ = connected(*world)
    process.die()
    network.process_died(process, silently=True)
    near.say(b"hello?")
    run(kernel, 50.0)
    assert not near.is_over
    near.wire.wake_up()
    run(kernel, 60.0)
    assert near.is_over


def test_a_partition_holds_octets_back(world):
    kernel, network, _ = world
    near, far = connected(*world)
    network.partition("10.0.0.1", "10.0.0.2")
    near.say(b"hello")
    run(kernel, 30.0)
    assert far.said == []
    network.partition("10.0.0.1", "10.0.0.2", heal=True)
    run(kernel, 60.0)
    assert b"".join(far.said) == b"hello"


def test_nobody_listens_and_nobody_is_there(world):
    kernel, network, _ = world
    network.host("10.0.0.9")
    ends = []

    async def connect(address: str) -> None:
        try:
            async with asyncio.timeout(5.0):
                await network.open(kernel.outside, Hearing, "10.0.0.1", address, 25)
        except OSError as error:
            ends.append(type(error).__name__)

    for address in ("10.0.0.9", "10.0.0.8"):
        kernel.outside.loop.create_task(connect(address))
    run(kernel)
    assert ends == ["ConnectionRefusedError", "TimeoutError"]


# --- threads, TLS ---


def test_a_lane_works_in_order_and_errors_come_back():
    kernel = Kernel()
    process = Process(kernel, "worker")
    threads, seen = SimThreads(process, Chaos(kernel, SeededDice(), ())), []

    async def work() -> None:
        await asyncio.gather(*(threads.run_blocking(seen.append, number, lane="writer") for number in range(20)))
        with pytest.raises(ZeroDivisionError):
            await threads.run_blocking(divmod, 1, 0)
        seen.append("over")

    kernel.enter(process, lambda: process.loop.create_task(work()))
    run(kernel)
    assert seen == [*range(20), "over"]
    assert kernel.now > START


def test_tls_hides_and_shakes_hands_as_the_layer_wants_it():
    client = TlsLayer(context_of(), server_side=False, server_hostname="mx.example")
    server = TlsLayer(context_of(), server_side=True)
    assert not client.shake_hands(b"")
    assert server.shake_hands(client.take_outgoing())
    assert client.shake_hands(server.take_outgoing())
    record = client.encrypt(b"MAIL FROM:<>\r\n")
    assert b"MAIL" not in record
    assert server.decrypt(record[:9]) == b""
    assert server.decrypt(record[9:]) == b"MAIL FROM:<>\r\n"
    server.decrypt(client.say_goodbye())
    assert server.ended


def test_a_handshake_with_garbage_fails_as_openssls_does():
    client = TlsLayer(context_of(), server_side=False)
    client.shake_hands(b"")
    with pytest.raises(TlsFailed, match="wrong version number"):
        client.shake_hands(b"this is no TLS\r\n")
    assert issubclass(TlsFailed, OSError)
    assert ssl.SSLError


# --- blows ---


@pytest.mark.parametrize(("when", "kept"), [("before", b""), ("in", b"he"), ("after", b"hello")])
def test_a_blow_falls_before_in_or_after_an_operation(when, kept):
    kernel = Kernel()
    disk, process = MemoryDisk(), Process(kernel, "worker")
    chaos = Chaos(kernel, SeededDice(3), ())
    chaos.crash = lambda fallen, blow, place: fallen.die()
    seen = ProcessDisk(disk, process, chaos)
    seen.make_directories("/d")
    file = seen.create("/d/a")
    chaos.arm(Blow(waits_for="time", n=0, operations=0, when=when))
    if when == "after":
        file.write(b"hello")
    else:
        with pytest.raises(OSError, match="dead"):
            file.write(b"hello")
    assert not process.is_alive
    found = dict(disk.contents())["/d/a"]
    assert found == kept if when != "in" else b"hello".startswith(found)
    with pytest.raises(OSError, match="dead"):
        seen.list("/d")


@pytest.mark.parametrize("when", ["before", "in", "after"])
def test_an_operation_goes_on_if_nothing_fell_and_counts_no_crash(when):
    played = Machine(Kernel(), Network(Kernel(), SeededDice(), Weather()), Book(lambda: START), tell(1))
    chaos, process = played.chaos, Process(played.kernel, "worker")  # none of the machine's: it has none
    seen = ProcessDisk(played.disk, process, chaos)
    file = seen.create("/a")
    chaos.arm(Blow(waits_for="time", n=0, operations=0, when=when))
    file.write(b"hello")
    assert process.is_alive
    assert file.read_at(0, 9) == b"hello"
    assert not chaos.crashed
    assert not played.book.crashes
    file.write(b", world")
    assert file.read_at(5, 9) == b", world"  # the blow is spent


@pytest.mark.parametrize(("path", "found"), [("", [True, True]), ("/shard-1/", [False, True])])
def test_a_disk_may_be_ill_in_places(path, found):
    kernel = Kernel()
    chaos = Chaos(kernel, SeededDice(1), (Spell("sync", 0.0, 10.0, path=path),))
    process = Process(kernel, "one")
    paths = ("/data/shard-0/spool.db-wal", "/data/shard-1/spool.db-wal")
    assert [chaos.look(process, "sync", one)[1] is not None for one in paths] == found


def test_a_crash_is_counted_where_it_fell():
    played = Machine(Kernel(), Network(Kernel(), SeededDice(), Weather()), Book(lambda: START), tell(1))
    process = Process(played.kernel, "worker-0#1")
    worker = SimpleNamespace(process=process, slot=0, is_serving=False, forget=lambda: None)
    played.workers[0] = cast("Worker", worker)
    seen = ProcessDisk(played.disk, process, played.chaos)
    played.chaos.arm(Blow(waits_for="time", n=0, operations=0))
    with pytest.raises(OSError, match="dead"):
        seen.create("/a")
    assert list(played.chaos.crashed.values()) == [1]
    assert played.book.crashes[0].workers == ("worker-0#1",)
    played.workers[0] = cast("Worker", SimpleNamespace(process=Process(played.kernel, "worker-0#2"), slot=0))
    played.crashes_max = 1
    played.crash(played.workers[0].process, Blow(waits_for="time", n=0, operations=0), "a place")
    assert list(played.chaos.crashed.values()) == [1]


# --- clients ---


class Mute(Hearing):
    """A relay that takes everything until the content comes, and says nothing from then on."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self._kernel = kernel
        self.content: list[tuple[float, bytes]] = []
        self._is_silent = False

    def begun(self) -> None:
        self.say(b"220 mute\r\n")

    def heard(self) -> None:
        octets, self.buffer = self.buffer, b""
        if self._is_silent:
            self.content.append((self._kernel.now, octets))
        elif b"DATA" in octets:
            self._is_silent = True
            self.say(b"354 go on\r\n")
        else:
            self.say(b"250 yes\r\n")


def test_a_client_stops_where_it_was_told_to_and_tells_who_left_it_waiting():
    kernel = Kernel()
    network = Network(kernel, SeededDice(), Weather(latency=0.01, pieces=0.0))
    book, mute, process = Book(lambda: kernel.now), Mute(kernel), Process(kernel, "worker-0#1")
    network.host("192.0.2.1").accept = lambda port: (process, lambda: mute)
    letter = Letter("s0n0", 0.0, ("d0.example",), 700, "s.#@home.example")
    sender = Sender("client0", "10.0.0.1", (letter,), False, tries=0, patience=30.0, pause=3.0, last_octets=2)
    client = Client(kernel, network, book, SeededDice(), sender, "192.0.2.1")
    kernel.outside.loop.create_task(client.run())
    run(kernel)
    (first, half), (second, most), (third, last) = mute.content
    assert half + most + last == mail.stuffed(mail.content_of("s0n0", 0, 700))
    assert last == b"\r\n"
    assert second - first > 2.9
    assert third - second > 0.2
    (silence,) = book.silences
    assert (silence.end - silence.begin, silence.worker) == (30.0, "worker-0#1")
    assert silence.begin == book.sent["s0n0", 0].dot_at


# --- letters ---


@pytest.mark.parametrize("size", [10, 700, 9_000, 60_000])
def test_a_letter_is_known_again_behind_trace_fields_and_dots(size):
    content = mail.content_of("s1n2", 3, size)
    assert b"\r\n." in content or size < 2_000
    on_the_wire = mail.stuffed(content)
    assert on_the_wire.endswith(b"\r\n.\r\n")
    assert b"\r\n.\r\n" not in on_the_wire[:-5]
    assert mail.unstuffed(on_the_wire[:-3]) == content
    seen = mail.see(b"Received: by x\r\n\tid y;\r\n\tnow\r\n" + content)
    assert (seen.token, seen.attempt, seen.hash) == ("s1n2", 3, mail.hash_of(content))
    assert mail.see(content + b"x").hash != seen.hash


def test_a_letter_that_ends_without_crlf_may_arrive_with_one():
    whole, bare = mail.content_of("s1n2", 3, 700), mail.content_of("s1n2", 3, 700, ends_bare=True)
    assert whole == bare + b"\r\n"
    sent = Sent("s1n2", 3, "client", "", "", mail.hash_of(bare), len(bare), hash_ended=mail.hash_of(whole))
    assert sent.is_content(mail.see(bare).hash)
    assert sent.is_content(mail.see(whole).hash, ends_lines=True)
    assert not sent.is_content(mail.see(whole).hash)  # by BDAT it can go as it is
    assert not sent.is_content(mail.see(bare[:-1]).hash, ends_lines=True)
    sent = Sent("s1n2", 3, "client", "", "", mail.hash_of(whole), len(whole))
    assert not sent.is_content(mail.see(bare).hash)
    assert not sent.is_content(b"")
