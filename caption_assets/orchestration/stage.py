"""What every asset does around its own work: a row of `runs`, and the metadata of its materialization."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from caption_assets.ledger.store import LedgerError
from caption_assets.orchestration.resources import RootResource
from caption_assets.pipeline.stage_run import StageRun, listeners


@contextmanager
def stage(
    context: dg.AssetExecutionContext, root: RootResource, asset: str, batch: str, unit: str
) -> Iterator[StageRun]:
    """Run the body as one stage: its counts become a row of `runs` and metadata of the materialization.

    An exception is recorded as a failed run and raised again: data faults are rows, what comes here is a programming
    fault or a broken machine.
    """
    root.hold(context.partition_keys)
    run_id, attempt = context.run.run_id, context.retry_number + 1
    run = StageRun(root.folder, root.ledger, asset, batch, run_id, context.log, attempt)
    try:
        yield run
    except BaseException as fault:
        try:
            run.commit([run.run_row("failed", f"{type(fault).__name__}: {fault}"[:2000])])
        except (LedgerError, OSError) as second:
            context.log.error(f"{batch}: the failed run could not be recorded: {second}")
        raise
    run.commit([run.run_row("partial" if run.failed else "ok")])
    context.log.info(f"{batch}: {run.summary(unit)} in {run.seconds:.1f} s")
    for listener in listeners:
        listener.finished(asset, batch, run.summary(unit), run.seconds)
    context.add_asset_metadata(
        {
            "summary": run.summary(unit),
            "expected": run.expected,
            "new": run.new,
            "reused": run.reused,
            "failed": run.failed,
            "seconds": round(run.seconds, 2),
            **run.metadata,
        },
        partition_key=batch,
    )
