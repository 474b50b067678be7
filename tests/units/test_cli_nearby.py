"""Where ``sendmail`` finds the relay: listeners in their order, included files, and whom it does not trust."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from tests.units.test_cli_sendmail import CONFIG

from postroad.cli import nearby
from postroad.cli.nearby import Place, UnknownRelay, find_nearby


def test_listeners_in_order_and_from_included_files(tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text('[[listener]]\naddress = "[::]:587"\nrole = "submission"\n')
    (tmp_path / "postroad.toml").write_text(
        'include = ["m*.toml"]\nhostname = "h.example"\n'
        '[[listener]]\naddress = "0.0.0.0:25"\nrole = "mx"\n[[listener]]\naddress = "127.0.0.1:24"\nrole = "lmtp"\n'
        '[[listener]]\naddress = "10.0.0.1:26"\nrole = "mx"\nproxy_protocol_from = ["10.0.0.2/32"]\n'
        '[[listener]]\naddress = "unix:/run/x.sock"\nrole = "submission"\n'
        '[[listener]]\naddress = "127.0.0.1:465"\nrole = "submission"\ntls = "implicit"\n'
    )
    found = find_nearby(tmp_path / "postroad.toml", {})
    assert (found.hostname, found.origin) == ("h.example", "h.example")
    assert found.places == (
        Place("127.0.0.1", 465, "", True),
        Place("::1", 587),
        Place("", 0, "/run/x.sock"),
        Place("127.0.0.1", 25),
    )
    assert list(map(str, found.places[1:3])) == ["[::1]:587", "unix:/run/x.sock"]


def test_who_may_not_read_the_file_gets_roots_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "postroad.toml"
    file.write_text(CONFIG)

    def denied(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert find_nearby(file, {}).places == (Place("127.0.0.1", 587), Place("127.0.0.1", 25))


def test_a_strangers_file_in_the_current_directory_is_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    system = tmp_path / "system.toml"
    system.write_text(CONFIG.format(port=25))
    (tmp_path / "postroad.toml").write_text(CONFIG.format(port=6666))
    assert find_nearby(None, {}, system).places == (Place("127.0.0.1", 6666),)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    if (tmp_path / "postroad.toml").stat().st_uid != 0:
        assert find_nearby(None, {}, system).places == (Place("127.0.0.1", 25),)
    monkeypatch.setattr(nearby, "_is_strange", lambda _: True)
    assert find_nearby(None, {}, system).places == (Place("127.0.0.1", 25),)


def test_whose_listener_it_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert nearby._listener_uid(server.getsockname()[1]) == os.geteuid()
    assert nearby._listener_uid(0) is None


@pytest.mark.parametrize("text", ["= broken", 'hostname = "x"\n', '[[listener]]\naddress = 5\nrole = "mx"\n'])
def test_a_file_that_names_no_relay(tmp_path: Path, text: str) -> None:
    file = tmp_path / "postroad.toml"
    file.write_text(text)
    with pytest.raises(UnknownRelay):
        find_nearby(file, {})
    with pytest.raises(UnknownRelay):
        find_nearby(tmp_path / "nothing.toml", {})
