"""Previews in a run: formats, posters, frames from the clip, and what lies in the folder afterwards."""

import base64
import io
import shutil

import av
import pytest

from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.video.preview import check_preview
from tests.orchestration.running import CHECKS, query, run_job, table

ALL = {"write_preview": 3}
"""Of the batch `b`: one window of a.mp4, two of b.mp4."""

FROM_CLIPS = {"preview.preview_source": "clip", "preview.target_fps": 5.0}


def suffixes(root, batch="b"):
    """How many files of each kind the folder of the batch holds."""
    found = [path.suffix for path in (root / "previews" / batch).iterdir()]
    return {suffix: found.count(suffix) for suffix in sorted(set(found))}


def shown(root, batch="b"):
    """What the batch shows of each window, by the clip's path and the window's number."""
    rows = Ledger(RootFolder.at(root)).named("batch_previews", batch=batch)
    return {(row["path"], row["window_index"]): row for row in rows}


def assert_all_there(root, batch="b"):
    rows = table(root, batch)
    for row in rows:
        assert check_preview((root / row["preview_path"]).read_bytes())
        with av.open(io.BytesIO((root / row["poster_path"]).read_bytes())) as container:
            assert next(container.decode(video=0)).format.name.startswith("yuv")
    assert len({row["preview_path"] for row in rows} | {row["poster_path"] for row in rows}) == 2 * len(rows)


@pytest.mark.parametrize("form", ["avif", "mp4"])
def test_another_format_replaces_the_files_and_leaves_none_behind(copy, form):
    ran = run_job(copy, settings={"preview.preview_format": form})
    assert ran.work == ALL
    assert ran.checks == dict.fromkeys(CHECKS, True)
    assert suffixes(copy) == {".jpg": 3, f".{form}": 3}
    assert_all_there(copy)
    assert run_job(copy, settings={"preview.preview_format": form}).new_rows == {"runs": 6}
    back = run_job(copy)
    assert back.work == ALL
    assert suffixes(copy) == {".jpg": 3, ".webp": 3}
    assert back.checks == dict.fromkeys(CHECKS, True)


@pytest.mark.parametrize(("form", "media_type"), [("avif", "image/avif"), ("mp4", "image/jpeg")])
def test_the_ui_shows_a_picture_that_a_browser_takes_as_one(copy, form, media_type):
    text = run_job(copy, settings={"preview.preview_format": form}).shown("previews")["a preview"]
    head, data = text[text.index("(data:") + 6 :].split(";base64,")
    assert head == media_type
    assert base64.b64decode(data[: data.index(")")])


def test_batches_that_share_a_window_and_want_other_formats_keep_their_own(copy):
    (copy / "uploads" / "x").mkdir()
    (copy / "uploads" / "x" / "same.mp4").hardlink_to(copy / "uploads" / "b" / "a.mp4")
    assert "write_preview" not in run_job(copy, "x").work  # b made it
    run_job(copy, "b", settings={"preview.preview_format": "avif"})
    again = run_job(copy, "x")
    assert again.work == {"write_preview": 1}  # the file that b made is no more
    assert again.checks == dict.fromkeys(CHECKS, True)
    assert (suffixes(copy, "b"), suffixes(copy, "x")) == ({".avif": 3, ".jpg": 3}, {".jpg": 1, ".webp": 1})
    third = run_job(copy, "b", settings={"preview.preview_format": "avif"})
    assert third.new_rows == {"runs": 6}
    assert_all_there(copy, "b")
    assert_all_there(copy, "x")


def test_what_a_killed_run_left_is_removed(copy):
    left = copy / "previews" / "b" / ".w0.webp.4711.tmp"
    left.write_bytes(b"half")
    stale = (copy / table(copy)[0]["preview_path"]).with_suffix(".avif")
    stale.write_bytes(b"of a run that was killed between two steps")
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


def test_the_clip_is_decoded_again_only_for_more_pictures_than_were_sampled(copy):
    assert run_job(copy, settings={"preview.preview_source": "clip"}).work == {}
    assert run_job(copy, settings={"preview.preview_source": "clip", "preview.target_fps": 2.0}).work == ALL
    assert run_job(copy, settings={"preview.target_fps": 2.0}).work == {}  # the same recipe


def test_previews_from_the_clip_need_no_packed_frames_and_show_more(copy):
    shutil.rmtree(copy / "frames")
    ran = run_job(copy, settings=FROM_CLIPS)
    assert ran.work == {"write_clip_previews": 2}
    assert ran.checks == dict.fromkeys(CHECKS, True)
    assert ran.counts("previews") == (3, 0, 0)
    assert not (copy / "frames").exists()
    # 256 frames at 25 a second, of which 20 are sampled
    assert shown(copy)["b.mp4", 0]["n_frames"] == 52
    assert run_job(copy, settings=FROM_CLIPS).new_rows == {"runs": 6}


def test_one_lost_preview_is_made_of_its_own_window_alone(copy):
    run_job(copy, settings=FROM_CLIPS)
    lost = shown(copy)["b.mp4", 1]
    (copy / lost["uri"]).unlink()
    ran = run_job(copy, settings=FROM_CLIPS)
    assert ran.work == {"write_clip_previews": 1}
    assert ran.new_rows == {"previews": 1, "runs": 6}


def test_without_its_clip_a_window_shows_its_packed_frames_until_the_clip_is_back(copy):
    away = copy / "away.mp4"
    (copy / "uploads" / "b" / "b.mp4").rename(away)
    ran = run_job(copy, settings=FROM_CLIPS)
    assert ran.work == {"write_clip_previews": 1, "write_preview": 2}
    assert ran.ok
    told = shown(copy)["b.mp4", 0]
    assert told["warnings"][1:] == ["made from the packed frames: no file of the clip is in uploads/ any more"]
    assert "no file of the clip" in ran.shown("previews")["previews"].records[1].data["warnings"]
    [made_by] = query(copy, "SELECT params FROM recipes WHERE recipe_id = $r", r=told["preview_recipe_id"])
    assert '"source":"packed"' in made_by["params"]
    assert not any("packed" in warning for warning in shown(copy)["a.mp4", 0]["warnings"])
    assert run_job(copy, settings=FROM_CLIPS).work == {}

    away.rename(copy / "uploads" / "b" / "b.mp4")
    back = run_job(copy, settings=FROM_CLIPS)
    assert back.work["write_clip_previews"] == 1
    assert not any("packed" in warning for warning in shown(copy)["b.mp4", 0]["warnings"])
    assert shown(copy)["b.mp4", 0]["n_frames"] > told["n_frames"]


def test_without_clip_and_packed_frames_a_window_has_an_error_that_says_why(copy):
    (copy / "uploads" / "b" / "b.mp4").unlink()
    shutil.rmtree(copy / "frames")
    ran = run_job(copy, settings=FROM_CLIPS)
    assert ran.counts("previews") == (1, 0, 2)
    assert shown(copy)["b.mp4", 0]["error"] == "no file of the clip is in uploads/ any more"


def test_a_format_that_cannot_be_written_stops_the_stage_and_changes_nothing(copy, monkeypatch):
    before = shown(copy)
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libsvtav1"})
    ran = run_job(copy, settings={"preview.preview_format": "avif"})
    assert not ran.ok
    assert "preview_format is avif" in ran.error()
    assert "can write: webp, mp4" in ran.error()
    assert shown(copy) == before


def test_the_settings_of_a_run_are_those_of_the_table(copy):
    run_job(copy, settings={**FROM_CLIPS, "preview.preview_format": "mp4"})
    [row] = query(
        copy,
        "SELECT r.params FROM recipes r JOIN current_recipes c ON c.recipe_id = r.recipe_id AND c.kind = 'preview'",
    )
    assert '"preview_format":"mp4"' in row["params"]
    assert '"source":"clip"' in row["params"]
    assert Settings.of(FROM_CLIPS).preview.target_fps == 5.0
    assert_all_there(copy)
