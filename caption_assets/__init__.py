"""Captions for uploaded video that can be trusted, with a ledger of every caption and every decision.

This page is the Python interface. Each name is loaded when it is first used, so importing the package costs nothing.

Caption files, as `caption-assets run` does, and read the result:

    from caption_assets import Ledger, RootFolder, Settings, run_batch

    root = RootFolder.at("./data")
    run_batch(["clips"], "demo", "signal", root, Settings.load())      # 0: every window has its caption
    Ledger(root).query("SELECT window_id, caption FROM captions")      # or root.exports("demo") / "captions.parquet"

Settings are checked when they are made, and never change:

    >>> from caption_assets import Settings
    >>> Settings.of({"enhance": {"enabled": False}}).with_overrides(["gates.min_words=5"]).gates.min_words
    5

A clip is cut into windows, and evenly spaced frames of each are what a model sees. Frames are counted from 0, and both
ends of a range belong to it:

    >>> from caption_assets import plan_windows, sample_frames
    >>> plan_windows(600)
    [FrameRange(start=0, end=255), FrameRange(start=256, end=599)]
    >>> times_s = [frame / 24 for frame in range(600)]
    >>> sample_frames(times_s, 0, 47, sampling_fps=2.0)
    [0, 16, 31, 47]

Gates and a policy choose among the candidate captions of a window. Every candidate gets a verdict with its reason:

    >>> from caption_assets import Candidate, decide
    >>> candidates = [Candidate("k1", "A dog runs over a field."), Candidate("k2", "Sorry, I cannot see the video.")]
    >>> [(v.candidate_id, v.action, str(v.reason_code)) for v in decide(candidates, "longest", window_id="w1").verdicts]
    [('k1', 'keep', 'ONLY_CANDIDATE'), ('k2', 'drop', 'GATE_REFUSAL')]

The ledger answers SQL, and each question of the command line is a function:

    >>> import tempfile
    >>> from caption_assets import Ledger, RootFolder, explain
    >>> folder = tempfile.TemporaryDirectory()
    >>> ledger = Ledger(RootFolder.at(folder.name))
    >>> ledger.query("SELECT count(*) AS captions FROM captions")
    [{'captions': 0}]
    >>> explain(ledger, "w0") is None
    True
    >>> folder.cleanup()

What people decide is recorded like every other decision, and can be withdrawn:

    override(root, window_id, [candidate_id], by="ann", note="the car is red")
    take_down(root, clips=[clip_id], by="ann", reason="the uploader asked")

The Dagster graph is `caption_assets.definitions.defs`; examples/inside_dagster.py merges it into another project.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from caption_assets.cli.run import run_batch as run_batch
    from caption_assets.ledger.database import Ledger as Ledger
    from caption_assets.ledger.store import LedgerError as LedgerError
    from caption_assets.pipeline.plan import plan_batches as plan_batches
    from caption_assets.pipeline.reproduce import reproduce_candidate as reproduce_candidate
    from caption_assets.pipeline.retain import retain_batches as retain_batches
    from caption_assets.pipeline.why import explain as explain
    from caption_assets.retention import Candidate as Candidate
    from caption_assets.retention import Decision as Decision
    from caption_assets.retention import Verdict as Verdict
    from caption_assets.retention import decide as decide
    from caption_assets.retention import simhash64 as simhash64
    from caption_assets.review import ReviewError as ReviewError
    from caption_assets.review import override as override
    from caption_assets.review import take_down as take_down
    from caption_assets.review import withdraw_override as withdraw_override
    from caption_assets.review import withdraw_takedown as withdraw_takedown
    from caption_assets.root import RootError as RootError
    from caption_assets.root import RootFolder as RootFolder
    from caption_assets.settings import Settings as Settings
    from caption_assets.settings import SettingsError as SettingsError
    from caption_assets.video.budget import fit_resolution as fit_resolution
    from caption_assets.video.sampling import sample_frames as sample_frames
    from caption_assets.video.windowing import FrameRange as FrameRange
    from caption_assets.video.windowing import plan_windows as plan_windows

_HOMES = {
    "Candidate": "retention",
    "Decision": "retention",
    "FrameRange": "video.windowing",
    "Ledger": "ledger.database",
    "LedgerError": "ledger.store",
    "ReviewError": "review",
    "RootError": "root",
    "RootFolder": "root",
    "Settings": "settings",
    "SettingsError": "settings",
    "Verdict": "retention",
    "decide": "retention",
    "explain": "pipeline.why",
    "fit_resolution": "video.budget",
    "override": "review",
    "plan_batches": "pipeline.plan",
    "plan_windows": "video.windowing",
    "reproduce_candidate": "pipeline.reproduce",
    "retain_batches": "pipeline.retain",
    "run_batch": "cli.run",
    "sample_frames": "video.sampling",
    "simhash64": "retention",
    "take_down": "review",
    "withdraw_override": "review",
    "withdraw_takedown": "review",
}
"""The module of each public name."""

__all__ = sorted([*_HOMES, "__version__"])

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load a public name when it is first used: Dagster, DuckDB and PyAV take a second to import."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
