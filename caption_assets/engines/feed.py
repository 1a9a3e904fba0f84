"""Requests into an engine that answers on other threads: pulled lazily, bounded in flight, answers as they come."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from caption_assets.engines.protocol import Completion, Request

JOIN_S = 10.0
"""How long the end of a stream waits for a request that is just being made."""


class Feed:
    """One stream through an engine: a thread pulls requests and sends them, the caller takes completions.

    Pulling on a thread of its own, frames are read and prepared while the caller writes what came before.

    Args:
        requests: what is asked; None means that nothing is ready before the caller has taken another completion.
        send: starts a request; it must lead to one `answer` per seed, or to `fail`. Called on the pulling thread.
        limit: requests that may be in flight now.
    """

    def __init__(
        self, requests: Iterable[Request | None], send: Callable[[Request, "Feed"], None], limit: Callable[[], int]
    ):
        self._requests, self._send, self._limit = iter(requests), send, limit
        self._changed = threading.Condition()
        self._ready: deque[Completion] = deque()
        self._open: dict[int, int] = {}
        self._taken = 0
        self._parked_at: int | None = None
        self._pulling = True
        self._closing = False
        self._failure: BaseException | None = None
        self._puller = threading.Thread(target=self._pull, name="engine-feed", daemon=True)

    def answer(self, request: Request, completion: Completion) -> None:
        """Hand over a completion of a request in flight."""
        with self._changed:
            key = id(request)
            if key in self._open:
                self._ready.append(completion)
                self._open[key] -= 1
                if self._open[key] == 0:
                    del self._open[key]
                self._changed.notify_all()

    def fail(self, failure: BaseException) -> None:
        """End the stream with `failure`, after what is ready has been taken."""
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()

    def completions(self) -> Iterator[Completion]:
        """Yield completions until every request is answered.

        Raises:
            RuntimeError: the requests say None although nothing is in flight.
        """
        self._puller.start()
        try:
            while (completion := self._next()) is not None:
                yield completion
                with self._changed:
                    self._taken += 1
                    self._changed.notify_all()
        finally:
            self._close()

    def _next(self) -> Completion | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._failure or self._is_over() or self._is_stuck())
            if self._ready:
                return self._ready.popleft()
            if self._failure:
                raise self._failure
            if self._is_over():
                return None
            raise RuntimeError("the requests say that nothing is ready, but nothing is in flight either")

    def _is_over(self) -> bool:
        return not self._pulling and not self._open

    def _is_stuck(self) -> bool:
        return self._parked_at == self._taken and not self._open and not self._ready

    def _pull(self) -> None:
        try:
            while self._wait_for_room():
                taken = self._taken
                try:
                    request = next(self._requests)
                except StopIteration:
                    return
                if request is None:
                    self._wait_for_the_caller(taken)
                    continue
                self._start(request)
        except BaseException as error:
            self.fail(error)
        finally:
            with self._changed:
                self._pulling = False
                self._changed.notify_all()

    def _start(self, request: Request) -> None:
        with self._changed:
            if not request.seeds or self._closing:
                return
            self._open[id(request)] = len(request.seeds)
        self._send(request, self)

    def _wait_for_room(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._failure or len(self._open) < max(1, self._limit()))
            return not self._closing and self._failure is None

    def _wait_for_the_caller(self, taken: int) -> None:
        with self._changed:
            self._parked_at = taken
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closing or self._failure or self._taken != taken)
            self._parked_at = None

    def _close(self) -> None:
        with self._changed:
            self._closing = True
            self._open.clear()
            self._changed.notify_all()
        self._puller.join(JOIN_S)
