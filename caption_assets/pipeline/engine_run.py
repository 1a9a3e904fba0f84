"""What a stage asks of its engine: answers into the ledger as they come, and how fast they came."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from caption_assets.engines.dispatcher import Dispatcher
from caption_assets.engines.loaded import LoadedEngines
from caption_assets.engines.protocol import EngineSpec
from caption_assets.ledger.schema import Generated
from caption_assets.pipeline.stage_run import StageRun, commit_as_they_come


def ask_engine(
    engine: LoadedEngines,
    spec: EngineSpec,
    totals: Mapping[StageRun, int],
    rows_of: Callable[[Dispatcher[Any]], Iterable[tuple[str, Generated]]],
) -> None:
    """Have the engine answer what all batches of a run lack, through one queue; commit every row, report the pace.

    Args:
        engine: loaded only where there is something to ask.
        spec: of the model.
        totals: the stage of each batch that asks for something, and how many rows that makes.
        rows_of: yields the batch and the row of each answer of a dispatcher.
    """
    if not totals:
        return
    stages = {run.batch: run for run in totals}
    with closing(engine.dispatcher(spec, next(iter(totals)).log.warning)) as dispatcher:
        pace = Pace()

        def results() -> Iterator[tuple[StageRun, list[Generated]]]:
            for batch, row in rows_of(dispatcher):
                pace.note(row)
                yield stages[batch], [row]

        def line() -> str:
            return f"; {dispatcher.depth} in flight, {pace.output_tokens / pace.seconds:.0f} output tokens/s"

        commit_as_they_come(results(), totals, pace=line)
    for run in totals:
        run.metadata |= pace.metadata()


@dataclass
class Pace:
    """How fast an engine answers, from when it was loaded to its last answer."""

    begun: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    answers: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0

    def note(self, row: Generated) -> None:
        """Count the row of an answer."""
        self.seconds = max(time.monotonic() - self.begun, 1e-3)
        self.answers += 1
        self.prompt_tokens += row.prompt_tokens or 0
        self.output_tokens += row.output_tokens or 0

    def metadata(self) -> dict[str, float | int]:
        """Return tokens, and answers and tokens a second; nothing where there was no answer."""
        if not self.answers:
            return {}
        return {
            "answers per second": round(self.answers / self.seconds, 3),
            "output tokens per second": round(self.output_tokens / self.seconds, 1),
            "prompt tokens": self.prompt_tokens,
            "output tokens": self.output_tokens,
            "seconds in the engine": round(self.seconds, 2),
        }
