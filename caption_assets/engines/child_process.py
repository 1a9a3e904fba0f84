"""Processes of an engine end with the process that started them, even where that one is killed without a word.

vLLM's core outlives a parent that gets SIGKILL, and keeps its GPU memory. So a small process watches the parent: this
file, run as a program. It needs psutil, which comes with vLLM.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

POLL_S = 0.5
GRACE_S = 5.0


def with_descendants(pids: Iterable[int]) -> list[Any]:
    """Return processes and all that descend from them, as they are now: each a `psutil.Process`."""
    import psutil

    found = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            found += [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return found


def guard(parent: int, processes: Sequence[Any]) -> subprocess.Popen[bytes] | None:
    """Start a process that ends `processes` once `parent` is gone, and ends with them; None where there are none."""
    if not processes:
        return None
    command = [sys.executable, "-I", __file__, str(parent), *(str(process.pid) for process in processes)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)


def end(processes: Sequence[Any], patience_s: float, number: int = signal.SIGKILL) -> None:
    """Send a signal to what still runs, and wait up to `patience_s` until it is gone.

    The workers of a core that was killed are still there.
    """
    import psutil

    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    deadline = time.monotonic() + patience_s
    while any(map(_runs, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)


def _runs(process: Any) -> bool:
    """Tell whether a process does more than wait to be noticed as ended."""
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _watch(parent: int, pids: Iterable[int]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    processes = with_descendants(pids)
    while os.getppid() == parent and any(map(_runs, processes)):
        time.sleep(POLL_S)
    end(processes, GRACE_S, signal.SIGTERM)
    end(processes, 0)


if __name__ == "__main__":
    _watch(int(sys.argv[1]), map(int, sys.argv[2:]))
