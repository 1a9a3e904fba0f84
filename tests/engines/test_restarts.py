"""An engine that dies costs nothing but time: everything else is answered, once, and only the killer is given up."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caption_assets.engines.protocol import Completion, EngineDied, EngineUnavailable, Request
from caption_assets.engines.restarts import MOST_DEATHS_IN_A_ROW, Flight, stream_with_restarts

Deadly = Callable[[list[str]], bool]


def requests(n: int, candidates: int = 1) -> list[Request]:
    return [Request(f"r{i}", "caption", (), [100 * i + k for k in range(candidates)], 10) for i in range(n)]


class Mortal:
    """Holds up to `capacity` requests, answers the oldest, and dies when `deadly` says so of those it holds."""

    def __init__(self, capacity: int, deadly: Deadly, lives: list["Mortal"]):
        self.most_in_flight, self.closed = 0, False
        self._capacity, self._deadly, self._lives = capacity, deadly, lives
        lives.append(self)

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Completion]:
        source, held, ended = iter(requests), list[Request](), False
        while True:
            while not ended and len(held) < self._capacity:
                try:
                    request = next(source)
                except StopIteration:
                    ended = True
                    break
                if request is None:
                    assert held, "nothing was said to be ready while nothing was in flight"
                    break
                held.append(request)
                self.most_in_flight = max(self.most_in_flight, len(held))
                if self._deadly([r.request_id for r in held]):
                    raise EngineDied("CUDA out of memory")
            if not held:
                return
            request = held.pop(0)
            for index, seed in enumerate(request.seeds):
                yield Completion(request.request_id, index, f"seed {seed}", "stop")

    def close(self) -> None:
        self.closed = True


def answers(n: int, capacity: int, deadly: Deadly, candidates: int = 1) -> tuple[dict[str, str | None], list[Mortal]]:
    """The error of each request, or None; asserts that every candidate is answered once, with its own seed."""
    lives: list[Mortal] = []

    def start() -> Mortal:
        if lives:
            lives[-1].close()
        return Mortal(capacity, deadly, lives)

    given_requests = requests(n, candidates)
    got = list(stream_with_restarts(start(), start, Flight(given_requests), lambda _: None))
    assert Counter((c.request_id, c.sample_index) for c in got) == Counter(
        (r.request_id, k) for r in given_requests for k in range(candidates)
    )
    for c in got:
        if c.error is None:
            assert c.text == f"seed {100 * int(c.request_id[1:]) + c.sample_index}"
    return {c.request_id: c.error for c in got}, lives


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 40), capacity=st.integers(1, 16), candidates=st.integers(1, 3),
    killers=st.sets(st.integers(0, 39), max_size=4),
)  # fmt: skip
def test_only_the_requests_that_kill_are_given_up(n: int, capacity: int, candidates: int, killers: set[int]) -> None:
    names = {f"r{i}" for i in killers if i < n}
    errors, _ = answers(n, capacity, lambda held: not names.isdisjoint(held), candidates)
    assert {name for name, error in errors.items() if error} == names
    assert all("died of it twice: CUDA out of memory" in str(errors[name]) for name in names)


@pytest.mark.parametrize("room", [1, 3, 7, 13])
def test_an_engine_without_memory_for_all_finds_the_number_it_can_hold(room: int) -> None:
    errors, lives = answers(400, 16, lambda held: len(held) > room)
    assert set(errors.values()) == {None}
    assert all(life.closed for life in lives[:-1])
    assert len(lives) <= 8, "the number is remembered"
    assert max(life.most_in_flight for life in lives[-2:]) >= room - 1


def test_a_clip_whose_every_window_kills_does_not_keep_the_others_from_being_answered() -> None:
    deadly = {f"r{i}" for i in range(15)}
    errors, _ = answers(40, 16, lambda held: not deadly.isdisjoint(held))
    assert {name for name, error in errors.items() if error} == deadly


def test_a_machine_on_which_everything_kills_is_given_up() -> None:
    with pytest.raises(EngineDied, match="died of each of"):
        answers(100, 4, lambda held: True)


def test_a_transient_death_costs_one_restart_and_nearly_the_full_number_comes_back() -> None:
    died: list[int] = []

    def once(held: list[str]) -> bool:
        if "r20" in held and not died:
            died.append(1)
            return True
        return False

    errors, lives = answers(100, 8, once)
    assert set(errors.values()) == {None}
    assert [life.most_in_flight for life in lives] == [8, 7]


def test_candidates_that_were_answered_are_not_made_again() -> None:
    asked: list[tuple[str, list[int]]] = []
    deaths: list[int] = []

    class DiesHalfWay:
        def stream(self, requests: Iterable[Request | None]) -> Iterator[Completion]:
            for request in requests:
                assert request is not None
                asked.append((request.request_id, list(request.seeds)))
                for index, seed in enumerate(request.seeds):
                    if seed == 2 and not deaths:
                        deaths.append(1)
                        raise EngineDied("gone")
                    yield Completion(request.request_id, index, f"seed {seed}", "stop")

        def close(self) -> None:
            pass

    got = list(stream_with_restarts(DiesHalfWay(), DiesHalfWay, Flight(requests(1, 4)), lambda _: None))
    assert [(c.sample_index, c.text) for c in got] == [(k, f"seed {k}") for k in range(4)]
    assert asked == [("r0", [0, 1, 2, 3]), ("r0", [2, 3])]


def test_an_engine_that_never_answers_is_not_restarted_for_ever() -> None:
    lives: list[Mortal] = []

    def start() -> Mortal:
        return Mortal(5000, lambda held: True, lives)

    said: list[str] = []
    # each request is alone when it kills, but a new one comes after it: only the ones given up count as progress
    errors = [c.error for c in stream_with_restarts(start(), start, Flight(requests(2)), said.append)]
    assert len(errors) == 2 and all(errors)

    class Stillborn(Mortal):
        def stream(self, requests: Iterable[Request | None]) -> Iterator[Completion]:
            raise EngineDied("no CUDA device")
            yield

    def stillborn() -> Stillborn:
        return Stillborn(1, lambda held: True, lives)

    with pytest.raises(EngineDied, match=f"died {MOST_DEATHS_IN_A_ROW + 1} times .* no CUDA device"):
        list(stream_with_restarts(stillborn(), stillborn, Flight(requests(3)), said.append))


def test_an_engine_that_cannot_be_had_is_not_started_again() -> None:
    class Locked(Mortal):
        def stream(self, requests: Iterable[Request | None]) -> Iterator[Completion]:
            next(iter(requests))
            raise EngineUnavailable("401: check OPENAI_API_KEY")
            yield

    with pytest.raises(EngineUnavailable, match="401"):
        list(stream_with_restarts(Locked(1, bool, []), pytest.fail, Flight(requests(3)), pytest.fail))


def test_a_dead_engines_thread_that_still_pulls_takes_nothing_away() -> None:
    pulled: list[Request | None] = []
    release = threading.Event()

    class Haunted:
        def __init__(self) -> None:
            self.first = not threads

        def stream(self, requests: Iterable[Request | None]) -> Iterator[Completion]:
            source = iter(requests)
            if self.first:
                next(source)

                def pull() -> None:
                    release.wait(5)
                    pulled.extend(source)

                threads.append(threading.Thread(target=pull))
                threads[0].start()
                raise EngineDied("gone")
            release.set()
            threads[0].join(5)
            for request in source:
                assert request is not None
                yield Completion(request.request_id, 0, "", "stop")

        def close(self) -> None:
            pass

    threads: list[threading.Thread] = []
    got = list(stream_with_restarts(Haunted(), Haunted, Flight(requests(3)), lambda _: None))
    assert [c.request_id for c in got] == ["r0", "r1", "r2"]
    assert pulled == []
