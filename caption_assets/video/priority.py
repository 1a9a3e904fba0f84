"""Threads keep the priority that they have, whatever a library makes of it.

SVT-AV1 asks for real-time scheduling (SCHED_FIFO, priority 99) where it runs as root, for its own threads and for the
one that opens it, which keeps it for good. Nothing else runs on a core while such a thread wants it, and one that spins
until another is ready never lets that one run: a machine stood still for minutes after its first AVIF.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TASKS = Path("/proc/self/task")


@contextmanager
def keeping_priority() -> Iterator[None]:
    """Give every thread that the block makes or changes the scheduling back that it had, new ones that of this one."""
    if sys.platform != "linux" or not _TASKS.is_dir():
        yield
        return
    before = _schedules()
    own = before[threading.get_native_id()]
    try:
        yield
    finally:
        for thread, schedule in _schedules().items():
            if schedule != (wanted := before.get(thread, own)):
                policy, priority = wanted
                try:
                    os.sched_setscheduler(thread, policy, os.sched_param(priority))
                except ProcessLookupError:
                    continue  # it has ended


def _schedules() -> dict[int, tuple[int, int]]:
    """Return policy and priority of every thread of this process."""
    found = {}
    for thread in (int(path.name) for path in _TASKS.iterdir()):
        try:
            found[thread] = (os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority)
        except ProcessLookupError:
            continue
    return found
