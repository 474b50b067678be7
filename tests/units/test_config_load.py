"""Which file is read, what holds without one, and how settings travel."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from postroad.config.addresses import TcpAddress
from postroad.config.errors import Place, SettingError, SettingsError
from postroad.config.explain import rows, show
from postroad.config.load import SYSTEM_FILE, Loaded, load, load_text
from postroad.config.via import Maildir, Smtp


def loaded_in(
    directory: Path,
    path: Path | None = None,
    *,
    environment: dict[str, str] | None = None,
    system: Path | None = None,
    hostname: str = "relay.example.org",
) -> Loaded:
    return load(
        path,
        environment=environment or {},
        hostname=hostname,
        directory=directory,
        system_file=system or directory / "none",
    )


def write(path: Path, level: str) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(f'[log]\nlevel = "{level}"\n')
    return path


def test_the_order_of_the_search(tmp_path: Path) -> None:
    named, by_environment = write(tmp_path / "a.toml", "debug"), write(tmp_path / "b.toml", "info")
    local, system = write(tmp_path / "here" / "postroad.toml", "warning"), write(tmp_path / "etc.toml", "error")
    here, environment = tmp_path / "here", {"POSTROAD_CONFIG": str(by_environment)}
    assert loaded_in(here, named, environment=environment, system=system).files == (named,)
    assert loaded_in(here, environment=environment, system=system).files == (by_environment,)
    assert loaded_in(here, environment={"POSTROAD_CONFIG": ""}, system=system).files == (local,)
    assert loaded_in(here, system=system).settings.log.level == "warning"
    assert loaded_in(tmp_path, system=system).files == (system,)
    assert loaded_in(tmp_path).is_sandbox
    assert Path("/etc/postroad/postroad.toml") == SYSTEM_FILE


def test_a_relative_name_is_from_where_we_were_started(tmp_path: Path) -> None:
    file = write(tmp_path / "sub" / "a.toml", "debug")
    assert loaded_in(tmp_path, Path("sub/a.toml")).files == (file,)
    assert loaded_in(tmp_path, environment={"POSTROAD_CONFIG": "sub/a.toml"}).files == (file,)


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    """Falling back to the sandbox would hide a slip of the finger."""
    write(tmp_path / "postroad.toml", "debug")
    with pytest.raises(SettingsError) as caught:
        loaded_in(tmp_path, Path("gone.toml"))
    assert str(caught.value) == f"{tmp_path}/gone.toml: There is no such file. The command line names it."
    with pytest.raises(SettingsError) as caught:
        loaded_in(tmp_path, environment={"POSTROAD_CONFIG": "gone.toml"})
    assert str(caught.value) == f"{tmp_path}/gone.toml: There is no such file. $POSTROAD_CONFIG names it."


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="It cannot be read: Is a directory"):
        loaded_in(tmp_path, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_we_may_not_read(tmp_path: Path) -> None:
    write(tmp_path / "postroad.toml", "debug").chmod(0)
    with pytest.raises(SettingsError, match="It cannot be read: Permission denied"):
        loaded_in(tmp_path)


def test_the_sandbox_harms_nobody(tmp_path: Path) -> None:
    loaded = loaded_in(tmp_path, hostname="box")
    settings = loaded.settings
    (listener,) = settings.listener
    assert (listener.address, listener.role, listener.tls) == (TcpAddress("127.0.0.1", 2525), "submission", "starttls")
    assert list(map(str, settings.relay.networks)) == ["127.0.0.0/8", "::1/128"]
    (route,) = settings.route
    assert route.to[0].is_any
    assert route.via == (Maildir(f"{tmp_path}/postroad-data/mail/{{address}}"),)
    assert (settings.data_dir, settings.hostname) == (tmp_path / "postroad-data", "box")
    assert (loaded.files, loaded.sources) == ((), {})
    assert all(row.source == "default" for row in rows(loaded))


@pytest.mark.parametrize("hostname", ["my_host", "", "192.0.2.1", "localhost.localdomain"])
def test_the_sandbox_starts_whatever_the_machine_is_called(tmp_path: Path, hostname: str) -> None:
    name = loaded_in(tmp_path, hostname=hostname).settings.hostname
    assert name == (hostname if hostname.startswith("local") else "localhost")


def test_a_machine_without_a_usable_name_needs_one_in_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "postroad.toml", "debug")
    with pytest.raises(SettingsError) as caught:
        loaded_in(tmp_path, hostname="my_host")
    (problem,) = caught.value.problems
    assert (problem.key, problem.file, problem.line) == ("hostname", file, None)
    file.write_text('hostname = "relay.example.org"')
    assert loaded_in(tmp_path, hostname="my_host").settings.hostname == "relay.example.org"


def test_where_data_is_kept(tmp_path: Path) -> None:
    assert load_text("", file=Path("/etc/postroad/postroad.toml")).settings.data_dir == Path("/var/lib/postroad")
    assert load_text("", file=Path("/etcetera/p.toml")).settings.data_dir == Path("/etcetera/postroad-data")
    assert load_text('data_dir = "x"', file=tmp_path / "p.toml").settings.data_dir == tmp_path / "x"
    assert load_text('data_dir = "/x"', file=tmp_path / "p.toml").settings.data_dir == Path("/x")


def test_next_hops_are_looked_up() -> None:
    text = '[next_hop.a]\naddress = "smtp://a.example:587"\n[[route]]\nto = "*"\nvia = ["a", "smtp://a.example:587"]\n'
    settings = load_text(text).settings
    assert settings.route[0].via == (Smtp("a.example", 587, "a"), Smtp("a.example", 587, None))
    assert settings.next_hop["a"].address == Smtp("a.example", 587, "a")


def test_settings_travel_and_do_not_change() -> None:
    text = (Path(__file__).parents[1] / "cases/config/30-everything-of-this-version/postroad.toml").read_text()
    loaded = load_text(text)
    again = pickle.loads(pickle.dumps(loaded))
    assert again == loaded
    with pytest.raises(ValueError, match="frozen"):
        loaded.settings.hostname = "other"
    assert hash(loaded.settings.route[0]) == hash(again.settings.route[0])


def test_what_is_shown_loads_as_the_same() -> None:
    text = (Path(__file__).parents[1] / "cases/config/30-everything-of-this-version/postroad.toml").read_text()
    loaded = load_text(text)
    assert load_text(show(loaded)).settings == loaded.settings
    assert load_text(show(load_text(""))).settings == load_text("").settings


def test_files_of_a_glob_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    """A directory lists them as it likes, so there are many of them."""
    names = [f"{number * 37 % 100:02}.toml" for number in range(100)]
    for name in names:
        (tmp_path / name).write_text(f'[relay]\ndomains = ["d{name[:2]}.example"]')
    settings = load_text('include = ["*.toml"]', file=tmp_path / "postroad.conf").settings
    assert list(map(str, settings.relay.domains)) == [f"d{number:02}.example" for number in range(100)]


def test_what_was_included_is_not_included_again(tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text('[relay]\nnetworks = ["10.0.0.0/8"]')
    (tmp_path / "p.toml").write_text('include = ["more.toml"]\n[relay]\nnetworks = ["192.0.2.0/24"]')
    loaded = loaded_in(tmp_path, tmp_path / "p.toml")
    assert loaded.files == (tmp_path / "p.toml", tmp_path / "more.toml")
    again = load_text(show(loaded), file=tmp_path / "p.toml").settings
    assert again.relay == loaded.settings.relay


def test_what_is_shown_says_where_it_stands() -> None:
    text = show(load_text("[limits]\nerrors = 5\n", file=Path("/x/p.toml")))
    assert text.startswith("# Effective settings, from /x/p.toml.\n")
    assert "\n[limits]\n" in text
    assert "\nerrors = 5  # /x/p.toml:2\n" in text
    assert '\nidle_timeout = "5m"  # default\n' in text


def test_a_row_as_json() -> None:
    found = {row.key: row.to_dict() for row in rows(load_text("[limits]\nerrors = 5\n", file=Path("/x/p.toml")))}
    sources = [{"file": "/x/p.toml", "line": 2}]
    assert found["limits.errors"] == {"key": "limits.errors", "value": 5, "default": False, "sources": sources}
    assert found["listener[0].address"]["value"] == "127.0.0.1:2525"
    assert found["limits.client_rate"] == {
        "key": "limits.client_rate",
        "value": "1000/min",
        "default": True,
        "sources": [],
    }
    assert not [key for key in found if key.startswith(("auth", "check", "relay.after_pop", "relay.open"))]


def test_thousands_of_routes() -> None:
    """Also with thousands of mistakes: each is found once, in as many rounds as one would take."""
    right = "".join(f'[[route]]\nto = "d{number}.example"\nvia = "mx"\n' for number in range(2000))
    loaded = load_text(right)
    assert len(loaded.settings.route) == 2000
    assert sum(1 for row in rows(loaded) if row.path[0] == "route") >= 4000
    with pytest.raises(SettingsError) as caught:
        load_text(right.replace('"mx"', '"nowhere"'))
    assert [problem.line for problem in caught.value.problems] == list(range(3, 6001, 3))


def test_an_error_says_where() -> None:
    place = Place(Path("/x/p.toml"), 3)
    assert str(SettingError("It is wrong.", key="[log] level", place=place)) == "/x/p.toml:3: [log] level: It is wrong."
    assert str(SettingError("It is wrong.")) == "It is wrong."
    assert str(SettingsError([SettingError("One."), SettingError("Two.")])) == "One.\nTwo."
    again = pickle.loads(pickle.dumps(SettingError("It is wrong.", key="k", place=place)))
    assert (again.text, again.key, again.file, again.line) == ("It is wrong.", "k", Path("/x/p.toml"), 3)
