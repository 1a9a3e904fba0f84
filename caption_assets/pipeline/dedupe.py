"""Windows that look like the one before them: found from the prints in the ledger, recorded as decisions."""

from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from caption_assets.ledger.database import Ledger
from caption_assets.settings import Settings
from caption_assets.settings.recipes import dedupe_recipe, window_recipe
from caption_assets.video.duplicates import Duplicate, find_duplicates
from caption_assets.video.rows import seen_window


def duplicates_in(ledger: Ledger, settings: Settings, batch: str | None) -> list[Duplicate]:
    """Return the windows of a batch, or of all, that `settings` collapse. Nothing is decoded or written."""
    rule = settings.dedupe
    if rule.mode == "off":
        return []
    window = window_recipe(settings).recipe_id
    rows = ledger.named("seen_windows", window=window, batch=batch, near=rule.mode == "near")
    clips = groupby(rows, key=lambda row: row["clip_id"])
    return [found for _, members in clips for found in find_duplicates([seen_window(row) for row in members], rule)]


def record_duplicates(ledger: Ledger, batch: str, settings: Settings, run_id: str) -> int:
    """Decide which windows of a batch are collapsed, and return how many were not decided on before."""
    recipe = dedupe_recipe(settings).recipe_id
    now = datetime.now(UTC)
    found = duplicates_in(ledger, settings, batch)
    if not found:
        return 0
    known = ledger.named("known_duplicates", recipe=recipe, batch=batch)
    decided = {row["window_id"] for row in known}
    rows = [
        {
            "window_id": each.window_id,
            "duplicate_of": each.duplicate_of,
            "recipe_id": recipe,
            "mode": settings.dedupe.mode,
            "distance": each.distance,
            "evidence": each.evidence,
            "run_id": run_id,
            "created_at": now,
        }
        for each in found
        if each.window_id not in decided
    ]
    ledger.commit(run_id, batch, {"window_duplicates": rows})
    return len(rows)


def collapsed_windows(ledger: Ledger, batch: str) -> list[dict[str, Any]]:
    """Return the windows of a batch that show another window's captions, with that window, mode and distance."""
    # Most ledgers have none, and to know that costs a fraction of the question.
    if not ledger.query("SELECT window_id FROM window_duplicates LIMIT 1"):
        return []
    return ledger.named("batch_duplicates", batch=batch)
