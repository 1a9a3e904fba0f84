"""Every request is answered exactly once, whatever the engine does, and an engine that dies costs nothing but time."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caption_assets.engines.dispatcher import LIFT_AFTER, MOST_GIVEN_UP_IN_A_ROW, NO_ANSWER, Dispatcher, stream
from caption_assets.engines.protocol import DONE, Completion, EngineDied, EngineUnavailable, Reply, Request

PATIENCE_S = 30.0
"""How long a test waits for what must come; nothing takes so long."""


def request(name: str, seeds: Iterable[int] = (0,)) -> Request:
    return Request(name, "caption", (), list(seeds), 10)


def requests(n: int, candidates: int = 1) -> list[Request]:
    return [request(f"r{i}", range(100 * i, 100 * i + candidates)) for i in range(n)]


def good(asked: Request) -> list[Completion]:
    return [Completion(asked.request_id, i, f"seed {seed}", "stop") for i, seed in enumerate(asked.seeds)]


def no_dispatcher_runs() -> bool:
    return not any(thread.name == "dispatcher" and thread.is_alive() for thread in threading.enumerate())


class Plain:
    """Answers while a request is submitted."""

    def __init__(self, capacity: int = 1, answers: Callable[[Request], list[Completion]] = good):
        self.capacity, self.asked, self._answers = capacity, list[Request](), answers

    def submit(self, request: Request, reply: Reply) -> Future[None]:
        self.asked.append(request)
        for completion in self._answers(request):
            reply(completion)
        return DONE

    def close(self) -> None:
        pass


class Silent(Plain):
    """Holds what it gets until the test answers."""

    def __init__(self, capacity: int = 1):
        super().__init__(capacity)
        self.held = list[tuple[Request, Reply, Future[None]]]()
        self.changed = threading.Condition()

    def submit(self, request: Request, reply: Reply) -> Future[None]:
        with self.changed:
            self.held.append((request, reply, Future()))
            self.changed.notify_all()
            return self.held[-1][2]

    def wait_for(self, n: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.held) >= n, PATIENCE_S)


class Aside:
    """Takes answers on a thread of its own, so that the test can look on."""

    def __init__(self, answers: Iterator[Any]):
        self.taken = list[Any]()
        self._thread = threading.Thread(target=lambda: self.taken.extend(answers), daemon=True)
        self._thread.start()

    def end(self) -> list[Any]:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return self.taken


# one life of an engine


def test_candidates_come_with_what_the_caller_knows_their_request_by() -> None:
    asked = [("first", request("a", (7, 8))), ("second", request("b", ())), ("third", request("c", (9,)))]
    answers = [(item, made.sample_index, made.text) for item, made in Dispatcher[str](Plain()).answers(asked)]
    assert answers == [("first", 0, "seed 7"), ("first", 1, "seed 8"), ("third", 0, "seed 9")]


def test_a_reason_in_place_of_a_request_is_an_error_and_is_not_sent() -> None:
    engine = Plain()
    asked = [("a", request("a")), ("b", "the file is gone"), ("c", request("c"))]
    errors = {item: made.error for item, made in Dispatcher[str](engine).answers(asked)}
    assert errors == {"a": None, "b": "the file is gone", "c": None}
    assert [sent.request_id for sent in engine.asked] == ["a", "c"]


def test_no_more_is_sent_than_the_engine_wants_and_one_request_more_is_read() -> None:
    engine, read = Silent(capacity=3), list[str]()

    def asked() -> Iterator[Request]:
        for one in requests(9):
            read.append(one.request_id)
            yield one

    aside = Aside(stream(engine, asked()))
    for answered in range(9):
        engine.wait_for(min(9, answered + 3))
        assert len(engine.held) <= answered + 3
        assert len(read) <= answered + 4
        sent, reply, future = engine.held[answered]
        reply(good(sent)[0])
        future.set_result(None)
    assert [made.request_id for made in aside.end()] == read


def test_the_next_request_is_read_while_the_caller_deals_with_an_answer() -> None:
    is_read = threading.Event()

    def asked() -> Iterator[Request]:
        yield request("a")
        is_read.set()
        yield request("b")

    for made in stream(Plain(), asked()):
        if made.request_id == "a":
            assert is_read.wait(PATIENCE_S)
            break
    assert no_dispatcher_runs()


def test_follow_ups_go_before_the_rest_and_are_read_when_they_are_sent() -> None:
    engine = Plain()
    dispatcher = Dispatcher[str](engine)
    seen = list[str]()

    def follow_up(name: str) -> Iterator[tuple[str, Request]]:
        assert name in seen
        yield f"{name} again", request(f"{name} again")

    for item, _ in dispatcher.answers((name, request(name)) for name in ("a", "b", "c", "d")):
        seen.append(item)
        if len(item) == 1:
            dispatcher.follow_up(follow_up(item))
    assert sorted(seen) == ["a", "a again", "b", "b again", "c", "c again", "d", "d again"]
    order = [sent.request_id for sent in engine.asked]
    assert all(order.index(f"{name} again") <= order.index(name) + 2 for name in "abcd"), "one was read in advance"


@pytest.mark.parametrize("after", [0, 2])
def test_what_reading_a_request_raises_reaches_the_caller_after_the_answers(after: int) -> None:
    def asked() -> Iterator[Request]:
        yield from requests(after)
        raise KeyError("frames")

    got = list[Completion]()
    with pytest.raises(KeyError, match="frames"):
        got.extend(stream(Plain(), asked()))
    assert no_dispatcher_runs()


def test_without_a_restart_a_death_ends_the_stream_after_what_was_answered() -> None:
    def answers(asked: Request) -> list[Completion]:
        if asked.request_id == "r1":
            raise EngineDied("gone")
        return good(asked)

    answered = stream(Plain(answers=answers), requests(9))
    assert next(answered).request_id == "r0"
    with pytest.raises(EngineDied, match="gone"):
        next(answered)


def test_a_fault_of_the_program_is_no_death() -> None:
    def answers(asked: Request) -> list[Completion]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(Dispatcher[int](Plain(answers=answers), pytest.fail).answers([(1, request("a"))]))


@pytest.mark.parametrize("how", ["the caller stops", "the caller fails", "the dispatcher is closed"])
def test_closing_gives_up_what_is_in_flight_and_ends_the_thread(how: str) -> None:
    engine = Silent(capacity=3)
    dispatcher = Dispatcher[int](engine)
    answers = dispatcher.answers(enumerate(requests(9)))
    threading.Thread(target=lambda: (engine.wait_for(3), engine.held[0][1](good(engine.held[0][0])[0]))).start()
    assert next(answers)[0] == 0
    if how == "the caller stops":
        answers.close()  # type: ignore[attr-defined]
    elif how == "the caller fails":
        with pytest.raises(OSError, match="full"):
            answers.throw(OSError("disk full"))  # type: ignore[attr-defined]
    else:
        dispatcher.close()
    assert [future.cancelled() for _, _, future in engine.held[1:3]] == [True, True]
    assert dispatcher.depth == 0
    assert no_dispatcher_runs()


def test_an_engine_that_somebody_else_closes_ends_the_stream() -> None:
    engine = Silent(capacity=2)
    threading.Thread(target=lambda: (engine.wait_for(2), [future.cancel() for _, _, future in engine.held])).start()
    with pytest.raises(EngineDied, match="the engine was closed"):
        list(stream(engine, requests(9)))


# restarts


class Mortal:
    """Answers the oldest request it holds, and dies when `deadly` says so of those it holds.

    waits_for: how many it holds before it gives its next answer, by the number of answers given; `ended` ends that.
    """

    def __init__(self, capacity: int, deadly: Callable[[list[str]], bool], waits_for: Callable[[int], int]):
        self.capacity, self.closed, self.most_in_flight, self.answered = capacity, False, 0, 0
        self.in_flight_after = dict[int, int]()
        self._deadly, self._waits_for = deadly, waits_for
        self._held = list[tuple[Request, Reply, Future[None]]]()
        self._changed = threading.Condition()
        self._is_dead = self._ended = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, request: Request, reply: Reply) -> Future[None]:
        with self._changed:
            future: Future[None] = Future()
            self._held.append((request, reply, future))
            self.most_in_flight = max(self.most_in_flight, len(self._held))
            if self._deadly([held.request_id for held, _, _ in self._held]):
                self._is_dead = True
            self._changed.notify_all()
            if self._is_dead:
                raise EngineDied("CUDA out of memory")
            return future

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        self._thread.join(PATIENCE_S)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.closed or self._is_dead or self._has_enough(), PATIENCE_S)
                if self.closed or self._is_dead:
                    return
                assert self._held, "nothing came"
                self.in_flight_after[self.answered] = len(self._held)
                request, reply, future = self._held.pop(0)
                self.answered += len(request.seeds)
            for completion in good(request):
                reply(completion)
            future.set_result(None)

    def _has_enough(self) -> bool:
        return bool(self._held) and (self._ended or len(self._held) >= self._waits_for(self.answered))


class Lives:
    """Engines one after the other. waits_for: see `Mortal`, of each life; the last counts for those that follow."""

    def __init__(
        self, capacity: int, deadly: Callable[[list[str]], bool], *waits_for: Callable[[int], int], candidates: int = 1
    ):
        self.engines, self.said, self.candidates = list[Mortal](), list[str](), candidates
        self._capacity, self._deadly, self._waits_for = capacity, deadly, waits_for or (lambda _: 1,)

    def restart(self, death: str) -> Mortal:
        self.said.append(death)
        self.engines[-1].close()
        return self.start()

    def start(self) -> Mortal:
        waits_for = self._waits_for[min(len(self.engines), len(self._waits_for) - 1)]
        self.engines.append(Mortal(self._capacity, self._deadly, waits_for))
        return self.engines[-1]

    def errors(self, n: int) -> dict[str, str | None]:
        """The error of each request, or None. Each candidate is answered once, with its own seed."""
        asked = requests(n, self.candidates)

        def source() -> Iterator[tuple[str, Request]]:
            yield from ((one.request_id, one) for one in asked)
            self.engines[-1].end()

        dispatcher = Dispatcher[str](self.start(), self.restart)
        try:
            got = list(dispatcher.answers(source()))
        finally:
            self.engines[-1].close()
        assert all(engine.closed for engine in self.engines)
        assert Counter((item, made.sample_index) for item, made in got) == Counter(
            (one.request_id, index) for one in asked for index in range(self.candidates)
        )
        for item, made in got:
            if made.error is None:
                assert made.text == f"seed {100 * int(item[1:]) + made.sample_index}"
        return {item: made.error for item, made in got}


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 40), capacity=st.integers(1, 16), candidates=st.integers(1, 3),
    killers=st.sets(st.integers(0, 39), max_size=4),
)  # fmt: skip
def test_only_the_requests_that_kill_are_given_up(n: int, capacity: int, candidates: int, killers: set[int]) -> None:
    names = {f"r{i}" for i in killers if i < n}
    errors = Lives(capacity, lambda held: not names.isdisjoint(held), candidates=candidates).errors(n)
    assert {name for name, error in errors.items() if error} == names
    assert all("died of it twice: CUDA out of memory" in str(errors[name]) for name in names)


@pytest.mark.parametrize("room", [1, 3, 7, 13])
def test_an_engine_without_memory_for_all_finds_the_number_it_can_hold(room: int) -> None:
    lives = Lives(16, lambda held: len(held) > room, lambda _: 16, lambda answered: room if answered == 90 else 1)
    if room == 1:  # two are tried again after so many answers
        lives = Lives(16, lambda held: len(held) > room)
    errors = lives.errors(400)
    assert set(errors.values()) == {None}
    assert len(lives.engines) <= 8, "the number is remembered"
    assert max(engine.most_in_flight for engine in lives.engines[-2:]) >= room


def test_a_death_halves_what_is_in_flight_until_the_full_number_comes_back() -> None:
    died = list[int]()

    def once(held: list[str]) -> bool:
        return "r20" in held and not died and not died.append(1)

    def waits_for(answered: int) -> int:
        return {0: 4, LIFT_AFTER * 8 - 20: 7, LIFT_AFTER * 8 + 10: 8}.get(answered, 1)

    lives = Lives(8, once, lambda _: 8, waits_for)
    assert set(lives.errors(LIFT_AFTER * 8 + 100).values()) == {None}
    before, after = lives.engines
    assert before.most_in_flight == 8
    assert after.in_flight_after[0] == 4
    assert max(n for answered, n in after.in_flight_after.items() if answered < LIFT_AFTER * 8) == 7
    assert after.most_in_flight == 8
    assert lives.said == [
        "the engine died with 8 requests in flight (CUDA out of memory); it is started again, 4 at a time"
    ]


def test_a_clip_whose_every_window_kills_does_not_keep_the_others_from_being_answered() -> None:
    deadly = {f"r{i}" for i in range(15)}
    errors = Lives(16, lambda held: not deadly.isdisjoint(held), lambda _: 16, lambda _: 1).errors(40)
    assert {name for name, error in errors.items() if error} == deadly


def test_a_machine_on_which_everything_kills_is_given_up() -> None:
    lives = Lives(4, lambda held: True)
    with pytest.raises(EngineDied, match=f"died of each of {MOST_GIVEN_UP_IN_A_ROW + 1} requests; .*out of memory"):
        lives.errors(100)
    assert no_dispatcher_runs()


def test_many_that_kill_are_no_broken_machine_as_long_as_others_are_answered() -> None:
    deadly = {f"r{2 * i}" for i in range(2 * MOST_GIVEN_UP_IN_A_ROW)}
    errors = Lives(1, lambda held: not deadly.isdisjoint(held)).errors(4 * MOST_GIVEN_UP_IN_A_ROW)
    assert {name for name, error in errors.items() if error} == deadly


def test_what_a_dead_engine_held_goes_before_what_was_read_in_advance() -> None:
    class Full:
        """Dies when it holds two requests and a third one waits: only then is it asked again whether it has room."""

        def __init__(self) -> None:
            self.held = list[Future[None]]()

        @property
        def capacity(self) -> int:
            if len(self.held) == 2 and not self.held[0].done():
                self.held[0].set_exception(EngineDied("gone"))
            return 2

        def submit(self, request: Request, reply: Reply) -> Future[None]:
            self.held.append(Future())
            return self.held[-1]

        def close(self) -> None:
            pass

    after = Plain()
    assert len(list(Dispatcher[int](Full(), lambda _: after).answers(enumerate(requests(5))))) == 5
    assert [asked.request_id for asked in after.asked] == ["r0", "r1", "r2", "r3", "r4"]


def test_candidates_that_were_answered_are_not_made_again() -> None:
    deaths = list[int]()

    def dies_half_way(asked: Request) -> list[Completion]:
        return good(asked)[: 2 if not deaths else None]

    class DiesHalfWay(Plain):
        def submit(self, request: Request, reply: Reply) -> Future[None]:
            done = super().submit(request, reply)
            if not deaths:
                deaths.append(1)
                raise EngineDied("gone")
            return done

    lives = [DiesHalfWay(answers=dies_half_way) for _ in range(2)]
    answers = Dispatcher[None](lives[0], lambda _: lives[1]).answers([(None, request("r", range(4)))])
    assert [(made.sample_index, made.text) for _, made in answers] == [(k, f"seed {k}") for k in range(4)]
    assert [[list(asked.seeds) for asked in life.asked] for life in lives] == [[[0, 1, 2, 3]], [[2, 3]]]


def test_an_engine_that_cannot_be_had_is_not_started_again() -> None:
    def locked(asked: Request) -> list[Completion]:
        raise EngineUnavailable("401: check OPENAI_API_KEY")

    with pytest.raises(EngineUnavailable, match="401"):
        list(Dispatcher[int](Plain(answers=locked), pytest.fail).answers(enumerate(requests(3))))


def test_an_engine_that_cannot_be_started_again_ends_the_stream_after_the_answers() -> None:
    def restart(death: str) -> Plain:
        assert "it is started again" in death
        raise EngineUnavailable("no GPU is left")

    def dies(asked: Request) -> list[Completion]:
        raise EngineDied("gone")

    with pytest.raises(EngineUnavailable, match="no GPU is left"):
        list(Dispatcher[int](Plain(answers=dies), restart).answers(enumerate(requests(3))))
    assert no_dispatcher_runs()


def test_what_a_dead_engine_says_later_does_not_count() -> None:
    haunted = Silent(capacity=2)

    def restart(death: str) -> Plain:
        assert "it is started again" in death
        for sent, reply, future in haunted.held:
            reply(Completion(sent.request_id, 0, "a voice from the grave", "stop"))
            if not future.done():
                future.set_exception(EngineDied("again"))
        return Plain()

    threading.Thread(target=lambda: (haunted.wait_for(2), haunted.held[0][2].set_exception(EngineDied("gone")))).start()
    answers = Dispatcher[int](haunted, restart).answers(enumerate(requests(5)))
    assert {item: made.text for item, made in answers} == {i: f"seed {100 * i}" for i in range(5)}


# anything at all

Deed = tuple[str, int]
DEEDS = ("answer", "answer backwards", "answer twice", "answer only", "die after", "refuse", "fail")


class Erratic:
    """Does to each request what its script says, each time it is submitted; then answers. threads 0: at once."""

    def __init__(self, capacity: int, threads: int, scripts: dict[str, list[Deed]]):
        self.capacity, self.closed, self._scripts = capacity, False, scripts
        self._pool = ThreadPoolExecutor(threads) if threads else None

    def submit(self, request: Request, reply: Reply) -> Future[None]:
        script = self._scripts[request.request_id]
        deed, number = script.pop(0) if script else ("answer", 0)
        if deed == "refuse":
            raise EngineDied("no")
        if self._pool is not None:
            return self._pool.submit(self._do, deed, number, request, reply)
        self._do(deed, number, request, reply)
        return DONE

    def _do(self, deed: str, number: int, request: Request, reply: Reply) -> None:
        answers = good(request)
        if deed == "fail":
            answers = [Completion.failed(request.request_id, i, "bad frames") for i in range(len(request.seeds))]
        elif deed == "answer backwards":
            answers.reverse()
        elif deed == "answer twice":
            answers *= 2
        elif deed in ("answer only", "die after"):
            answers = answers[:number]
        for completion in answers:
            reply(completion)
        if deed == "die after":
            raise EngineDied("gone")

    def close(self) -> None:
        self.closed = True
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


@settings(deadline=None, max_examples=200)
@given(
    scripts=st.lists(st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 3)), max_size=3), max_size=12),
    seeds=st.integers(1, 4), capacity=st.integers(1, 6), threads=st.integers(0, 3),
)  # fmt: skip
def test_every_request_is_answered_exactly_once_whatever_the_engine_does(
    scripts: list[list[Deed]], seeds: int, capacity: int, threads: int
) -> None:
    asked = requests(len(scripts), seeds)
    left = {f"r{i}": list(script) for i, script in enumerate(scripts)}
    lives, said = [Erratic(capacity, threads, left)], list[str]()

    def restart(death: str) -> Erratic:
        said.append(death)
        lives[-1].close()
        lives.append(Erratic(capacity, threads, left))
        return lives[-1]

    answers = list(Dispatcher[str](lives[0], restart).answers((one.request_id, one) for one in asked))
    lives[-1].close()
    assert Counter((item, made.request_id, made.sample_index) for item, made in answers) == Counter(
        (one.request_id, one.request_id, index) for one in asked for index in range(seeds)
    )
    may = {f"r{i}": {deed for deed, _ in script} for i, script in enumerate(scripts)}
    for item, made in answers:
        if made.error is None:
            assert made.text == f"seed {100 * int(item[1:]) + made.sample_index}"
        elif made.error == NO_ANSWER:
            assert "answer only" in may[item]
        elif made.error == "bad frames":
            assert "fail" in may[item]
        else:
            assert made.error.startswith("the engine died of it twice: ")
            assert may[item] & {"die after", "refuse"}
    assert len(said) == len(lives) - 1
    assert no_dispatcher_runs()
