"""Retention over a batch: the candidates that are there, judged under a policy. Never calls a model."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from caption_assets.captioning.decisions import RetentionRule, decision_rows
from caption_assets.ids import WindowId
from caption_assets.ledger.database import Ledger
from caption_assets.recipes import retention_recipe
from caption_assets.settings import Settings


def decide_batch(
    ledger: Ledger, batch: str, candidates: Sequence[Mapping[str, object]], settings: Settings, run_id: str
) -> int:
    """Judge the candidates of each window under the policy of `settings`; return how many windows got a new decision.

    candidates: rows of `ledger/sql/batch_candidates.sql`, all of one caption recipe. A decision that was made before
    on the same candidates is not made again.
    """
    recipe = retention_recipe(settings)
    rule = RetentionRule(recipe.recipe_id, settings.keep_candidate_mode, settings.retention_seed)
    known = {row["decision_id"] for row in ledger.named("batch_decision_ids", batch=batch, recipe=recipe.recipe_id)}
    by_window: dict[str, list[Mapping[str, object]]] = {}
    for candidate in candidates:
        by_window.setdefault(str(candidate["window_id"]), []).append(candidate)
    now = datetime.now(UTC)
    new: list[dict[str, object]] = []
    for window, considered in by_window.items():
        original = considered[0]["original_caption"] if settings.keep_original_sample else None
        reference = None if original is None else str(original)
        rows = decision_rows(WindowId(window), considered, rule, reference, run_id, now)
        new += [row for row in rows if row["decision_id"] not in known]
    ledger.commit(run_id, batch, {"retention_decisions": new})
    return len({row["window_id"] for row in new})
