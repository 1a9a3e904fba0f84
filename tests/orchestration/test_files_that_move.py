"""Files that are renamed, removed, repaired or damaged between two runs."""

import json
import subprocess
import sys

import pytest

from caption_assets.assets import raw_clips
from caption_assets.ledger import backup
from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder
from tests.orchestration.running import query, run_job, table
from tests.video.films import make_film
from tests.video.worker_functions import take_too_long


def uploads_of(root, batch="b"):
    rows = query(root, "SELECT path, status, error FROM live_uploads WHERE batch = $batch ORDER BY path", batch=batch)
    return {row["path"]: row["status"] for row in rows}


def test_a_renamed_file_keeps_its_captions_under_its_new_name(copy):
    folder = copy / "uploads" / "b"
    before = {row["window_id"]: row["caption"] for row in table(copy)}
    (folder / "a.mp4").rename(folder / "z.mp4")
    ran = run_job(copy)
    assert ran.work == {"inspect_file": 1}
    assert uploads_of(copy) == {"a.mp4": "gone", "b.mp4": "ok", "z.mp4": "ok"}
    assert {row["window_id"]: row["caption"] for row in table(copy)} == before
    assert {row["clip_path"] for row in table(copy)} == {"b.mp4", "z.mp4"}
    assert run_job(copy).new_rows == {"runs": 6}


def test_a_renamed_file_can_be_cut_anew(copy):
    folder = copy / "uploads" / "b"
    (folder / "a.mp4").rename(folder / "z.mp4")
    ran = run_job(copy, settings={"window.window_size": 10, "window.remainder_threshold": 5})
    assert ran.ok
    assert ran.counts("windows")[2] == 0
    assert all(row["is_current"] for row in table(copy))


def test_the_captions_of_a_removed_file_are_served_until_a_takedown(copy):
    before = table(copy)
    (copy / "uploads" / "b" / "a.mp4").unlink()
    ran = run_job(copy)
    assert ran.ok
    assert table(copy) == before
    assert uploads_of(copy)["a.mp4"] == "gone"


def test_a_removed_file_that_should_be_cut_anew_is_said_to_be_gone_and_its_old_captions_are_not_current(copy):
    (copy / "uploads" / "b" / "a.mp4").unlink()
    ran = run_job(copy, settings={"window.window_size": 20, "window.remainder_threshold": 10})
    assert ran.ok
    assert "not in uploads/ any more" in str(ran.shown("windows")["clips without windows"].records[0].data["error"])
    assert {row["clip_path"]: row["is_current"] for row in table(copy)} == {"a.mp4": False, "b.mp4": True}


def test_a_run_that_makes_no_window_does_not_say_that_it_made_one(copy):
    (copy / "uploads" / "b" / "a.mp4").unlink()
    run_job(copy, settings={"window.window_size": 20, "window.remainder_threshold": 10})
    again = run_job(copy, settings={"window.window_size": 20, "window.remainder_threshold": 10})
    assert again.counts("windows")[0] == 0


def test_a_file_that_comes_back_is_looked_at_again(copy):
    file = copy / "uploads" / "b" / "a.mp4"
    away = copy / "away.mp4"
    file.rename(away)
    run_job(copy)
    away.rename(file)
    run_job(copy)
    assert uploads_of(copy)["a.mp4"] == "ok"


def test_a_link_that_is_replaced_by_the_file_it_led_to_is_no_longer_quarantined(films, tmp_path):
    folder = tmp_path / "uploads" / "b"
    folder.mkdir(parents=True)
    (folder / "a.mp4").symlink_to(films / "a.mp4")
    run_job(tmp_path)
    assert uploads_of(tmp_path) == {"a.mp4": "quarantined"}
    (folder / "a.mp4").unlink()
    (folder / "a.mp4").hardlink_to(films / "a.mp4")
    run_job(tmp_path)
    assert uploads_of(tmp_path) == {"a.mp4": "ok"}


def test_a_clip_that_took_too_long_is_tried_again(films, tmp_path, monkeypatch):
    folder = tmp_path / "uploads" / "b"
    folder.mkdir(parents=True)
    (folder / "a.mp4").hardlink_to(films / "a.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(raw_clips, "inspect_file", take_too_long)
        run_job(tmp_path, settings={"decode.clip_timeout_s": 0.5})
    assert uploads_of(tmp_path) == {"a.mp4": "quarantined"}
    run_job(tmp_path)
    assert uploads_of(tmp_path) == {"a.mp4": "ok"}


def test_a_batch_whose_folder_is_gone_does_not_stop_the_others(films, tmp_path):
    for batch in ("b1", "b2", "b3"):
        (tmp_path / "uploads" / batch).mkdir(parents=True)
    make_film(tmp_path / "uploads" / "b3" / "x.mp4", 20)
    (tmp_path / "uploads" / "b1" / "a.mp4").hardlink_to(films / "a.mp4")
    run_job(tmp_path, "b1")
    (tmp_path / "uploads" / "b1" / "a.mp4").unlink()
    (tmp_path / "uploads" / "b1").rmdir()
    (tmp_path / "uploads" / "b1x").symlink_to(tmp_path)  # so that the partition before b2 has no folder
    ran = run_job(tmp_path, "b1x", last_batch="b3")
    assert ran.ok
    assert [row["status"] for row in table(tmp_path, "b3")] == ["captioned"]
    assert table(tmp_path, "b1x") == []


def test_a_batch_may_have_an_odd_name(tmp_path):
    batches = sorted(["a[1]*", "-50% off?", "über 'x', \"y\""])
    for number, batch in enumerate(batches):
        (tmp_path / "uploads" / batch).mkdir(parents=True)
        make_film(tmp_path / "uploads" / batch / "a [1].mp4", 10 + number)
    ran = run_job(tmp_path, batches[0], last_batch=batches[-1])
    assert ran.ok
    assert ran.work["cut_clip"] == ran.work["write_preview"] == len(batches)
    for batch in batches:
        assert [row["status"] for row in table(tmp_path, batch)] == ["captioned"]
    assert run_job(tmp_path, batches[0], last_batch=batches[-1]).work == {}


def test_a_torn_pack_is_made_again_by_the_stage_that_needs_it(copy):
    for pack in (copy / "frames" / "b").iterdir():
        content = pack.read_bytes()
        pack.unlink()  # it is a link to the pack of another root
        pack.write_bytes(content[:-10])
    for preview in (copy / "previews" / "b").iterdir():
        preview.unlink()
    ran = run_job(copy)
    assert ran.work == {"cut_clip": 2, "write_preview": 3}
    assert ran.counts("previews") == (3, 0, 0)


@pytest.mark.parametrize(
    ("lost", "work", "asset", "counts"),
    [("clips", {"inspect_file": 2}, "raw_clips", (2, 0, 0)), ("windows", {"cut_clip": 2}, "windows", (3, 0, 0))],
)
def test_what_a_restore_had_to_leave_out_is_made_again(copy, lost, work, asset, counts):
    before, root = table(copy), RootFolder.at(copy)
    with Ledger(root).session() as session:
        backup.write_backup(session, copy / "backup")
    saved = copy / "backup" / f"{lost}.parquet"
    saved.write_bytes(saved.read_bytes()[:100])
    [sentence] = backup.restore(root, copy / "backup")
    assert str(saved) in sentence
    ran = run_job(copy)
    assert ran.ok
    assert ran.work == work
    assert ran.counts(asset) == counts
    assert [row["caption"] for row in table(copy)] == [row["caption"] for row in before]


def test_an_original_caption_that_is_changed_back_brings_back_its_decision(films, tmp_path):
    folder = tmp_path / "uploads" / "b"
    folder.mkdir(parents=True)
    (folder / "a.mp4").hardlink_to(films / "a.mp4")
    settings = {"caption.caption_num": 6, "retention.keep_candidate_mode": "similar_one_simhash"}
    run_job(tmp_path, settings={**settings, "retention.keep_candidate_mode": "all"})
    [row] = table(tmp_path)
    served = {}
    for step, original in enumerate([row["captions"][0], row["captions"][-1], row["captions"][0]]):
        (folder / "a.txt").write_text(original)
        run_job(tmp_path, settings=settings)
        served[step] = (table(tmp_path)[0]["original_caption"], table(tmp_path)[0]["caption"])
    assert served[0] == (row["captions"][0], row["captions"][0])
    assert served[1] == (row["captions"][-1], row["captions"][-1])
    assert served[2] == served[0]


TWO_AT_ONCE = """
import sys
from caption_assets.cli.main import cli
cli.main(["run", sys.argv[1], "--batch", "b", "--root", sys.argv[2], "--json"], standalone_mode=False)
"""


def test_two_runs_of_one_batch_at_once_do_the_work_once(films, tmp_path):
    root = tmp_path / "root"
    command = [sys.executable, "-X", "faulthandler", "-c", TWO_AT_ONCE, str(films), str(root)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], [err for _, err in said]
    answers = [json.loads(out) for out, _ in said]
    for asset in ("windows", "vl_captions", "enhanced_captions", "previews"):
        rows = [row for answer in answers for row in answer["assets"] if row["asset"] == asset]
        assert sorted((row["new"], row["reused"]) for row in rows) == [(0, 4), (4, 0)], asset
