"""Engines that answer as a test wants them to."""

from collections.abc import Callable, Iterable, Iterator

from caption_assets.engines.protocol import Completion, Request


class ScriptedEngine:
    """Answers each request with what `answer` returns for it, and remembers what it was asked."""

    def __init__(self, answer: Callable[[Request], list[Completion]], backwards: bool = False):
        self.asked: list[Request] = []
        self._answer, self._backwards = answer, backwards

    def stream(self, requests: Iterable[Request]) -> Iterator[Completion]:
        if self._backwards:
            requests = list(requests)[::-1]
        for request in requests:
            self.asked.append(request)
            yield from self._answer(request)

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
