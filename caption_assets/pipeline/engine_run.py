"""What a stage asks of its engine: answers into the ledger as they come, and how fast they came."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from caption_assets.captioning.stream import Row
from caption_assets.engines.dispatcher import Dispatcher
from caption_assets.engines.loaded import LoadedEngines
from caption_assets.engines.protocol import EngineSpec
from caption_assets.pipeline.stage_run import StageRun, commit_as_they_come


def ask_engine(
    engine: LoadedEngines,
    spec: EngineSpec,
    totals: Mapping[StageRun, int],
    table: str,
    rows_of: Callable[[Dispatcher[Any]], Iterable[tuple[str, Row]]],
) -> None:
    """Have the engine answer what all batches of a run lack, through one queue; commit every row, report the pace.

    Args:
        engine: loaded only where there is something to ask.
        spec: of the model.
        totals: the stage of each batch that asks for something, and how many rows that makes.
        table: where the rows go.
        rows_of: yields the batch and the row of each answer of a dispatcher.
    """
    if not totals:
        return
    stages = {run.batch: run for run in totals}
    with engine.dispatcher(spec, next(iter(totals)).log.warning) as dispatcher:
        pace = Pace()

        def results() -> Iterator[tuple[StageRun, dict[str, list[Row]]]]:
            for batch, row in rows_of(dispatcher):
                pace.note(row)
                yield stages[batch], {table: [row]}

        commit_as_they_come(results(), totals, journaled=True, pace=lambda: pace.line(dispatcher.depth))
    for run in totals:
        run.metadata |= pace.metadata()


class Pace:
    """How fast an engine answers, from when it is loaded to the last answer."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._seconds = 0.0
        self._answers = self._prompt_tokens = self._output_tokens = 0

    def note(self, row: Row) -> None:
        """Count the row of an answer."""
        self._seconds = max(time.monotonic() - self._begun, 1e-3)
        self._answers += 1
        self._prompt_tokens += int(str(row["prompt_tokens"] or 0))
        self._output_tokens += int(str(row["output_tokens"] or 0))

    def line(self, in_flight: int) -> str:
        """Return what a line of progress says of the engine; there has been an answer."""
        return f"; {in_flight} in flight, {self._output_tokens / self._seconds:.0f} output tokens/s"

    def metadata(self) -> dict[str, float | int]:
        """Return tokens, and answers and tokens a second; nothing where there was no answer."""
        if not self._answers:
            return {}
        return {
            "answers per second": round(self._answers / self._seconds, 3),
            "output tokens per second": round(self._output_tokens / self._seconds, 1),
            "prompt tokens": self._prompt_tokens,
            "output tokens": self._output_tokens,
            "seconds in the engine": round(self._seconds, 2),
        }
