"""What a second run does after one thing has changed: that, and nothing else."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.orchestration.running import CHECKS, Files, query, run_job, table
from tests.video.films import make_film

WINDOWS = 3
"""Windows of the batch `b`: one of a.mp4, two of b.mp4."""


@dataclass(frozen=True)
class Change:
    """A change before the second run, the work it makes, and whether packed frames stay as they are."""

    work: dict[str, int]
    settings: dict[str, Any] = field(default_factory=dict)
    to_files: Callable[[Path], None] = lambda root: None
    decodes: bool = False


def delete_frames(root: Path) -> None:
    shutil.rmtree(root / "frames")


def delete_a_preview(root: Path) -> None:
    next((root / "previews" / "b").glob("*.webp")).unlink()


def delete_previews_and_frames(root: Path) -> None:
    shutil.rmtree(root / "previews")
    delete_frames(root)


def touch_a_clip(root: Path) -> None:
    path = root / "uploads" / "b" / "a.mp4"
    content = path.read_bytes()
    path.unlink()  # it is a hard link
    path.write_bytes(content)


def replace_a_clip(root: Path) -> None:
    path = root / "uploads" / "b" / "a.mp4"
    path.unlink()
    make_film(path, 44)


def add_a_clip(root: Path) -> None:
    make_film(root / "uploads" / "b" / "c.mp4", 40)


def rename_a_clip(root: Path) -> None:
    (root / "uploads" / "b" / "a.mp4").rename(root / "uploads" / "b" / "z.mp4")


CAPTION_ALL = {"caption": WINDOWS, "enhance": WINDOWS}
SHOW_ALL = {"write_preview": WINDOWS}
SHORT_WINDOWS = {"window.window_size": 80, "window.remainder_threshold": 40}
"""Settings under which the batch has six windows."""

SIX_WINDOWS = {"caption": 6, "enhance": 6, "write_preview": 6}
ONE_WINDOW = {"cut_clip": 1, "caption": 1, "enhance": 1, "write_preview": 1}

CHANGES = {
    "nothing": Change({}),
    "another prompt": Change(CAPTION_ALL, {"caption.prompt_text": "What is there?"}),
    "no enhancement": Change({}, {"enhance": {"enabled": False}}),
    "another policy": Change({}, {"retention.keep_candidate_mode": "longest"}),
    "another preview height": Change(SHOW_ALL, {"preview.target_height": 64}),
    "other windows": Change({"cut_clip": 2, **SIX_WINDOWS}, SHORT_WINDOWS, decodes=True),
    "frames deleted": Change({}, {}, delete_frames),
    "frames deleted, another prompt": Change(
        {"cut_clip": 2, **CAPTION_ALL}, {"caption.prompt_text": "?"}, delete_frames, True
    ),
    "a preview deleted": Change({"write_preview": 1}, {}, delete_a_preview),
    "previews and frames deleted": Change({"cut_clip": 2, **SHOW_ALL}, {}, delete_previews_and_frames, True),
    "a clip touched": Change({"inspect_file": 1}, {}, touch_a_clip),
    "a clip added": Change({"inspect_file": 1, **ONE_WINDOW}, {}, add_a_clip, True),
    "a clip renamed": Change({"inspect_file": 1}, {}, rename_a_clip),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_run_does_the_work_of_the_change_and_no_other(copy, name):
    change = CHANGES[name]
    change.to_files(copy)
    frames = Files.below(copy / "frames")
    ran = run_job(copy, settings=change.settings)
    assert ran.ok
    assert ran.work == change.work
    assert ran.checks == dict.fromkeys(CHECKS, True)
    assert (Files.below(copy / "frames") != frames) is change.decodes
    assert all(row["status"] == "captioned" and row["is_current"] for row in table(copy))


@pytest.mark.parametrize(
    ("settings", "to_go_back"),
    [
        (
            {"caption.prompt_text": "Hm?", "retention.keep_candidate_mode": "longest", "preview.target_height": 64},
            SHOW_ALL,
        ),
        (SHORT_WINDOWS, {}),
    ],
    ids=["prompt, policy and previews", "windows"],
)
def test_going_back_to_old_settings_makes_only_what_was_overwritten(copy, settings, to_go_back):
    at_first = table(copy)
    there = run_job(copy, settings=settings)
    assert there.ok
    assert table(copy) != at_first
    back = run_job(copy)
    assert back.work == to_go_back
    assert back.checks == dict.fromkeys(CHECKS, True)
    assert table(copy) == at_first


def test_a_replaced_clip_leaves_the_table_and_stays_in_the_ledger(copy):
    [before] = [row["clip_id"] for row in table(copy) if row["clip_path"] == "a.mp4"]
    replace_a_clip(copy)
    ran = run_job(copy)
    assert ran.work == {"inspect_file": 1, **ONE_WINDOW}
    assert ran.checks == dict.fromkeys(CHECKS, True)
    [after] = [row["clip_id"] for row in table(copy) if row["clip_path"] == "a.mp4"]
    assert before != after
    assert query(copy, "SELECT count(*) n FROM clips WHERE clip_id = $c", c=before) == [{"n": 1}]
