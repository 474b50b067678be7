"""What is compared: Postroad as it is shipped, a fair Postfix, and nothing at all (the generator straight to the sink).

Owns: their configurations, which are part of the result, start, flush and end. Does not own: Postfix's master.cf
(tests/world/peers.py), loads. Postroad's configuration may hold what POSTROAD_MAY names and nothing else.

Postfix is given what its documentation recommends for a busy relay: no limits for this client, 100 processes of a
kind, 20 deliveries at once to a destination from the start, no DNS. Its durability and logging are the defaults.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Protocol

import trustme
from bench.machine import Processes
from bench.programs import CannotError
from tests.world.harness import Relay, free_port, wait_until
from tests.world.peers import POSTFIX_MASTER
from tests.world.waiting import is_listening

POSTROAD_MAY = {"hostname", "data_dir", "listener", "route", "relay"}
"""hostname has no default on a machine whose own name has no dot."""
POSTFIX_MAIN = """
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {home}/postfix.log
maillog_file_prefixes = {home}
myhostname = postfix.bench.example
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
disable_dns_lookups = yes
relayhost = [127.0.0.1]:{port}
default_process_limit = 100
default_destination_concurrency_limit = 20
initial_destination_concurrency = 20
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0
in_flow_delay = {flow}
"""
POSTFIX_SIZE = "message_size_limit = 60000000\n"
POSTFIX_TLS = """
smtpd_tls_security_level = may
smtpd_tls_chain_files = {pem}
smtp_tls_security_level = may
smtp_tls_loglevel = 0
"""


class Contestant(Protocol):
    """Something that takes mail at ``port`` and hands it to the sink."""

    name: str
    port: int
    processes: Processes

    def start(self) -> None: ...

    def settle(self) -> None:
        """Wait until it has tried all its mail once, where that can be seen."""

    def flush(self) -> None:
        """Have it try all its mail now."""

    def end(self) -> None: ...


def domain(number: int) -> str:
    """As load.c names them."""
    return f"d{number}.bench.example"


def certificate(directory: Path) -> Path:
    """One PEM with key and chain, ECDSA P-256, for whoever needs one."""
    file = directory / "pair.pem"
    if not file.exists():
        issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
        file.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    return file


class Straight:
    """No relay: what the generator and the sink can do at most."""

    name = "straight"

    def __init__(self, sink_port: int) -> None:
        self.port = sink_port
        self.processes = Processes()

    def start(self) -> None: ...

    def settle(self) -> None: ...

    def flush(self) -> None: ...

    def end(self) -> None:
        self.processes.close()


class Postroad:
    """The relay of this checkout."""

    name = "postroad"

    def __init__(self, home: Path, sink_ports: list[int], *, tls: bool = False, dead: int = 0) -> None:
        """``tls``: its listener offers STARTTLS by its own pair; ``dead``: a port where dead.example is said to be."""
        self.processes = Processes()
        self.port = free_port()
        routes = [f'[[route]]\nto = "dead.example"\nvia = "smtp://127.0.0.1:{dead}"\n'] if dead else []
        if len(sink_ports) == 1:
            routes.append(f'[[route]]\nto = "*"\nvia = "smtp://127.0.0.1:{sink_ports[0]}"\n')
        else:
            routes += [
                f'[[route]]\nto = "{domain(number)}"\nvia = "smtp://127.0.0.1:{port}"\n'
                for number, port in enumerate(sink_ports)
            ]
        self.config = (
            f'hostname = "postroad.bench.example"\ndata_dir = "{home}/data"\n'
            f'[[listener]]\nname = "in"\naddress = "127.0.0.1:{self.port}"\nrole = "mx"\n'
            + ('tls = "starttls"\n' if tls else "")
            + "".join(routes)
        )
        beyond = set(tomllib.loads(self.config)) - POSTROAD_MAY
        assert not beyond, f"not the shipped defaults: {beyond}"
        self._relay = Relay(home, port=self.port)
        self._relay.config_file.write_text(self.config)

    def start(self) -> None:
        self.processes.open()
        self._relay.start(prefix=tuple(self.processes.prefix), program=("-P", "-m", "postroad"))
        self.processes.leader = self._relay.pid

    def settle(self) -> None: ...

    def flush(self) -> None:
        self._relay.postroad("queue", "flush", "--all", "--yes")

    def end(self) -> None:
        try:
            if self._relay.process is not None and self._relay.process.poll() is None:
                self._relay.stop()
        finally:
            self.processes.close()


class Postfix:
    """A Postfix with directories of its own under ``home``, which must be open to its account all the way down."""

    def __init__(
        self,
        home: Path,
        sink_ports: list[int],
        *,
        flow: str = "1s",
        pair: Path | None = None,
        size: int = 0,
        idle: int = 0,
    ) -> None:
        if not shutil.which("postfix", path=os.defpath + ":/usr/sbin") or os.geteuid() != 0:
            raise CannotError("comparing with Postfix needs it installed, and root (Debian: postfix)")
        self.name = f"postfix {flow}"
        self.processes = Processes()
        self.port = free_port()
        self._etc = home / "etc"
        self._home = home
        for name in ("etc", "queue", "data"):
            (home / name).mkdir()
        shutil.chown(home / "data", "postfix", "postfix")
        main = POSTFIX_MAIN.format(home=home, port=sink_ports[0], flow=flow)
        if len(sink_ports) > 1:
            table = "".join(f"{domain(n)} smtp:[127.0.0.1]:{port}\n" for n, port in enumerate(sink_ports))
            (self._etc / "transport").write_text(table)
            main += f"transport_maps = texthash:{self._etc}/transport\n"
        if size > 10_000_000:
            main += POSTFIX_SIZE
        if idle:  # each idle connection keeps a process of its own
            main = main.replace("default_process_limit = 100\n", f"default_process_limit = {idle + 200}\n")
        if pair is not None:
            main += POSTFIX_TLS.format(pem=pair)
        self.config = main
        (self._etc / "main.cf").write_text(main)
        (self._etc / "master.cf").write_text(POSTFIX_MASTER.format(port=self.port))

    def _command(self, *command: str) -> None:
        done = subprocess.run(
            [*self.processes.prefix, *command], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            raise CannotError(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def start(self) -> None:
        self.processes.open()
        self._command("postfix", "-c", str(self._etc), "start")
        wait_until(lambda: is_listening(self.port), "Postfix listens")
        self.processes.leader = int((self._home / "queue/pid/master.pid").read_text())

    def settle(self) -> None:
        waiting = [self._home / "queue" / name for name in ("incoming", "active")]
        wait_until(lambda: not any(any(place.iterdir()) for place in waiting), "Postfix has tried all", 120.0)

    def flush(self) -> None:
        self._command("postqueue", "-c", str(self._etc), "-f")

    def end(self) -> None:
        try:
            if self.processes.leader:
                self.processes.leader = 0
                self._command("postfix", "-c", str(self._etc), "stop")
        finally:
            self.processes.close()
