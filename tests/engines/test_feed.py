"""Requests through an engine's feed: lazily, bounded, and never stuck."""

import threading
import time
from collections.abc import Iterator

import pytest

from caption_assets.engines.feed import Feed
from caption_assets.engines.protocol import Completion, EngineDied, Request


def request(name: str, n: int = 1) -> Request:
    return Request(name, "caption", [], list(range(n)), 9)


def answered(asked: Request, feed: Feed) -> None:
    for index in range(len(asked.seeds)):
        feed.answer(asked, Completion(asked.request_id, index, "text", "stop"))


def later(asked: Request, feed: Feed) -> None:
    threading.Timer(0.01, answered, (asked, feed)).start()


def ids(feed: Feed) -> list[str]:
    return [completion.request_id for completion in feed.completions()]


def test_every_candidate_comes_once():
    feed = Feed([request("a", 2), request("b", 0), request("c", 3)], later, lambda: 2)
    assert sorted(ids(feed)) == ["a"] * 2 + ["c"] * 3


def test_no_more_requests_are_pulled_than_may_be_in_flight():
    sent: list[Request] = []
    feed = Feed((request(str(i)) for i in range(9)), lambda asked, _: sent.append(asked), lambda: 3)
    stream = feed.completions()
    waiting = threading.Thread(target=lambda: [next(stream) for _ in range(2)])
    waiting.start()
    time.sleep(0.1)
    assert len(sent) == 3
    answered(sent[1], feed)
    time.sleep(0.1)
    assert len(sent) == 4
    answered(sent[0], feed)
    waiting.join(5)
    stream.close()
    assert len(sent) <= 5


def test_none_waits_for_the_caller_to_take_a_completion():
    """A second stage is ready only when the caller has seen the first."""
    seen: list[str] = []

    def requests() -> Iterator[Request | None]:
        yield request("first")
        while "first" not in seen:
            yield None
        yield request("second")

    for completion in Feed(requests(), later, lambda: 8).completions():
        time.sleep(0.05)  # the feed must not ask again before this is done
        seen.append(completion.request_id)
    assert seen == ["first", "second"]


def test_none_with_nothing_in_flight_is_a_fault_and_no_wait_for_ever():
    with pytest.raises(RuntimeError, match="nothing is in flight"):
        ids(Feed([None], later, lambda: 1))


def test_what_the_requests_raise_reaches_the_caller():
    def requests() -> Iterator[Request]:
        yield request("a")
        raise KeyError("frames")

    with pytest.raises(KeyError):
        ids(Feed(requests(), later, lambda: 1))


def test_a_dead_engine_ends_the_stream_after_what_it_had_answered():
    def send(asked: Request, feed: Feed) -> None:
        if asked.request_id == "0":
            answered(asked, feed)
        else:
            feed.fail(EngineDied("gone"))

    stream = Feed((request(str(i)) for i in range(9)), send, lambda: 4).completions()
    assert next(stream).request_id == "0"
    with pytest.raises(EngineDied, match="gone"):
        next(stream)


def test_closing_gives_up_what_is_in_flight():
    feed = Feed((request(str(i)) for i in range(99)), lambda asked, feed: None, lambda: 4)
    stream = feed.completions()
    threading.Timer(0.1, feed.answer, (request("x"), Completion("x", 0, "", "stop"))).start()
    threading.Timer(0.2, feed.fail, (TimeoutError("still waiting"),)).start()
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        next(stream)
    stream.close()
    assert time.monotonic() - started < 5
    assert not any(thread.name == "engine-feed" and thread.is_alive() for thread in threading.enumerate())
