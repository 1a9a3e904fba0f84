"""`caption-assets import`: captions made elsewhere, with their videos, as a batch."""

from dataclasses import asdict
from pathlib import Path

import click

from caption_assets.cli.output import FAILED, echo_json
from caption_assets.cli.run import execute, faults_of
from caption_assets.exchange.formats import READERS
from caption_assets.ledger.database import Ledger
from caption_assets.locks import batches_to_ourselves
from caption_assets.pipeline.import_captions import bring_files, enter
from caption_assets.pipeline.report import problems
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.uploads.batches import check_batch_name

WINDOWS = ("raw_clips", "windows")
"""The assets that an import needs: without windows there is nothing that a caption is of."""


def import_batch(
    form: str, path: Path, batch: str | None, root: RootFolder, settings: Settings, *, as_json: bool
) -> int:
    """Import `path` as a batch, by default named like it; return the exit status."""
    name = check_batch_name(batch if batch is not None else (path.resolve().name if path.is_dir() else path.stem))
    delivery = READERS[form](path)
    ledger = Ledger(root)
    # From the first file to the last caption, so that the sensor does not have a run caption the batch in between.
    with batches_to_ourselves(root, [name]):
        new = bring_files(root, delivery, name)
        result = execute(name, "signal", root, settings, quiet=as_json, assets=WINDOWS)
        if faults := faults_of(result):
            for fault in faults:
                click.echo(f"failed: {fault}", err=True)
            return FAILED
        entered = enter(root, ledger, delivery, name, settings, new)
    unusable = [each for each in ledger.read(problems, name) if each.what in ("file", "clip", "window")]
    left_out = [*entered.problems, *(f"{each.name}: {each.error}" for each in unusable)]
    if as_json:
        echo_json({**asdict(entered), "batch": name, "problems": left_out})
    else:
        beside = "" if entered.is_current else ", beside the captions that the batch has"
        click.echo(
            f"batch {name}: {entered.videos} new videos, {entered.samples} samples, {entered.captions} captions "
            f"({entered.dropped} dropped by gates){beside}, {entered.previews} previews"
        )
        for sentence in left_out:
            click.echo(f"left out: {sentence}", err=True)
    return FAILED if left_out else 0
