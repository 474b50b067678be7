"""load.c and sink.c as programs: compiled when they are older than their source, started, asked, ended.

Owns: where the binaries are (bench/build), whether they know TLS, ports, the lines that are exchanged with the sink.
Does not own: what the figures mean (judge.py). Both speak to loopback alone, which is written in C, not here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.world.harness import free_port

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
OPENSSL_PROBE = "#include <openssl/ssl.h>\nint main(void) { return !TLS_client_method(); }\n"

Figures = dict[str, Any]


class CannotError(Exception):
    """The machine lacks what is asked for; the text says what, and how to get it."""


def build(into: Path = BUILD, *, compiler: str = "cc") -> None:
    """Compile both programs, with TLS where OpenSSL's headers are. Raises CannotError without a compiler."""
    if not shutil.which(compiler):
        raise CannotError(f"there is no {compiler}: the load generator and the sink are C (Debian: gcc, libc6-dev)")
    into.mkdir(parents=True, exist_ok=True)
    newest = max(path.stat().st_mtime for path in HERE.glob("*.[ch]"))
    for name in ("load", "sink"):
        program = into / name
        if program.exists() and program.stat().st_mtime >= newest:
            continue
        tls = ["-DWITH_TLS", "-lssl", "-lcrypto"] if has_openssl(compiler) else []
        command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), str(HERE / f"{name}.c"), *tls]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotError(f"{' '.join(command)} failed:\n{done.stderr}")


def has_openssl(compiler: str = "cc") -> bool:
    """True if a program with OpenSSL can be compiled and linked here."""
    with tempfile.TemporaryDirectory() as place:
        command = [compiler, "-x", "c", "-", "-o", f"{place}/probe", "-lssl", "-lcrypto"]
        return subprocess.run(command, input=OPENSSL_PROBE.encode(), capture_output=True, check=False).returncode == 0


def as_options(options: dict[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in options.items()]


def load(port: int, *, into: Path = BUILD, **options: Any) -> Figures:
    """Run the generator to its end and return what it says; errors are in the figures."""
    timeout = float(options.get("timeout", 60))
    done = subprocess.run(  # which ends it, should we have to end
        [str(into / "load"), f"port={port}", *as_options(options)],
        capture_output=True,
        text=True,
        timeout=timeout + 30,
        check=False,
    )
    if not done.stdout:
        raise CannotError(f"the load generator said nothing: {done.stderr}")
    return dict(json.loads(done.stdout))


@contextmanager
def idle_connections(port: int, count: int, *, into: Path = BUILD, **options: Any) -> Iterator[Figures]:
    """Hold so many connections open that say nothing but EHLO; ``held`` is added to the figures at the end."""
    asked = {"port": port, "messages": 0, "connections": 0, "idle": count, **options}
    process = subprocess.Popen(
        [str(into / "load"), *as_options(asked)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    figures: Figures = {"asked": count}
    try:
        figures |= json.loads(process.stdout.readline() or '{"opened": 0}')
        yield figures
    finally:
        process.stdin.close()
        last = process.stdout.readline()
        figures["held"] = json.loads(last)["idle"]["held"] if last else 0
        process.stdout.close()
        process.wait(20)


class Sink:
    """A running sink; every question is a line there and a line back."""

    def __init__(self, process: subprocess.Popen[str], ports: list[int], recipients: int) -> None:
        self.ports = ports
        self.recipients = recipients
        self._process = process

    def ask(self, line: str) -> Figures:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise CannotError(f"the sink has ended, asked for {line!r}")
        return dict(json.loads(answer))

    def report(self) -> Figures:
        return self.ask("report")

    def seen(self, file: Path) -> bytes:
        """How often each recipient of each message came, one octet each."""
        self.ask(f"seen {file}")
        return file.read_bytes()


@contextmanager
def sink(
    *, ports: int = 1, tokens: int, recipients: int = 1, slow_delay: int = 0, into: Path = BUILD, **options: Any
) -> Iterator[Sink]:
    """Run a sink on so many free ports, the last of them slow if ``slow_delay`` (ms) says so; ended at the end."""
    numbers = [free_port() for _ in range(ports)]
    asked = {"ports": ",".join(map(str, numbers)), "tokens": tokens, "recipients": recipients, **options}
    if slow_delay:
        asked.update(slow=numbers[-1], delay=slow_delay)
    process = subprocess.Popen(
        [str(into / "sink"), *as_options(asked)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if not process.stdout.readline():
            raise CannotError("the sink did not start")
        yield Sink(process, numbers, recipients)
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()
