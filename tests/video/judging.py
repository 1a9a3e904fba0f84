"""What became of a damaged file, compared with a plain decode of the file that it was made from."""

import hashlib
import resource
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from caption_assets.ids import clip_id, digest
from caption_assets.settings.groups import ClipSettings, WindowSettings
from caption_assets.uploads.inspect import InspectJob, inspect_file
from caption_assets.video.decode import TimesOutOfOrder, decode_frames
from caption_assets.video.demux import UnreadableVideo
from caption_assets.video.pack import PackRule, pack_path, read_pack
from caption_assets.video.probe import probe_clip
from caption_assets.video.window_job import CutJob, FileClip, cut_clip
from tests.video.mutate import Mutant

LIMITS = ClipSettings(max_pixels=4096 * 4096, max_frames=100_000, max_duration_s=3600)
WINDOWS = WindowSettings(window_size=24, remainder_threshold=12, sampling_fps=8.0)
"""Small windows, so that damage in one leaves others."""


@dataclass(frozen=True)
class Truth:
    """Frames of an unharmed file as the library's own plain loop decodes them: pts and fingerprint, in order."""

    pts: tuple[int | None, ...]
    prints: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """A damaged file and the truth about all files that its bytes may come from. folder: where packs may be left."""

    mutant: Mutant
    truths: Mapping[Path, Truth]
    folder: Path


@dataclass(frozen=True)
class Verdict:
    """What became of a file.

    outcome: "quarantined", "ok" (every window is there), "partial" (some are errors) or "lost" (all are).
    n_listed, n_clean: frames that the probe lists, and that the decoder hands out.
    n_foreign: frames handed out that no unharmed file has. n_misplaced: frames of the file at another place than there.
    """

    outcome: str
    reason: str
    truncated: bool = False
    n_listed: int = 0
    n_clean: int = 0
    n_foreign: int = 0
    n_misplaced: int = 0
    seconds: float = 0.0
    rss_mb: int = 0
    windows: Mapping[str, int] = field(default_factory=dict)


def fingerprint(frame: av.VideoFrame) -> str:
    """Hash of format, size and the visible part of each plane, bit by bit."""
    hasher = hashlib.blake2b(f"{frame.format.name} {frame.width}x{frame.height}".encode(), digest_size=8)
    for plane, component in zip(frame.planes, frame.format.components, strict=False):
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
        hasher.update(np.ascontiguousarray(rows[:, : plane.width * -(-component.bits // 8)]).tobytes())
    return hasher.hexdigest()


def truth_of(path: Path) -> Truth:
    """Decode an unharmed file from its first to its last frame."""
    with av.open(str(path)) as container:
        frames = [(frame.pts, fingerprint(frame)) for frame in container.decode(video=0)]
    return Truth(tuple(pts for pts, _ in frames), tuple(print_ for _, print_ in frames))


def judge(trial: Trial) -> Verdict:
    """Take a damaged file the way of an upload: inspected, cut, packed; then look at what was handed out."""
    start = time.monotonic()
    path = trial.mutant.path
    inspected = inspect_file(InspectJob(path.name, path, LIMITS))
    if inspected.facts is None:
        return Verdict("quarantined", inspected.problem or "", seconds=time.monotonic() - start, rss_mb=_rss_mb())
    status = path.stat()
    folder = trial.folder / path.name
    rule = PackRule(28, 90)
    [cut] = cut_clip(
        CutJob(
            (FileClip(clip_id(inspected.sha256)),), path, status.st_size, status.st_mtime_ns, f"r{digest('fuzz')}",
            WINDOWS, rule, folder, LIMITS,
        )
    )  # fmt: skip
    outcomes = Counter(window.outcome.status for window in cut.windows)
    problem = cut.problem or next((w.outcome.error for w in cut.windows if w.outcome.error), None)
    outcome = "ok" if not problem else "partial" if outcomes["ok"] else "lost"
    packed = [index for w in cut.windows if w.outcome.status == "ok" for index in w.outcome.window.frame_indices]
    for window in cut.windows:
        if window.outcome.status == "ok":
            pack = read_pack(pack_path(folder, window.window_id, rule.pack_id))
            assert len(pack.jpegs) == len(window.outcome.window.frame_indices)
    shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - start
    clean, foreign, misplaced = _compare(trial, packed)
    return Verdict(
        outcome,
        problem or "; ".join(inspected.facts.notes),
        "truncated" in inspected.facts.flags,
        cut.n_frames,
        clean,
        foreign,
        misplaced,
        seconds,
        _rss_mb(),
        dict(outcomes),
    )


def _compare(trial: Trial, packed: list[int]) -> tuple[int, int, int]:
    """Return how many frames are handed out, are of no unharmed file, and are at another place than in the file.

    All frames are asked for, then only the packed ones, which may be decoded another way.
    """
    facts = probe_clip(trial.mutant.path, LIMITS)
    truth = trial.truths[trial.mutant.source]
    known = {print_ for each in trial.truths.values() for print_ in each.prints}
    by_pts = dict(zip(truth.pts, truth.prints, strict=True))
    foreign, misplaced = set(), set()
    n_clean = 0
    for wanted in (range(facts.n_frames), sorted(set(packed))):
        try:
            for index, frame in decode_frames(trial.mutant.path, facts, wanted, LIMITS):
                print_ = fingerprint(frame)
                n_clean += isinstance(wanted, range)
                if print_ not in known:
                    foreign.add(index)
                elif facts.by_pts:
                    if by_pts.get(frame.pts) != print_:
                        misplaced.add(index)
                elif index >= len(truth.prints) or truth.prints[index] != print_:
                    misplaced.add(index)
        except (UnreadableVideo, TimesOutOfOrder):
            pass
    return n_clean, len(foreign), len(misplaced)


def _rss_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
