"""Files that are not what they should be: each is a row with a clear reason, and the rest of its batch is done."""

import av
import numpy as np
import pytest

from caption_assets.assets import raw_clips as raw_clips_asset
from caption_assets.assets import windows as windows_asset
from tests.orchestration import killers
from tests.orchestration.running import CHECKS, query, run_job, table
from tests.video.films import CLIPS, cut, make_film

NAMES = ("with space.mp4", 'it\'s "quoted".mp4', "ünïcödé 影片 🎬.mp4", "new\nline.mp4", "a,b;c*[d]?.mp4", "-rf.mp4")
"""Awkward names of good files. One with a slash or `../` cannot be a file's name."""

REASONS = {
    "empty.mp4": "empty file",
    "garbage.mp4": "not a video",
    "text.mp4": "not a video",
    "concat.mp4": "not a video",
    "sound.mp4": "no video",
    "notes.pdf": "not a video file name",
    "leaves.mp4": "symbolic link that leaves uploads/",
    "nowhere.mp4": "symbolic link to nothing",
    "index lost.mp4": "incomplete",
}
"""Part of the reason that a file is quarantined with."""


def make_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def bad(tmp_path_factory, films):
    root = tmp_path_factory.mktemp("bad")
    folder = root / "uploads" / "b"
    folder.mkdir(parents=True)
    (root / "secret.mp4").write_bytes((films / "c.mp4").read_bytes())
    (folder / "empty.mp4").touch()
    (folder / "garbage.mp4").write_bytes(np.random.default_rng(1).bytes(50_000))
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    (folder / "concat.mp4").write_text(f"ffconcat version 1.0\nfile {root / 'secret.mp4'}\n")
    make_sound(folder / "sound.mp4")
    (folder / "notes.pdf").write_bytes(b"%PDF-1.7")
    (folder / "leaves.mp4").symlink_to(root / "secret.mp4")
    (folder / "nowhere.mp4").symlink_to(root / "gone.mp4")
    cut(CLIPS / "ocean.mp4", folder / "index lost.mp4", 0.5)
    cut(CLIPS / "ocean.webm", folder / "half.webm", 0.5)
    (folder / ".hidden.mp4").touch()
    make_film(folder / "three.mp4", 3)
    make_film(folder / "one.mp4", 1)
    for n, name in enumerate(NAMES):
        make_film(folder / name, 12 + n)
    return run_job(root)


def uploads(root):
    return {row["path"]: row for row in query(root, "SELECT * FROM live_uploads")}


@pytest.mark.parametrize("name", REASONS)
def test_a_file_that_cannot_be_used_is_a_row_with_the_reason(bad, name):
    row = uploads(bad.root)[name]
    assert (row["status"], row["clip_id"]) == ("quarantined", None)
    assert REASONS[name] in row["error"]
    assert str(bad.root) not in row["error"]


def test_the_rest_of_the_batch_is_done_and_the_run_is_green(bad):
    assert bad.ok
    assert bad.checks == dict.fromkeys(CHECKS, True)
    assert bad.counts("raw_clips") == (len(NAMES) + 3, 0, len(REASONS))
    assert {row["status"] for row in table(bad.root)} == {"captioned"}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_an_awkward_name_is_captioned_and_listed_under_it(bad, name):
    [row] = [row for row in table(bad.root) if row["clip_path"] == name]
    assert row["caption"] and (bad.root / row["preview_path"]).is_file()


def test_a_hidden_file_is_no_row(bad):
    assert ".hidden.mp4" not in uploads(bad.root)


def test_a_file_cut_in_the_middle_says_so_and_yields_the_frames_it_holds(bad):
    row = uploads(bad.root)["half.webm"]
    assert row["status"] == "ok"
    assert "240" not in row["error"] and row["error"]
    [clip] = query(bad.root, "SELECT n_frames, flags FROM clips WHERE clip_id = $c", c=row["clip_id"])
    assert 60 < clip["n_frames"] < 180
    assert "truncated" in clip["flags"]
    [window] = [each for each in table(bad.root) if each["clip_path"] == "half.webm"]
    assert window["end_frame"] == clip["n_frames"] - 1
    assert window["caption"]


@pytest.mark.parametrize(("name", "frames"), [("three.mp4", 3), ("one.mp4", 1)])
def test_a_clip_with_fewer_than_four_frames_has_no_window_and_says_so(bad, name, frames):
    row = uploads(bad.root)[name]
    assert row["status"] == "ok"
    [manifest] = query(
        bad.root, "SELECT status, n_windows, error FROM window_sets WHERE clip_id = $c", c=row["clip_id"]
    )
    assert (manifest["status"], manifest["n_windows"]) == ("too_short", 0)
    assert f"{frames} frame" in manifest["error"]
    shown = bad.result.asset_materializations_for_node("windows")[0].metadata["clips without windows"]
    assert name in [record.data["path"] for record in shown.records]


def test_nothing_is_read_again_while_the_files_stay_as_they_are(bad):
    again = run_job(bad.root)
    assert again.work == {}
    assert again.new_rows == {"runs": 6}


@pytest.mark.parametrize(
    ("module", "name", "killer", "table_", "n"),
    [
        (raw_clips_asset, "inspect_file", killers.die_inspecting, "uploads", 2),
        (windows_asset, "cut_clip", killers.die_cutting, "window_sets", 1),
    ],
    ids=["raw_clips", "windows"],
)
def test_a_decoder_that_kills_its_process_costs_one_clip(copy, films, monkeypatch, module, name, killer, table_, n):
    for index, film in enumerate(("victim.mp4", "other.mp4")):
        make_film(copy / "uploads" / "b" / film, 50 + index)
    monkeypatch.setattr(module, name, killer)
    ran = run_job(copy)
    assert ran.ok
    assert ran.checks == dict.fromkeys(CHECKS, True)
    asset = "raw_clips" if table_ == "uploads" else "windows"
    made = 1  # other.mp4
    assert ran.counts(asset)[0] == made
    assert ran.counts(asset)[2] == 1
    status = "quarantined" if table_ == "uploads" else "error"
    [row] = query(copy, f"SELECT error FROM {table_} WHERE status = $s", s=status)
    assert "the decoder crashed (signal 9" in row["error"]
    assert {r["clip_path"] for r in table(copy)} == {"a.mp4", "b.mp4", "other.mp4"}
