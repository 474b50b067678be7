"""``postroad check``: each finding, its level, and that it says what to do."""

from __future__ import annotations

import asyncio
import datetime
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import trustme
from tests.units.steering_world import HEALTH, NOW
from tests.units.test_cli_cases import Script, said

from postroad.cli import inspect_machine
from postroad.cli.findings import Finding, Level
from postroad.cli.house import House
from postroad.cli.inspect_machine import (
    inspect_data_dir,
    inspect_disk,
    inspect_listeners,
    inspect_names,
    inspect_process,
)
from postroad.cli.inspect_policy import inspect_relay, inspect_routes
from postroad.cli.inspect_tls import inspect_certificates
from postroad.config.load import load_text
from postroad.config.model import Settings
from postroad.core.faces import NameNotFound, NameTrouble


def settings(text: str = "", directory: Path = Path("/nowhere")) -> Settings:
    return load_text(text, file=directory / "postroad.toml").settings


def shown(findings: object) -> list[str]:
    return [f"{finding.level.value}: {finding.text} {finding.remedy}".strip() for finding in findings]  # type: ignore[attr-defined]


# --- the whole command ---------------------------------------------------------------------------------


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check(tmp_path: Path, text: str, *arguments: str, script: Script | None = None) -> list[str]:
    (tmp_path / "postroad.toml").write_text(text)
    return said(["check", "--config", str(tmp_path / "postroad.toml"), *arguments], (script or Script()).house())


def test_a_good_configuration_is_exit_0(tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid or 1)
    (tmp_path / "data").mkdir(mode=0o700)
    os.chown(tmp_path / "data", os.geteuid(), -1) if tmp_path.stat().st_uid == 0 else None
    text = f'hostname = "relay.example.org"\ndata_dir = "data"\n[[listener]]\naddress = "127.0.0.1:{free_port}"\n'
    lines = check(tmp_path, text + '[dns]\nservers = ["192.0.2.53"]\n[spool]\nmin_free = "1B"\n')
    assert f"note:    Read {tmp_path}/postroad.toml." in lines
    assert lines[-1] in ("0 errors, 0 warnings.", "0 errors, 1 warning.")


def test_every_problem_of_the_file_is_told_with_its_line(tmp_path: Path) -> None:
    lines = check(tmp_path, '[limits]\nerors = 3\n[relay]\nnetworks = ["0.0.0.0/0"]\n')
    assert [line for line in lines if line.startswith("error:   ")] == lines[:-2]
    assert f"{tmp_path}/postroad.toml:2" in lines[0]
    assert "errors" in lines[0]
    assert f"{tmp_path}/postroad.toml:4" in lines[1]
    assert lines[-2:] == ["2 errors, 0 warnings.", "exit 1"]


def test_findings_are_objects_where_asked(tmp_path: Path) -> None:
    *lines, status = check(tmp_path, "nonsense = 1\n", "--json")
    assert status == "exit 1"
    (finding,) = [msgspec.json.decode(line) for line in lines]
    assert finding.keys() == {"level", "subject", "text", "remedy"}
    assert (finding["level"], finding["subject"]) == ("error", "configuration")


def test_errors_come_first_then_warnings(tmp_path: Path, free_port: int) -> None:
    text = f'hostname = "relay"\ndata_dir = "/proc/nothing"\n[[listener]]\naddress = "127.0.0.1:{free_port}"\n'
    lines = check(tmp_path, text + '[relay]\nnetworks = ["8.0.0.0/9"]\n')
    levels = [line.split(":")[0] for line in lines if line.split(":")[0] in tuple(Level)]
    assert levels == sorted(levels, key=list(Level).index)
    assert {"error", "warning", "note"} <= set(levels)


# --- data_dir and disk -----------------------------------------------------------------------------------


def test_a_data_dir_that_can_be_made(tmp_path: Path) -> None:
    (line,) = shown(inspect_data_dir(settings(f'data_dir = "{tmp_path}/a/b"')))
    assert line == f"note: {tmp_path}/a/b is not there yet: the relay makes it at its first start."


def test_a_data_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    (line,) = shown(inspect_data_dir(settings(f'data_dir = "{tmp_path}/data"')))
    assert line.startswith(f"error: {tmp_path}/data is not a directory.")


def test_a_data_dir_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data"
    path.mkdir()
    path.chmod(0o050)
    owner = inspect_machine.user_name(path.stat().st_uid)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # as for anybody but root
    error, warning = shown(inspect_data_dir(settings(f'data_dir = "{path}"')))
    assert error == (
        f"error: {path} cannot be read and written by {owner}: it belongs to {owner}, mode 0050. "
        f"Run as {owner}, or: chown -R {owner} {path}"
    )
    assert warning == f"warning: Others may read in {path}, where the mail is. chmod 700 {path}"


def test_a_data_dir_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    assert shown(inspect_data_dir(settings(f'data_dir = "{path}"'))) == []
    uid = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: uid + 54321)
    (line,) = shown(inspect_data_dir(settings(f'data_dir = "{path}"')))
    assert line.startswith(f"warning: {path} belongs to {inspect_machine.user_name(uid)}, and you are {uid + 54321}.")


def test_the_disk(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    free = found.f_bavail * found.f_frsize
    for least, level in ((1, []), (free * 3 // 4, ["warning"]), (free * 2, ["error"])):
        text = f'data_dir = "{tmp_path}/data"\n[spool]\nmin_free = "{least}B"\n'
        assert [line.split(":")[0] for line in shown(inspect_disk(settings(text)))] == level


# --- listeners -------------------------------------------------------------------------------------------


def test_a_port_in_use_is_an_error_unless_it_is_ours() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        configured = settings(f'[[listener]]\naddress = "{address}"\n')
        (line,) = shown(inspect_listeners(configured, HEALTH))
        assert line.startswith(f"error: Cannot listen on {address}: ")
        assert "Another program listens there; stop it" in line
        ours = msgspec.structs.replace(HEALTH, listeners=(address,))
        assert shown(inspect_listeners(configured, ours)) == [f"note: The relay that runs listens on {address}."]
    assert shown(inspect_listeners(configured, None)) == []


def test_an_address_that_is_not_ours() -> None:
    (line,) = shown(inspect_listeners(settings('[[listener]]\naddress = "192.0.2.1:2525"\n'), None))
    assert line.startswith("error: Cannot listen on 192.0.2.1:2525")
    assert "This machine has no such address" in line


def test_a_unix_socket_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    assert shown(inspect_listeners(settings(f'[[listener]]\naddress = "unix:{path}"\ntls = "off"\n'), None)) == []
    assert not path.exists()
    missing = tmp_path / "missing" / "p.sock"
    (line,) = shown(inspect_listeners(settings(f'[[listener]]\naddress = "unix:{missing}"\ntls = "off"\n'), None))
    assert f"Make the directory {missing.parent}" in line


# --- certificates ------------------------------------------------------------------------------------------


def certificate(tmp_path: Path, *names: str, days: float = 90, begins: float = -1) -> str:
    """Make a pair valid for so many days from NOW, and return the settings of it."""
    now = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    day = datetime.timedelta(days=1)
    made = trustme.CA().issue_cert(*names, not_before=now + begins * day, not_after=now + days * day)
    (tmp_path / "chain.pem").write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    (tmp_path / "key.pem").write_bytes(made.private_key_pem.bytes())
    (tmp_path / "key.pem").chmod(0o600)
    return 'hostname = "relay.example.org"\n[[tls.certificate]]\ncertificate = "chain.pem"\nprivate_key = "key.pem"\n'


def certificate_lines(tmp_path: Path, text: str) -> list[str]:
    lines = shown(inspect_certificates(settings(text, tmp_path), NOW))
    return [line.replace(f"{tmp_path}/", "") for line in lines]


def test_a_good_pair(tmp_path: Path) -> None:
    assert certificate_lines(tmp_path, certificate(tmp_path, "relay.example.org")) == []
    assert certificate_lines(tmp_path, certificate(tmp_path, "*.example.org")) == []


@pytest.mark.parametrize(
    ("days", "begins", "line"),
    [
        (-1, -90, "error: chain.pem expired on 2026-11-22 03:12 UTC; it is shown all the same. Renew it."),
        (90, 1, "error: chain.pem is valid only from 2026-11-24 03:12 UTC. Is this machine's clock right?"),
        (13, -90, "warning: chain.pem expires in 13 days, on 2026-12-06. Renew it."),
    ],
)
def test_a_certificate_out_of_its_time(tmp_path: Path, days: float, begins: float, line: str) -> None:
    assert certificate_lines(tmp_path, certificate(tmp_path, "relay.example.org", days=days, begins=begins)) == [line]


def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    (line,) = certificate_lines(tmp_path, certificate(tmp_path, "a.example.net"))
    assert line.startswith("warning: chain.pem is for a.example.net, not for relay.example.org.")


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    text = certificate(tmp_path, "relay.example.org")
    chain = (tmp_path / "chain.pem").read_bytes()
    certificate(tmp_path, "relay.example.org")
    (tmp_path / "chain.pem").write_bytes(chain)
    (line,) = certificate_lines(tmp_path, text)
    assert line.startswith("error: key.pem is not the key of chain.pem.")


def test_a_key_that_everybody_may_read(tmp_path: Path) -> None:
    text = certificate(tmp_path, "relay.example.org")
    (tmp_path / "key.pem").chmod(0o644)
    assert certificate_lines(tmp_path, text) == [
        "warning: Everybody on this machine may read key.pem. chmod o= key.pem"
    ]


def test_files_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    text = certificate(tmp_path, "relay.example.org")
    (tmp_path / "chain.pem").write_text("nonsense")
    (tmp_path / "key.pem").write_text("nonsense")
    first, second = certificate_lines(tmp_path, text)
    assert first.startswith("error: chain.pem holds no certificate in PEM form.")
    assert second.startswith("error: key.pem holds no private key in PEM form.")
    (tmp_path / "chain.pem").unlink()
    (tmp_path / "key.pem").unlink()
    first, second = certificate_lines(tmp_path, text)
    assert first.startswith("error: chain.pem cannot be read: No such file or directory.")
    assert second.startswith("error: key.pem cannot be read: No such file or directory.")


def test_a_key_with_a_password(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    text = certificate(tmp_path, "relay.example.org")
    key = serialization.load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "key.pem").write_bytes(locked)
    (line,) = certificate_lines(tmp_path, text)
    assert line.startswith("error: key.pem needs a password")


def test_no_certificate_is_noted_only_where_tls_is_offered(tmp_path: Path) -> None:
    assert "self-signed" in certificate_lines(tmp_path, "")[0]
    assert certificate_lines(tmp_path, '[[listener]]\naddress = "127.0.0.1:2525"\ntls = "off"\n') == []


# --- names -------------------------------------------------------------------------------------------------


def names(text: str, resolve: Callable[..., Awaitable[tuple[str, ...]]], *, is_sandbox: bool = False) -> list[str]:
    house = Script().house()
    made = House(
        clock=house.clock,
        serve=house.serve,
        open_queue=house.open_queue,
        salvage=house.salvage,
        ask_relay=house.ask_relay,
        resolve=resolve,
    )
    return shown(asyncio.run(inspect_names(settings(text), made, is_sandbox=is_sandbox)))


def answers(outcome: tuple[str, ...] | Exception) -> Callable[..., Awaitable[tuple[str, ...]]]:
    async def resolve(server: object, name: str, seconds: float) -> tuple[str, ...]:
        assert (str(server), name, seconds) == ("192.0.2.53:53", "relay.example.org", 3.0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return resolve


TEXT = 'hostname = "relay.example.org"\n[dns]\nservers = ["192.0.2.53"]\n'


def test_a_name_with_an_address() -> None:
    assert names(TEXT, answers(("192.0.2.1",))) == []


@pytest.mark.parametrize("outcome", [(), NameNotFound("relay.example.org")])
def test_a_name_without_an_address(outcome: tuple[str, ...] | Exception) -> None:
    (line,) = names(TEXT, answers(outcome))
    assert line.startswith("warning: relay.example.org has no address in the DNS")


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = names(TEXT, answers(NameTrouble("SERVFAIL")))
    assert line.startswith("error: The DNS server 192.0.2.53:53 gives no answer: SERVFAIL.")

    async def never(*_: object) -> tuple[str, ...]:
        await asyncio.Event().wait()
        return ()

    monkeypatch.setattr(inspect_machine, "DNS_TIMEOUT", 0.01)
    (line,) = names(TEXT, never)
    assert "no answer in 0.01 s" in line


def test_a_name_without_a_dot() -> None:
    (line,) = names('hostname = "relay"', answers(()))
    assert line.startswith('error: The host name "relay" has no dot')
    (line,) = names('hostname = "relay"', answers(()), is_sandbox=True)
    assert line.startswith("note: ")


# --- the sense of the settings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("networks", "found"),
    [
        ('"127.0.0.0/8", "10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12", "fd00::/8", "100.64.0.0/10"', []),
        ('"198.41.0.4/32"', []),
        ('"2606:4700::/64"', ["note"]),
        ('"8.8.8.0/25"', ["note"]),
        ('"8.8.8.0/24"', ["note"]),
        ('"8.8.8.0/23"', ["warning"]),
        ('"2606:4700::/32"', ["warning"]),
        ("", ["warning"]),
    ],
)
def test_networks_that_hold_strangers(networks: str, found: list[str]) -> None:
    findings = inspect_relay(settings(f"[relay]\nnetworks = [{networks}]\n"))
    assert [finding.level.value for finding in findings] == found


def test_a_domain_of_everybody() -> None:
    (line,) = shown(inspect_relay(settings('[relay]\ndomains = ["*.com", "example.org"]\n')))
    assert line.startswith('warning: [relay] domains has "*.com": anyone may send to all of .com')


def test_an_mx_without_domains() -> None:
    text = 'hostname = "r.example.org"\n[[listener]]\naddress = "127.0.0.1:25"\nrole = "mx"\n'
    (line,) = shown(inspect_relay(settings(text)))
    assert line.startswith("note: [relay] domains is empty")


def test_routes_in_circles_and_into_nothing(tmp_path: Path) -> None:
    text = '[[listener]]\naddress = "127.0.0.1:2525"\n[[route]]\nto = "*"\nvia = ["smtp://127.0.0.1:2525", "mx"]\n'
    (line,) = shown(inspect_routes(settings(text)))
    assert line.startswith("error: Route 1 sends to smtp://127.0.0.1:2525, which is a listener of this relay")
    text = f'[[route]]\nto = "a.example"\nvia = "mx"\n[[route]]\nto = "*"\nvia = "lmtp+unix://{tmp_path}/lmtp"\n'
    assert shown(inspect_routes(settings(text))) == [
        f"warning: Route 2 sends to {tmp_path}/lmtp, and nothing is there. Is its server up?"
    ]
    (tmp_path / "lmtp").write_text("")
    assert shown(inspect_routes(settings(text))) == []


# --- the process ---------------------------------------------------------------------------------------------


def test_who_we_are_and_how_many_files_we_may_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(uid: int, soft: int, hard: int) -> list[Finding]:
        monkeypatch.setattr(os, "geteuid", lambda: uid)
        monkeypatch.setattr("resource.getrlimit", lambda _: (soft, hard))
        return list(inspect_process(settings("[limits]\nconnections = 100\n")))

    assert found(1000, 1100, 1100) == []
    assert [finding.level.value for finding in found(0, 1100, 1100)] == ["warning"]
    (low,) = found(1000, 1024, 1099)
    assert low.level is Level.WARNING
    assert "LimitNOFILE=1100" in low.remedy
    assert found(1000, 1024, 65_536) == [], "the soft limit is raised at the start"
    (few,) = inspect_process(settings("[process]\nfile_limit = 1024\n"))
    assert few.remedy == "Set file_limit = 11000, or lower connections."


def test_the_user_that_the_relay_becomes(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(uid: int, user: str, group: str = "") -> list[str]:
        monkeypatch.setattr(os, "geteuid", lambda: uid)
        text = f'[process]\nuser = "{user}"\n' + (f'group = "{group}"\n' if group else "")
        return [finding.text for finding in inspect_process(settings(text))]

    assert found(0, "daemon", "daemon") == []
    assert found(0, "nobody-of-that-name") == ["There is no user nobody-of-that-name ([process] user)."]
    assert found(0, "daemon", "no-such-group") == ["There is no group no-such-group ([process] group)."]
    assert found(4_000_000, "daemon") == ["Only root can become daemon ([process] user)."]
