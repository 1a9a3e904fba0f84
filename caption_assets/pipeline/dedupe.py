"""Windows that look like the one before them: found from the fingerprints in the ledger, recorded as decisions."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from caption_assets.ledger.captions import group
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import DuplicateRow, as_json
from caption_assets.ledger.store import Session
from caption_assets.pipeline.window_rows import WindowPictures
from caption_assets.settings import Settings
from caption_assets.settings.recipes import dedupe_recipe, window_recipe
from caption_assets.video.duplicates import Duplicate, find_duplicates

SHOWN = "SELECT clip_id FROM captions WHERE $batch IS NULL OR batch = $batch"


def find_in(pictures: Iterable[WindowPictures], settings: Settings) -> list[Duplicate]:
    """Return the windows that `settings` collapse. Nothing is decoded or written."""
    clips = group(sorted(pictures, key=lambda window: window.start_frame), lambda window: window.clip_id)
    return [
        found
        for windows in clips.values()
        for found in find_duplicates([each.seen for each in windows], settings.dedupe)
    ]


def read_pictures(session: Session, settings: Settings, batch: str | None) -> list[WindowPictures]:
    """Return what can be collapsed in a batch, or in all: its windows by what they look like.

    Where only equal pixels count, clips without two windows of one digest are left out: that is nearly all of them.
    """
    if settings.dedupe.mode == "off":
        return []
    recipe = window_recipe(settings).recipe_id
    source = f"windows WHERE recipe_id = $recipe AND clip_id IN ({SHOWN})"
    if settings.dedupe.mode == "exact":
        again = f"SELECT clip_id FROM {source} AND frames_digest IS NOT NULL GROUP BY clip_id, frames_digest"
        source += f" AND clip_id IN ({again} HAVING count(*) > 1)"
    return session.select(WindowPictures, source, recipe=recipe, batch=batch)


def record_duplicates(ledger: Ledger, batch: str, settings: Settings, run_id: str) -> int:
    """Decide which windows of a batch are collapsed, and return how many were not decided on before."""
    recipe = dedupe_recipe(settings).recipe_id
    with ledger.session() as session:
        found = find_in(read_pictures(session, settings, batch), settings)
        known: Sequence[DuplicateRow] = ()
        if found:
            session.put_names("window_id", [each.window_id for each in found])
            these = "window_duplicates WHERE recipe_id = $recipe AND window_id IN (SELECT window_id FROM window_id)"
            known = session.select(DuplicateRow, these, recipe=recipe)
    decided = {row.window_id for row in known}
    rows = [
        DuplicateRow(
            window_id=each.window_id,
            duplicate_of=each.duplicate_of,
            recipe_id=recipe,
            mode=settings.dedupe.mode,
            distance=each.distance,
            evidence=as_json(each.evidence),
            run_id=run_id,
            created_at=datetime.now(UTC),
        )
        for each in found
        if each.window_id not in decided
    ]
    ledger.commit(rows)
    return len(rows)
