"""A child of a process that is killed does not outlive it."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from caption_assets.engines.child_process import end, wards_of

PARENT = """
import os, subprocess, sys, time
from caption_assets.engines.child_process import guard, wards_of
child = subprocess.Popen([sys.executable, "-c", "import subprocess, time; subprocess.run(['sleep', '60'])"])
time.sleep(0.5)
watcher = guard(os.getpid(), wards_of([child.pid]))
print(child.pid, *open(f"/proc/{child.pid}/task/{child.pid}/children").read().split(), watcher.pid, flush=True)
time.sleep(60)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")


@needs_proc
def test_what_a_killed_process_leaves_is_ended():
    tree = [sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '60'])"]
    core = subprocess.Popen(tree)
    deadline = time.monotonic() + 15
    while len(wards := wards_of([core.pid])) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [ward.is_running for ward in wards] == [True, True]
    core.kill()
    core.wait()
    assert [ward.is_running for ward in wards] == [False, True]
    end(wards, 5.0)
    assert not any(ward.is_running for ward in wards)
    end([replace(wards_of([os.getpid()])[0], started=1)], 0.0)  # the same number, another process: not touched


@needs_proc
def test_children_end_with_a_parent_that_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 3
    assert all(is_running(pid) for pid in pids)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 15
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [pid for pid in pids if is_running(pid)] == []
