"""Functions that worker processes run in the tests: some of them end badly."""

import os
import signal
import sys
import time

from caption_assets.video.probe import UnreadableVideo


def act(what):
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
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


def take_too_long(_):
    time.sleep(60)
