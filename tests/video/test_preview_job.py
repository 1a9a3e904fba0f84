"""Previews from the clip: the right frames at the right times, one decode for all windows, nothing half made."""

import io
from dataclasses import replace
from pathlib import Path

import av
import pytest

from caption_assets.ids import ClipId, WindowId
from caption_assets.settings.groups import ClipSettings, PreviewSettings, WindowSettings
from caption_assets.video import preview_job
from caption_assets.video.demux import UnreadableVideo
from caption_assets.video.pack import plan_clip
from caption_assets.video.preview import check_preview
from caption_assets.video.preview_job import ClipPreviewJob, ShownWindow, write_clip_previews
from caption_assets.video.probe import probe_clip
from tests.video.films import make_film, number_of


def job_of(clip: Path, folder: Path, *, fps: float = 5.0, form: str = "mp4", window_size: int = 50) -> ClipPreviewJob:
    planned = plan_clip(probe_clip(clip), WindowSettings(window_size=window_size, remainder_threshold=10))
    windows = tuple(
        ShownWindow(WindowId(f"w{i}"), window.start_frame, window.end_frame, window.start_s, window.end_s)
        for i, window in enumerate(planned)
    )
    status = clip.stat()
    return ClipPreviewJob(
        ClipId("c"),
        clip,
        status.st_size,
        status.st_mtime_ns,
        windows,
        folder,
        PreviewSettings(target_fps=fps, target_height=96, quality=90, preview_format=form),
        ClipSettings(),
    )


def shown(path: Path) -> list[tuple[float, int]]:
    """(seconds from the window's start, number of the clip's frame) of each picture."""
    with av.open(io.BytesIO(path.read_bytes())) as container:
        return [
            (round(float(frame.pts * frame.time_base), 3), number_of(frame.to_ndarray(format="rgb24")))
            for frame in container.decode(video=0)
        ]


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames each decode was asked for."""
    calls: list[int] = []
    real = preview_job.decode_frames

    def counted(path, facts, wanted, limits):
        calls.append(len(wanted))
        return real(path, facts, wanted, limits)

    monkeypatch.setattr(preview_job, "decode_frames", counted)
    return calls


def test_windows_show_the_frames_of_the_clip_at_their_times_with_one_decode(tmp_path, decodes):
    job = job_of(make_film(tmp_path / "a.mp4", 100), tmp_path / "previews")
    made = write_clip_previews(job).windows
    assert decodes == [20]
    assert [each.problem for each in made] == [None, None]
    for window, each in zip(job.windows, made, strict=True):
        numbers = [window.start_frame + 5 * i for i in range(10)]
        assert shown(job.folder / each.name) == [(round(0.2 * i, 3), number) for i, number in enumerate(numbers)]
        assert check_preview((job.folder / each.name).read_bytes()) == (each.width, each.height, each.n_frames)
    assert files_in(job.folder) == ["w0.jpg", "w0.mp4", "w1.jpg", "w1.mp4"]


@pytest.mark.parametrize("form", ["webp", "avif", "mp4"])
def test_every_format_can_be_made_from_the_clip(tmp_path, form):
    job = job_of(make_film(tmp_path / "a.mp4", 100), tmp_path / "previews", form=form)
    for each in write_clip_previews(job).windows:
        assert each.problem is None
        assert check_preview((job.folder / each.name).read_bytes()) == (160, 96, 10)


def test_a_rate_above_that_of_the_clip_shows_every_frame_once_and_says_so(tmp_path):
    job = job_of(make_film(tmp_path / "a.mp4", 12), tmp_path / "previews", fps=60.0)
    [made] = write_clip_previews(job).windows
    assert [number for _, number in shown(job.folder / made.name)] == list(range(12))
    assert "below target_fps" in made.warnings[0]


def test_only_the_windows_that_are_asked_for_are_decoded(tmp_path, decodes):
    job = job_of(make_film(tmp_path / "a.mp4", 100), tmp_path / "previews")
    [made] = write_clip_previews(replace(job, windows=job.windows[1:])).windows
    assert decodes == [10]
    assert shown(job.folder / made.name)[0] == (0.0, 50)
    assert files_in(job.folder) == ["w1.jpg", "w1.mp4"]


def test_a_clip_that_is_a_part_of_its_file_shows_its_own_frames(tmp_path):
    job = job_of(make_film(tmp_path / "a.mp4", 100), tmp_path / "previews")
    part = ShownWindow(WindowId("w"), 10, 29, 0.4, 1.2, clip_start_frame=40)
    [made] = write_clip_previews(replace(job, windows=(part,))).windows
    assert shown(job.folder / made.name) == [(0.0, 50), (0.2, 55), (0.4, 60), (0.6, 65)]
    beyond = replace(part, clip_start_frame=71)
    [made] = write_clip_previews(replace(job, windows=(beyond,))).windows
    assert "it has 100 frames now" in str(made.problem)


def test_frames_placed_by_their_order_are_the_right_ones(tmp_path):
    clip = make_film(tmp_path / "a.avi", 60)
    assert not probe_clip(clip).by_pts
    job = job_of(clip, tmp_path / "previews", window_size=60)
    [made] = write_clip_previews(job).windows
    assert [number for _, number in shown(job.folder / made.name)] == [5 * i for i in range(12)]


def test_a_clip_that_changed_since_it_was_registered_is_not_shown(tmp_path):
    job = job_of(make_film(tmp_path / "a.mp4", 100), tmp_path / "previews")
    make_film(job.location, 99)
    assert [each.problem for each in write_clip_previews(job).windows] == [
        "the file has changed since it was registered"
    ] * 2


def test_a_clip_that_is_gone_is_a_problem_of_each_window(tmp_path):
    job = job_of(make_film(tmp_path / "a.mp4", 100), tmp_path / "previews")
    job.location.unlink()
    assert all(each.problem for each in write_clip_previews(job).windows)


def damaged(path: Path, first: int, last: int) -> Path:
    """A film of key frames only whose pictures `first` to `last` are noise."""
    make_film(path, 100, options={"g": "1", "bf": "0"})
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for position, size in packets[first : last + 1]:
        data[position + 8 : position + size] = b"\xff" * (size - 8)
    path.write_bytes(data)
    return path


def test_frames_that_do_not_decode_are_left_out_and_said(tmp_path):
    job = job_of(damaged(tmp_path / "a.mp4", 60, 66), tmp_path / "previews")
    first, second = write_clip_previews(job).windows
    assert (first.problem, first.warnings[1:]) == (None, ())
    assert second.problem is None
    assert any("2 of 10 frames do not decode" in warning for warning in second.warnings)
    assert [number for _, number in shown(job.folder / second.name)] == [50, 55, 70, 75, 80, 85, 90, 95]
    assert [time for time, _ in shown(job.folder / second.name)][:3] == [0.0, 0.2, 0.8]


def test_a_window_of_which_nothing_decodes_is_a_problem_and_harms_no_other(tmp_path):
    job = job_of(damaged(tmp_path / "a.mp4", 50, 99), tmp_path / "previews")
    first, second = write_clip_previews(job).windows
    assert first.problem is None
    assert second.problem == "none of its frames decodes"
    assert files_in(job.folder) == ["w0.jpg", "w0.mp4"]


def test_a_decode_that_ends_early_leaves_whole_previews_and_no_half_one(tmp_path, monkeypatch):
    real = preview_job.decode_frames

    def ends_early(path, facts, wanted, limits):
        for index, frame in real(path, facts, wanted, limits):
            if index >= 70:
                raise UnreadableVideo("the decoder gave up")
            yield index, frame

    monkeypatch.setattr(preview_job, "decode_frames", ends_early)
    job = job_of(make_film(tmp_path / "a.mp4", 100), tmp_path / "previews")
    first, second = write_clip_previews(job).windows
    assert (first.problem, second.problem) == (None, "the decoder gave up")
    assert files_in(job.folder) == ["w0.jpg", "w0.mp4"]


def test_times_out_of_order_start_again_without_trust_in_times(tmp_path, monkeypatch):
    real = preview_job.decode_frames
    tried = []

    def out_of_order_at_first(path, facts, wanted, limits):
        tried.append(facts.by_pts)
        for index, frame in real(path, facts, wanted, limits):
            if facts.by_pts and index >= 60:
                raise preview_job.TimesOutOfOrder("the frames are not in the order of their times")
            yield index, frame

    monkeypatch.setattr(preview_job, "decode_frames", out_of_order_at_first)
    job = job_of(make_film(tmp_path / "a.mp4", 100), tmp_path / "previews")
    assert [each.problem for each in write_clip_previews(job).windows] == [None, None]
    assert tried == [True, False]
    assert files_in(job.folder) == ["w0.jpg", "w0.mp4", "w1.jpg", "w1.mp4"]
