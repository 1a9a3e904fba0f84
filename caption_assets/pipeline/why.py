"""`caption-assets why`: a window's candidates, the winner first, each with the reason of its verdict."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from caption_assets.ledger.database import Ledger
from caption_assets.pipeline.override import PersonReason
from caption_assets.retention import REASONS

COLLAPSED = "SELECT 1 AS found FROM batch_duplicates WHERE window_id = $window AND first_upload_at = $first_upload_at"
"""Few windows are, and to know that costs a tenth of asking how."""


def explain(ledger: Ledger, window_id: str) -> dict[str, Any] | None:
    """Return the window and its candidates with their verdicts, or None where there is no such window."""
    with ledger.together():
        return _explain(ledger, window_id)


def _explain(ledger: Ledger, window_id: str) -> dict[str, Any] | None:
    windows = ledger.named("why_window", window=window_id)
    if not windows:
        return None
    where = {"window": window_id, "first_upload_at": windows[0].pop("first_upload_at")}
    [decision] = ledger.named("why_decision", **where) or [{"decision_id": None, "decided_window_id": None}]
    of_two = {**where, "decided_window": decision["decided_window_id"]}
    candidates = ledger.named("why_candidates", decision=decision["decision_id"], **of_two)
    reasons = {str(code): code.sentence for code in (*REASONS, *PersonReason)}
    for candidate in candidates:
        candidate["reason"] = reasons.get(str(candidate["reason_code"]))
        candidate["evidence"] = json.loads(str(candidate["evidence"])) if candidate["evidence"] else None
    duplicates = ledger.named("why_duplicates", **where) if ledger.query(COLLAPSED, **where) else []
    for duplicate in duplicates:
        duplicate["evidence"] = json.loads(str(duplicate["evidence"]))
    enhancements = ledger.named("why_enhancements", **of_two)
    for enhancement in enhancements:
        enhancement["evidence"] = json.loads(str(enhancement["evidence"])) if enhancement["evidence"] else None
    history = ledger.named("why_history", **where)
    asks_for_skips = duplicates or _may_be_skipped(windows[0], candidates, history)
    clip, source = windows[0]["clip_id"], windows[0].pop("source_clip_id")
    return {
        "window": windows[0],
        "takedowns": ledger.named("why_takedowns", clip=clip, source=source),
        "duplicates": duplicates,
        "candidates": candidates,
        "enhancements": enhancements,
        "not_enhanced": ledger.named("why_skips", **where) if asks_for_skips else [],
        "history": history,
    }


def _may_be_skipped(
    window: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]], history: Sequence[Mapping[str, Any]]
) -> bool:
    """Tell whether a batch may have something of the window that is not enhanced, before the dear question which.

    None has where whatever was ever decided on it keeps captions that are whole: see enhancement_skip in views.sql.
    """
    whole = {candidate["candidate_id"] for candidate in candidates if candidate["status"] == "ok"}
    decided = bool(history) and all(row["kept"] and whole.issuperset(row["kept"]) for row in history)
    return window["status"] != "ok" or not decided
