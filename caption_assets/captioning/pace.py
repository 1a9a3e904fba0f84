"""How fast an engine answers: for the log, and for what the UI shows of a run."""

import time
from collections.abc import Callable

from caption_assets.ledger.schema import Generated


class Pace:
    """Counts answers from the first one asked for to the last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = self._last = clock()
        self._answers = self._prompt_tokens = self._output_tokens = 0

    def note(self, row: Generated) -> None:
        """Count the row of an answer."""
        self._last = self._clock()
        self._answers += 1
        self._prompt_tokens += row.prompt_tokens or 0
        self._output_tokens += row.output_tokens or 0

    def metadata(self) -> dict[str, float | int]:
        """Return tokens, and answers and tokens a second; nothing where there was no answer."""
        if not self._answers:
            return {}
        seconds = max(self._last - self._begun, 1e-3)
        return {
            "answers per second": round(self._answers / seconds, 3),
            "output tokens per second": round(self._output_tokens / seconds, 1),
            "prompt tokens": self._prompt_tokens,
            "output tokens": self._output_tokens,
            "seconds in the engine": round(seconds, 2),
        }

    def line(self, in_flight: int) -> str:
        """Return what a line of progress says of the engine."""
        seconds = max(self._last - self._begun, 1e-3)
        return f"; {in_flight} in flight, {self._output_tokens / seconds:.0f} output tokens/s"
