"""What keeps a relay from starting is one sentence that says what to do."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from postroad.core.faces import RecordsTrouble
from postroad.net.errors import ListenError
from postroad.service.start import StartFailed, starting
from postroad.spool.errors import StoreTrouble
from postroad.spool.face import Why
from postroad.spool.owner import ShardOwned

DATA_DIR = Path("/srv/postroad")


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (ShardOwned("owner.lock is held by process 7"), "process 7. Stop it, or give this one a data_dir of its own."),
        (
            ListenError("cannot listen on 127.0.0.1:25: in use; stop it"),
            "Cannot listen on 127.0.0.1:25: in use; stop it.",
        ),
        (RecordsTrouble("disk I/O error"), "The records in /srv/postroad cannot be opened: disk I/O error."),
        (StoreTrouble(Why.TROUBLE, "disk I/O error"), "/srv/postroad cannot be opened: disk I/O error."),
        (
            PermissionError(errno.EACCES, "x", "/srv/postroad/shard-0"),
            "/srv/postroad/shard-0 cannot be used: permission",
        ),
    ],
)
def test_each_cause_has_its_sentence(error, wanted):
    with pytest.raises(StartFailed) as failed, starting(DATA_DIR):
        raise error
    assert wanted in str(failed.value)
    assert "\n" not in str(failed.value)


def test_errors_of_ours_stay_what_they_are():
    with pytest.raises(ZeroDivisionError), starting(DATA_DIR):
        raise ZeroDivisionError
