"""Locks of batches: one run, import, or takedown that deletes works on a batch at a time."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from caption_assets.root import RootFolder

POLL_S = 0.2

LOG = logging.getLogger(__name__)


class _Ours(threading.local):
    """The locks that this thread holds by `batches_to_ourselves`."""

    def __init__(self) -> None:
        self.locks: dict[Path, FileLock] = {}


_ours = _Ours()


def take_batch(root: RootFolder, batch: str) -> FileLock:
    """Wait until nobody else works on `batch`, and return its lock, held.

    A thread within `batches_to_ourselves` gets a lock of these at once: a run can be a part of an import.

    Who needs several takes them in the order of their names, so that two never wait for each other.
    """
    path = root.batch_lock(batch)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _ours.locks.get(path) or FileLock(path, poll_interval=POLL_S)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        LOG.warning("waiting for another run, import or takedown that works on the batch %r", batch)
        lock.acquire()
    return lock


@contextmanager
def batches_to_ourselves(root: RootFolder, batches: Sequence[str]) -> Iterator[None]:
    """Keep runs and others off `batches`: one at work could write what is being changed."""
    with ExitStack() as stack:
        for batch in sorted(set(batches)):
            path, lock = root.batch_lock(batch), take_batch(root, batch)
            stack.callback(lock.release)
            if path not in _ours.locks:
                _ours.locks[path] = lock
                stack.callback(_ours.locks.pop, path)
        yield


def is_being_worked_on(root: RootFolder, batch: str) -> bool:
    """Tell whether another run, import or takedown works on `batch` now."""
    path = root.batch_lock(batch)
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
