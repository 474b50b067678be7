"""Binding the control socket: private, in place of a stale one, never in place of a live one."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroad.net.local import bind_private


def test_the_socket_is_private(tmp_path: Path) -> None:
    bound = bind_private(tmp_path / "control.sock")
    assert (tmp_path / "control.sock").stat().st_mode & 0o7777 == 0o600
    bound.close()


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    bind_private(path).close()
    assert path.exists()
    live = bind_private(path)
    live.listen()
    with pytest.raises(OSError, match="another process listens"):
        bind_private(path)
    live.close()


def test_a_file_that_is_no_socket_is_replaced_too(tmp_path: Path) -> None:
    """data_dir is ours alone: whatever has our socket's name is left over."""
    path = tmp_path / "control.sock"
    path.write_text("left over")
    bind_private(path).close()
    assert path.is_socket()


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        bind_private(tmp_path / "missing" / "control.sock")
