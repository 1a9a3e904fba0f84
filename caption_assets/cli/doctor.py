"""`caption-assets doctor`: what this machine can run, and why not."""

import os
import platform
import shutil
import sys
from typing import Any

from caption_assets.engines.devices import has_cuda
from caption_assets.engines.registry import AUTO, ENGINES, EngineEntry, choose_engine
from caption_assets.engines.vllm_arguments import installed_version
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.store import LedgerError
from caption_assets.pipeline.stage_run import gpu_name, library_versions
from caption_assets.root import RootFolder
from caption_assets.video.scenes import SceneDetectionMissing, check_scene_detection

DECODERS = ("h264", "hevc", "mpeg2video", "mpeg4", "vp8", "vp9", "av1")
MIN_FREE_BYTES = 1 << 30


def examine(root: RootFolder) -> list[dict[str, Any]]:
    """Return a finding for each thing a run needs: what, whether it is ok, and a detail for a person."""
    versions = library_versions()
    python_ok = (3, 11) <= sys.version_info[:2] < (3, 14)
    findings = [
        _finding("python", python_ok, f"{platform.python_version()} (3.11 to 3.13 are supported)"),
        _finding("libraries", True, ", ".join(f"{name} {number}" for name, number in versions.items())),
        _finding("cores", True, f"{os.cpu_count()}: clips are decoded side by side, one core each"),
        _codecs(),
        _previews(),
        _scenes(),
        _finding("GPU", True, gpu_name() or "none: the embedded engine `signal` does the whole job"),
        _finding("engine", True, f"{AUTO} means {choose_engine(AUTO).name} here"),
        *(_engine(entry) for entry in ENGINES.values()),
        _root(root),
    ]
    if root.ledger.exists():
        findings.append(_ledger(root))
    return findings


def _finding(what: str, ok: bool, detail: str) -> dict[str, Any]:
    return {"what": what, "ok": ok, "detail": detail}


def _engine(entry: EngineEntry) -> dict[str, Any]:
    """Return what an engine is, and whether it can run: one that is not installed is no fault of the machine."""
    reason = entry.missing()
    if reason is not None:
        return _finding(f"engine {entry.name}", True, f"not here: {reason}")
    if entry.name != "vllm":
        return _finding(f"engine {entry.name}", True, entry.description)
    where = "on this machine's GPU" if has_cuda() else "on the CPU: for tests and small models"
    return _finding(f"engine {entry.name}", True, f"{entry.description}; vLLM {installed_version()}, {where}")


def _codecs() -> dict[str, Any]:
    import av

    missing = [name for name in DECODERS if name not in av.codecs_available]
    detail = f"FFmpeg {av.ffmpeg_version_info}" + (f"; no decoder for {', '.join(missing)}" if missing else "")
    return _finding("video", not missing, detail)


def _previews() -> dict[str, Any]:
    import av

    from caption_assets.video.webp import ENCODER

    can_write = ENCODER in av.codecs_available
    return _finding("previews", can_write, "WebP" if can_write else f"this FFmpeg lacks the WebP encoder {ENCODER}")


def _scenes() -> dict[str, Any]:
    try:
        check_scene_detection()
    except SceneDetectionMissing as fault:
        return _finding("scenes", True, f"not here: {fault}")
    return _finding("scenes", True, "PySceneDetect is there: split = scenes can be used")


def _root(root: RootFolder) -> dict[str, Any]:
    folder = root.path
    while not folder.exists():
        folder = folder.parent
    writable = os.access(folder, os.W_OK)
    free = shutil.disk_usage(folder).free
    detail = f"{root.path}, {free / 1e9:.0f} GB free" if writable else f"{root.path} cannot be written to"
    return _finding("root", writable and free > MIN_FREE_BYTES, detail)


def _ledger(root: RootFolder) -> dict[str, Any]:
    try:
        with Ledger(root).session() as session:
            [[count]] = session.rows("SELECT count(DISTINCT batch) FROM uploads")
    except LedgerError as fault:
        return _finding("ledger", False, str(fault))
    return _finding("ledger", True, f"opens; {count} batches")
