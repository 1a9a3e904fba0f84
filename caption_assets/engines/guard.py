"""Processes of an engine end with the process that started them, even where that one is killed without a word.

vLLM's core outlives a parent that gets SIGKILL, and keeps its GPU memory. A small process watches the parent instead
of the core: a few megabytes, asleep.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_WATCH = """
import os, signal, sys, time
parent = int(sys.argv[1])
wards = [tuple(map(int, ward.split(":"))) for ward in sys.argv[2:]]

def alive(pid, started):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return False
    return int(fields[19]) == started and fields[0] != "Z"

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
while os.getppid() == parent and any(alive(*ward) for ward in wards):
    time.sleep(0.5)
for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 0.0)):
    for ward in wards:
        if alive(*ward):
            os.kill(ward[0], number)
    end = time.monotonic() + patience
    while time.monotonic() < end and any(alive(*ward) for ward in wards):
        time.sleep(0.1)
"""


def guard(parent: int, children: Iterable[int]) -> subprocess.Popen[bytes] | None:
    """Start a process that ends `children` and their descendants once `parent` is gone; it ends with them.

    Returns:
        The process; None where the system has no /proc to tell processes apart.
    """
    wards = [f"{pid}:{started}" for pid in _with_descendants(children) if (started := _start_time(pid)) is not None]
    if not wards:
        return None
    command = [sys.executable, "-I", "-S", "-c", _WATCH, str(parent), *wards]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)


def _with_descendants(pids: Iterable[int]) -> list[int]:
    found: list[int] = []
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                waiting.extend(int(child) for child in task.read_text().split())
            except OSError:
                continue
    return found


def _start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot: with it, a pid names one process for ever."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
