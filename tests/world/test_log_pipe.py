"""Several processes write their logs to one pipe, as all of a relay do: every line arrives whole."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections import Counter

LINES = 5000
WRITER = """
import asyncio, sys
from postroad.core.facts import Stopped
from postroad.observe.log import LogLines
from postroad.observe.writer import LogWriter
from postroad.service.threads import WorkerThreads

async def main():
    threads = WorkerThreads()
    log = LogWriter(2, LogLines("json"), threads)
    for batch in range(LINES // 50):
        log.take([Stopped(at=1.0, why=f"{sys.argv[1]} " + "x" * ((batch * 50 + n) * 37 % 2000)) for n in range(50)])
        while log._writing is not None:
            await asyncio.sleep(0)
    await log.close()
    threads.close()

LINES = int(sys.argv[2])
asyncio.run(main())
"""


def test_processes_on_one_pipe_mix_no_line() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)  # full at once: they take turns at every piece
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, name, str(LINES)], stderr=writer, env=environment)
        for name in "abc"
    ]
    os.close(writer)
    with open(reader, "rb") as log:
        names = Counter(json.loads(line)["why"].split(" ")[0] for line in log)
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert names == dict.fromkeys("abc", LINES)
