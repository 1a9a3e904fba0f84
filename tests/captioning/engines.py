"""Engines that answer as a test wants them to."""

from collections.abc import Callable
from concurrent.futures import Future

from caption_assets.engines.protocol import DONE, Completion, Reply, Request


class ScriptedEngine:
    """Answers each request with what `answer` returns for it, and remembers what it was asked.

    backwards: how many requests it gathers, to answer the last one first. 0: it answers at once.
    """

    def __init__(self, answer: Callable[[Request], list[Completion]], backwards: int = 0):
        self.asked: list[Request] = []
        self.capacity = max(1, backwards)
        self._answer, self._backwards = answer, backwards
        self._held: list[tuple[Request, Reply, Future[None]]] = []

    def submit(self, request: Request, reply: Reply) -> Future[None]:
        self.asked.append(request)
        if not self._backwards:
            for completion in self._answer(request):
                reply(completion)
            return DONE
        self._held.append((request, reply, Future()))
        future = self._held[-1][2]
        if len(self._held) == self._backwards:
            while self._held:
                held, its_reply, done = self._held.pop()
                for completion in self._answer(held):
                    its_reply(completion)
                done.set_result(None)
        return future

    def close(self) -> None:
        pass


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
