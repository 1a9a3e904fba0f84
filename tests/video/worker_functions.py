"""Functions that worker processes run in the tests: some of them end badly."""

import ctypes
import os
import resource
import signal
import sys
import time

from caption_assets.video.probe import UnreadableVideo, probe_clip


def act(what):
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "wild pointer":
        ctypes.string_at(8)
    elif what == "native hang":
        ctypes.PyDLL(None).sleep(60)  # holds the interpreter's lock all the while, as no Python code can
    elif what == "exit":
        os._exit(3)
    elif what == "sleep":
        time.sleep(60)
    elif what == "raise":
        raise ValueError("a bad value\nand more")
    elif what == "unreadable":
        raise UnreadableVideo("empty file (0 bytes)")
    elif what == "memory":
        return len(bytearray(64 << 30))
    return what, os.getpid()


def main_file(_):
    return getattr(sys.modules["__main__"], "__file__", None)


def note_and_sleep(path):
    path.write_text(str(os.getpid()))
    time.sleep(60)
    path.write_text("slept to the end")


def end_at_once(_):
    os._exit(1)


def take_too_long(_):
    time.sleep(60)


def probe_and_weigh(clip_and_limits):
    """The reason of a refusal, the number of frames, and the largest memory of this process in MB."""
    try:
        said, n_frames = None, probe_clip(*clip_and_limits).n_frames
    except UnreadableVideo as fault:
        said, n_frames = str(fault), 0
    return said, n_frames, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
