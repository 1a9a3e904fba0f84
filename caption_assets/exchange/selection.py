"""Which captions an export holds: live and current ones, and those that a person chose, unless all are asked for."""

from dataclasses import dataclass

from caption_assets.ids import PERSON
from caption_assets.ledger.captions import BatchHistory, batch_files, current_uploads
from caption_assets.ledger.schema import CaptionRow


@dataclass(frozen=True)
class ExportOptions:
    """What is exported.

    everything: captions of older recipes too. keep_original: data-juicer, the original samples beside the captioned
    ones. videos: put the videos (hard links where possible) beside the captions.
    """

    everything: bool = False
    keep_original: bool = True
    videos: bool = True


@dataclass(frozen=True)
class Exported:
    """What was written: where, how many rows or clips, and a sentence for everything that was left out."""

    path: str
    count: int
    left: tuple[str, ...] = ()


def is_chosen(row: CaptionRow, options: ExportOptions) -> bool:
    """Tell whether the caption of a row of the caption table is exported."""
    if row.status != "captioned":
        return False
    return options.everything or bool(row.is_current) or (row.decided_by or "").startswith(PERSON)


def is_stale(row: CaptionRow, options: ExportOptions) -> bool:
    """Tell whether a row of the caption table has a caption that is not exported."""
    return row.status == "captioned" and not is_chosen(row, options)


def shown_paths(history: BatchHistory) -> dict[str, str | None]:
    """Return every path of a batch, and the one under which its content is shown.

    None where there is no clip, or it is taken down.
    """
    by_clip = {file.clip_id: file.path for file in batch_files(history)}
    return {row.path: by_clip.get(row.clip_id or "") for row in current_uploads(history)}
