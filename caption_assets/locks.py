"""Locks of batches: one run, import that enters captions, or takedown that deletes works on a batch at a time."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from filelock import FileLock, Timeout

from caption_assets.root import RootFolder

POLL_S = 0.2

LOG = logging.getLogger(__name__)


def take_batch(root: RootFolder, batch: str) -> FileLock:
    """Wait until nobody works on `batch`, and return its lock, held.

    Who needs several takes them in the order of their names, so that two never wait for each other.
    """
    path = root.batch_lock(batch)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, poll_interval=POLL_S)
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
            stack.callback(take_batch(root, batch).release)
        yield
