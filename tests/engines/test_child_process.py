"""A child of a process that is killed does not outlive it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from caption_assets.engines.child_process import end, with_descendants

psutil = pytest.importorskip("psutil")

CHILD = "import subprocess; subprocess.run(['sleep', '600'])"
PARENT = f"""
import os, subprocess, sys, time
from caption_assets.engines.child_process import guard, with_descendants
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}])
while len(processes := with_descendants([child.pid])) < 2:
    time.sleep(0.02)
watcher = guard(os.getpid(), processes)
print(*(process.pid for process in processes), watcher.pid, flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s"
        time.sleep(0.05)


@contextmanager
def running(program: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a program; it and all that it has started end with the block."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        started = []
        try:
            wait_until(lambda: len(with_descendants([process.pid])) > 1)
            started = with_descendants([process.pid])
            yield process
        finally:
            started += with_descendants([process.pid])
            process.kill()
            end(started, 60)


def test_what_a_killed_process_leaves_is_ended():
    with running(CHILD) as core:
        processes = with_descendants([core.pid])
        core.kill()
        core.wait()
        assert [is_running(process.pid) for process in processes] == [False, True]
        end(processes, 60)
        assert [is_running(process.pid) for process in processes] == [False, False]
        end(processes, 0)


def test_children_end_with_a_parent_that_is_killed():
    with running(PARENT) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 3
        assert all(map(is_running, pids))
        parent.kill()
        wait_until(lambda: not any(map(is_running, pids)))


def test_the_watcher_ends_with_what_it_watches():
    with running(PARENT) as parent:
        assert parent.stdout is not None
        *children, watcher = (int(pid) for pid in parent.stdout.readline().split())
        end(with_descendants(children), 60)
        wait_until(lambda: not is_running(watcher))
