"""From settings to what the video code takes: limits of a probe, rules of windows and packs, number of workers."""

from typing import Literal, cast

from caption_assets.captioning.drift import DriftLimits
from caption_assets.cores import usable_cores
from caption_assets.settings import Settings, SettingsError
from caption_assets.video.duplicates import DedupeMode, DedupeRule
from caption_assets.video.pack import PackRule, WindowRule
from caption_assets.video.preview import PreviewRule
from caption_assets.video.probe import ProbeLimits
from caption_assets.video.splitting import SplitRule
from caption_assets.video.workers import WorkerLimits

PACKETS_PER_FRAME = 2
"""Packets of the video stream that may come on each displayed frame: codecs hide at most one reference a frame."""


def probe_limits(settings: Settings) -> ProbeLimits:
    """Return what a clip must keep to, to be read at all."""
    return ProbeLimits(
        max_pixels=settings.max_pixels,
        max_streams=settings.max_streams,
        max_frames=settings.max_frames,
        max_packets=PACKETS_PER_FRAME * settings.max_frames,
        max_duration_s=settings.max_duration_s,
    )


def window_rule(settings: Settings) -> WindowRule:
    """Return which frames a window has, and which of them are sampled."""
    return WindowRule(settings.window_size, settings.remainder_threshold, settings.sampling_fps)


def dedupe_rule(settings: Settings) -> DedupeRule:
    """Return which windows are collapsed into the one before them."""
    return DedupeRule(cast("DedupeMode", settings.dedupe_windows), settings.dedupe_distance)


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


def preview_rule(settings: Settings) -> PreviewRule:
    """Return how previews look.

    Raises:
        SettingsError: this machine cannot write preview_format; the message names the formats it can write.
    """
    try:
        return PreviewRule(
            settings.target_fps,
            settings.target_height,
            settings.quality,
            settings.compression_level,
            settings.preview_format,
        )
    except ValueError as fault:
        raise SettingsError(str(fault)) from None


def worker_limits(settings: Settings, n_items: int) -> WorkerLimits:
    """Return how many workers there are for `n_items`, one a core unless set, and what an item may cost."""
    return {
        "workers": max(1, min(settings.workers or usable_cores(), n_items)),
        "timeout_s": settings.clip_timeout_s,
        "memory_bytes": settings.worker_memory_mb << 20,
    }


def drift_limits(settings: Settings) -> DriftLimits:
    """Return the limits of `settings`."""
    chosen = settings.enhance
    return DriftLimits(chosen.drift_min_length_ratio, chosen.drift_max_length_ratio, chosen.drift_max_lost)
