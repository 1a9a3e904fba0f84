"""What a batch lacks of enhanced captions, and which of those that are there have not been checked for drift."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caption_assets.captioning.enhancing import EnhanceTask
from caption_assets.ids import CandidateId, RecipeId, WindowId
from caption_assets.ledger import upkeep
from caption_assets.ledger.captions import best_attempt, group
from caption_assets.ledger.schema import CandidateRow, CaptionRow, DriftCheckRow, EnhancedRow
from caption_assets.ledger.store import Session
from caption_assets.pipeline.drift_checks import DriftWork, drift_work

SHOWN = "SELECT window_id FROM captions WHERE batch = $batch AND candidate_id IS NOT NULL AND duplicate_of IS NULL"


@dataclass(frozen=True)
class EnhanceWork:
    """The windows of a batch with what was made of their kept captions under one enhance recipe.

    candidates: every candidate of windows with a kept caption, by window. enhanced: by candidate. checked: the ids of
    the drift checks that there are.
    """

    rows: Sequence[CaptionRow]
    candidates: Mapping[str, Sequence[CandidateRow]]
    enhanced: Mapping[str, Sequence[EnhancedRow]]
    checked: frozenset[str]

    @property
    def sources(self) -> list[CandidateRow]:
        """The captions to rewrite: each kept candidate that is whole, those of collapsed windows once."""
        by_id = {each.candidate_id: each for some in self.candidates.values() for each in some}
        names = [
            name for row in self.rows if row.duplicate_of is None and row.status != "window_error"
            for name in row.candidate_ids or ()
        ]  # fmt: skip
        return [by_id[name] for name in names if name in by_id and by_id[name].status == "ok"]

    def missing(self, recipe: RecipeId) -> list[EnhanceTask]:
        """Return a task for each source that has no enhancement, or only failed ones."""
        return [
            EnhanceTask(
                candidate_id=CandidateId(source.candidate_id),
                window_id=WindowId(source.window_id),
                recipe_id=recipe,
                caption=source.text or "",
                attempt=1 + len(made),
            )
            for source in self.sources
            for made in [self.enhanced.get(source.candidate_id, ())]
            if all(previous.status == "error" for previous in made)
        ]

    @property
    def drift_work(self) -> list[DriftWork]:
        """The enhancements that count, each with what it is compared with."""
        best = [text for made in self.enhanced.values() if (text := best_attempt(made)) is not None]
        work = [drift_work(text, self.candidates.get(text.window_id, ())) for text in best]
        return [each for each in work if each is not None]


def read_enhance_work(session: Session, batch: str, recipe: RecipeId) -> EnhanceWork:
    """Read what decides which captions of a batch are rewritten under an enhance recipe, and checked."""
    rows = upkeep.batch_rows(session, batch)
    candidates = session.select(CandidateRow, f"caption_candidates WHERE window_id IN ({SHOWN})", batch=batch)
    source = f"enhanced_captions WHERE recipe_id = $recipe AND window_id IN ({SHOWN})"
    enhanced = session.select(EnhancedRow, source, batch=batch, recipe=recipe)
    checks = session.select(DriftCheckRow, f"drift_checks WHERE window_id IN ({SHOWN})", batch=batch)
    return EnhanceWork(
        rows,
        group(candidates, lambda row: row.window_id),
        group(enhanced, lambda row: row.candidate_id),
        frozenset(check.check_id for check in checks),
    )
