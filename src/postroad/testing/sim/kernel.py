"""Virtual time, and one queue of what happens next, for every process of the simulated world.

Owns: the order of everything (time, then order of asking), processes that can die at any moment, the asyncio loop each
of them sees. Does not own: what a process does, chance. Nothing here looks at a real clock, a socket or the address
of an object: tasks and futures hash by number, so that sets of them are walked in the same order in every run.

A dead process never runs again: its callbacks are skipped and its coroutines are never resumed. One that is stopped
(as by SIGSTOP) does what was due meanwhile when it goes on, in the same order.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from postroad.testing.sim.local import LocalServer, LocalSockets
    from postroad.testing.sim.network import Network

START: Final = 1_000.0
"""Loop time at which a world begins: 0.0 has a meaning of its own in some places ("not waiting")."""


class Kernel:
    """Time, and what happens when."""

    def __init__(self) -> None:
        self.now = START
        self.ready: deque[asyncio.Handle] = deque()
        self.heap: list[tuple[float, int, asyncio.Handle]] = []
        self.numbers = 0
        self.steps = 0
        self.outside = Process(self, "outside")
        """Everything that is not the relay's machine: clients, next hops, the network. Never dies."""

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def at(self, when: float, work: Callable[..., object], *arguments: Any) -> asyncio.Handle:
        """Have the outside world do something at ``when``."""
        return self.outside.loop.call_at(when, work, *arguments)

    def after(self, seconds: float, work: Callable[..., object], *arguments: Any) -> asyncio.Handle:
        return self.outside.loop.call_at(self.now + seconds, work, *arguments)

    def run(self, until: Callable[[], bool], deadline: float) -> None:
        """Let things happen until ``until()`` says so, looked at once a simulated second, or the deadline."""
        look_at = self.now
        current: ProcessLoop | None = None
        ready, heap = self.ready, self.heap
        try:
            while True:
                if ready:
                    one = ready.popleft()
                elif heap:
                    when = heap[0][0]
                    if when > self.now:
                        if when > deadline:
                            return
                        if when >= look_at:
                            look_at = when + 1.0
                            if until():
                                return
                        self.now = when
                    one = heapq.heappop(heap)[2]
                else:
                    return
                loop: ProcessLoop = one._loop  # type: ignore[attr-defined]  # noqa: SLF001 - a handle's own
                if one._cancelled or not loop.process.is_alive:  # noqa: SLF001
                    continue
                if loop.process.held is not None:
                    loop.process.held.append(one)
                    continue
                if loop is not current:
                    events._set_running_loop(loop)  # noqa: SLF001 - what every event loop calls
                    current = loop
                self.steps += 1
                one._run()  # noqa: SLF001
        finally:
            events._set_running_loop(None)  # noqa: SLF001

    def enter(self, process: Process, work: Callable[..., object], *arguments: Any) -> None:
        """Do something at once, in a process other than the one that runs; if that is stopped, when it goes on."""
        if not process.is_alive:
            return
        if process.held is not None:
            process.held.append(asyncio.Handle(work, arguments, process.loop))
            return
        before = events._get_running_loop()  # noqa: SLF001
        events._set_running_loop(process.loop)  # noqa: SLF001
        try:
            work(*arguments)
        finally:
            events._set_running_loop(before)  # noqa: SLF001


class Process:
    """One process of the world, with its loop."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.name = name
        self.kernel = kernel
        self.is_alive = True
        self.broke: Callable[[str], None] = lambda why: None
        """Told of what a callback or task raised that nobody caught."""
        self.on_death: list[Callable[[], None]] = []
        self.held: list[asyncio.Handle] | None = None
        """What it has to do while it is stopped; None: it is not."""
        self.loop = ProcessLoop(self)  # type: ignore[abstract]  # it has what the product asks of a loop

    def stop(self) -> None:
        """Let it do nothing until it goes on. Nobody is told; the system takes what is sent to it."""
        if self.held is None:
            self.held = []

    def go_on(self) -> None:
        """Let it do what was due meanwhile."""
        held, self.held = self.held, None
        self.kernel.ready.extend(held or ())

    def die(self) -> None:
        if self.is_alive:
            self.is_alive = False
            self.held = None
            on_death, self.on_death = self.on_death, []
            for told in on_death:
                told()


class SimTask(asyncio.Task[Any]):
    """A task whose hash is its number."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], number: int, **more: Any) -> None:
        self.number = number  # first: the task is put into a set while it is made
        super().__init__(coroutine, **more)

    def __hash__(self) -> int:
        return self.number


class SimFuture(asyncio.Future[Any]):
    """A future whose hash is its number."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class ProcessLoop(asyncio.AbstractEventLoop):
    """What asyncio sees of one process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._kernel = process.kernel
        self.tasks: dict[int, SimTask] = {}
        """Tasks that are not done: what leaks shows here."""
        self.network: Network | None = None
        self.local: LocalSockets | None = None
        self.address = ""

    def time(self) -> float:
        return self._kernel.now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        one = asyncio.Handle(callback, args, self, context)
        self._kernel.ready.append(one)
        return one

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        one = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._kernel.heap, (when, self._kernel.number(), one))
        return one

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._kernel.now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the queue and is skipped when its time comes."""

    def create_future(self) -> SimFuture:
        future = SimFuture(loop=self)
        future.number = self._kernel.number()
        return future

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any] | Any,
        *,
        name: object = None,
        context: contextvars.Context | None = None,
    ) -> SimTask:
        task = SimTask(coro, self._kernel.number(), loop=self, name=str(name or "task"), context=context)
        self.tasks[task.number] = task
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(hash(task), None)

    def _broke(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if self.process.is_alive and not isinstance(error, asyncio.CancelledError):  # asyncio 3.11's own, of streams
            self.process.broke(f"{context.get('message')}: {error!r}")

    call_exception_handler = _broke

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        *,
        local_addr: tuple[str, int] | None = None,
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        assert self.network is not None
        address = self.address if local_addr is None else local_addr[0]
        return await self.network.open(self.process, protocol_factory, address, host, port)

    async def create_unix_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], path: str
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        assert self.local is not None
        return await self.local.connect(self.process, protocol_factory, path)

    async def create_unix_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        path: str | None = None,
        *,
        sock: Any,
        backlog: int = 100,
    ) -> LocalServer:
        assert self.local is not None
        return self.local.serve(self.process, sock, protocol_factory)

    async def sock_accept(self, sock: Any) -> tuple[Any, Any]:
        assert self.local is not None
        return await self.local.accept(self.process, sock)

    async def connect_accepted_socket(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], sock: Any
    ) -> asyncio.Protocol:
        assert self.local is not None
        return self.local.begin(sock, protocol_factory)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False
