"""How many windows a core that must read prompts whole may hold the frames of.

vLLM reads only the words before a video while its cache of encoded frames is full: on a CPU it dies of that (see
`CPU_DEFAULTS`). As long as every window is new, the tokens of a step bound the frames in that cache as well. Further
candidates of a window and second stages escape that bound: the prefix cache has most of their prompt, and their frames
still take a place.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class EncoderRoom:
    """Lets requests in, in their order, while their tokens fit the core's cache. For one event loop."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._held = self._repeats = 0
        self._seen: set[str] = set()
        self._turn = asyncio.Lock()  # in order: else many small requests would keep out a large one
        self._left = asyncio.Event()

    @asynccontextmanager
    async def hold(self, frames: str, tokens: int, candidates: int) -> AsyncIterator[None]:
        """Wait for a place, and keep it for the block. frames: their name. tokens: of the prompt, frames included."""
        repeats = candidates > 1 or frames in self._seen  # so that the prefix cache may have the prompt
        self._seen.add(frames)
        async with self._turn:
            while self._held and (repeats or self._repeats) and self._held + tokens > self._tokens:
                self._left.clear()
                await self._left.wait()
            self._held += tokens
            self._repeats += repeats
        try:
            yield
        finally:
            self._held -= tokens
            self._repeats -= repeats
            self._left.set()
