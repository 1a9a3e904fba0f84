"""Places in the core's cache of encoded frames."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from caption_assets.engines.encoder_room import EncoderRoom


class Guests:
    """Requests that hold a place until they are told to leave."""

    def __init__(self, tokens: int):
        self.room, self.inside = EncoderRoom(tokens), set[str]()
        self.leave: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, tokens: int, *, candidates: int = 1, frames: str | None = None) -> None:
        self.leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._stay(name, frames or name, tokens, candidates))
        await self.settle()

    async def go(self, name: str) -> None:
        self.leave[name].set()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def _stay(self, name: str, frames: str, tokens: int, candidates: int) -> None:
        async with self.room.hold(frames, tokens, candidates):
            self.inside.add(name)
            await self.leave[name].wait()
        self.inside.discard(name)


def play(story: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 10))


def test_new_windows_do_not_wait():
    async def story() -> None:
        guests = Guests(100)
        for number in range(5):
            await guests.come(str(number), 60)
        assert len(guests.inside) == 5

    play(story())


@pytest.mark.parametrize("again", [{"candidates": 2}, {"frames": "seen before"}])
def test_with_one_that_repeats_only_as_many_as_fit(again: dict[str, Any]):
    async def story() -> None:
        guests = Guests(100)
        await guests.come("seen before", 50)
        await guests.go("seen before")
        await guests.come("repeats", 50, **again)
        await guests.come("fits", 50)
        await guests.come("waits", 10)
        assert guests.inside == {"repeats", "fits"}
        await guests.go("repeats")
        assert guests.inside == {"fits", "waits"}

    play(story())


def test_one_that_repeats_waits_for_new_ones_and_is_not_overtaken():
    async def story() -> None:
        guests = Guests(100)
        await guests.come("first", 60)
        await guests.come("repeats", 60, candidates=2)
        await guests.come("later", 10)
        assert guests.inside == {"first"}
        await guests.go("first")
        assert guests.inside == {"repeats", "later"}

    play(story())


def test_one_that_is_too_large_comes_in_alone():
    async def story() -> None:
        guests = Guests(100)
        await guests.come("small", 10, candidates=2)
        await guests.come("large", 500, candidates=2)
        assert guests.inside == {"small"}
        await guests.go("small")
        assert guests.inside == {"large"}

    play(story())


@pytest.mark.parametrize("cancelled", ["inside", "waiting"])
def test_one_that_is_cancelled_leaves_its_place(cancelled: str):
    async def story() -> None:
        guests = Guests(100)
        await guests.come("inside", 100, candidates=2)
        await guests.come("waiting", 100, candidates=2)
        await guests.come("next", 100, candidates=2)
        guests.tasks[cancelled].cancel()
        await guests.settle()
        await guests.go("inside" if cancelled == "waiting" else "waiting")
        assert "next" in guests.inside

    play(story())
