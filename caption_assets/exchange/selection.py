"""Which captions an export holds: live and current ones, and those that a person chose, unless all are asked for."""

from collections.abc import Mapping
from dataclasses import dataclass

from caption_assets.ids import PERSON

Row = Mapping[str, object]


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


def is_chosen(row: Row, options: ExportOptions) -> bool:
    """Tell whether the caption of a row of the caption table is exported."""
    if row["status"] != "captioned":
        return False
    return bool(options.everything or row["is_current"] or str(row["decided_by"]).startswith(PERSON))


def is_stale(row: Row, options: ExportOptions) -> bool:
    """Tell whether a row of the caption table has a caption that is not exported."""
    return row["status"] == "captioned" and not is_chosen(row, options)
