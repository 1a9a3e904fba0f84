"""Engines that answer as a test wants them to."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from caption_assets.engines.protocol import Completion, Request


class ScriptedEngine:
    """Answers each request with what `answer` returns for it, and remembers what it was asked."""

    def __init__(self, answer: Callable[[Request], list[Completion]], backwards: bool = False):
        self.asked: list[Request] = []
        self._answer, self._backwards = answer, backwards

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Completion]:
        if self._backwards:
            requests = list(requests)[::-1]
        for request in requests:
            assert request is not None, "nothing is in flight here, so something must be ready"
            self.asked.append(request)
            yield from self._answer(request)

    def close(self) -> None:
        pass


class ThreadedEngine(ScriptedEngine):
    """Pulls requests and answers them on a thread of its own, as engines do that work beside the caller."""

    def __init__(self, answer: Callable[[Request], list[Completion]], in_flight: int):
        super().__init__(answer)
        self._in_flight = in_flight

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Completion]:
        done: queue.Queue[Completion | None] = queue.Queue()
        room = threading.Semaphore(self._in_flight)

        def work() -> None:
            for request in requests:
                if request is None:
                    time.sleep(0.001)
                    continue
                room.acquire()
                self.asked.append(request)
                for completion in self._answer(request):
                    done.put(completion)
                room.release()
            done.put(None)

        threading.Thread(target=work, daemon=True).start()
        while (completion := done.get(timeout=10)) is not None:
            yield completion


def say_the_seed(request: Request) -> list[Completion]:
    return [
        Completion(request.request_id, i, f"seed {seed}", "stop", 10, 5, 1.5) for i, seed in enumerate(request.seeds)
    ][::-1]


def say_nothing(request: Request) -> list[Completion]:
    return []


def fail_the_second(request: Request) -> list[Completion]:
    good = say_the_seed(request)[::-1]
    return [
        good[0],
        *(Completion(request.request_id, i, "", "error", error="out of memory") for i in range(1, len(good))),
    ]
