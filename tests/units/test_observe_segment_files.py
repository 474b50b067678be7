"""Which segments go: the old ones, then the oldest; never one that may be open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from postroad.core.units import DAY, KIB
from postroad.observe.segment_files import SegmentName, date_of, list_segments, parse_name, prune

NOW = 1_790_000_000.0  # 2026-09-21, in the afternoon


def make(directory: Path, *files: str, octets: int = 64 * KIB) -> None:
    for number, file in enumerate(files):
        (directory / file).write_bytes(os.urandom(octets))
        os.utime(directory / file, (NOW + number, NOW + number))


def left(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def test_names_sort_by_time_and_say_what_they_are(tmp_path):
    make(tmp_path, "2026-09-21-0.db", "2026-09-20-1.db", "2026-09-21-0.10.db", "2026-09-21-0.9.db", octets=0)
    make(tmp_path, "2026-02-31-0.db", "x.db", "2026-09-21-0.db-wal", "2026-09-21-0.damaged-17.db", octets=0)
    assert list_segments(str(tmp_path)) == [
        SegmentName("2026-09-20", 0, "1"),
        SegmentName("2026-09-21", 0, "0"),
        SegmentName("2026-09-21", 9, "0"),
        SegmentName("2026-09-21", 10, "0"),
    ]
    assert all(parse_name(name.file) == name for name in list_segments(str(tmp_path)))
    assert list_segments(str(tmp_path / "none")) == []
    assert date_of(NOW) == "2026-09-21"


def test_what_is_older_than_keep_goes_with_all_that_stands_beside_it(tmp_path):
    make(tmp_path, "2026-09-18-0.db", "2026-09-18-0.db-wal", "2026-09-18-0.db-shm", "2026-09-17-9.damaged-1.db")
    make(tmp_path, "2026-09-19-0.db", "2026-09-21-0.db", "2026-09-16-0.db-wal", "notes.txt")
    gone = prune(str(tmp_path), now=NOW, keep=2 * DAY, disk_max=1 << 30)
    assert gone == ["2026-09-16-0.db", "2026-09-17-9.damaged-1.db", "2026-09-18-0.db"]
    assert left(tmp_path) == ["2026-09-19-0.db", "2026-09-21-0.db", "notes.txt"]
    assert prune(str(tmp_path), now=NOW, keep=2 * DAY, disk_max=1 << 30) == []


def test_a_segment_is_kept_until_its_last_fact_is_too_old(tmp_path):
    make(tmp_path, "2026-09-18-0.db")
    midnight = NOW - NOW % DAY
    assert prune(str(tmp_path), now=midnight, keep=2 * DAY, disk_max=1 << 30) == []
    assert prune(str(tmp_path), now=midnight + 1, keep=2 * DAY, disk_max=1 << 30) == ["2026-09-18-0.db"]


def test_of_too_much_the_oldest_go_whoever_wrote_them(tmp_path):
    make(
        tmp_path,
        *("2026-09-19-1.db", "2026-09-19-1.db-wal", "2026-09-20-0.db", "2026-09-20-2.db"),
        *("2026-09-21-0.db", "2026-09-21-0.1.db", "2026-09-21-0.2.db", "2026-09-21-1.db"),
    )
    assert prune(str(tmp_path), now=NOW, keep=DAY * 30, disk_max=64 * KIB * 6) == ["2026-09-19-1.db"]
    # The last parts may be open: of writer 2 that is yesterday's.
    gone = prune(str(tmp_path), now=NOW, keep=DAY * 30, disk_max=0)
    assert gone == ["2026-09-20-0.db", "2026-09-21-0.db", "2026-09-21-0.1.db"]
    assert left(tmp_path) == ["2026-09-20-2.db", "2026-09-21-0.2.db", "2026-09-21-1.db"]


@pytest.mark.parametrize("days", [2, 20])
def test_the_last_segment_of_a_writer_that_is_gone_goes_too(tmp_path, days):
    make(tmp_path, "2026-09-21-7.db")
    gone = prune(str(tmp_path), now=NOW + days * DAY, keep=DAY * 30, disk_max=0)
    assert gone == ["2026-09-21-7.db"]


def test_the_one_in_use_stays_whatever_its_date(tmp_path):
    make(tmp_path, "2026-01-01-0.db")
    assert prune(str(tmp_path), now=NOW, keep=DAY, disk_max=0, is_open="2026-01-01-0.db") == []
