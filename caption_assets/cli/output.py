"""What every command of the command line shares: exit statuses, refusals, the root it works on, and how it prints."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass

import click

from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.settings.flat_names import FlatNameWarning

FAILED, BAD_USAGE = 1, 2


class Refusal(click.ClickException):
    """The command cannot be carried out as it was given."""

    exit_code = BAD_USAGE


def open_ledger(root: str | None) -> tuple[RootFolder, Ledger]:
    """Return a root folder that exists, and its ledger."""
    folder = RootFolder.at(root)
    if not folder.path.is_dir():
        raise Refusal(f"{folder.path}: no such root folder; `caption-assets run PATH…` makes one")
    return folder, Ledger(folder)


def settings_with(assignments: Sequence[str]) -> Settings:
    """Return the settings of this folder with `--set` applied; print a line for each setting given by its flat name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FlatNameWarning)
        settings = Settings.load().with_overrides(assignments)
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        click.echo(f"Warning: {message}", err=True)
    warnings.simplefilter("ignore", FlatNameWarning)  # a run reads the file again
    return settings


def echo_json(value: object) -> None:
    """Print a value as JSON: records as objects, times as ISO 8601."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=_as_plain))


def _as_plain(value: object) -> object:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


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
