"""Retention over a batch: the candidates that are there, judged under a policy. Never calls a model."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from caption_assets.captioning.decisions import RetentionRule, Surroundings, decision_rows
from caption_assets.captioning.judging import by_window, comparisons
from caption_assets.captioning.repeated_captions import find_echoes
from caption_assets.exchange.table import write_tables
from caption_assets.ids import WindowId, digest
from caption_assets.ledger.database import Ledger
from caption_assets.pipeline.stage_run import activate
from caption_assets.retention import Comparison, parse_policy
from caption_assets.retention.policies import JUDGE
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.settings.recipes import retention_recipe

Row = Mapping[str, object]

READS_NO_PROMPT = ("signal",)
"""Engines that say the same whatever they are asked."""


def decide_batch(ledger: Ledger, batch: str, candidates: Sequence[Row], settings: Settings, run_id: str) -> int:
    """Judge the candidates of each window under the policy of `settings`; return how many windows got a new decision.

    candidates: rows of `ledger/sql/current_candidates.sql`, those of a window all of one recipe. A decision that
    was made before on the same candidates, and is in force, is not made again.
    """
    rule = RetentionRule.of(settings)
    known, latest = _known(ledger, batch, rule.recipe_id)
    by_window: dict[str, list[Row]] = {}
    for candidate in candidates:
        by_window.setdefault(str(candidate["window_id"]), []).append(candidate)
    prompts = _prompts(ledger, candidates)
    echoes = find_echoes(candidates, ledger.named("batch_looks", batch=batch)) if _repeats(candidates) else {}
    judged = _comparisons(ledger, batch, settings)
    now = datetime.now(UTC)
    new: list[dict[str, object]] = []
    for window, considered in by_window.items():
        original = considered[0]["original_caption"] if settings.retention.keep_original_sample else None
        reference = None if original is None else str(original)
        names = [str(row["candidate_id"]) for row in considered]
        around = Surroundings(
            prompts.get(considered[0]["recipe_id"], ()),
            {name: echoes[name] for name in names if name in echoes},
            {name: judged[name] for name in names if name in judged},
        )
        rows = decision_rows(WindowId(window), considered, rule, reference, run_id, now, around)
        new += _in_force(rows, known, latest)
    ledger.commit(run_id, batch, {"retention_decisions": new})
    return len({row["window_id"] for row in new})


def _known(ledger: Ledger, batch: str, recipe: str) -> tuple[set[object], dict[tuple[object, ...], object]]:
    """Return the ids of a policy's decisions, and the one in force for each window, candidates and reference."""
    rows = ledger.named("batch_decision_ids", batch=batch, recipe=recipe)
    return {row["decision_id"] for row in rows}, {_subject(row): row["decision_id"] for row in rows}


def _subject(row: Row) -> tuple[object, ...]:
    return row["window_id"], row["candidate_set_sha256"], row["reference_sha256"]


def _in_force(
    rows: Sequence[dict[str, object]], known: set[object], latest: Mapping[tuple[object, ...], object]
) -> list[dict[str, object]]:
    """Return the rows that are to be recorded: none where the decision is in force already.

    What stands around a window may change and change back: the decision is then made again under an id of its own, as
    the newest one counts.
    """
    name, again = str(rows[0]["decision_id"]), 0
    while name in known:
        if latest[_subject(rows[0])] == name:
            return []
        again += 1
        name = "d" + digest(rows[0]["decision_id"], "again", again)
    return [{**row, "decision_id": name} for row in rows]


def _comparisons(ledger: Ledger, batch: str, settings: Settings) -> dict[str, tuple[Comparison, ...]]:
    """Return what the batch's judge answered about each candidate, where the policy asks for it."""
    if not any(policy.name == JUDGE for policy in parse_policy(settings.retention.keep_candidate_mode)):
        return {}
    current = {row["kind"]: row["recipe_id"] for row in ledger.named("batch_recipes", batch=batch)}
    judge = current.get("judge")
    rows = ledger.named("batch_judgements", batch=batch, recipe=judge) if judge else []
    return {name: found for _, some in by_window(rows) for name, found in comparisons(some).items()}


def _prompts(ledger: Ledger, candidates: Sequence[Row]) -> dict[object, tuple[str, ...]]:
    """Return what the model of each caption recipe was asked."""
    recipes = sorted({str(row["recipe_id"]) for row in candidates})
    rows = ledger.named("recipe_prompts", recipes=recipes) if recipes else []
    return {
        row["recipe_id"]: tuple(text for text in (row["prompt"], row["stage2_prompt"]) if text)
        for row in rows
        if row["engine"] not in READS_NO_PROMPT
    }


def _repeats(candidates: Sequence[Row]) -> bool:
    """Tell whether two windows have the same words: where none has, nothing need be known of what they look like."""
    first: dict[object, object] = {}
    for row in candidates:
        text = str(row["text"] or "").casefold()
        if text and first.setdefault(text, row["window_id"]) != row["window_id"]:
            return True
    return False


def retain_batches(root: RootFolder, ledger: Ledger, settings: Settings, batch: str | None) -> list[dict[str, object]]:
    """Decide again for one batch or all, under the policy of `settings`; return counts per batch."""
    run_id = f"retain-{uuid.uuid4()}"
    recipe = retention_recipe(settings)
    captioned = ledger.query("SELECT batch FROM current_recipes WHERE kind = 'caption' ORDER BY batch")
    rows: list[dict[str, object]] = []
    for each in (str(row["batch"]) for row in captioned):
        if batch is not None and each != batch:
            continue
        activate(ledger, each, [recipe], "command:retain", run_id)
        candidates = ledger.named("current_candidates", batch=each)
        decided = decide_batch(ledger, each, candidates, settings, run_id)
        table = write_tables(root, ledger, each)
        windows = len({row["window_id"] for row in candidates})
        rows.append(
            {"batch": each, "policy": settings.retention.keep_candidate_mode, "windows": windows, "decided": decided,
             "captioned": sum(row["status"] == "captioned" for row in table)}
        )  # fmt: skip
    return rows
