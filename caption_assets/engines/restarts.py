"""An engine that dies is started again, and what it had not finished is sent again.

Which request killed it is not known: all that were in flight are suspects. So half as many are in flight after each
death, first of all the suspects; a request that is alone when the engine dies, and was there before, is given up. An
engine that ran out of memory finds the number it can hold in the same way. The number rises again as requests are
answered.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from caption_assets.engines.protocol import Completion, Engine, EngineDied, EngineUnavailable, Request

MOST_DEATHS_IN_A_ROW = 12
"""Deaths with nothing settled in between. Halving reaches one request from 2048 in 11."""

MOST_GIVEN_UP_IN_A_ROW = 20
"""Requests given up with no answer in between: a clip may hold so many; more is a machine that is broken."""

LIFT_AFTER = 32
"""A number in flight that killed the engine is tried again after so many times as many answers."""


def stream_with_restarts(
    engine: Engine, restart: Callable[[], Engine], flight: "Flight", say: Callable[[str], None]
) -> Iterator[Completion]:
    """Yield what `engine` answers to the requests of `flight`, through as many restarts as it takes.

    A request that killed the engine twice is answered with an error for each candidate that it still lacks.

    Args:
        engine: running.
        restart: closes the engine, however dead, and returns a new one.
        flight: of the requests, which come as `Engine.stream` takes them.
        say: told of each death in a sentence.

    Raises:
        EngineUnavailable: the engine cannot be had, and no request is to blame.
        EngineDied: it died again and again without answering anything.
    """
    deaths_in_a_row = given_up_in_a_row = 0
    while True:
        answers = engine.stream(flight.feed())
        try:
            for completion in answers:
                deaths_in_a_row = given_up_in_a_row = 0
                yield flight.answered(completion)
            return
        except EngineUnavailable:
            raise
        except EngineDied as death:
            deaths_in_a_row += 1
            if deaths_in_a_row > MOST_DEATHS_IN_A_ROW:
                raise EngineDied(
                    f"the engine died {deaths_in_a_row} times without answering anything; the last time: {death}"
                ) from death
            suspects, given_up = flight.died(str(death))
            say(
                f"the engine died with {suspects} requests in flight ({death}); it is started again"
                + (f", {flight.limit} at a time" if flight.limit else "")
            )
            yield from given_up
            if given_up:
                deaths_in_a_row, given_up_in_a_row = 0, given_up_in_a_row + 1
            if given_up_in_a_row > MOST_GIVEN_UP_IN_A_ROW:
                raise EngineDied(
                    f"the engine died of each of {given_up_in_a_row} requests; the last time: {death}"
                ) from death
        finally:
            close = getattr(answers, "close", None)
            if close:
                close()
        engine = restart()


@dataclass
class _Sent:
    """A request in flight, and which of its candidates it still lacks."""

    request: Request
    missing: list[int]
    deaths: int = 0
    positions: list[int] = field(default_factory=list)

    def again(self) -> Request:
        """Return the request for the candidates that are missing. Remembers which place has which candidate."""
        self.positions = list(self.missing)
        return replace(self.request, seeds=[self.request.seeds[index] for index in self.missing])


class Flight:
    """The requests of a stream, and which of them are in flight.

    Engines may pull from another thread than the one that takes their answers.
    """

    def __init__(self, requests: Iterable[Request | None]) -> None:
        self.limit: int | None = None  # of requests in flight; None: the engine's own
        self._source = iter(requests)
        self._pulling, self._lock = threading.Lock(), threading.Lock()
        self._sent: dict[str, _Sent] = {}
        self._again: deque[_Sent] = deque()
        self._life = 0
        self._answered_since = 0
        self._too_many: int | None = None  # in flight when the engine last died

    @property
    def depth(self) -> int:
        """How many requests are in flight."""
        return len(self._sent)

    def feed(self) -> Iterator[Request | None]:
        """Yield what a newly started engine is to do: first what the one before it left, then the rest."""
        with self._lock:
            self._life += 1
            life = self._life
        while True:
            with self._pulling:  # a dead engine's thread may still be pulling
                if life != self._life:
                    return
                if (waiting := self._next_again()) is not None:
                    request = waiting
                elif self._is_full():
                    request = None
                else:
                    try:
                        pulled = next(self._source)
                    except StopIteration:
                        return
                    request = pulled if pulled is None else self._send(_Sent(pulled, list(range(len(pulled.seeds)))))
            yield request

    def answered(self, completion: Completion) -> Completion:
        """Note an answer and return it with the index that its candidate has in the first request."""
        with self._lock:
            sent = self._sent[completion.request_id]
            index = sent.positions[completion.sample_index]
            sent.missing.remove(index)
            if not sent.missing:
                del self._sent[completion.request_id]
            self._answered_since += 1
            self._raise_limit()
        return completion if index == completion.sample_index else replace(completion, sample_index=index)

    def died(self, reason: str) -> tuple[int, list[Completion]]:
        """Put what was in flight back; return how much that was, and errors for a request that is given up."""
        with self._pulling, self._lock:
            self._life += 1
            suspects = list(self._sent.values())
            self._sent.clear()
            self._answered_since = 0
            for sent in suspects:
                sent.deaths += 1
            given_up: list[Completion] = []
            if len(suspects) == 1 and suspects[0].deaths > 1:
                [killer] = suspects
                text = f"the engine died of it twice: {reason}"
                given_up = [
                    Completion(killer.request.request_id, index, "", "error", error=text) for index in killer.missing
                ]
            else:
                self._again.extendleft(reversed(suspects))
            self._too_many = len(suspects)
            self.limit = max(1, len(suspects) // 2)
        return len(suspects), given_up

    def _raise_limit(self) -> None:
        """Let more into flight after a time without a death, but not as many as killed it before that time is long."""
        if self.limit is None or self._too_many is None:
            return
        if self._answered_since >= LIFT_AFTER * self._too_many:
            self.limit = self._too_many = None
        elif self._answered_since % (2 * self.limit) == 0:
            self.limit = max(self.limit, min((self.limit + self._too_many + 1) // 2, self._too_many - 1))

    def _next_again(self) -> Request | None:
        with self._lock:
            if not self._again or (self.limit is not None and len(self._sent) >= self.limit):
                return None
            sent = self._again.popleft()
            self._sent[sent.request.request_id] = sent
            return sent.again()

    def _is_full(self) -> bool:
        with self._lock:
            return bool(self._again) or (self.limit is not None and len(self._sent) >= self.limit)

    def _send(self, sent: _Sent) -> Request:
        with self._lock:
            self._sent[sent.request.request_id] = sent
            return sent.again()
