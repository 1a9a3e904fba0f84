"""Drift checks of enhanced captions as rows of the ledger. A pure function of what is in it: no model is called."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from caption_assets import ids
from caption_assets.captioning.drift import check_drift
from caption_assets.ids import RecipeId
from caption_assets.ledger.schema import CandidateRow, DriftCheckRow, EnhancedRow, as_json
from caption_assets.settings.groups import EnhanceSettings

TEXTS = ("ok", "truncated")
"""Statuses of texts that are compared."""


@dataclass(frozen=True)
class DriftWork:
    """An enhancement with its source and the other candidates of the window that bear it out, kept or not."""

    enhanced: EnhancedRow
    source: CandidateRow
    others: Sequence[CandidateRow]


def drift_work(enhanced: EnhancedRow, of_window: Sequence[CandidateRow]) -> DriftWork | None:
    """Return what an enhancement is compared with; None where it has no text.

    of_window: every candidate of the window. Those of the same caption recipe bear it out, and those that came with the
    video.
    """
    source = next((row for row in of_window if row.candidate_id == enhanced.candidate_id), None)
    if source is None or enhanced.status not in TEXTS:
        return None
    others = [
        row for row in sorted(of_window, key=lambda row: row.candidate_id)
        if row is not source and row.status in TEXTS
        and (row.recipe_id == source.recipe_id or "original" in (row.origin, source.origin))
    ]  # fmt: skip
    return DriftWork(enhanced, source, others)


def drift_rows(
    work: Sequence[DriftWork],
    known: Collection[str],
    recipe: RecipeId,
    limits: EnhanceSettings,
    *,
    sees_frames: bool,
    run_id: str,
    now: datetime,
) -> Iterator[DriftCheckRow]:
    """Yield a row for each piece of work whose check is not `known`. sees_frames: the texts were made from frames."""
    for each in work:
        text = each.enhanced
        support = ids.digest(text.candidate_id, *(row.candidate_id for row in each.others))
        check_id = "f" + ids.digest(text.enhanced_id, recipe, support)
        if check_id in known:
            continue
        others = [row.text or "" for row in each.others]
        drift = check_drift(text.text or "", each.source.text or "", others, limits, sees_frames=sees_frames)
        yield DriftCheckRow(
            check_id=check_id,
            enhanced_id=text.enhanced_id,
            candidate_id=text.candidate_id,
            window_id=text.window_id,
            recipe_id=recipe,
            support_sha256=support,
            status=drift.status,
            reason=drift.reason,
            evidence=as_json(drift.evidence),
            run_id=run_id,
            created_at=now,
        )
