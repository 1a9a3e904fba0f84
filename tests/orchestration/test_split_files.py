"""Files that are split into clips, through the whole graph: each clip captioned once, each file decoded once."""

import shutil
from itertools import pairwise

import pytest
import simplejpeg

import caption_assets.assets.raw_clips as raw_clips_asset
from caption_assets.ledger.database import Ledger
from caption_assets.pipeline.plan import plan_batches
from caption_assets.pipeline.report import problems
from caption_assets.pipeline.reproduce import reproduce_candidate
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.video import scenes
from caption_assets.video.pack import PackRule, pack_path, read_pack
from tests.orchestration import killers
from tests.orchestration.running import CHECKS, Files, query, run_job, table
from tests.video.films import make_film, number_of
from tests.video.test_scenes import CUTS, joined

STRIDE = {"clip.split": "stride", "clip.split_length_s": 5.0}
"""Leaves a.mp4 (1.2 s) whole and makes three clips of b.mp4 (16 s): the rest of 1 s joins the third."""

THREE = {"cut_clip": 1, "caption": 3, "enhance": 3, "write_preview": 3}


def clips_of(root, path):
    return query(
        root,
        "SELECT c.* FROM batch_clips b JOIN clips c ON c.clip_id = b.clip_id AND c.source_clip_id IS NOT NULL "
        "WHERE b.batch = 'b' AND b.clip_path = $path ORDER BY c.source_start_frame",
        path=path,
    )


def test_a_stride_cuts_the_file_once_and_none_goes_back_for_nothing(copy):
    at_first = table(copy)
    planned = plan_batches(Ledger(RootFolder.at(copy)), Settings.of(STRIDE), "signal", "b")[0]
    assert (planned["clips"], planned["files_to_split"], planned["files_to_probe"]) == (4, 2, 0)
    assert (planned["clips_to_cut"], planned["windows"], planned["captions"]) == (3, 4, 3)

    split = run_job(copy, settings=STRIDE)
    assert split.work == {"split_file": 2, **THREE}
    assert split.checks == dict.fromkeys(CHECKS, True)
    rows = table(copy)
    assert [(row["clip_path"], row["clip_start_frame"], row["n_frames"]) for row in rows] == [
        ("a.mp4", 0, 30),
        ("b.mp4", 0, 125),
        ("b.mp4", 125, 125),
        ("b.mp4", 250, 150),
    ]
    assert [(row["source_start_s"], row["source_end_s"]) for row in rows[1:]] == [(0, 5), (5, 10), (10, 16)]
    assert all(row["status"] == "captioned" and row["is_current"] for row in rows)
    assert rows[0] == at_first[0], "a file with nothing to split off is the clip that it was"
    for row in rows[1:]:
        packed = read_pack(pack_path(copy / "frames" / "b", row["window_id"], PackRule().pack_id))
        numbers = [number_of(simplejpeg.decode_jpeg(jpeg)) for jpeg in packed.jpegs]
        assert numbers == [row["clip_start_frame"] + index for index in row["frame_indices"]]
        assert row["start_frame"] == row["frame_indices"][0] == row["start_s"] == 0

    frames = Files.below(copy / "frames")
    again = run_job(copy, settings=STRIDE)
    assert (again.work, again.new_rows) == ({}, {"runs": 6})
    assert again.counts("raw_clips") == (0, 2, 0)
    back = run_job(copy)
    assert back.work == {}
    assert back.checks == dict.fromkeys(CHECKS, True)
    assert table(copy) == at_first
    assert Files.below(copy / "frames") == frames

    shutil.rmtree(copy / "frames")
    made = reproduce_candidate(RootFolder.at(copy), Ledger(RootFolder.at(copy)), rows[2]["candidate_id"])
    assert made is not None and made["matched"], "a clip that the batch does not show any more can be made again"


def test_scenes_are_clips_that_begin_on_the_frame_of_the_cut(tmp_path):
    uploads = tmp_path / "uploads" / "b"
    uploads.mkdir(parents=True)
    joined(uploads / "film.mp4")
    settings = {"clip.split": "scenes", "clip.min_clip_length_s": 1.0, "clip.max_clip_length_s": 10.0}
    ran = run_job(tmp_path, settings=settings)
    assert ran.checks == dict.fromkeys(CHECKS, True)
    made = {"caption": 4, "enhance": 4, "write_preview": 4}
    assert ran.work == {"inspect_file": 1, "split_file": 1, "cut_clip": 1, **made}
    clips = clips_of(tmp_path, "film.mp4")
    assert [clip["source_start_frame"] for clip in clips] == [0, *CUTS]
    assert [clip["cut_score"] is None for clip in clips] == [True, False, False, False]
    assert all(before["source_end_s"] == after["source_start_s"] for before, after in pairwise(clips))
    [source] = query(tmp_path, "SELECT clip_id FROM uploads")
    assert {clip["source_clip_id"] for clip in clips} == {source["clip_id"]}
    again = run_job(tmp_path, settings=settings)
    assert (again.work, again.new_rows) == ({}, {"runs": 6})


def test_a_decoder_that_kills_its_process_leaves_one_file_unsplit_and_its_old_clip_in_place(copy, monkeypatch):
    (copy / "uploads" / "b" / "b.mp4").rename(copy / "uploads" / "b" / "victim.mp4")
    make_film(copy / "uploads" / "b" / "c.mp4", 200)
    monkeypatch.setattr(raw_clips_asset, "split_file", killers.die_splitting)
    ran = run_job(copy, settings=STRIDE)
    assert ran.ok
    assert ran.counts("raw_clips") == (2, 0, 1)
    assert ran.checks == dict.fromkeys(CHECKS, True)
    [problem] = Ledger(RootFolder.at(copy)).read(problems, "b")
    assert (problem.what, problem.name) == ("split", "victim.mp4")
    assert "signal 9" in (problem.error or "")
    current = {(row["clip_path"], row["clip_start_frame"], row["is_current"]) for row in table(copy)}
    assert current == {
        ("a.mp4", 0, True), ("victim.mp4", 0, False), ("c.mp4", 0, True), ("c.mp4", 125, True),
    }  # fmt: skip
    monkeypatch.undo()
    assert run_job(copy, settings=STRIDE).work == {"split_file": 1, **THREE}


def test_without_the_detector_nothing_is_touched_and_the_message_says_what_to_install(copy, monkeypatch):
    at_first = table(copy)
    monkeypatch.setattr(scenes, "find_spec", lambda name: None)
    ran = run_job(copy, settings={"clip.split": "scenes"})
    assert not ran.ok
    assert "pip install 'caption_assets[scenes]'" in ran.error()
    assert ran.new_rows in ({}, {"runs": 1})
    assert table(copy) == at_first


@pytest.mark.parametrize("name", ["frames", "previews"])
def test_what_is_deleted_of_clips_is_made_again_with_one_decode_of_the_file(copy, name):
    run_job(copy, settings=STRIDE)
    shutil.rmtree(copy / "frames")
    if name == "previews":
        shutil.rmtree(copy / "previews")
        expected = {"cut_clip": 2, "write_preview": 4}
    else:
        expected = {"cut_clip": 2, "caption": 4, "enhance": 4}
    settings = {**STRIDE, "caption.prompt_text": "What is there?"} if name == "frames" else STRIDE
    ran = run_job(copy, settings=settings)
    assert ran.work == expected
    assert ran.checks == dict.fromkeys(CHECKS, True)
