"""No library may change how the threads of a process are scheduled."""

import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from caption_assets.video.preview_format import PreviewEncoder, require_format
from caption_assets.video.priority import keeping_priority

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have schedules of their own on Linux")


def schedules() -> dict[int, int]:
    threads = [int(path.name) for path in Path("/proc/self/task").iterdir()]
    return {thread: os.sched_getscheduler(thread) for thread in threads}


def test_threads_get_back_what_they_had_and_new_ones_what_their_maker_has():
    def idle() -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        ready.set()
        done.wait(10)

    ready, done = threading.Event(), threading.Event()
    with pytest.raises(RuntimeError, match="whatever"), keeping_priority():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))  # what anybody may ask for
        thread = threading.Thread(target=idle)
        thread.start()
        assert ready.wait(10)
        assert {os.SCHED_BATCH, os.SCHED_IDLE} <= set(schedules().values())
        raise RuntimeError("whatever happens")
    assert set(schedules().values()) == {os.SCHED_OTHER}
    done.set()
    thread.join()


def test_avif_is_encoded_at_the_priority_of_everything_else():
    encoder = PreviewEncoder(require_format("avif"), 64, 48, fps=1, quality=50, compression_level=4)
    encoder.add(np.zeros((48, 64, 3), np.uint8), 0)
    assert set(schedules().values()) == {os.SCHED_OTHER}, "as root, SVT-AV1 asks for real time"
    encoder.finish(1000)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
