"""What can keep a relay from starting, as one sentence that says what to do.

Owns: those sentences, and which errors of a start are the world's rather than ours. What is not named here is a
bug, and keeps its traceback. Does not own: the causes; net/sockets.py and net/tls.py word theirs themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postroad.config.model import Settings
from postroad.net.errors import ListenError, why_os
from postroad.net.tls import CertificateError
from postroad.spool.errors import StoreTooNew, StoreTrouble
from postroad.spool.owner import ShardOwned


class StartFailed(Exception):
    """The relay cannot run. The text is for a person, and says what to do."""


@contextmanager
def starting(settings: Settings) -> Iterator[None]:
    """Turn what keeps the block from its end into StartFailed."""
    try:
        yield
    except ShardOwned as error:
        text = (
            f"Another Postroad runs on {settings.data_dir}: {error}. Stop it, or give this one a data_dir of its own."
        )
        raise StartFailed(text) from error
    except (ListenError, CertificateError) as error:
        raise StartFailed(f"{str(error)[:1].upper()}{str(error)[1:]}.") from error
    except StoreTooNew as error:
        raise StartFailed(f"The queue in {settings.data_dir} cannot be opened: {error}") from error
    except StoreTrouble as error:
        text = f"The queue in {settings.data_dir} cannot be opened: {error}. Look at the disk, then start again."
        raise StartFailed(text) from error
    except (FileExistsError, NotADirectoryError) as error:
        where = error.filename if isinstance(error.filename, str) else str(settings.data_dir)
        raise StartFailed(f"{where} is not a directory. Move it away, or name another data_dir.") from error
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else str(settings.data_dir)
        text = f"{where} cannot be used: {why_os(error)}. Let the user that runs Postroad read and write data_dir"
        raise StartFailed(f"{text} ({settings.data_dir}).") from error


def make_data_dir(path: Path) -> None:
    """Make the directory where everything is kept, for our eyes only. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
