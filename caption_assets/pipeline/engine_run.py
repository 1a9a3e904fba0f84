"""What a stage asks of its engine: answers into the ledger as they come, and how fast they came."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from caption_assets.captioning.pace import Pace
from caption_assets.captioning.stream import Row, Stream
from caption_assets.engines.loaded import LoadedEngines
from caption_assets.engines.protocol import EngineSpec
from caption_assets.pipeline.stage_run import StageRun, commit_as_they_come


def ask_engine(
    engine: LoadedEngines,
    spec: EngineSpec,
    totals: Mapping[StageRun, int],
    table: str,
    rows_of: Callable[[Stream], Iterable[tuple[str, Row]]],
) -> None:
    """Have the engine answer what all batches of a run lack, through one queue; journal and commit every row.

    totals: the stage of each batch that asks for something, and how many rows that makes. Without any, no engine is
    loaded. table: where the rows go. rows_of: yields the batch and the row of each answer of the stream it is given.
    """
    if not totals:
        return
    stages = {run.batch: run for run in totals}
    stream = engine.stream(spec, next(iter(totals)).log.warning)
    pace = Pace()

    def results() -> Iterator[tuple[StageRun, dict[str, list[Row]]]]:
        for batch, row in rows_of(stream):
            pace.note(row)
            yield stages[batch], {table: [row]}

    commit_as_they_come(results(), totals, journaled=True, pace=lambda: pace.line(stream.depth))
    for run in totals:
        run.metadata |= pace.metadata()
