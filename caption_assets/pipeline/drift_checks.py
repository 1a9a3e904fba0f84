"""Drift checks of enhanced captions as rows of the ledger. A pure function of what is in it: no model is called."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from caption_assets import ids
from caption_assets.captioning.drift import check_drift
from caption_assets.ids import RecipeId
from caption_assets.settings.groups import EnhanceSettings

Row = Mapping[str, object]


def drift_rows(
    work: Sequence[Row],
    known: set[str],
    recipe: RecipeId,
    limits: EnhanceSettings,
    *,
    sees_frames: bool,
    run_id: str,
    now: datetime,
) -> Iterator[dict[str, object]]:
    """Yield a row of `drift_checks` for each row of `ledger/sql/batch_drift_work.sql` whose check is not `known`.

    sees_frames: the enhancements were made from frames.
    """
    for row in work:
        other_ids, others = _texts(row["other_ids"]), _texts(row["others"])
        support = ids.digest(row["candidate_id"], *other_ids)
        check_id = "f" + ids.digest(row["enhanced_id"], recipe, support)
        if check_id in known:
            continue
        drift = check_drift(str(row["enhanced"]), str(row["source"]), others, limits, sees_frames=sees_frames)
        yield {
            "check_id": check_id,
            "enhanced_id": row["enhanced_id"],
            "candidate_id": row["candidate_id"],
            "window_id": row["window_id"],
            "recipe_id": recipe,
            "support_sha256": support,
            "status": drift.status,
            "reason": drift.reason,
            "evidence": drift.evidence,
            "run_id": run_id,
            "created_at": now,
        }


def _texts(values: object) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list) else []
