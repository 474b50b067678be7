"""What can keep a process of the relay from starting, as one sentence that says what to do.

Owns: those sentences, and which errors of a start are the world's rather than ours. What is not named here is a
bug, and keeps its traceback. Does not own: the causes; net/sockets.py and net/tls.py word theirs themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postroad.core.faces import RecordsTrouble
from postroad.net.errors import ListenError
from postroad.net.tls import CertificateError
from postroad.records.migrations import RecordsTooNew
from postroad.service.data_dir import unusable
from postroad.service.failures import StartFailed
from postroad.spool.errors import StoreTooNew, StoreTrouble
from postroad.spool.owner import ShardOwned


@contextmanager
def starting(data_dir: Path) -> Iterator[None]:
    """Turn what keeps the block from its end into StartFailed."""
    try:
        yield
    except ShardOwned as error:
        text = f"Another Postroad runs on {data_dir}: {error}. Stop it, or give this one a data_dir of its own."
        raise StartFailed(text) from error
    except (ListenError, CertificateError) as error:
        raise StartFailed(f"{str(error)[:1].upper()}{str(error)[1:]}.") from error
    except (StoreTooNew, RecordsTooNew) as error:
        raise StartFailed(f"The queue in {data_dir} cannot be opened: {error}") from error
    except StoreTrouble as error:
        text = f"The queue in {data_dir} cannot be opened: {error}. Look at the disk, then start again."
        raise StartFailed(text) from error
    except RecordsTrouble as error:
        text = f"The records in {data_dir} cannot be opened: {error}. Look at the disk, then start again."
        raise StartFailed(text) from error
    except (FileExistsError, NotADirectoryError) as error:
        where = error.filename if isinstance(error.filename, str) else str(data_dir)
        raise StartFailed(f"{where} is not a directory. Move it away, or name another data_dir.") from error
    except OSError as error:
        raise StartFailed(unusable(error, data_dir)) from error


__all__ = ["StartFailed", "starting"]
