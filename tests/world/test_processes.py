"""Each process of a relay killed under load: what got its 250 arrives, a new connection is served soon, the rest goes
on.

A worker: the others serve, its connections wait for the next one of its slot. The supervisor: all others finish and
end, a new start takes over. The ledger and the front: mail goes on flowing. What takes long is printed; it fails only
where somebody would call it an outage.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.world.counting import CountingSink
from tests.world.harness import Relay, group, running, wait_until
from tests.world.load import Generator
from tests.world.waiting import until

from postroad.http.api_client import ApiSteering

CONFIG = """
[[route]]
to = "*"
via = "smtp://127.0.0.1:{port}"
[retry]
first = "1s"
longest = "2s"
"""
MESSAGES = 3000
SERVED_MAX = 5.0
"""Seconds until a new connection is served after a worker was killed; a second on an idle machine."""
END_MAX = 5.0
"""Seconds until all processes have ended whose supervisor was killed."""


def arrived(sink: CountingSink) -> set[str]:
    return {message.field(b"X-Number") for message in list(sink.arrived)}


def all_arrive(relay: Relay, generator: Generator, sink: CountingSink) -> int:
    """Wait for the end of the load and for each id that got its 250; return how many those were."""
    generator.stop()
    until(generator.is_idle, 120, what="the end of the clients")
    taken = set(generator.taken)
    until(lambda: taken <= arrived(sink), 120, what="the arrival of each message that got its 250")
    assert not generator.errors
    assert not arrived(sink) - taken - generator.doubtful, "what was never sent, or was refused, has arrived"
    return len(taken)


def greeted(port: int) -> float:
    """Return how long a new connection waits for its greeting."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        assert client.recv(3) == b"220"
    return time.monotonic() - began


def replaced(relay: Relay, victim: int) -> None:
    """Wait until another worker is in the place of one that was killed."""
    wait_until(lambda: len(set(relay.pids("worker").values()) - {victim}) == 2, "another worker")


def test_a_worker_is_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served: list[float] = []
    with CountingSink() as sink:
        relay = Relay(tmp_path, config=CONFIG.format(port=sink.port))
        with running(relay), Generator(relay.port, MESSAGES) as generator:
            for round_ in range(4):
                generator.until_taken(MESSAGES // 10)
                victim = relay.pids("worker")[round_ % 2]
                # Connections that the kernel has for it, and it has not accepted: they must be served, not reset.
                os.kill(victim, signal.SIGSTOP)
                waiting = [socket.create_connection(("127.0.0.1", relay.port), timeout=30) for _ in range(12)]
                os.kill(victim, signal.SIGKILL)
                served.append(greeted(relay.port))
                assert [client.recv(3) for client in waiting] == [b"220"] * 12
                for client in waiting:
                    client.close()
                replaced(relay, victim)
            taken = all_arrive(relay, generator, sink)
            relay.logged("kind=process-ended process=worker", 4)
            assert relay.stop() == 0
    with capsys.disabled():
        print(
            f"\nworker killed 4 times under load: a new connection is served after "
            f"{', '.join(f'{seconds * 1000:.0f}' for seconds in served)} ms; {taken} with 250, none lost"
        )
    assert max(served) < SERVED_MAX


def test_the_supervisor_is_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with CountingSink() as sink:
        relay = Relay(tmp_path, config=CONFIG.format(port=sink.port))
        with running(relay), Generator(relay.port, MESSAGES) as generator:
            generator.until_taken(MESSAGES // 5)
            others = [pid for pid in group(relay.pid) if pid != relay.pid]
            assert len(others) == 5
            began = time.monotonic()
            os.kill(relay.pid, signal.SIGKILL)
            left = relay.pid
            relay.process.wait(10)  # type: ignore[union-attr]
            ended: list[float] = []
            watcher = threading.Thread(
                target=lambda: (until(lambda: not group(left), 60), ended.append(time.monotonic() - began))
            )
            watcher.start()
            relay.start()  # at once: it waits for what is left of the other
            watcher.join(60)
            up = time.monotonic() - began
            generator.until_taken(MESSAGES // 10)
            taken = all_arrive(relay, generator, sink)
            assert relay.stop() == 0
    with capsys.disabled():
        print(
            f"\nsupervisor killed: the others had ended after {ended[0]:.1f} s, a new start served after {up:.1f} s; "
            f"{taken} with 250, none lost"
        )
    assert ended[0] < END_MAX


@pytest.mark.parametrize("role", ["ledger", "front", "nursery"])
def test_one_beside_the_mail_is_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str], role: str) -> None:
    with CountingSink() as sink:
        relay = Relay(tmp_path, config=CONFIG.format(port=sink.port))
        with running(relay), Generator(relay.port, MESSAGES) as generator:
            generator.until_taken(MESSAGES // 10)
            before = relay.pids(role)[0]
            workers = relay.pids("worker")
            mark, began = len(sink.arrived), time.monotonic()
            os.kill(before, signal.SIGKILL)
            until(lambda: len(sink.arrived) >= mark + 50, 20, what="mail that flows meanwhile")
            flowing = time.monotonic() - began
            wait_until(lambda: relay.pids(role).get(0, before) != before, f"another {role}")
            back = time.monotonic() - began
            wait_until(lambda: f"kind=process-ended process={role}" in relay.log, "a fact that says so")
            taken = all_arrive(relay, generator, sink)
            assert relay.pids("worker") == workers, "no worker was harmed"
            assert relay.queue_length() == 0  # the front answers
            assert relay.stop() == 0
    with capsys.disabled():
        print(
            f"\n{role} killed: 50 messages more after {flowing:.2f} s, back after {back:.2f} s; "
            f"{taken} with 250, none lost"
        )


def test_who_follows_hears_of_a_process_and_metrics_count_it(tmp_path: Path) -> None:
    """Once in the log, once in the numbers of the front, once to who follows."""
    relay = Relay(tmp_path, config='[[route]]\nto = "*"\nvia = "discard:"\n')

    async def heard(client: ApiSteering) -> list[str]:
        told: list[str] = []
        async with asyncio.timeout(60), aclosing(client.watch(None, everything=True)) as facts:
            waiting = asyncio.ensure_future(facts.__anext__())
            while not told or not told[-1].startswith("ProcessStarted worker"):
                if not told:
                    await asyncio.wait({waiting}, timeout=1.0)
                    os.kill(victim, signal.SIGKILL)
                fact = await waiting
                told.append(f"{type(fact).__name__} {getattr(fact, 'process', '')}")
                waiting = asyncio.ensure_future(facts.__anext__())
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        return told

    with running(relay):
        victim = relay.pids("worker")[1]
        client = ApiSteering(relay.data_dir / "control.sock")
        assert asyncio.run(heard(client)).count("ProcessEnded worker") == 1
        rows = asyncio.run(client.counters())
        ended = [row for row in rows if row.counter.name == "processes_ended_total" and row.counter.value]
        assert [(row.worker, row.counter.labels, row.counter.value) for row in ended] == [
            ("front", (("process", "worker"),), 1.0)
        ]
        relay.logged("kind=process-ended process=worker")
        assert relay.stop() == 0


def test_a_worker_that_hangs_is_replaced(tmp_path: Path) -> None:
    """Its event loop stands still: after half a minute without a heartbeat it is killed, and its connections are
    served."""
    relay = Relay(tmp_path, config='[[route]]\nto = "*"\nvia = "discard:"\n')
    with running(relay):
        hung = relay.pids("worker")[1]
        os.kill(hung, signal.SIGSTOP)
        wait_until(lambda: relay.pids("worker").get(1, hung) != hung, "another worker in its place", 60)
        assert greeted(relay.port) < SERVED_MAX
        relay.logged("it had not been heard of for 30 s")
        assert relay.stop() == 0


def test_ctrl_c_at_a_terminal_reaches_all_and_ends_in_order(tmp_path: Path) -> None:
    relay = Relay(tmp_path, config='[[route]]\nto = "*"\nvia = "discard:"\n')
    with running(relay):
        os.killpg(relay.pid, signal.SIGINT)
        wait_until(lambda: relay.process.poll() is not None, "the end")  # type: ignore[union-attr]
        assert relay.process.returncode == 0  # type: ignore[union-attr]
        assert "kind=stopped why=SIGINT" in relay.log
        assert "Traceback" not in relay.log
    assert group(relay.pid) == []


def test_a_disk_that_never_answers_does_not_hold_what_is_left_of_a_relay(tmp_path: Path) -> None:
    """Its supervisor is killed while a sync hangs: the processes end all the same, and a new start can begin."""
    relay = Relay(tmp_path, config='[[route]]\nto = "*"\nvia = "discard:"\n')
    with running(relay):
        victims = relay.pids("worker").values()
        command = ["strace", "-qq", "-f", "-o", "/dev/null", "-e", "trace=fdatasync,fsync"]
        command += ["-e", "inject=fdatasync,fsync:delay_enter=60000000"]
        with subprocess.Popen([*command, *(f"--attach={pid}" for pid in victims)]) as hanging:
            try:
                wait_until(lambda: all("TracerPid:\t0" not in status_of(pid) for pid in victims), "the tracer")
                client = socket.create_connection(("127.0.0.1", relay.port), timeout=30)
                client.sendall(b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
                wait_until(lambda: b"354" in client.recv(4096, socket.MSG_PEEK), "the final dot's turn")
                client.sendall(b"\r\nkept or not\r\n.\r\n")
                left, began = relay.pid, time.monotonic()
                os.kill(relay.pid, signal.SIGKILL)
                relay.process.wait(10)  # type: ignore[union-attr]
                until(lambda: not group(left), 30, what="the end of the others")
                ended = time.monotonic() - began
                client.close()
            finally:
                hanging.kill()
        assert ended < END_MAX + 1.0
        relay.start()
        assert relay.stop() == 0


def status_of(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def test_nothing_is_imported_from_where_the_relay_was_started(tmp_path: Path) -> None:
    """Somebody else may write there: no process, and no reader of a reload, must run what he puts in its way."""
    (tmp_path / "here").mkdir()
    for name in ("msgspec", "uvloop", "fcntl", "asyncio", "typing_extensions"):
        (tmp_path / "here" / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\n")
    relay = Relay(tmp_path / "relay", config='[[route]]\nto = "*"\nvia = "discard:"\n')
    program = f"import runpy, sys, os; sys.path[0] = ''; del sys.path[0]; os.chdir({str(tmp_path / 'here')!r}); "
    program += "sys.argv[0] = 'postroad'; runpy.run_module('postroad', run_name='__main__', alter_sys=True)"
    relay.start(wait=False, program=("-c", program))
    try:
        wait_until(lambda: "kind=started" in relay.log, "the start")
        os.kill(relay.pid, signal.SIGHUP)
        wait_until(lambda: "kind=reloaded" in relay.log, "the reload")
        nursery = relay.pids("nursery")[0]
        os.kill(nursery, signal.SIGKILL)
        wait_until(lambda: relay.pids("nursery").get(0, nursery) != nursery, "another nursery")
        assert relay.stop() == 0
    finally:
        if relay.process is not None and relay.process.poll() is None:
            relay.kill()
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()
