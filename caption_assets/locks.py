"""Locks of batches: one run, import or takedown works on a batch at a time."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from filelock import FileLock

from caption_assets.root import RootFolder

POLL_S = 0.2


def take_batch(root: RootFolder, batch: str) -> FileLock:
    """Wait until nobody works on `batch`, and return its lock, held.

    Who needs several takes them in the order of their names, so that two never wait for each other.
    """
    path = root.batch_lock(batch)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, poll_interval=POLL_S)
    lock.acquire()
    return lock


@contextmanager
def batches_to_ourselves(root: RootFolder, batches: Sequence[str]) -> Iterator[None]:
    """Keep runs and others off `batches`: one at work could write what is being changed."""
    with ExitStack() as stack:
        for batch in sorted(set(batches)):
            stack.callback(take_batch(root, batch).release)
        yield
