"""No library may change how the threads of a process are scheduled."""

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from caption_assets.video.preview_format import PreviewEncoder, require_format
from caption_assets.video.priority import keeping_priority

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have schedules of their own on Linux")


def schedules() -> dict[int, int]:
    found = {}
    for thread in (int(path.name) for path in Path("/proc/self/task").iterdir()):
        with contextlib.suppress(ProcessLookupError):
            found[thread] = os.sched_getscheduler(thread)
    return found


def may_ask_for_real_time() -> bool:
    allowed = []

    def ask() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except PermissionError:
            return
        allowed.append(True)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return bool(allowed)


def test_threads_get_back_what_they_had_and_new_ones_what_their_maker_has():
    def idle() -> None:
        ready.set()
        done.wait(10)

    before = os.sched_getscheduler(0)
    changed = os.SCHED_OTHER if before == os.SCHED_BATCH else os.SCHED_BATCH  # what anybody may ask for, and go back
    ready, done = threading.Event(), threading.Event()
    with pytest.raises(RuntimeError, match="whatever"), keeping_priority():
        os.sched_setscheduler(0, changed, os.sched_param(0))
        thread = threading.Thread(target=idle)  # gets what its maker has
        thread.start()
        assert ready.wait(10)
        assert schedules()[thread.native_id] == os.sched_getscheduler(0) == changed
        raise RuntimeError("whatever happens")
    assert schedules()[thread.native_id] == os.sched_getscheduler(0) == before
    done.set()
    thread.join()


def test_threads_that_do_this_at_once_do_not_see_what_the_other_has_changed():
    def work() -> None:
        barrier.wait(10)
        with keeping_priority():
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            time.sleep(0.01)
        time.sleep(0.05)
        after.append(os.sched_getscheduler(0))

    before, after, barrier = os.sched_getscheduler(0), [], threading.Barrier(4)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert after == [before] * 4


@pytest.mark.skipif(not may_ask_for_real_time(), reason="SVT-AV1 asks for real time only where it gets it")
def test_avif_is_encoded_at_the_priority_of_everything_else():
    before = schedules()
    encoder = PreviewEncoder(require_format("avif"), 64, 48, fps=1, quality=50, compression_level=4)
    encoder.add(np.zeros((48, 64, 3), np.uint8), 0)
    assert set(schedules().values()) <= set(before.values())
    encoder.finish(1000)
    assert os.sched_getscheduler(0) == before[threading.get_native_id()]
