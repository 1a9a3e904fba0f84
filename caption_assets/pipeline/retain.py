"""Retention over a batch: the candidates that are there, judged under a policy. Never calls a model."""

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from caption_assets.captioning.decisions import RetentionRule, Surroundings, decision_rows
from caption_assets.captioning.judging import comparisons
from caption_assets.captioning.repeated_captions import WindowLook, find_echoes
from caption_assets.exchange.table import write_tables
from caption_assets.ids import WindowId, digest
from caption_assets.ledger import upkeep
from caption_assets.ledger.captions import group
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import CandidateRow, CaptionRow, DecisionRow, JudgementRow
from caption_assets.ledger.store import Session
from caption_assets.pipeline.caption_work import WINDOWS_OF_BATCH, read_caption_work
from caption_assets.pipeline.stage_run import activate
from caption_assets.retention import parse_policy
from caption_assets.retention.policies import JUDGE
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.settings.recipes import retention_recipe

READS_NO_PROMPT = ("signal",)
"""Engines that say the same whatever they are asked."""


@dataclass(frozen=True, slots=True)
class DecisionKey:
    """A decision that a policy made, and what it was made on."""

    decision_id: str
    window_id: str
    candidate_set_sha256: str
    reference_sha256: str | None
    created_at: datetime

    @property
    def subject(self) -> tuple[str, str, str | None]:
        """What it was made on."""
        return self.window_id, self.candidate_set_sha256, self.reference_sha256


@dataclass(frozen=True, slots=True)
class RecipePrompt:
    """What the model of a caption recipe is asked."""

    recipe_id: str
    engine: str | None
    params: str
    prompt: str | None

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompt, and that of the second stage; none for an engine that says the same whatever it is asked."""
        if self.engine in READS_NO_PROMPT:
            return ()
        return tuple(text for text in (self.prompt, json.loads(self.params).get("stage2_prompt")) if text)


@dataclass(frozen=True)
class DecisionContext:
    """What the ledger says around the candidates of a batch."""

    decisions: Sequence[DecisionKey]
    prompts: Mapping[str, tuple[str, ...]]
    looks: Sequence[WindowLook]
    judgements: Mapping[str, Sequence[JudgementRow]]


def decide_batch(
    ledger: Ledger,
    batch: str,
    considered: Sequence[tuple[CaptionRow, Sequence[CandidateRow]]],
    settings: Settings,
    run_id: str,
) -> int:
    """Judge the candidates of each window under the policy of `settings`; return how many windows got a new decision.

    considered: windows with their candidates, those of a window all of one recipe. A decision that was made before on
    the same candidates, and is in force, is not made again.
    """
    rule = RetentionRule.of(settings)
    candidates = [candidate for _, some in considered for candidate in some]
    context = ledger.read(_read_context, batch, rule.recipe_id, candidates, settings)
    repeats = find_echoes(candidates, context.looks)
    compared = {name: answers for rows in context.judgements.values() for name, answers in comparisons(rows).items()}
    known = {key.decision_id for key in context.decisions}
    latest = {key.subject: key.decision_id for key in context.decisions}
    now = datetime.now(UTC)
    new: list[DecisionRow] = []
    for row, some in considered:
        reference = row.original_caption if settings.retention.keep_original_sample else None
        names = [candidate.candidate_id for candidate in some]
        around = Surroundings(
            context.prompts.get(some[0].recipe_id, ()),
            {name: repeats[name] for name in names if name in repeats},
            {name: compared[name] for name in names if name in compared},
        )
        rows = decision_rows(WindowId(row.window_id), some, rule, reference, run_id, now, around)
        new += _in_force(rows, known, latest)
    ledger.commit(new)
    return len({row.window_id for row in new})


def _read_context(
    session: Session, batch: str, recipe: str, candidates: Sequence[CandidateRow], settings: Settings
) -> DecisionContext:
    """Read what is around the candidates of a batch, under the retention recipe `recipe`."""
    of_batch = f"window_id IN ({WINDOWS_OF_BATCH})"
    keys = f"""(
        SELECT DISTINCT decision_id, window_id, candidate_set_sha256, reference_sha256, created_at
        FROM retention_decisions WHERE policy_recipe_id = $recipe AND {of_batch}) keys"""
    decisions = session.select(DecisionKey, keys, batch=batch, recipe=recipe)
    session.put_names("recipe_id", [candidate.recipe_id for candidate in candidates])
    asked = """(
        SELECT r.recipe_id, r.engine, r.params, p.text AS prompt FROM recipes r
        LEFT JOIN prompts p ON p.prompt_sha256 = r.prompt_sha256
        WHERE r.recipe_id IN (SELECT recipe_id FROM recipe_id)) asked"""
    looks = """(
        SELECT w.window_id, w.clip_id, w.frame_hashes FROM windows w JOIN captions c ON c.window_id = w.window_id
        WHERE c.batch = $batch AND w.status = 'ok' ORDER BY w.clip_id, w.start_frame) looks"""
    judged: list[JudgementRow] = []
    judge = upkeep.current_recipes(session, batch).get("judge") if asks_a_judge(settings) else None
    if judge is not None:
        judged = read_judgements(session, batch, judge.recipe_id)
    return DecisionContext(
        # The oldest first: the last on the same candidates and reference is in force.
        sorted(sorted(decisions, key=lambda key: key.decision_id, reverse=True), key=lambda key: key.created_at),
        {asked.recipe_id: asked.texts for asked in session.select(RecipePrompt, asked)},
        session.select(WindowLook, looks, batch=batch) if _repeats(candidates) else (),
        group(judged, lambda row: row.window_id),
    )


def asks_a_judge(settings: Settings) -> bool:
    """Tell whether the policy of `settings` compares captions by a model's answers."""
    return any(policy.name == JUDGE for policy in parse_policy(settings.retention.keep_candidate_mode))


def read_judgements(session: Session, batch: str, recipe: str) -> list[JudgementRow]:
    """Return what a judge answered about the candidates of a batch: the best attempt of each pair, in order."""
    source = f"judgements WHERE recipe_id = $recipe AND window_id IN ({WINDOWS_OF_BATCH})"
    best: dict[tuple[str, str, str], JudgementRow] = {}
    for row in sorted(
        session.select(JudgementRow, source, batch=batch, recipe=recipe),
        key=lambda row: (row.status != "error", row.attempt),
    ):
        best[row.window_id, row.first_candidate_id, row.second_candidate_id] = row
    return [best[pair] for pair in sorted(best)]


def _in_force(
    rows: Sequence[DecisionRow], known: Collection[str], latest: Mapping[tuple[str, str, str | None], str]
) -> list[DecisionRow]:
    """Return the rows that are to be recorded: none where the decision is in force already.

    What stands around a window may change and change back: the decision is then made again under an id of its own, as
    the newest one counts.
    """
    first = rows[0]
    name, again = first.decision_id, 0
    while name in known:
        if latest[first.window_id, first.candidate_set_sha256, first.reference_sha256] == name:
            return []
        again += 1
        name = "d" + digest(first.decision_id, "again", again)
    return [replace(row, decision_id=name) for row in rows]


def _repeats(candidates: Sequence[CandidateRow]) -> bool:
    """Tell whether two windows have the same words: where none has, nothing need be known of what they look like."""
    first: dict[str, str] = {}
    return any(first.setdefault(row.text.casefold(), row.window_id) != row.window_id for row in candidates if row.text)


def retain_batches(root: RootFolder, ledger: Ledger, settings: Settings, batch: str | None) -> list[dict[str, object]]:
    """Decide again for one batch or all, under the policy of `settings`; return counts per batch."""
    run_id = f"retain-{uuid.uuid4()}"
    recipe = retention_recipe(settings)
    names = ledger.select(BatchName, "(SELECT DISTINCT batch FROM active_recipes WHERE kind = 'caption') batches")
    rows: list[dict[str, object]] = []
    for each in sorted(name.batch for name in names if batch in (None, name.batch)):
        activate(ledger, each, [recipe], "command:retain", run_id)
        work = ledger.read(read_caption_work, each)
        decided = decide_batch(ledger, each, work.current_candidates, settings, run_id)
        table = write_tables(root, ledger, each)
        rows.append(
            {
                "batch": each,
                "policy": settings.retention.keep_candidate_mode,
                "windows": len(work.candidates),
                "decided": decided,
                "captioned": sum(row.status == "captioned" for row in table),
            }
        )
    return rows


@dataclass(frozen=True, slots=True)
class BatchName:
    """A batch."""

    batch: str
