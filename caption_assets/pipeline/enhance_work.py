"""What a batch lacks of enhanced captions, and which of those that are there have not been checked for drift."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caption_assets.captioning.enhancing import EnhanceTask
from caption_assets.ids import CandidateId, RecipeId, WindowId
from caption_assets.ledger import upkeep
from caption_assets.ledger.captions import best_attempt, group, skip_reason
from caption_assets.ledger.schema import CandidateRow, CaptionRow, DriftCheckRow, EnhancedRow
from caption_assets.ledger.store import Session
from caption_assets.pipeline.caption_work import WINDOWS_OF_BATCH
from caption_assets.pipeline.drift_checks import DriftWork, drift_work


@dataclass(frozen=True)
class KeptCaption:
    """A caption that a window keeps, or a window that keeps none."""

    row: CaptionRow
    candidate: CandidateRow | None

    @property
    def skip_reason(self) -> str | None:
        """Why there is nothing to rewrite; None where there is."""
        return skip_reason(self.row, self.candidate.status if self.candidate else None)


@dataclass(frozen=True)
class EnhanceWork:
    """The windows of a batch with what was made of their kept captions under one enhance recipe.

    candidates: every candidate of these windows, by window. enhanced: by candidate. checks: the drift checks of these
    windows, whatever their recipe.
    """

    rows: Sequence[CaptionRow]
    candidates: Mapping[str, Sequence[CandidateRow]]
    enhanced: Mapping[str, Sequence[EnhancedRow]]
    checks: Sequence[DriftCheckRow]

    @property
    def kept(self) -> list[KeptCaption]:
        """Every kept caption, and each window that keeps none, in reading order. Collapsed windows are left out."""
        by_id = {each.candidate_id: each for some in self.candidates.values() for each in some}
        return [
            KeptCaption(row, by_id[name] if name else None)
            for row in self.rows if row.duplicate_of is None
            for name in row.candidate_ids or (None,)
        ]  # fmt: skip

    @property
    def sources(self) -> list[CandidateRow]:
        """The captions to rewrite: those that are kept and whole."""
        return [each.candidate for each in self.kept if each.candidate is not None and each.skip_reason is None]

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
    of_batch = f"window_id IN ({WINDOWS_OF_BATCH})"
    candidates = session.select(CandidateRow, f"caption_candidates WHERE {of_batch}", batch=batch)
    source = f"enhanced_captions WHERE recipe_id = $recipe AND {of_batch}"
    enhanced = session.select(EnhancedRow, source, batch=batch, recipe=recipe)
    return EnhanceWork(
        rows,
        group(candidates, lambda row: row.window_id),
        group(enhanced, lambda row: row.candidate_id),
        session.select(DriftCheckRow, f"drift_checks WHERE {of_batch}", batch=batch),
    )
