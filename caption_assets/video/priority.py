"""Threads keep the priority that they have, whatever a library makes of it.

SVT-AV1 asks for real-time scheduling (SCHED_FIFO, priority 99) where it runs as root, for its own threads and for the
one that opens it, which keeps it for good. Nothing else runs on a core while such a thread wants it, and one that spins
until another is ready never lets that one run: a machine stood still for minutes after its first AVIF.
"""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOG = logging.getLogger(__name__)

_TASKS = Path("/proc/self/task")
_one_at_a_time = threading.Lock()
"""Two threads that look at each other's schedules would give back what the other was about to."""


@contextmanager
def keeping_priority() -> Iterator[None]:
    """Give every thread that the block makes or changes the scheduling back that it had, new ones that of this one."""
    if sys.platform != "linux" or not _TASKS.is_dir():
        yield
        return
    with _one_at_a_time:
        before, own = _schedules(), _schedule_of(0)
        try:
            yield
        finally:
            for thread, schedule in _schedules().items():
                if schedule != (wanted := before.get(thread, own)):
                    _schedule(thread, *wanted)


def _schedule(thread: int, policy: int, priority: int) -> None:
    try:
        os.sched_setscheduler(thread, policy, os.sched_param(priority))
    except ProcessLookupError:
        return  # it has ended
    except PermissionError:
        LOG.warning("a library changed how thread %d is scheduled, and this process may not change it back", thread)


def _schedules() -> dict[int, tuple[int, int]]:
    """Return policy and priority of every thread of this process."""
    found = {}
    for thread in (int(path.name) for path in _TASKS.iterdir()):
        try:
            found[thread] = _schedule_of(thread)
        except ProcessLookupError:
            continue
    return found


def _schedule_of(thread: int) -> tuple[int, int]:
    """Return policy and priority of a thread; 0 is the one that asks."""
    return os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority
