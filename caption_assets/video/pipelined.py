"""Work on what a loop makes, on another thread, while the loop goes on.

Decoding, scaling and JPEG encoding all leave Python's lock, so a clip that is alone on the machine is packed on one
core while it is decoded on another. Where every core has a clip of its own nothing is lost.
"""

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVarTuple

Ts = TypeVarTuple("Ts")


class Beside(Generic[*Ts]):
    """Calls `work` with what is put, in order, on a thread of its own.

    At most `most_waiting` items wait: `put` blocks beyond that. Leaving the block waits until all that was put is done,
    also where the block raises. What `work` raises is raised by the next `put`, or where the block ends.
    """

    def __init__(self, work: Callable[[*Ts], None], most_waiting: int) -> None:
        self._work = work
        self._items: queue.Queue[tuple[*Ts] | None] = queue.Queue(most_waiting)
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._items.put(None)
        self._thread.join()
        if kind is None and self._fault is not None:
            raise self._fault

    def put(self, *item: *Ts) -> None:
        """Hand over an item."""
        if self._fault is not None:
            raise self._fault
        self._items.put(item)

    def _run(self) -> None:
        while (item := self._items.get()) is not None:
            if self._fault is None:
                try:
                    self._work(*item)
                except BaseException as fault:  # raised again where the loop is
                    self._fault = fault
