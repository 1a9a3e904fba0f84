"""An import that is killed is completed by the next."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import simplejpeg

from caption_assets.engines.protocol import PackedFrames
from caption_assets.exchange.data_juicer import Sample
from caption_assets.exchange.delivery import DeliveredCaption, DeliveredPreview, Delivery
from caption_assets.exchange.table import caption_rows
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import Record
from caption_assets.pipeline.import_captions import Entered, enter
from caption_assets.settings.groups import PreviewSettings
from caption_assets.settings.recipes import window_recipe
from caption_assets.video.previews import make_preview
from tests.ledger.story import Story, settings

A = settings()
V = "<__dj__video>"


class Killed(BaseException):
    """The process ends here."""


class MortalLedger(Ledger):
    """A ledger whose process is killed when it is to commit once more than `commits` times."""

    commits = 0

    def commit(self, rows: Iterable[Record]) -> dict[str, int]:
        rows = list(rows)
        if rows and not self.commits:
            raise Killed
        self.commits -= bool(rows)
        return super().commit(rows)


def test_an_import_that_is_killed_before_any_of_its_commits_is_completed_by_the_next(tmp_path: Path) -> None:
    done = []
    for name, first in (("whole", 99), ("killed", 0)):
        story = Story(tmp_path / name)
        story.activate(window_recipe(A))
        story.cut(story.upload("film"), 1, A)
        delivery = a_delivery(tmp_path)
        ledger, commits = MortalLedger(story.root), first
        while True:
            ledger.commits = commits
            try:
                enter(story.root, ledger, delivery, "b", A, 0)
                break
            except Killed:
                commits += 1
        assert commits == first or commits >= 3
        done.append(caption_rows(story.ledger, "b"))
    assert done[0] == done[1]
    [row] = done[1]
    assert (row.caption, row.enhanced_caption) == ("A man walks a dog.", "A man walks a dog through a park.")
    assert row.is_current is True
    assert str(row.preview_path).endswith(".webp")


def test_an_import_done_again_records_no_preview_twice_and_stays_beside_other_captions(tmp_path: Path) -> None:
    story = Story(tmp_path / "root")
    story.cut(story.upload("film"), 1, A)

    def again() -> Entered:
        return enter(story.root, story.ledger, a_delivery(tmp_path), "b", A, 0)

    assert [(done.previews, done.is_current) for done in (again(), again())] == [(1, True), (0, False)]
    assert story.count("previews") == 1


def a_delivery(folder: Path) -> Delivery:
    """A caption, its enhancement and a preview for the one window of film.mp4."""
    picture = folder / "0_255.webp"
    jpeg = simplejpeg.encode_jpeg(np.zeros((48, 64, 3), np.uint8))
    picture.write_bytes(make_preview(PackedFrames([jpeg], [0.0], 64, 48), 0, 1, PreviewSettings()).data)
    return Delivery(
        "nemo-curator",
        samples=[Sample(f"{V}", ("film.mp4",))],
        captions=[
            DeliveredCaption(
                "film.mp4", "A man walks a dog.", "m", (0, 255), 0, "A man walks a dog through a park.", "lm"
            )
        ],
        previews=[DeliveredPreview("film.mp4", (0, 255), picture)],
    )
