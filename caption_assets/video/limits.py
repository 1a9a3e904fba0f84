"""From settings to what the video code takes: limits of a probe, rules of windows and packs, number of workers."""

import os
from typing import Literal

from caption_assets.settings import Settings
from caption_assets.video.pack import PackRule, WindowRule
from caption_assets.video.probe import ProbeLimits
from caption_assets.video.splitting import SplitRule


def probe_limits(settings: Settings) -> ProbeLimits:
    """Return what a clip must keep to, to be read at all."""
    return ProbeLimits(max_pixels=settings.max_pixels, max_duration_s=settings.max_duration_s)


def window_rule(settings: Settings) -> WindowRule:
    """Return which frames a window has, and which of them are sampled."""
    return WindowRule(settings.window_size, settings.remainder_threshold, settings.sampling_fps)


def split_rule(settings: Settings) -> SplitRule:
    """Return how a file is split; only where the setting `split` is not none."""
    how: Literal["stride", "scenes"] = "scenes" if settings.split == "scenes" else "stride"
    return SplitRule(
        how=how,
        length_s=settings.split_length_s,
        min_length_s=settings.min_clip_length_s,
        max_length_s=settings.max_clip_length_s,
        threshold=settings.scene_threshold,
    )


def pack_rule(settings: Settings) -> PackRule:
    """Return how packed frames look."""
    return PackRule(settings.frame_factor, settings.frame_quality)


def worker_count(settings: Settings, n_items: int) -> int:
    """Return how many worker processes to use for `n_items`: one a core unless set, never more than items."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(settings.workers or cores, n_items))
