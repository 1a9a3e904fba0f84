"""`caption-assets run`: files into a batch, the main job over it, and a word on how it went."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import click
import dagster as dg
from dagster._core.instance import InstanceRef
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from caption_assets.cli.output import FAILED, echo_json
from caption_assets.engines.registry import choose_engine
from caption_assets.ledger.database import Ledger
from caption_assets.orchestration.partitions import video_batches
from caption_assets.pipeline.report import Note, Problem, notes, problems, run_summary
from caption_assets.pipeline.stage_run import StageListener, listeners
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.uploads.batches import find_files
from caption_assets.uploads.link import UploadError, bring_in, plan_upload

DAGSTER_YAML = "telemetry:\n  enabled: false\n"

NO_CAPTURE = {
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
}
"""Output of a command belongs to its terminal. Dagster's capture of it starts processes that outlive a Ctrl-C."""

INTERRUPTED = "DagsterExecutionInterruptedError"


class PlainProgress(StageListener):
    """A line when a stage ends: for files, pipes and logs."""

    def progress(self, asset: str, batch: str, done: int, total: int) -> None:
        """Say nothing in between."""

    def finished(self, asset: str, batch: str, summary: str, seconds: float) -> None:
        """Print what the stage did."""
        click.echo(f"{asset:18} {summary} ({seconds:.1f} s)", err=True)


class BarProgress(PlainProgress):
    """A bar for the stage at work: for terminals."""

    def __init__(self, bar: Progress):
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def progress(self, asset: str, batch: str, done: int, total: int) -> None:
        """Move the bar of the stage."""
        if asset not in self._tasks:
            self._tasks[asset] = self._bar.add_task(asset, total=total)
        self._bar.update(self._tasks[asset], completed=done, total=total)

    def finished(self, asset: str, batch: str, summary: str, seconds: float) -> None:
        """Replace the bar by what the stage did."""
        if asset in self._tasks:
            self._bar.remove_task(self._tasks.pop(asset))
        self._bar.console.print(f"{asset:18} {summary} ({seconds:.1f} s)", highlight=False)


def run_batch(
    paths: Sequence[Path],
    batch: str | None,
    engine: str,
    root: RootFolder,
    settings: Settings,
    *,
    as_json: bool = False,
) -> int:
    """Caption `paths` as one batch, and print what became of it; return the exit status.

    Returns 0 where every window has its caption and 1 where something failed; the ledger says what.

    Raises:
        UploadError: a path does not exist, or holds no file.
        SettingsError: a setting cannot be followed on this machine.
        EngineUnavailable: the engine cannot run here.
    """
    chosen = choose_engine(engine)
    upload = plan_upload(paths, root.uploads, batch)
    new_files = bring_in(upload, root.uploads)
    if not find_files(root.uploads, upload.batch):
        raise UploadError(f"{', '.join(map(str, paths))}: there is no file in it to caption")
    name = upload.batch
    if not as_json:
        click.echo(f"batch {name}: {new_files} new files in {root.uploads / name}, engine {chosen.name}", err=True)
    result = execute(name, engine, root, settings, quiet=as_json)
    if any(fault.endswith(INTERRUPTED) for fault in faults_of(result)):
        raise KeyboardInterrupt
    return _report(Ledger(root), root, name, result, as_json=as_json)


def execute(
    batch: str,
    engine: str,
    root: RootFolder,
    settings: Settings,
    *,
    quiet: bool,
    assets: Sequence[str] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run the main job on a batch, or only some of its assets."""
    from caption_assets.definitions import defs  # reads caption_assets.toml, so only when a run starts

    config = {
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        "resources": {
            "root": {"config": {"path": str(root.path)}},
            "engine": {"config": {"engine": engine}},
            "settings": {"config": settings.model_dump()},
        },
    }
    job = defs.resolve_job_def("caption_batch")
    with _instance_with(batch, dagster_home(root)) as instance:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description:18}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
            listener = None if quiet else BarProgress(bar) if console.is_terminal else PlainProgress()
            if listener:
                listeners.append(listener)
            try:
                logging.getLogger("dagster").setLevel(logging.CRITICAL)
                return job.execute_in_process(
                    partition_key=batch,
                    instance=instance,
                    run_config=config,
                    raise_on_error=False,
                    asset_selection=None if assets is None else [dg.AssetKey(name) for name in assets],
                )
            finally:
                if listener:
                    listeners.remove(listener)


def _instance_with(batch: str, home: Path) -> dg.DagsterInstance:
    """Return the Dagster instance of `home`, with `batch` as a partition.

    Dagster makes its databases when they are first used, and two processes that do so at once break each other.
    """
    with FileLock(home / "storage" / "caption_assets.lock"):
        instance = dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=NO_CAPTURE))
        if batch not in instance.get_dynamic_partitions(str(video_batches.name)):
            instance.add_dynamic_partitions(str(video_batches.name), [batch])
    return instance


def dagster_home(root: RootFolder) -> Path:
    """Return the folder of Dagster's own records: DAGSTER_HOME, else `.dagster` in the root folder."""
    if home := os.environ.get("DAGSTER_HOME"):
        return Path(home).expanduser().absolute()
    home_folder = root.path / ".dagster"
    home_folder.mkdir(parents=True, exist_ok=True)
    config = home_folder / "dagster.yaml"
    if not config.exists():
        config.write_text(DAGSTER_YAML, encoding="utf-8")
    return home_folder


def _report(ledger: Ledger, root: RootFolder, batch: str, result: dg.ExecuteInProcessResult, *, as_json: bool) -> int:
    with ledger.session() as session:
        assets = run_summary(session, result.run_id, batch)
        failed = problems(session, batch)
        odd = notes(session, batch)
    faults = faults_of(result)
    checks = [
        event.asset_check_evaluation_data
        for event in result.all_events
        if event.event_type_value == "ASSET_CHECK_EVALUATION"
    ]
    failed_checks = [check.check_name for check in checks if not check.passed]
    exports = root.exports(batch)
    if as_json:
        echo_json(
            {
                "batch": batch,
                "run_id": result.run_id,
                "ok": result.success and not failed and not failed_checks,
                "assets": assets,
                "problems": failed,
                "notes": odd,
                "failed_checks": failed_checks,
                "faults": faults,
                "exports": sorted(str(path) for path in exports.glob("*")),
            }
        )
    else:
        _print_report(failed, odd, failed_checks, faults, exports)
    return 0 if result.success and not failed and not failed_checks else FAILED


def _print_report(
    failed: Sequence[Problem], odd: Sequence[Note], failed_checks: Sequence[str], faults: Sequence[str], exports: Path
) -> None:
    for note in odd:
        click.echo(f"note: {note.path!r}: {note.error}", err=True)
    for problem in failed:
        click.echo(f"failed: {problem.what} {problem.name!r}: {problem.error}", err=True)
    for check in failed_checks:
        click.echo(f"failed: asset check {check}", err=True)
    for fault in faults:
        click.echo(f"failed: {fault}", err=True)
    if not faults:
        click.echo(f"captions: {exports / 'captions.jsonl'} and captions.parquet")


def faults_of(result: dg.ExecuteInProcessResult) -> list[str]:
    """Return a line for each exception that stopped a step or the run: the innermost cause says what happened."""
    lines = []
    for event in result.all_events:
        data = event.event_specific_data
        error = getattr(data, "error", None)
        if not event.is_failure or error is None:
            continue
        while error.cause is not None:
            error = error.cause
        lines.append(f"{event.step_key or 'run'}: {error.message.strip()}")
    return lines
