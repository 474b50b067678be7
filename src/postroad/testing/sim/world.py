"""Plays one story from its beginning until nothing waits any more, and has it judged.

Owns: putting the parts together, the span of a world, the end: an orderly stop, a power cut, a look at the disk. Does
not own: the parts. The same story always plays in the same way, octet for octet (``Played.trace``).
"""

from __future__ import annotations

import gc
import hashlib
import sys
import warnings
from collections import Counter
from functools import partial
from typing import Final

import apsw
import msgspec

from postroad.core.facts import AnyFact
from postroad.spool.store import database_files
from postroad.testing.seeded_dice import SeededDice
from postroad.testing.sim.book import ITSELF, Book
from postroad.testing.sim.clients import Client
from postroad.testing.sim.disk_image import Image, read_image
from postroad.testing.sim.house import RELAY, Worker
from postroad.testing.sim.kernel import START, Kernel
from postroad.testing.sim.machine import Machine
from postroad.testing.sim.network import Network, Served
from postroad.testing.sim.peers import PeerTalk, Zoo
from postroad.testing.sim.people import People
from postroad.testing.sim.story import Letter, Peer, Plan, Sender

SLACK: Final = 1_500.0
"""Seconds of the world after the last letter's second expiry (its report's) until all must have ended."""


GREETING_WAIT: Final = 300.0
"""Seconds for which the relay waits for a greeting (RFC 5321 section 4.5.3.2.1)."""
HANDSHAKE_WAIT: Final = 60.0
"""Likewise for TLS."""
COLLECTIONS: Final = 3
"""Of cycles after a story: what a coroutine does as it is thrown away may keep others alive until the next."""
BOOKED_WITHIN: Final = 10.0
"""Seconds within which the ledger knows what workers hold: what was given back is under way, or a ledger settles."""
_KEPT: Final[list[World]] = []
"""What is not taken apart since the process ends soon."""
PLACES: Final = "in:connections"
"""Places for clients, of which a worker keeps some in hand (inbound)."""


class Played(msgspec.Struct):
    """What came of a story."""

    plan: Plan
    book: Book
    facts: list[tuple[float, AnyFact]]
    image: Image
    is_quiet: bool
    is_stopped: bool
    left: list[str]
    """What was still there when all should have gone: tasks, connections, files."""
    passed: Counter[str]
    crashed: Counter[tuple[str, str]]
    troubles: list[tuple[float, str]]
    seconds: float
    """Of the world."""
    steps: int
    operations: int
    trace: str
    """A hash over everything that happened, in order."""


class World:
    """One story being played."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.kernel = Kernel()
        self.book = Book(lambda: self.kernel.now)
        self.network = Network(self.kernel, SeededDice(plan.seed * 7 + 1), plan.weather)
        loop = self.kernel.outside.loop
        loop.network = self.network
        self.kernel.outside.broke = lambda why: self.book.broken.append(f"{ITSELF}: {why}")
        self.machine = Machine(self.kernel, self.network, self.book, plan)
        self.machine.is_busy = self._is_busy
        self.machine.on_stopped = self._look_at_stopped
        self._left: list[str] = []
        """By stops in the middle of the story."""
        self.zoos = [self._build(peer) for peer in plan.peers]
        self.clients = [self._client(sender) for sender in plan.senders]
        self._bounces = 0
        self.people = People(self.machine)

    def _build(self, peer: Peer) -> Zoo:
        zoo = Zoo(self.kernel, self.book, _dice(self.plan.seed, peer.name), peer)
        if not any(set(peer.domains) & set(other.domains) for other in self.plan.peers if other is not peer):
            # Shared domains are destinations of their own. Where people set limits, the judge looks at each.
            zoo.connections = 1 if self.plan.steps else self.plan.connections
        zoo.on_take = lambda take: self._bounce_later(zoo, take.token, take.sender)
        host = self.network.host(peer.address)

        def accept(port: int) -> Served:
            return self.kernel.outside, lambda: PeerTalk(zoo)

        host.accept = lambda port: accept(port) if port == 25 else None
        for begin, end in peer.down:
            self.kernel.at(START + begin, self._take_down, peer.address)
            self.kernel.at(START + end, self._bring_up, peer.address)
        for begin, end in peer.cut_off:
            self.kernel.at(START + begin, self.network.partition, RELAY, peer.address)
            self.kernel.at(START + end, lambda one=peer.address: self.network.partition(RELAY, one, heal=True))
        return zoo

    def _client(self, sender: Sender) -> Client:
        client = Client(self.kernel, self.network, self.book, _dice(self.plan.seed, sender.name), sender, RELAY)
        loop = self.kernel.outside.loop
        self.kernel.at(START, lambda: loop.create_task(client.run(), name=sender.name))
        return client

    def _bounce_later(self, zoo: Zoo, token: str, sender: str) -> None:
        """A peer that took a message has second thoughts, and sends a bounce of its own by way of the relay."""
        if not sender or not zoo.happens(zoo.peer.bounces_later) or self._bounces >= 20:
            return
        self._bounces += 1
        letter = Letter(
            token=f"b{self._bounces}x{token}",
            at=self.kernel.now - START + 3.0,
            recipients=(sender.partition("@")[2],),
            size=900,
            sender="",
        )
        name = f"bouncer{self._bounces}"
        self.clients.append(self._client(Sender(name=name, address=zoo.peer.address, letters=(letter,))))

    def _take_down(self, address: str) -> None:
        host = self.network.host(address)
        host.is_up = False
        for wire in list(host.wires.values()):
            wire.die(silently=True)

    def _bring_up(self, address: str) -> None:
        self.network.host(address).is_up = True

    def _is_busy(self) -> bool:
        return any(zoo.busy for zoo in self.zoos)

    # --- playing ---

    def play(self) -> Played:
        kernel, plan, machine = self.kernel, self.plan, self.machine
        self._arm()
        for at, by in plan.jumps:
            kernel.at(START + at, self._set_clock, by)
        for at, count in plan.resizes:
            kernel.at(START + at, machine.resize, count)
        for at, seconds in plan.hangs:
            kernel.at(START + at, machine.hang_ledger, seconds)
        machine.switch_on()
        self.people.begin()
        last = max((letter.at for one in plan.senders for letter in one.letters), default=0.0)
        back = sum(max(0.0, -by) for _, by in plan.jumps)  # what was due waits until the clock is there again
        last = max([last, *(step.at for step in plan.steps)])
        expire = max(one.expire for one in plan.all_terms)
        kernel.run(self._is_quiet, START + last + back + 2 * expire + SLACK + self._silence())
        is_quiet, is_stopped, left = self._end()
        left += self._left if is_quiet else []
        machine.chaos.is_over = True
        if is_quiet and is_stopped:
            left += self._contents_left()
        for worker in list(machine.workers.values()):
            machine.end(worker, silently=True)
        if not machine.disk.is_off:
            machine.disk.power_off(None)
        machine.disk.power_on()
        image = read_image(machine.disk)
        return Played(
            plan,
            self.book,
            machine.facts,
            image,
            is_quiet,
            is_stopped,
            left,
            machine.chaos.passed,
            machine.chaos.crashed,
            machine.chaos.troubles,
            kernel.now - START,
            kernel.steps,
            machine.chaos.operations,
            self._trace(),
        )

    def _contents_left(self) -> list[str]:
        """Return content files still there, but for those that the disk failed to unlink: the next start does."""
        machine = self.machine
        failed = {why.partition(":")[0] for _, why in machine.chaos.troubles}
        paths = [path for path, _ in machine.disk.contents() if "/bodies/" in path]
        return [f"content file {path}" for path in paths if f"unlink {path}" not in failed]

    def _silence(self) -> float:
        """Return how long hosts that are never well may be waited for: greetings, handshakes, for each message anew."""
        never_well = [peer for peer in self.plan.peers if peer.well_after > SLACK]
        wait = GREETING_WAIT if any(peer.silent for peer in never_well) else 0.0
        wait += HANDSHAKE_WAIT if any(peer.breaks_tls for peer in never_well) else 0.0
        return wait * sum(len(one.letters) for one in self.plan.senders)

    def _arm(self) -> None:
        chaos, kernel = self.machine.chaos, self.kernel
        dots = {int(blow.n): blow for blow in self.plan.blows if blow.waits_for == "dot"}
        replies = {int(blow.n): blow for blow in self.plan.blows if blow.waits_for == "reply"}
        commands = {int(blow.n): blow for blow in self.plan.blows if blow.waits_for == "command"}
        reloads = {int(blow.n): blow for blow in self.plan.blows if blow.waits_for == "switch"}
        self.book.on_order = lambda n: chaos.arm(commands[n]) if n in commands else None
        self.book.on_reload = lambda n: chaos.arm(reloads[n]) if n in reloads else None
        self.book.on_dot = lambda n: chaos.arm(dots[n]) if n in dots else None
        self.book.on_reply = lambda n: chaos.arm(replies[n]) if n in replies else None
        for blow in self.plan.blows:
            if blow.waits_for == "time":
                kernel.at(START + blow.n, chaos.arm, blow)
            elif blow.waits_for == "place":
                chaos.arm(blow)

    def _set_clock(self, by: float) -> None:
        self.machine.clock.offset += by
        self.book.note(f"the wall clock is set by {by:+.0f} s")

    def _is_quiet(self) -> bool:
        return all(client.is_done for client in self.clients) and self.people.is_done and self.machine.is_quiet

    def _unquiet(self) -> list[str]:
        """Say what keeps the world from being quiet."""
        left = [f"{client.name} is not done" for client in self.clients if not client.is_done]
        left += [] if self.people.is_done else ["people are not done"]
        for wire in self.network.host(RELAY).wires.values():
            left.append(f"a connection of {wire.process.name} with {wire.other.name[0]} ({wire.protocol!r})")
        for slot in range(self.machine.count):
            worker = self.machine.workers.get(slot)
            shard = None if worker is None else worker.shard
            if worker is None or shard is None:
                left.append(f"worker-{slot} is not up")
            else:
                counts = f"{shard._messages} messages, {shard.agenda.recipients} recipients"  # noqa: SLF001
                left.append(f"{worker.process.name}: {counts}, {'stopped' if shard.writer.is_stopped else 'works'}")
        return left

    def _leaks(self) -> list[str]:
        left = []
        for worker in self.machine.workers.values():
            left += [
                f"{worker.process.name} holds {count} connections of {key}"
                for key, count in worker.holds.items()
                if count != (worker.spare_places if key == PLACES else 0)
            ]
            names = Counter(task.get_name() for task in worker.process.loop.tasks.values())
            left += [f"{worker.process.name} has {names['session']} sessions"] if names["session"] else []
            if worker.outbound is not None and (lanes := worker.outbound._scheduler.destinations.lanes):  # noqa: SLF001
                left.append(f"{worker.process.name} has {lanes} lanes")
            left += _open_files(worker)
            left += _in_hand(worker)
        return left

    def _end(self) -> tuple[bool, bool, list[str]]:
        """Stop in order. A crash in the middle of it makes the world unquiet once more."""
        while self._is_quiet():
            if self.machine.misbooked():
                self.kernel.run(lambda: not self.machine.misbooked(), self.kernel.now + BOOKED_WITHIN)
                self.kernel.run(self._is_quiet, self.kernel.now + self.plan.expire + SLACK)
            left, crashes = self._leaks() + self.machine.misbooked(), len(self.book.crashes)
            done: list[bool] = []
            self.kernel.after(0.0, self._begin_stop, done)
            self.kernel.run(partial(self._is_stopped, done, crashes), self.kernel.now + 400.0)
            if len(self.book.crashes) == crashes:
                self.book.broken += self._tasks_left()
                return True, bool(done), left + (self._left_by_the_stop() if done else [])
            self.kernel.after(12.0, self.machine.start_anew)  # later than any machine is down
            self.kernel.run(lambda: False, self.kernel.now + 13.0)
            self.kernel.run(self._is_quiet, self.kernel.now + self.plan.expire + SLACK)
        return False, True, self._unquiet()

    def _begin_stop(self, done: list[bool]) -> None:
        self.kernel.outside.loop.create_task(self._stop(done), name="stop")

    def _is_stopped(self, done: list[bool], crashes: int) -> bool:
        return bool(done) or len(self.book.crashes) > crashes

    async def _stop(self, done: list[bool]) -> None:
        await self.machine.stop()
        done.append(True)

    def _look_at_stopped(self, worker: Worker) -> None:
        if worker.has_stopped:  # else the next stop cut it short
            # A drain has an end, and a content that a disk keeps from being written may be open then.
            found = (*_open_files(worker), *_reads(worker))
            self._left += [f"{text} after a stop" for text in found if "/bodies/" not in text]

    def _tasks_left(self) -> list[str]:
        return [
            f"{worker.process.name}: task {task.get_name()} {task.get_coro()!r} after the stop"
            for worker in self.machine.workers.values()
            for task in worker.process.loop.tasks.values()
        ]

    def _left_by_the_stop(self) -> list[str]:
        return [
            f"{text} after the stop"
            for worker in self.machine.workers.values()
            for text in (*_open_files(worker), *_in_hand(worker), *_reads(worker))
        ]

    def _trace(self) -> str:
        found = hashlib.sha256()
        for at, text in self.book.lines:
            found.update(f"{at:.6f} {text}\n".encode())
        for at, fact in self.machine.facts:
            found.update(b"%.6f %s\n" % (at, msgspec.json.encode(fact)))
        found.update(f"{self.kernel.steps} {self.machine.chaos.operations} {self.kernel.now!r}".encode())
        for name, octets in self.machine.disk.contents():
            found.update(name.encode() + octets)
        return found.hexdigest()


def _open_files(worker: Worker) -> list[str]:
    """Say what is open in a process. SQLite has each file of a store that is open once."""
    shard = worker.shard
    own = () if shard is None or shard._is_closed else database_files(shard._directory)  # noqa: SLF001 - nobody else asks
    return [
        f"{worker.process.name} has {path} open {count} times"
        for path, count in worker.disk.open_files.items()
        if count > (path in own)
    ]


def _in_hand(worker: Worker) -> list[str]:
    """Say what memory has in somebody's hands, while nothing is queued."""
    if worker.shard is None:
        return []
    agenda = worker.shard.agenda
    counts = {"claims": agenda.claims, "puts": agenda.arriving, "steered deliveries": agenda.changing}
    return [f"{worker.process.name} has {len(some)} {what} in hand" for what, some in counts.items() if some]


def _reads(worker: Worker) -> list[str]:
    """Say what is told of every change, though nobody reads any more."""
    watches = 0 if worker.shard is None else len(worker.shard.agenda._watches)  # noqa: SLF001 - nobody else asks
    return [f"{worker.process.name} has {watches} watches"] if watches else []


def _dice(seed: int, name: str) -> SeededDice:
    return SeededDice(int.from_bytes(hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest(), "big"))


class _Chance(apsw.VFS):
    """Where SQLite's own dice get their seed."""

    def __init__(self, seed: int) -> None:
        super().__init__("sim-chance", "", makedefault=True)
        self._seed = seed

    def xRandomness(self, numbytes: int) -> bytes:  # noqa: N802
        return SeededDice(self._seed).token(numbytes)


def play(plan: Plan, *, collects: bool = True) -> Played:
    """Play a story. What the dead leave behind is collected at the end, unheard, unless the process ends soon."""
    chance = _Chance(plan.seed)
    apsw.randomness(0)
    apsw.randomness(1)
    chance.unregister()
    was_collecting = gc.isenabled()
    gc.disable()
    hooks = sys.unraisablehook, sys.excepthook
    sys.unraisablehook = lambda _: None
    sys.excepthook = lambda *_: None  # where apsw tells what nobody can be told: that a dead process cannot close
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)  # its process died before
    try:
        world = World(plan)
        played = world.play()
        if not collects:
            _KEPT.append(world)
            return played
        world.machine.close()
        world.kernel.heap.clear()
        played.book.on_dot = played.book.on_reply = lambda n: None
        vars(world).clear()  # the book's clock is the world's
        del world
        for _ in range(COLLECTIONS):
            gc.collect()
    finally:
        sys.unraisablehook, sys.excepthook = hooks
        if was_collecting and collects:
            gc.enable()
    return played
