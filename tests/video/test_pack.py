from dataclasses import replace
from itertools import pairwise

import av
import numpy as np
import pytest
import simplejpeg

from caption_assets.settings.groups import WindowSettings
from caption_assets.video.pack import (
    CorruptPack,
    MissingPack,
    PackRule,
    pack_path,
    pack_windows,
    plan_clip,
    read_pack,
)
from caption_assets.video.probe import probe_clip
from tests.video.films import CLIPS, HEIGHT, make_film, number_of, pictures_in_full
from tests.video.test_decode import damage_packet

RULE = PackRule()


def pack(path, folder, window_rule=WindowSettings(), rule=RULE):  # noqa: B008 - frozen
    facts = probe_clip(path)
    windows = [(f"w{index}", window) for index, window in enumerate(plan_clip(facts, window_rule))]
    return facts, pack_windows(path, facts, windows, rule, folder)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def shrunk(picture, height, width):
    """Area average, by repeating pixels to a common multiple: slow, exact, and not the code under test."""
    rows = np.linspace(0, picture.shape[0], height + 1)
    columns = np.linspace(0, picture.shape[1], width + 1)

    def average(values, edges):
        sums = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
        low = np.floor(edges).astype(int)
        at_edges = sums[low] + (edges - low)[:, None, None] * (sums[np.minimum(low + 1, len(values))] - sums[low])
        return np.diff(at_edges, axis=0) / np.diff(edges)[:, None, None]

    down = average(picture.astype(float), rows)
    return average(down.transpose(1, 0, 2), columns).transpose(1, 0, 2)


@pytest.mark.parametrize("name", sorted(path.name for path in CLIPS.iterdir()))
def test_packed_frames_are_those_of_a_full_decode_by_index(name, tmp_path):
    facts, outcomes = pack(CLIPS / name, tmp_path)
    assert [outcome.status for outcome in outcomes] == ["ok"]
    outcome = outcomes[0]
    packed = read_pack(pack_path(tmp_path, "w0", RULE.pack_id))
    assert packed.times_s == outcome.window.frame_times_s
    assert (packed.height, packed.width) == (outcome.height, outcome.width)
    assert packed.height % 32 == packed.width % 32 == 0
    expected = pictures_in_full(CLIPS / name)
    assert len(expected) == facts.n_frames
    for index, jpeg in list(zip(outcome.window.frame_indices, packed.jpegs, strict=True))[::4]:
        got = simplejpeg.decode_jpeg(jpeg)
        assert got.shape == (packed.height, packed.width, 3)
        # Enlarged sides differ by the interpolation, so compare both at half the packed size.
        half = (packed.height // 2, packed.width // 2)
        assert psnr(shrunk(got, *half), shrunk(expected[index], *half)) > 32


def test_each_packed_frame_shows_the_number_it_was_planned_with(tmp_path):
    film = make_film(tmp_path / "film.mp4", 700, options={"bf": "2", "g": "60", "preset": "ultrafast"})
    facts, outcomes = pack(film, tmp_path / "frames")
    assert [(o.window.start_frame, o.window.end_frame) for o in outcomes] == [(0, 255), (256, 511), (512, 699)]
    for number, outcome in enumerate(outcomes):
        packed = read_pack(pack_path(tmp_path / "frames", f"w{number}", RULE.pack_id))
        shown = tuple(number_of(simplejpeg.decode_jpeg(jpeg)) for jpeg in packed.jpegs)
        assert shown == outcome.window.frame_indices
        assert outcome.window.frame_times_s == tuple(facts.times_s[index] for index in shown)
    assert sorted(p.name for p in (tmp_path / "frames").iterdir()) == [f"w{n}.{RULE.pack_id}.parquet" for n in range(3)]


def test_windows_follow_each_other_without_a_gap_to_the_end_of_the_clip(tmp_path):
    facts = probe_clip(make_film(tmp_path / "film.mp4", 100))
    windows = plan_clip(facts, WindowSettings(window_size=30, remainder_threshold=5))
    assert windows[0].start_s == 0.0
    assert all(before.end_s == after.start_s for before, after in pairwise(windows))
    assert windows[-1].end_s == facts.duration_s == pytest.approx(4.0)


def test_a_clip_under_four_frames_has_no_window(tmp_path):
    assert plan_clip(probe_clip(make_film(tmp_path / "film.mp4", 3)), WindowSettings()) == []


def test_a_damaged_window_is_an_error_with_times_and_harms_no_other(tmp_path):
    film = make_film(tmp_path / "film.mp4", 72, options={"bf": "0", "g": "24", "sc_threshold": "0", "b": "2M"})
    damage_packet(film, tmp_path / "broken.mp4", 26)
    rule = WindowSettings(window_size=24, remainder_threshold=4, sampling_fps=10.0)
    _, outcomes = pack(tmp_path / "broken.mp4", tmp_path / "frames", rule)
    assert [outcome.status for outcome in outcomes] == ["ok", "error", "ok"]
    assert "sampled frames do not decode, the first at 1." in outcomes[1].error
    assert (outcomes[1].height, outcomes[1].width, outcomes[1].bytes) == (0, 0, 0)
    assert sorted(p.name[:2] for p in (tmp_path / "frames").iterdir()) == ["w0", "w2"]


def test_frames_without_certain_order_leave_no_pack_at_all(tmp_path):
    film = make_film(tmp_path / "film.avi", 60, options={"bf": "3"})
    facts = probe_clip(film)
    windows = [("w0", plan_clip(facts, WindowSettings())[0])]
    wrong = replace(facts, n_frames=61, pts=(*facts.pts, facts.pts[-1] + 1))
    [outcome] = pack_windows(film, wrong, windows, RULE, tmp_path / "frames")
    assert outcome.status == "error"
    assert "no frame is certain" in outcome.error
    assert list((tmp_path / "frames").iterdir()) == []


def test_a_file_that_is_gone_is_an_error_of_every_window(tmp_path):
    film = make_film(tmp_path / "film.mp4", 60)
    facts = probe_clip(film)
    windows = [("w0", plan_clip(facts, WindowSettings())[0])]
    film.unlink()
    [outcome] = pack_windows(film, facts, windows, RULE, tmp_path / "frames")
    assert outcome.status == "error"


def test_times_that_prove_wrong_make_the_frames_match_by_order(tmp_path):
    film = make_film(tmp_path / "film.avi", 40, options={"bf": "3"})
    facts = probe_clip(film)
    with av.open(str(film)) as container:
        pts = sorted(packet.pts for packet in container.demux(video=0) if packet.size)
    claimed = replace(facts, by_pts=True, pts=tuple(pts))
    window = plan_clip(claimed, WindowSettings())[0]
    [outcome] = pack_windows(film, claimed, [("w0", window)], RULE, tmp_path)
    assert outcome.status == "ok"
    packed = read_pack(pack_path(tmp_path, "w0", RULE.pack_id))
    assert tuple(number_of(simplejpeg.decode_jpeg(jpeg)) for jpeg in packed.jpegs) == window.frame_indices


def test_a_ribbon_is_an_error_that_names_the_aspect_ratio(tmp_path):
    film = make_film(tmp_path / "film.mp4", 8)
    facts = replace(probe_clip(film), display_width=HEIGHT * 250)
    [outcome] = pack_windows(film, facts, [("w0", plan_clip(facts, WindowSettings())[0])], RULE, tmp_path / "frames")
    assert outcome.status == "error"
    assert "aspect ratio" in outcome.error


def test_packing_again_gives_the_same_bytes(tmp_path):
    pack(CLIPS / "bigbuckbunny.mp4", tmp_path / "a")
    pack(CLIPS / "bigbuckbunny.mp4", tmp_path / "b")
    name = f"w0.{RULE.pack_id}.parquet"
    assert read_pack(tmp_path / "a" / name) == read_pack(tmp_path / "b" / name)


def test_a_missing_pack_and_a_broken_one_are_told_apart(tmp_path):
    with pytest.raises(MissingPack, match="pack the window again"):
        read_pack(tmp_path / "none.parquet")
    pack(make_film(tmp_path / "film.mp4", 8), tmp_path)
    path = pack_path(tmp_path, "w0", RULE.pack_id)
    whole = path.read_bytes()
    for broken in (b"", b"text", whole[: len(whole) // 2], whole[:-5], whole[: len(whole) // 2] + whole[-200:]):
        path.write_bytes(broken)
        with pytest.raises(CorruptPack):
            read_pack(path)


def test_another_rule_is_another_pack():
    ids = {PackRule().pack_id, PackRule(factor=28).pack_id, PackRule(quality=90).pack_id}
    assert len(ids) == 3
    assert PackRule().pack_id == PackRule(32, 95).pack_id


@pytest.mark.parametrize(
    ("make", "allowed"),
    [
        (lambda: WindowSettings(window_size=3), "greater than or equal to 4"),
        (lambda: WindowSettings(remainder_threshold=0), "greater than or equal to 1"),
        (lambda: WindowSettings(sampling_fps=0), "greater than 0"),
    ],
)
def test_a_wrong_rule_is_refused_when_it_is_made(make, allowed):
    with pytest.raises(ValueError, match=allowed):
        make()
