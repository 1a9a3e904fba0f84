"""Previews in a run: files and posters, batches that share a window, and what lies in the folder afterwards."""

import io

import av
import pytest

from caption_assets.video.webp import check_webp
from tests.orchestration.running import CHECKS, query, run_job, table

ALL = {"write_preview": 3}
"""Of the batch `b`: one window of a.mp4, two of b.mp4."""


def suffixes(root, batch="b"):
    """How many files of each kind the folder of the batch holds."""
    found = [path.suffix for path in (root / "previews" / batch).iterdir()]
    return {suffix: found.count(suffix) for suffix in sorted(set(found))}


def assert_all_there(root, batch="b", height=None):
    rows = table(root, batch)
    for row in rows:
        _, shown_height, _ = check_webp((root / row["preview_path"]).read_bytes())
        assert height in (None, shown_height)
        with av.open(io.BytesIO((root / row["poster_path"]).read_bytes())) as container:
            assert next(container.decode(video=0)).format.name.startswith("yuv")
    assert len({row["preview_path"] for row in rows} | {row["poster_path"] for row in rows}) == 2 * len(rows)


def test_another_setting_replaces_the_files_and_leaves_none_behind(copy):
    ran = run_job(copy, settings={"preview.target_height": 64})
    assert ran.work == ALL
    assert ran.counts("previews") == (3, 0, 0)
    assert ran.checks == dict.fromkeys(CHECKS, True)
    assert suffixes(copy) == {".jpg": 3, ".webp": 3}
    assert_all_there(copy, height=64)
    again = run_job(copy, settings={"preview.target_height": 64})
    assert again.new_rows == {"runs": 6}
    assert again.counts("previews") == (0, 3, 0)
    back = run_job(copy)
    assert back.work == ALL
    assert back.checks == dict.fromkeys(CHECKS, True)


def test_batches_that_share_a_window_and_want_other_previews_keep_their_own(copy):
    (copy / "uploads" / "x").mkdir()
    (copy / "uploads" / "x" / "same.mp4").hardlink_to(copy / "uploads" / "b" / "a.mp4")
    assert "write_preview" not in run_job(copy, "x").work  # b made it
    run_job(copy, "b", settings={"preview.target_height": 64})
    again = run_job(copy, "x")
    assert again.work == {"write_preview": 1}  # the file that b made is no more
    assert again.checks == dict.fromkeys(CHECKS, True)
    assert (suffixes(copy, "b"), suffixes(copy, "x")) == ({".jpg": 3, ".webp": 3}, {".jpg": 1, ".webp": 1})
    third = run_job(copy, "b", settings={"preview.target_height": 64})
    assert third.new_rows == {"runs": 6}
    assert_all_there(copy, "b", height=64)
    assert_all_there(copy, "x")


def test_what_a_killed_run_left_is_removed(copy):
    left = copy / "previews" / "b" / ".w0.webp.4711.tmp"
    left.write_bytes(b"half")
    earlier = (copy / table(copy)[0]["preview_path"]).with_suffix(".avif")
    earlier.write_bytes(b"as version 0.1 could write it")
    assert run_job(copy).work == {}
    assert suffixes(copy) == {".jpg": 3, ".webp": 3}


@pytest.mark.parametrize("name", ["preview_path", "poster_path"])
@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"cut")])
def test_a_file_that_is_lost_or_cut_is_made_again(copy, name, spoil):
    path = copy / table(copy)[0][name]
    before = path.read_bytes()
    spoil(path)
    ran = run_job(copy)
    assert ran.work == {"write_preview": 1}
    assert path.read_bytes() == before
    assert ran.checks == dict.fromkeys(CHECKS, True)


def test_a_window_without_packed_frames_and_clip_has_an_error_that_says_why(copy):
    lost = next(row for row in table(copy) if row["clip_path"] == "a.mp4")
    (copy / "uploads" / "b" / "a.mp4").unlink()
    for path in [*(copy / "frames" / "b").glob(f"{lost['window_id']}.*"), copy / lost["preview_path"]]:
        path.unlink()
    ran = run_job(copy)
    assert ran.counts("previews") == (0, 2, 1)
    [row] = query(copy, "SELECT error, warnings FROM previews WHERE status = 'error'")
    assert row == {"error": "no file of the clip is in uploads/ any more", "warnings": []}
