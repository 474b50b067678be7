"""Plans, what is handed on in memory, and what a reload can change."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from postroad.config.load import load_text
from postroad.service.failures import StartFailed
from postroad.service.plan import Plan, changed_keys, check_descriptors, in_force, in_memory, read_memory, restart_keys
from postroad.service.reading import ReadAgain, pack, plan_of, read_again, unpack

TEXT = """
workers = 4
data_dir = "/srv/postroad"
[process]
user = "postroad"
drain = "10s"
[[listener]]
address = "0.0.0.0:25"
role = "mx"
[[listener]]
address = "unix:/run/postroad.sock"
[tls]
[[tls.certificate]]
certificate = "/etc/tls/both.pem"
private_key = "/etc/tls/both.pem"
[http]
address = "192.0.2.1:8025"
token_file = "/etc/postroad/token"
[next_hop.a]
address = "smtp://a.example:587"
[[route]]
to = "*"
via = "a"
"""


def plan(text: str) -> Plan:
    return plan_of(load_text(text))


def test_a_plan_holds_what_shapes_the_processes() -> None:
    made = plan(TEXT)
    assert (made.workers, made.data_dir, made.user, made.drain) == (4, "/srv/postroad", "postroad", 10.0)
    assert made.listeners == ("0.0.0.0:25", "unix:/run/postroad.sock")
    assert made.http_address == "192.0.2.1:8025"
    assert made.secrets == {"worker": ("/etc/tls/both.pem",), "front": ("/etc/postroad/token",)}, "each once"
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=Plan) == made


def test_a_configuration_comes_out_as_it_went_in() -> None:
    loaded = load_text(TEXT)
    again = unpack(pack(loaded))
    assert again.settings == loaded.settings
    assert again.sources == loaded.sources


@pytest.mark.parametrize(
    ("old", "new", "changed", "restart"),
    [
        (TEXT, TEXT, (), ()),
        (TEXT, TEXT.replace("workers = 4", "workers = 2"), ("workers",), ("workers",)),
        (TEXT, TEXT.replace("/srv/postroad", "/srv/other"), ("data_dir",), ("data_dir",)),
        (TEXT, TEXT.replace(":25", ":26"), ("listener[0].address",), ("listener[0].address",)),
        (TEXT, TEXT.replace('"mx"', '"submission"'), ("listener[0].role",), ()),
        (TEXT, TEXT.replace("a.example", "b.example"), ("next_hop.a.address",), ()),
        (TEXT, TEXT.replace('drain = "10s"', 'drain = "20s"'), ("process.drain",), ()),
        (TEXT, TEXT + '[[route]]\nto = "x.example"\nvia = "mx"\n', ("route[1]",), ()),
    ],
)
def test_what_a_reload_changes(old: str, new: str, changed: tuple[str, ...], restart: tuple[str, ...]) -> None:
    found = changed_keys(plan(old).keys, plan(new).keys)
    assert tuple(key for key in changed if not any(one.startswith(key) for one in found)) == ()
    assert all(any(one.startswith(key) for key in changed) for one in found)
    assert restart_keys(plan(old).keys, plan(new).keys) == restart


def test_what_needs_a_restart_is_not_in_force_after_a_reload() -> None:
    first = plan(TEXT).keys
    more = '[[listener]]\naddress = "192.0.2.1:25"\nrole = "mx"\n'
    other = plan(TEXT.replace("workers = 4", "workers = 2").replace("a.example", "b.example") + more).keys
    held = in_force(first, other)
    assert (held["workers"], held["next_hop.a.address"]) == ("4", '"smtp://b.example:587"')
    assert not any(key.startswith("listener[2]") for key in held), "a listener comes with its socket, or not at all"
    assert changed_keys(first, held) == ("next_hop.a.address",)
    assert changed_keys(held, in_force(first, first)) == ("next_hop.a.address",), "only that goes back"


def test_memory_is_sealed_and_read_by_whoever_has_it() -> None:
    descriptor = in_memory("test", b"secret" * 100_000)
    try:
        assert read_memory(descriptor) == b"secret" * 100_000
        assert Path(f"/proc/self/fd/{descriptor}").read_bytes()[:6] == b"secret"
        with pytest.raises(OSError, match="not permitted"):
            os.write(descriptor, b"changed")
        with pytest.raises(OSError, match="not permitted"):
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def test_more_than_can_be_handed_to_a_process_is_said() -> None:
    pairs = "".join(f'[[tls.certificate]]\ncertificate = "/c{n}"\nprivate_key = "/k{n}"\n' for n in range(130))
    with pytest.raises(StartFailed, match="260 files of certificates and keys; 240 in all"):
        check_descriptors(plan(f"[tls]\n{pairs}"))
    check_descriptors(plan(TEXT))


def test_reading_again_gives_a_plan_or_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "postroad.toml"
    file.write_text('hostname = "r.example"\n')
    good = read_again(str(file))
    assert good.plan is not None
    assert good.plan.config_file == str(file)
    assert unpack(good.loaded).settings.hostname == "r.example"
    file.write_text('hostname = "r.example"\nhostnam = "x"\n')
    bad = read_again(str(file))
    file.write_text("")
    assert read_again(str(file)) == ReadAgain(None, b"", f"{file} is empty. Nothing was changed."), "not all defaults"
    assert bad == ReadAgain(None, b"", f"{file}:2: hostnam: There is no such key. Did you mean hostname?")
