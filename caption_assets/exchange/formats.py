"""The formats of `caption-assets export` and `caption-assets import`, by name."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from caption_assets.exchange import data_juicer, nemo_curator
from caption_assets.exchange.delivery import Delivery
from caption_assets.exchange.selection import Exported, ExportOptions, is_stale
from caption_assets.exchange.table import FORMATS as TABLES
from caption_assets.exchange.table import caption_rows
from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder

Export = Callable[[RootFolder, Ledger, str, Path, ExportOptions], Exported]


def export_table(
    form: str, root: RootFolder, ledger: Ledger, batch: str, out: Path, options: ExportOptions
) -> Exported:
    """Write the caption table of a batch. A row stays for every window; without a caption it says why."""
    del root
    name, write = TABLES[form]
    rows = [row for row in caption_rows(ledger, batch) if not is_stale(row, options)]
    write(rows, out / batch / name)
    return Exported(str(out / batch / name), len(rows))


EXPORTS: Mapping[str, Export] = {
    **{form: partial(export_table, form) for form in TABLES},
    data_juicer.FORMAT: data_juicer.export_batch,
    nemo_curator.FORMAT: nemo_curator.export_batch,
}
"""How each format writes one batch below a folder."""

READERS: Mapping[str, Callable[[Path], Delivery]] = {
    data_juicer.FORMAT: data_juicer.read_delivery,
    nemo_curator.FORMAT: nemo_curator.read_delivery,
}
"""How each layout is read by `caption-assets import`."""
