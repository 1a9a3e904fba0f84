"""What a batch lacks: which windows have fewer candidates than their recipe asks for, and what is there of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from caption_assets.ledger import upkeep
from caption_assets.ledger.captions import CurrentRecipe
from caption_assets.ledger.schema import CandidateRow, CaptionRow
from caption_assets.ledger.store import Session

FINAL_STATUSES = ("empty", "refused")
"""Of a first stage: there is nothing to refine."""

WINDOWS_OF_BATCH = "SELECT window_id FROM captions WHERE batch = $batch"
RECIPES_OF_BATCH = "SELECT wanted_recipe_id FROM captions WHERE batch = $batch"


MADE = "string_agg(sample_index || ' ' || stage || ' ' || status, ',')"
"""An aggregate in SQL: index, stage and status of each candidate of a window. So a million windows, most of them alike,
are read as a few texts."""


@dataclass(frozen=True, slots=True)
class CandidateFacts:
    """What counts of a candidate where only its number matters."""

    window_id: str
    recipe_id: str
    sample_index: int
    stage: int
    status: str


@dataclass(frozen=True)
class CaptionRule:
    """How many candidates a caption recipe asks for, and which stage is the last."""

    n: int
    final_stage: int

    @classmethod
    def of(cls, params: Mapping[str, object]) -> "CaptionRule":
        """Read a recipe's parameters."""
        return cls(int(str(params["n"])), 1 if params.get("stage2_prompt") is None else 2)

    def counts(self, candidate: CandidateRow | CandidateFacts) -> bool:
        """Tell whether a candidate is final. An error is none, and a first stage only where nothing can be refined."""
        if candidate.status == "error":
            return False
        return self.final_stage == 1 or candidate.stage == 2 or candidate.status in FINAL_STATUSES

    def n_missing(self, candidates: Iterable[CandidateRow | CandidateFacts]) -> int:
        """Return how many of the `n` candidates of a window are missing, given those of this recipe."""
        return self.n - len({candidate.sample_index for candidate in candidates if self.counts(candidate)})


@dataclass(frozen=True)
class CaptionWork:
    """The windows of a batch in reading order, and the candidates that their wanted recipes have made of them."""

    batch: str
    rows: Sequence[CaptionRow]
    candidates: Mapping[str, Sequence[CandidateRow]]
    rules: Mapping[str, CaptionRule]

    @property
    def missing(self) -> list[CaptionRow]:
        """The windows that lack candidates."""
        return missing_captions(self.rows, self.candidates, self.rules)

    @property
    def current_candidates(self) -> list[tuple[CaptionRow, list[CandidateRow]]]:
        """Each window that has candidates of its wanted recipe, with them."""
        return [(row, list(made)) for row in self.rows if (made := self.candidates.get(row.window_id))]


@dataclass(frozen=True, slots=True)
class AlikeWindows:
    """`n` windows of a batch that are alike in all that decides whether they lack captions.

    made: the candidates of the wanted recipe, see `MADE`; None where there is none.
    """

    batch: str
    wanted_recipe_id: str | None
    status: str
    collapsed_into: str | None
    made: str | None
    n: int


def candidates_in(made: str | None) -> list[CandidateFacts]:
    """Return the candidates of a window that `MADE` has made a text of. Which window and recipe, it does not say."""
    parts = [candidate.split() for candidate in made.split(",")] if made else []
    return [CandidateFacts("", "", int(index), int(stage), status) for index, stage, status in parts]


def needs_captions(row: CaptionRow | AlikeWindows) -> bool:
    """Tell whether a window is captioned itself: it is whole, and not collapsed into another."""
    return row.status != "window_error" and row.collapsed_into is None and row.wanted_recipe_id is not None


def missing_captions(
    rows: Sequence[CaptionRow],
    candidates: Mapping[str, Sequence[CandidateRow | CandidateFacts]],
    rules: Mapping[str, CaptionRule],
) -> list[CaptionRow]:
    """Return the windows with fewer final candidates than their wanted recipe asks for.

    candidates: those of each window's wanted recipe, by window. rules: by caption recipe.
    """
    return [
        row
        for row in rows
        if needs_captions(row)
        and (rule := rules.get(row.wanted_recipe_id or "")) is not None
        and rule.n_missing(candidates.get(row.window_id, ())) > 0
    ]


def caption_rules(session: Session, batch: str) -> dict[str, CaptionRule]:
    """Return the rule of each caption recipe that a batch wants."""
    recipes = session.select(CurrentRecipe, f"recipes WHERE recipe_id IN ({RECIPES_OF_BATCH})", batch=batch)
    return {recipe.recipe_id: CaptionRule.of(recipe.values) for recipe in recipes}


def read_caption_work(session: Session, batch: str) -> CaptionWork:
    """Read what decides which captions a batch lacks."""
    rows = upkeep.batch_rows(session, batch)
    wanted = {row.window_id: row.wanted_recipe_id for row in rows}
    of_batch = f"window_id IN ({WINDOWS_OF_BATCH}) AND recipe_id IN ({RECIPES_OF_BATCH})"
    made = session.select_few(CandidateRow, "caption_candidates", of_batch, batch=batch)
    candidates: dict[str, list[CandidateRow]] = {}
    for candidate in sorted(made, key=candidate_order):
        if candidate.recipe_id == wanted[candidate.window_id]:
            candidates.setdefault(candidate.window_id, []).append(candidate)
    return CaptionWork(batch, rows, candidates, caption_rules(session, batch))


def candidate_order(candidate: CandidateRow) -> tuple[int, int, int]:
    """Sort candidates of a window by stage, index and attempt."""
    return candidate.stage, candidate.sample_index, candidate.attempt


def count_missing(session: Session, batch: str | None) -> dict[str, int]:
    """Return how many windows lack captions, per batch that has any, of one batch or all.

    Windows that are alike are decided on together, so that a million of them are not read one by one.
    """
    of_batch = "true" if batch is None else "batch = $batch"
    of_windows = "true" if batch is None else f"window_id IN ({WINDOWS_OF_BATCH})"
    alike = f"""(
        SELECT c.batch, c.wanted_recipe_id, c.status, min(c.collapsed_into) AS collapsed_into, k.made, count(*) AS n
        FROM (SELECT batch, window_id, wanted_recipe_id, status, collapsed_into FROM captions WHERE {of_batch}) c
        LEFT JOIN (
          SELECT window_id, recipe_id, {MADE} AS made
          FROM caption_candidates WHERE {of_windows} GROUP BY window_id, recipe_id
        ) k ON k.window_id = c.window_id AND k.recipe_id = c.wanted_recipe_id
        GROUP BY c.batch, c.wanted_recipe_id, c.status, c.collapsed_into IS NULL, k.made) alike"""
    named = {} if batch is None else {"batch": batch}
    wanted = f"recipes WHERE recipe_id IN (SELECT wanted_recipe_id FROM captions WHERE {of_batch})"
    rules = {row.recipe_id: CaptionRule.of(row.values) for row in session.select(CurrentRecipe, wanted, **named)}
    missing: dict[str, int] = {}
    for windows in session.select(AlikeWindows, alike, **named):
        rule = rules.get(windows.wanted_recipe_id or "")
        if rule is not None and needs_captions(windows) and rule.n_missing(candidates_in(windows.made)) > 0:
            missing[windows.batch] = missing.get(windows.batch, 0) + windows.n
    return missing
