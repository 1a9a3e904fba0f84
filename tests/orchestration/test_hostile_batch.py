"""A batch of damaged files, bombs and endless ones: every file is a row with a reason, and the run is green."""

import pytest

from tests.orchestration.running import CHECKS, query, run_job, table
from tests.video.films import make_film
from tests.video.mutate import MUTATIONS, make_mutants, make_sources
from tests.video.test_hostile import blocks, promised_samples

N_DAMAGED = 52


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    folder = root / "uploads" / "b"
    sources = make_sources(root.parent / "hostile-sources", originals=False, remuxed=False)
    list(make_mutants(sources, folder, N_DAMAGED, 3))
    make_film(folder / "good.mp4", 30)
    promised_samples(folder / "bomb.mp4")
    return run_job(root, settings={"window.window_size": 24, "window.remainder_threshold": 12})


def test_every_damaged_file_is_a_row_and_the_run_is_green(hostile):
    assert hostile.ok, hostile.error()
    assert hostile.checks == dict.fromkeys(CHECKS, True)
    rows = query(hostile.root, "SELECT path, status, error FROM live_uploads")
    assert {row["path"] for row in rows} == {path.name for path in (hostile.root / "uploads" / "b").iterdir()}
    assert {name.split("-")[1] for name in (row["path"] for row in rows) if name[0] == "0"} == set(MUTATIONS)
    assert {row["status"] for row in rows} == {"ok", "quarantined"}
    for row in rows:
        if row["status"] == "quarantined":
            assert row["error"] and "\n" not in row["error"], row
            assert str(hostile.root) not in row["error"], row
    assert "good.mp4" in {row["clip_path"] for row in table(hostile.root)}


def test_windows_that_lack_a_frame_are_errors_with_the_reason_and_the_others_are_captioned(hostile):
    windows = query(hostile.root, "SELECT status, error FROM live_windows")
    lost = [window["error"] for window in windows if window["status"] == "error"]
    assert lost
    assert all(lost)
    captioned = sum(row["status"] == "captioned" for row in table(hostile.root))
    assert captioned == sum(window["status"] == "ok" for window in windows) > 0


def test_a_bomb_is_refused_by_its_header(hostile):
    [row] = query(hostile.root, "SELECT error FROM live_uploads WHERE path = 'bomb.mp4'")
    assert "promises 50,000,000 samples" in row["error"]


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("clip.max_frames", 20, "over 20 frames"),
        ("clip.max_pixels", 10_000, "allowed: up to 10,000"),
        ("clip.max_duration_s", 0.5, "1.2 s long, allowed: up to 0.5 s"),
        ("decode.clip_timeout_s", 1.5, "stopped after 1.5 s"),
    ],
)
def test_a_clip_over_a_limit_of_the_settings_is_quarantined_and_the_others_go_on(
    tmp_path, films, setting, value, reason
):
    folder = tmp_path / "uploads" / "b"
    folder.mkdir(parents=True)
    if setting == "decode.clip_timeout_s":
        # A decoder kept busy for half a minute by a file of half a megabyte's worth of information.
        endless = blocks(folder / "over.webm", b"\x00")
        data = endless.read_bytes()
        cluster = data.index(b"\x1f\x43\xb6\x75")
        endless.write_bytes(data[:cluster] + data[cluster:] * 12)
    else:
        make_film(folder / "over.mp4", 30)
    if setting != "clip.max_pixels":
        make_film(folder / "short.mp4", 8)
    ran = run_job(tmp_path, settings={setting: value})
    assert ran.ok
    rows = {row["path"]: row for row in query(tmp_path, "SELECT path, status, error FROM live_uploads")}
    [over] = [row for name, row in rows.items() if name.startswith("over")]
    assert over["status"] == "quarantined"
    assert reason in over["error"]
    if "short.mp4" in rows:
        assert rows["short.mp4"]["status"] == "ok"
