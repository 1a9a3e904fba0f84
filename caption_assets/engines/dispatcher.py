"""All that is in flight: requests go to an engine as long as it has room, answers come back as it finishes them.

One thread owns the queue: the caller's, while it waits for the next answer. What engines do on their threads arrives
there as events. A second thread reads the next request in advance, frames included, while the caller writes earlier
answers. Requests are sent only while the caller waits, so a killed process loses at most what the engine may hold.

An engine that dies is started again, and gets what it had not finished once more. Nothing says which request killed
it, so all in flight are suspects: after each death half as many may be in flight, the suspects first of all. A request
that kills the engine while it is alone, and was there at an earlier death, is given up. An engine that runs out of
memory finds the number it can hold in the same way. The number rises again as requests are answered.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from queue import SimpleQueue
from typing import Generic, TypeVar

from caption_assets.engines.protocol import Completion, Engine, EngineDied, EngineUnavailable, Request

NO_ANSWER = "the engine gave no answer"

MOST_GIVEN_UP_IN_A_ROW = 20
"""Requests given up without an answer in between. Every window of a clip may kill; more is a broken machine."""

LIFT_AFTER = 32
"""A number in flight that killed the engine is allowed again after this many times as many answers."""

JOIN_S = 10.0
"""How long closing waits for the thread that may be reading frames."""

Item = TypeVar("Item")
Asked = tuple[Item, Request | str]
"""What the caller knows an answer by, and the request, or the reason why there is none to send."""


@dataclass(eq=False)
class _Pending(Generic[Item]):
    """A request without all its answers. missing: indices of these candidates. deaths: of engines that held it."""

    item: Item
    request: Request
    missing: list[int]
    deaths: int = 0
    future: Future[None] | None = None


class Dispatcher(Generic[Item]):
    """Sends one stream of requests through an engine. Close it, so that nothing stays in flight.

    Args:
        engine: a loaded engine.
        restart: closes the engine, however dead, and returns a new one. It gets a sentence about the death, for a log.
            None: the first death ends the stream.
    """

    def __init__(self, engine: Engine, restart: Callable[[str], Engine] | None = None) -> None:
        self._engine, self._restart = engine, restart
        self._events: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._to_read: SimpleQueue[Iterator[Asked[Item]] | None] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="dispatcher", daemon=True)
        self._is_reading = False
        self._sources: deque[Iterator[Asked[Item]]] = deque()
        self._waiting: deque[_Pending[Item]] = deque()
        self._in_flight: dict[_Pending[Item], None] = {}
        self._ready: deque[tuple[Item, Completion]] = deque()
        self._death = ""  # of the engine, until it is started again
        self._life = 0  # of the engine: events of an earlier one do not count
        self._limit = inf  # of requests in flight, after a death
        self._deadly = 0  # requests in flight at the last death
        self._answers = 0  # since the last death
        self._given_up = 0  # requests, since the last answer

    @property
    def depth(self) -> int:
        """How many requests are in flight."""
        return len(self._in_flight)

    def answers(self, asked: Iterable[Asked[Item]]) -> Iterator[tuple[Item, Completion]]:
        """Yield a completion per seed of each request, with the request's item, in the order in which they finish.

        Every request is answered: an error stands for what the engine leaves out, for a request that killed it twice,
        and for a reason in place of a request.

        Args:
            asked: items and their requests, read on another thread, one ahead of what the engine has room for.

        Raises:
            EngineUnavailable: the engine cannot be had, and no request is to blame.
            EngineDied: it died and there is no restart, or it died of one request after the other.
        """
        self._sources.append(iter(asked))
        self._reader.start()
        try:
            while True:
                while self._ready:
                    yield self._ready.popleft()
                if self._death and self._restart:
                    self._engine, self._death = self._restart(self._death), ""
                if not (self._sources or self._waiting or self._in_flight):
                    return
                self._send()
                self._events.get()()
        finally:
            self.close()

    def follow_up(self, asked: Iterable[Asked[Item]]) -> None:
        """Ask for more because of an answer, before the next one is taken; it is sent before anything else."""
        self._sources.appendleft(iter(asked))

    def close(self) -> None:
        """Give up what is in flight and end the thread. Safe to call twice."""
        self._abandon()
        self._to_read.put(None)
        if self._reader.is_alive():
            self._reader.join(JOIN_S)

    # requests on their way out

    def _send(self) -> None:
        """Send what waits and fits, and have the next request read."""
        while self._waiting and self._has_room():
            self._submit(self._waiting.popleft())
        if self._sources and not self._waiting and not self._is_reading:
            self._is_reading = True
            self._to_read.put(self._sources[0])

    def _has_room(self) -> bool:
        return len(self._in_flight) < max(1, min(self._limit, self._engine.capacity))

    def _read(self) -> None:
        """Read requests, on the reader's thread."""
        while (source := self._to_read.get()) is not None:
            asked: Asked[Item] | BaseException | None
            try:
                asked = next(source, None)
            except BaseException as fault:
                asked = fault
            self._events.put(partial(self._take_read, source, asked))

    def _take_read(self, source: Iterator[Asked[Item]], asked: Asked[Item] | BaseException | None) -> None:
        self._is_reading = False
        if isinstance(asked, BaseException):
            raise asked
        if asked is None:
            self._sources.remove(source)
            return
        item, request = asked
        if isinstance(request, str):
            self._ready.append((item, Completion.failed("", 0, request)))
        elif request.seeds:
            self._waiting.append(_Pending(item, request, list(range(len(request.seeds)))))

    def _submit(self, pending: _Pending[Item]) -> None:
        self._in_flight[pending] = None
        life, indices = self._life, list(pending.missing)

        def reply(made: Completion) -> None:
            made = replace(made, sample_index=indices[made.sample_index])
            self._events.put(partial(self._take_answer, pending, life, made))

        try:
            seeds = [pending.request.seeds[index] for index in indices]
            future = self._engine.submit(replace(pending.request, seeds=seeds), reply)
        except Exception as fault:
            future = Future()
            future.set_exception(fault)
        pending.future = future
        future.add_done_callback(lambda ended: self._events.put(partial(self._take_end, pending, life, ended)))

    # answers on their way in

    def _take_answer(self, pending: _Pending[Item], life: int, completion: Completion) -> None:
        if life == self._life and completion.sample_index in pending.missing:
            self._given_up = 0
            self._answers += 1
            self._raise_limit()
            self._hand_out(pending, completion)

    def _take_end(self, pending: _Pending[Item], life: int, ended: Future[None]) -> None:
        """Note that the engine will say no more about a request."""
        if life != self._life:
            return
        fault = EngineDied("the engine was closed") if ended.cancelled() else ended.exception()
        if fault is None:
            self._fail(pending, NO_ANSWER)
        elif isinstance(fault, EngineDied) and not isinstance(fault, EngineUnavailable) and self._restart:
            self._bury(fault)
        else:
            raise fault

    def _fail(self, pending: _Pending[Item], reason: str) -> None:
        """Answer what a request lacks with an error."""
        for index in list(pending.missing):
            self._hand_out(pending, Completion.failed(pending.request.request_id, index, reason))

    def _hand_out(self, pending: _Pending[Item], completion: Completion) -> None:
        pending.missing.remove(completion.sample_index)
        if not pending.missing:
            self._in_flight.pop(pending, None)
        self._ready.append((pending.item, completion))

    # deaths

    def _bury(self, death: EngineDied) -> None:
        """Take back what a dead engine had not finished, and give up a request that is known to have killed it."""
        suspects = self._abandon()
        for pending in suspects:
            pending.deaths += 1
        self._answers, self._deadly, self._limit = 0, len(suspects), max(1, len(suspects) // 2)
        self._death = (
            f"the engine died with {self._deadly} requests in flight ({death}); it is started again, "
            f"{self._limit} at a time"
        )
        if len(suspects) == 1 and suspects[0].deaths > 1:
            self._given_up += 1
            if self._given_up > MOST_GIVEN_UP_IN_A_ROW:
                raise EngineDied(
                    f"the engine died of each of {self._given_up} requests; the last time: {death}"
                ) from death
            self._fail(suspects[0], f"the engine died of it twice: {death}")
        else:
            self._waiting.extendleft(reversed(suspects))

    def _abandon(self) -> list[_Pending[Item]]:
        """Take everything out of flight, and return it in the order in which it was sent."""
        self._life += 1
        abandoned = list(self._in_flight)
        self._in_flight.clear()
        for pending in abandoned:
            if pending.future:
                pending.future.cancel()
        return abandoned

    def _raise_limit(self) -> None:
        """Let more into flight after a time without a death, but not as many as killed it before that time is long."""
        if self._answers >= LIFT_AFTER * self._deadly:
            self._limit = inf
        elif self._answers % (2 * self._limit) == 0:
            self._limit = max(self._limit, min((self._limit + self._deadly + 1) // 2, self._deadly - 1))


def stream(engine: Engine, requests: Iterable[Request]) -> Iterator[Completion]:
    """Yield what an engine answers, as `Dispatcher.answers` does; its death ends the stream."""
    with closing(Dispatcher[None](engine)) as dispatcher:
        for _, completion in dispatcher.answers((None, request) for request in requests):
            yield completion
