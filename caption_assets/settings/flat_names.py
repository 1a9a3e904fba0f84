"""Names that settings had before there were groups, accepted until version 0.3 with a warning that has the new name."""

import warnings
from collections.abc import Mapping

from caption_assets.settings.errors import SettingsError

_SAME_NAME = {
    "clip": (
        "split split_length_s min_clip_length_s max_clip_length_s scene_threshold "
        "max_pixels max_duration_s max_frames max_streams"
    ),
    "window": "window_size remainder_threshold sampling_fps",
    "caption": (
        "model revision prompt_variant prompt_text prompt_key system_prompt caption_num sampling_params "
        "max_output_tokens generate_stage2_caption stage2_prompt_text frame_quality fp8 vllm_kwargs caption_batch_size"
    ),
    "retention": "keep_candidate_mode retention_seed keep_original_sample",
    "preview": "target_fps target_height quality compression_level",
    "engine": "model_dir preprocess_dtype model_does_preprocess disable_mmcache",
    "decode": "workers clip_timeout_s worker_memory_mb",
}

FLAT_NAMES: Mapping[str, str] = {
    **{name: f"{group}.{name}" for group, names in _SAME_NAME.items() for name in names.split()},
    "dedupe_windows": "dedupe.mode",
    "dedupe_distance": "dedupe.distance",
}
"""The name of each setting today, by its flat name."""


DROPPED: Mapping[str, tuple[str, str]] = {
    "preview_format": ("webp", "previews are WebP; version 0.2 dropped AVIF and MP4 previews"),
    "preview_source": ("packed", "previews show the sampled frames; version 0.2 no longer decodes a clip for more"),
}
"""Settings that are gone: the only value that is still accepted, without effect, and why every other is refused."""


class FlatNameWarning(FutureWarning):
    """A setting was given by its flat name."""


def grouped_name(name: str) -> str:
    """Return the name of today for `name`, which may be a flat name or an entry of one (`sampling_params.seed`)."""
    head, dot, rest = name.partition(".")
    if head not in FLAT_NAMES:
        return name
    warnings.warn(
        f"the setting {head} is now called {FLAT_NAMES[head]}; version 0.3 will no longer accept the old name",
        FlatNameWarning,
        stacklevel=2,
    )
    return f"{FLAT_NAMES[head]}{dot}{rest}"


def grouped(values: Mapping[str, object]) -> dict[str, object]:
    """Return `values` by group, where names may be groups, `GROUP.NAME` or flat.

    Raises:
        SettingsError: a setting that is gone has a value that no longer holds.
    """
    result: dict[str, object] = {}
    for name, value in sorted(values.items(), key=lambda item: "." in item[0] or item[0] in FLAT_NAMES):
        if name in DROPPED:
            accepted, reason = DROPPED[name]
            if value != accepted:
                raise SettingsError(f"{name}: {reason}; remove this setting (it is {value!r})")
            continue
        group, dot, inner = grouped_name(name).partition(".")
        given = result.get(group, {})
        # A group that is no mapping is refused later.
        result[group] = {**given, inner: value} if dot and isinstance(given, Mapping) else value
    return result
