"""`caption-assets`: the same graph from a shell, and questions to the ledger.

Exit status: 0 all done, 1 something failed (rows say what), 2 bad usage.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from caption_assets import __version__
from caption_assets.engines.protocol import EngineUnavailable
from caption_assets.engines.registry import AUTO, ENGINES, UnknownEngine
from caption_assets.ledger.database import Ledger, LedgerError
from caption_assets.root import RootError, RootFolder
from caption_assets.settings import Settings, SettingsError
from caption_assets.uploads.batches import BatchNameError
from caption_assets.uploads.link import UploadError

FAILED, BAD_USAGE = 1, 2

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

root_option = click.option("--root", type=str, default=None, help="Root folder; else CAPTION_ASSETS_ROOT, else ./data.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
set_option = click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a setting.")
batch_option = click.option("--batch", default=None, help="Only this batch.")


class Refusal(click.ClickException):
    """The command cannot be carried out as it was given."""

    exit_code = BAD_USAGE


@click.group()
@click.version_option(__version__, prog_name="caption-assets")
def cli() -> None:
    """Captions for video, with a ledger of every caption and every decision."""


def main() -> None:
    """Run the command line; faults of the user are one line on standard error."""
    try:
        cli.main(prog_name="caption-assets", standalone_mode=False)
    except click.ClickException as fault:
        fault.show()
        sys.exit(fault.exit_code)
    except (SettingsError, RootError, UploadError, BatchNameError, UnknownEngine, EngineUnavailable) as fault:
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


def open_ledger(root: str | None) -> tuple[RootFolder, Ledger]:
    """Return a root folder that exists, and its ledger."""
    folder = RootFolder.at(root)
    if not folder.path.is_dir():
        raise Refusal(f"{folder.path}: no such root folder; `caption-assets run PATH…` makes one")
    return folder, Ledger(folder)


def settings_with(assignments: Sequence[str]) -> Settings:
    """Return the settings of this folder with `--set` applied."""
    return Settings.load().with_overrides(assignments)


def echo_json(value: object) -> None:
    """Print a value as JSON; times as ISO 8601."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def echo_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows as an aligned table with a heading."""
    if not rows:
        click.echo("(no rows)")
        return
    names = list(rows[0])
    cells = [names, *([_cell(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    for line in cells:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return in_one_line(f"{value:.3f}" if isinstance(value, float) else str(value))


def in_one_line(text: str) -> str:
    """Return `text` with its line breaks escaped: a file's name may hold them."""
    return text.replace("\n", "\\n").replace("\r", "\\r")


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
    """Counts per stage and status, and what is missing."""
    _, ledger = open_ledger(root)
    rows = ledger.named("status", batch=batch)
    if batch is not None and not rows:
        raise Refusal(f"{batch}: no such batch in the ledger")
    if as_json:
        echo_json(rows)
        return
    for row in rows:
        click.echo(str(row.pop("batch")))
        for name, count in row.items():
            click.echo(f"  {name.replace('_', ' '):24}{count}")


@cli.command()
@click.argument("window_id")
@root_option
@json_option
def why(window_id: str, root: str | None, as_json: bool) -> None:
    """The winner and the losers of a window, with reasons, prompt, model and seed."""
    from caption_assets.cli.why import explain, print_explanation

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
    from caption_assets.cli.reproduce import reproduce_candidate

    folder, ledger = open_ledger(root)
    result = reproduce_candidate(folder, ledger, candidate_id)
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
    "--policy", required=True, help="random_any, similar_one_simhash, all, first, longest, consensus, or a > b."
)
@batch_option
@root_option
@json_option
def retain(policy: str, batch: str | None, root: str | None, as_json: bool) -> None:
    """Decide again over the candidates that are there; calls no model."""
    from caption_assets.cli.retain import retain_batches

    folder, ledger = open_ledger(root)
    # A policy is given as text, also one such as `null`, so it does not travel through --set.
    settings = Settings.of({**Settings.load().model_dump(), "keep_candidate_mode": policy}, origin="--policy")
    rows = retain_batches(folder, ledger, settings, batch)
    if batch is not None and not rows:
        raise Refusal(f"{batch}: no such batch in the ledger")
    echo_json(rows) if as_json else echo_table(rows)


@cli.command()
@batch_option
@click.option("--engine", default="auto", show_default=True, help=f"{AUTO}, {', '.join(ENGINES)}.")
@root_option
@set_option
@json_option
def plan(batch: str | None, engine: str, root: str | None, assignments: tuple[str, ...], as_json: bool) -> None:
    """What would run if these settings were used, counted per batch, before running it."""
    from caption_assets.cli.plan import plan_batches

    _, ledger = open_ledger(root)
    rows = plan_batches(ledger, settings_with(assignments), engine, batch)
    if batch is not None and not rows:
        raise Refusal(f"{batch}: no such batch in the ledger")
    echo_json(rows) if as_json else echo_table(rows)


@cli.command(name="export")
@click.option("--format", "form", required=True, type=click.Choice(["parquet", "jsonl"]), help="Format of the table.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder; a folder per batch is made in it.")
@batch_option
@root_option
def export_command(form: str, out: Path, batch: str | None, root: str | None) -> None:
    """Write the caption table of every batch, or of one."""
    from caption_assets.export.table import FORMATS, caption_rows

    _, ledger = open_ledger(root)
    batches = [str(row["batch"]) for row in ledger.named("status", batch=batch)]
    if not batches:
        raise Refusal(f"{batch or 'the ledger'}: no such batch" if batch else "the ledger has no batch yet")
    name, write = FORMATS[form]
    for each in batches:
        rows = caption_rows(ledger, each)
        write(rows, out / each / name)
        click.echo(f"{out / each / name}: {len(rows)} rows")


@cli.group()
def ledger() -> None:
    """The ledger itself."""


@ledger.command()
@root_option
@json_option
def rebuild(root: str | None, as_json: bool) -> None:
    """Make the database again from the parts."""
    _, store = open_ledger(root)
    rebuilt = store.rebuild()
    if as_json:
        echo_json({"rows": rebuilt.rows, "unreadable": rebuilt.unreadable})
    else:
        echo_table([{"table": name, "rows": count} for name, count in rebuilt.rows.items()])
        for path, reason in rebuilt.unreadable.items():
            click.echo(f"left out: {path}: {reason}", err=True)
    sys.exit(FAILED if rebuilt.unreadable else 0)


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
