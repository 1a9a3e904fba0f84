"""Engines for tests: one that counts what the real one is asked, and ones that fail in the ways real ones do."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from caption_assets.engines.dispatcher import stream
from caption_assets.engines.protocol import (
    DONE,
    Completion,
    Engine,
    EngineDied,
    EngineSpec,
    EngineUnavailable,
    Reply,
    Request,
)
from caption_assets.engines.registry import EngineEntry

Answer = Callable[[Request, Iterator[Completion]], Iterator[Completion]]


@dataclass
class EngineLog:
    """What the engines of a run were asked. answer: what is made of the real engine's answer to a request."""

    loaded: list[str] = field(default_factory=list)
    closed: int = 0
    requests: list[Request] = field(default_factory=list)
    answer: Answer = lambda request, completions: completions

    @property
    def candidates(self) -> Counter[str]:
        """Candidates asked for, per purpose."""
        asked: Counter[str] = Counter()
        for request in self.requests:
            asked[request.purpose] += len(request.seeds)
        return asked


class CountingEngine:
    """Answers as the engine inside does, and writes down what it is asked."""

    def __init__(self, inner: Engine, log: EngineLog):
        self._inner = inner
        self._log = log

    @property
    def capacity(self) -> int:
        return self._inner.capacity

    def submit(self, request: Request, reply: Reply) -> Future[None]:
        self._log.requests.append(request)
        for completion in self._log.answer(request, stream(self._inner, [request])):
            reply(completion)
        return DONE

    def close(self) -> None:
        self._log.closed += 1
        self._inner.close()


def counting(entry: EngineEntry, log: EngineLog) -> EngineEntry:
    """The same engine, with the same identity, that writes into `log`."""

    def load(spec: EngineSpec) -> Engine:
        log.loaded.append(spec.model)
        return CountingEngine(entry.load(spec), log)

    return replace(entry, load=load)


def failing_at(*positions: int, purpose: str = "caption") -> Answer:
    """Answer the requests at these positions (from 0, of one purpose) with an error."""
    count = -1

    def answer(request: Request, completions: Iterator[Completion]) -> Iterator[Completion]:
        nonlocal count
        count += request.purpose == purpose
        if request.purpose == purpose and count in positions:
            for index in range(len(request.seeds)):
                yield Completion(request.request_id, index, "", "error", error="out of memory")
        else:
            yield from completions

    return answer


def dying_at(position: int, purpose: str = "caption") -> Answer:
    """Raise at the request at this position."""
    count = -1

    def answer(request: Request, completions: Iterator[Completion]) -> Iterator[Completion]:
        nonlocal count
        count += request.purpose == purpose
        if request.purpose == purpose and count >= position:
            raise EngineDied("the GPU has fallen off the bus")
        yield from completions

    return answer


def gone_from(position: int) -> Answer:
    """There is no engine any more from the caption request at this position on."""
    count = -1

    def answer(request: Request, completions: Iterator[Completion]) -> Iterator[Completion]:
        nonlocal count
        count += request.purpose == "caption"
        if request.purpose == "caption" and count >= position:
            raise EngineUnavailable("no server answers")
        yield from completions

    return answer
