"""Processes of an engine end with the process that started them, even where that one is killed without a word.

vLLM's core outlives a parent that gets SIGKILL, and keeps its GPU memory. A small process watches the parent instead
of the core: a few megabytes, asleep.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Ward:
    """A process, told apart by when it started (clock ticks since boot) from a later one with the same number."""

    pid: int
    started: int

    @property
    def is_running(self) -> bool:
        """Whether it is there and does more than wait to be noticed as ended."""
        fields = _stat(self.pid)
        return bool(fields) and int(fields[19]) == self.started and fields[0] != "Z"


def wards_of(children: Iterable[int]) -> list[Ward]:
    """Return processes and their descendants as they are now; none where the system has no /proc."""
    return [Ward(pid, int(fields[19])) for pid in _with_descendants(children) if (fields := _stat(pid))]


def guard(parent: int, wards: Sequence[Ward]) -> subprocess.Popen[bytes] | None:
    """Start a process that ends `wards` once `parent` is gone, and ends with them; None where there are none."""
    if not wards:
        return None
    names = [f"{ward.pid}:{ward.started}" for ward in wards]
    command = [sys.executable, "-I", "-S", "-c", _WATCH, str(parent), *names]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)


def end(wards: Sequence[Ward], patience_s: float) -> None:
    """Kill what still runs, and wait up to `patience_s` until it is gone. A core that was killed leaves its workers."""
    for ward in wards:
        if ward.is_running:
            with suppress(ProcessLookupError):
                os.kill(ward.pid, signal.SIGKILL)
    deadline = time.monotonic() + patience_s
    while any(ward.is_running for ward in wards) and time.monotonic() < deadline:
        time.sleep(0.05)


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


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name: the state first, the start time as the twentieth."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
