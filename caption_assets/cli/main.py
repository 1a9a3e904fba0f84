"""`caption-assets`: the same graph from a shell, and questions to the ledger.

Exit status: 0 all done, 1 something failed (rows say what), 2 bad usage.
"""

import faulthandler
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caption_assets import __version__
from caption_assets.cli.output import (
    BAD_USAGE,
    FAILED,
    Refusal,
    echo_json,
    echo_table,
    open_ledger,
    settings_with,
)
from caption_assets.engines.protocol import EngineUnavailable
from caption_assets.engines.registry import AUTO, ENGINES, UnknownEngine
from caption_assets.exchange.delivery import ImportFault
from caption_assets.exchange.folder import ExportError
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import HISTORY
from caption_assets.ledger.store import LedgerError
from caption_assets.pipeline.reviewer import ReviewError
from caption_assets.root import RootError, RootFolder
from caption_assets.settings import Settings, SettingsError, engine_assignment
from caption_assets.uploads.batches import BatchNameError
from caption_assets.uploads.link import UploadError

if TYPE_CHECKING:
    from caption_assets.pipeline.report import BatchStatus

root_option = click.option("--root", type=str, default=None, help="Root folder; else CAPTION_ASSETS_ROOT, else ./data.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
batch_option = click.option("--batch", default=None, help="Only this batch.")


def set_option(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--set` and `--engine-arg`; it gets both as `assignments` of settings."""

    @click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a setting.")
    @click.option(
        "--engine-arg",
        "engine_args",
        multiple=True,
        metavar="NAME=VALUE",
        help="Set a field of the vLLM engine, as vLLM spells it: max-model-len=8192.",
    )
    @wraps(command)
    def with_assignments(assignments: tuple[str, ...], engine_args: tuple[str, ...], **rest: Any) -> None:
        command(assignments=(*assignments, *map(engine_assignment, engine_args)), **rest)

    return with_assignments


@click.group()
@click.version_option(__version__, prog_name="caption-assets")
def cli() -> None:
    """Captions for video, with a ledger of every caption and every decision."""


def main() -> None:
    """Run the command line; faults of the user are one line on standard error."""
    if sys.__stderr__ is not None and not faulthandler.is_enabled():
        faulthandler.enable(sys.__stderr__)  # who dies in native code says where
    try:
        cli.main(prog_name="caption-assets", standalone_mode=False)
    except click.ClickException as fault:
        fault.show()
        sys.exit(fault.exit_code)
    except (
        SettingsError,
        RootError,
        UploadError,
        BatchNameError,
        UnknownEngine,
        EngineUnavailable,
        ReviewError,
        ExportError,
        ImportFault,
    ) as fault:
        click.echo(f"Error: {fault}", err=True)
        sys.exit(BAD_USAGE)
    except LedgerError as fault:
        click.echo(f"Error: {fault}", err=True)
        sys.exit(FAILED)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; what was committed is kept, the same command goes on from there", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(FAILED)
    except OSError as fault:
        click.echo(f"Error: {fault.filename or 'input or output'}: {fault.strerror or fault}", err=True)
        sys.exit(FAILED)


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--batch", default=None, help="Name of the batch; by default made from the paths.")
@click.option("--engine", default="auto", show_default=True, help=f"{AUTO}, {', '.join(ENGINES)}.")
@root_option
@set_option
@json_option
def run(
    paths: tuple[Path, ...],
    batch: str | None,
    engine: str,
    root: str | None,
    assignments: tuple[str, ...],
    as_json: bool,
) -> None:
    """Bring files or folders into a batch and caption it."""
    from caption_assets.cli.run import run_batch

    sys.exit(run_batch(paths, batch, engine, RootFolder.at(root), settings_with(assignments), as_json=as_json))


@cli.command()
@batch_option
@root_option
@json_option
def status(batch: str | None, root: str | None, as_json: bool) -> None:
    """Totals, and the counts of each batch that lacks something."""
    from caption_assets.pipeline.report import batch_status

    _, ledger = open_ledger(root)
    rows = ledger.read(batch_status, batch)
    if batch is not None and not rows:
        raise Refusal(f"{batch}: no such batch in the ledger")
    if as_json:
        echo_json(rows)
        return
    if len(rows) > 1:
        _echo_counts(f"all {len(rows)} batches", rows)
        click.echo()
    incomplete = [row for row in rows if len(rows) == 1 or not row.is_complete]
    for row in incomplete:
        _echo_counts(row.batch, [row])
    if rows and not incomplete:
        click.echo("every batch is complete")


def _echo_counts(title: str, rows: Sequence["BatchStatus"]) -> None:
    """Print the sums of the counts of batches."""
    click.echo(title)
    names = [name for name in asdict(rows[0]) if name != "batch"]
    for name in names:
        click.echo(f"  {name.replace('_', ' '):24}{sum(getattr(row, name) for row in rows)}")


@cli.command()
@click.argument("window_id")
@root_option
@json_option
def why(window_id: str, root: str | None, as_json: bool) -> None:
    """The winner and the losers of a window, with reasons, prompt, model and seed."""
    from caption_assets.cli.why import print_explanation
    from caption_assets.pipeline.why import explain

    _, ledger = open_ledger(root)
    explanation = explain(ledger, window_id)
    if explanation is None:
        raise Refusal(f"{window_id}: no such window in the ledger")
    echo_json(explanation) if as_json else print_explanation(explanation)


@cli.command()
@click.argument("candidate_id")
@root_option
@json_option
def reproduce(candidate_id: str, root: str | None, as_json: bool) -> None:
    """Make a stored candidate again from the ledger alone, and compare."""
    from caption_assets.pipeline.reproduce import CannotReproduce, NothingToReproduce, reproduce_candidate

    folder, ledger = open_ledger(root)
    try:
        result = reproduce_candidate(folder, ledger, candidate_id)
    except NothingToReproduce as fault:
        raise Refusal(str(fault)) from None
    except CannotReproduce as fault:
        raise click.ClickException(str(fault)) from None
    if result is None:
        raise Refusal(f"{candidate_id}: no such candidate in the ledger")
    if as_json:
        echo_json(result)
    else:
        for name, value in result.items():
            click.echo(f"{name:12}{value}")
    sys.exit(0 if result["matched"] else FAILED)


@cli.command()
@click.option(
    "--policy", default=None, help="random_any, similar_one_simhash, all, first, longest, judge, consensus, or a > b."
)
@batch_option
@root_option
@set_option
@json_option
def retain(
    policy: str | None, batch: str | None, root: str | None, assignments: tuple[str, ...], as_json: bool
) -> None:
    """Decide again over the candidates that are there; calls no model."""
    from caption_assets.pipeline.retain import retain_batches

    folder, ledger = open_ledger(root)
    # A policy is given as text, also one such as `null`, so it does not travel through --set.
    settings = settings_with(assignments)
    if policy is not None:
        values = settings.model_dump()
        values["retention"]["keep_candidate_mode"] = policy
        settings = Settings.of(values, origin="--policy")
    rows = retain_batches(folder, ledger, settings, batch)
    if batch is not None and not rows:
        raise Refusal(f"{batch}: no such batch in the ledger")
    echo_json(rows) if as_json else echo_table(rows)


@cli.command()
@click.argument("window_id")
@click.argument("candidate_ids", nargs=-1)
@click.option("--none", "keep_none", is_flag=True, help="Keep no caption of this window.")
@click.option("--withdraw", is_flag=True, help="Take the override back: policies decide again.")
@click.option("--by", required=True, help="Who decides.")
@click.option("--note", default=None, help="Why.")
@root_option
@json_option
def override(
    window_id: str,
    candidate_ids: tuple[str, ...],
    keep_none: bool,
    withdraw: bool,
    by: str,
    note: str | None,
    root: str | None,
    as_json: bool,
) -> None:
    """Keep the captions that a person chooses, the best first, whatever policies and gates say."""
    from caption_assets.review import override as keep
    from caption_assets.review import withdraw_override

    if bool(candidate_ids) + keep_none + withdraw != 1:
        raise Refusal("name the candidates to keep, or say --none, or --withdraw")
    folder, _ = open_ledger(root)
    if withdraw:
        rows = withdraw_override(folder, window_id, by=by, note=note)
    else:
        rows = keep(folder, window_id, candidate_ids, by=by, note=note)
    shown = [
        {
            "candidate_id": row.candidate_id,
            "action": row.action,
            "reason_code": row.reason_code,
            "decided_by": row.decided_by,
        }
        for row in rows
    ]
    echo_json(shown) if as_json else echo_table(shown)


@cli.command()
@click.argument("clip_ids", nargs=-1)
@click.option("--batch", "batches", multiple=True, help="Take down this batch, too.")
@click.option("--delete-bytes", is_flag=True, help="Delete uploads, sidecars, packed frames and previews, for good.")
@click.option("--withdraw", is_flag=True, help="Show them again; impossible once bytes were deleted.")
@click.option("--by", required=True, help="Who decides.")
@click.option("--reason", required=True, help="Why.")
@root_option
@json_option
def takedown(
    clip_ids: tuple[str, ...],
    batches: tuple[str, ...],
    delete_bytes: bool,
    withdraw: bool,
    by: str,
    reason: str,
    root: str | None,
    as_json: bool,
) -> None:
    """Hide clips or whole batches from every view and export, at once and for later runs too."""
    from caption_assets.review import take_down, withdraw_takedown

    if withdraw and delete_bytes:
        raise Refusal("--withdraw deletes nothing; leave --delete-bytes out")
    folder, _ = open_ledger(root)
    if withdraw:
        done = withdraw_takedown(folder, clips=clip_ids, batches=batches, by=by, reason=reason)
    else:
        done = take_down(folder, clips=clip_ids, batches=batches, by=by, reason=reason, delete_files=delete_bytes)
    if as_json:
        echo_json({"objects": done.objects, "batches": done.batches, "files": done.files, "bytes": done.bytes,
                   "left": done.left})  # fmt: skip
    else:
        for kind, name in done.objects:
            click.echo(f"{kind} {name}: {'shown again' if withdraw else 'hidden'}")
        if delete_bytes:
            click.echo(f"{done.files} files deleted, {done.bytes:,} bytes")
        for reason_left in done.left:
            click.echo(f"not deleted: {reason_left}", err=True)
    sys.exit(FAILED if done.left else 0)


@cli.command()
@batch_option
@click.option("--engine", default="auto", show_default=True, help=f"{AUTO}, {', '.join(ENGINES)}.")
@root_option
@set_option
@json_option
def plan(batch: str | None, engine: str, root: str | None, assignments: tuple[str, ...], as_json: bool) -> None:
    """What would run if these settings were used, counted per batch, before running it."""
    from caption_assets.pipeline.plan import plan_batches

    _, ledger = open_ledger(root)
    rows = plan_batches(ledger, settings_with(assignments), engine, batch)
    if batch is not None and not rows:
        raise Refusal(f"{batch}: no such batch in the ledger")
    echo_json(rows) if as_json else echo_table(rows)


@cli.command(name="export")
@click.option(
    "--format",
    "form",
    required=True,
    type=click.Choice(["parquet", "jsonl", "data-juicer", "nemo-curator"]),
    help="Format of the files.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder; a folder per batch is made in it.")
@click.option("--all", "everything", is_flag=True, help="Captions of older prompts and models, too.")
@click.option("--no-videos", is_flag=True, help="data-juicer, nemo-curator: leave out the videos, links if possible.")
@batch_option
@root_option
@set_option
def export_command(
    form: str,
    out: Path,
    everything: bool,
    no_videos: bool,
    batch: str | None,
    root: str | None,
    assignments: tuple[str, ...],
) -> None:
    """Write the captions of every batch, or of one, that are live and current."""
    from caption_assets.exchange.formats import EXPORTS
    from caption_assets.exchange.selection import ExportOptions

    options = ExportOptions(everything, settings_with(assignments).retention.keep_original_sample, not no_videos)
    folder, ledger = open_ledger(root)
    names = ledger.query("SELECT DISTINCT batch FROM live_uploads ORDER BY batch")
    batches = [str(row["batch"]) for row in names if batch in (None, row["batch"])]
    if not batches:
        raise Refusal(f"{batch or 'the ledger'}: no such batch" if batch else "the ledger has no batch yet")
    complete = True
    for each in batches:
        done = EXPORTS[form](folder, ledger, each, out, options)
        click.echo(f"{done.path}: {done.count} rows")
        for sentence in done.left:
            click.echo(f"left out: {sentence}", err=True)
        complete = complete and not done.left
    sys.exit(0 if complete else FAILED)


@cli.command(name="import")
@click.option(
    "--format", "form", required=True, type=click.Choice(["data-juicer", "nemo-curator"]), help="Layout of the files."
)
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--batch", default=None, help="Name of the batch; by default that of the file or folder.")
@root_option
@set_option
@json_option
def import_command(
    form: str, path: Path, batch: str | None, root: str | None, assignments: tuple[str, ...], as_json: bool
) -> None:
    """Bring in captions that were made elsewhere, with their videos: they become candidates with their origin."""
    from caption_assets.cli.imports import import_batch

    sys.exit(import_batch(form, path, batch, RootFolder.at(root), settings_with(assignments), as_json=as_json))


@cli.group()
def ledger() -> None:
    """The ledger itself."""


@ledger.command()
@root_option
@json_option
def verify(root: str | None, as_json: bool) -> None:
    """Check that the table `captions` is what the history says, and that no row is there twice."""
    _, store = open_ledger(root)
    faults = store.verify()
    if as_json:
        echo_json(faults)
    else:
        for sentence in faults or ["the ledger is as its history says"]:
            click.echo(sentence)
    sys.exit(FAILED if faults else 0)


@ledger.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@root_option
@json_option
def backup(folder: Path, root: str | None, as_json: bool) -> None:
    """Write every table of the history to a new folder, as Parquet."""
    from caption_assets.ledger.backup import write_backup

    _, store = open_ledger(root)
    counts = store.read(write_backup, folder)
    if as_json:
        echo_json({"rows": counts})
    else:
        echo_table([{"table": name, "rows": count} for name, count in counts.items()])


@ledger.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@root_option
@json_option
def restore(folder: Path, root: str | None, as_json: bool) -> None:
    """Make the ledger again from a backup, or from the parts of version 6; the old file is set aside."""
    from caption_assets.ledger.backup import restore as restore_from

    target = RootFolder.at(root)
    unreadable = restore_from(target, folder)
    with Ledger(target).session() as session:
        counts = {name: int(session.rows(f"SELECT count(*) FROM {name}")[0][0]) for name in HISTORY}
    if as_json:
        echo_json({"rows": counts, "unreadable": unreadable})
    else:
        echo_table([{"table": name, "rows": count} for name, count in counts.items()])
        for sentence in unreadable:
            click.echo(sentence, err=True)
    sys.exit(FAILED if unreadable else 0)


def renamed(**_: object) -> None:
    """Say what replaces a command of earlier versions."""
    raise Refusal(
        "the database is the record now, and has no parts: `ledger verify` checks it, `ledger backup DIR` saves it, "
        "and `ledger restore DIR` makes it again from a backup"
    )


for old in ("rebuild", "compact"):
    ledger.command(old, hidden=True)(root_option(json_option(renamed)))


@ledger.command()
@click.argument("statement")
@root_option
@json_option
def sql(statement: str, root: str | None, as_json: bool) -> None:
    """Ask the ledger in SQL; it is opened for reading."""
    _, store = open_ledger(root)
    rows = store.query(statement)
    echo_json(rows) if as_json else echo_table(rows)


@cli.command()
@root_option
@json_option
def doctor(root: str | None, as_json: bool) -> None:
    """What this machine can run, and why not."""
    from caption_assets.cli.doctor import examine

    findings = examine(RootFolder.at(root))
    if as_json:
        echo_json(findings)
    else:
        for finding in findings:
            click.echo(f"{'ok  ' if finding['ok'] else 'FAIL'}  {finding['what']:21}{finding['detail']}")
    sys.exit(0 if all(finding["ok"] for finding in findings) else FAILED)


if __name__ == "__main__":
    main()
