"""Keeping the table `captions` in step with the history, in the transaction that changes it."""

from collections.abc import Iterable, Mapping, Sequence

from caption_assets.ledger import captions
from caption_assets.ledger.captions import (
    BatchHistory,
    CandidateText,
    CurrentRecipe,
    DuplicateFacts,
    MadeBy,
    VerdictFacts,
    WindowFacts,
    group,
)
from caption_assets.ledger.schema import (
    ActiveRecipeRow,
    CaptionRow,
    ClipRecipeRow,
    ClipRow,
    ClipSetRow,
    DriftCheckRow,
    EnhancedRow,
    PreviewRow,
    Record,
    TombstoneRow,
    UploadRow,
    WindowSetRow,
)
from caption_assets.ledger.store import Session

OF_BATCH = "SELECT clip_id FROM uploads WHERE batch = $batch AND clip_id IS NOT NULL"
CLIPS_OF_BATCH = f"SELECT clip_id FROM clips WHERE clip_id IN ({OF_BATCH}) OR source_clip_id IN ({OF_BATCH})"
WINDOWS_OF_BATCH = f"SELECT window_id FROM windows WHERE clip_id IN ({CLIPS_OF_BATCH})"


def current_recipes(session: Session, batch: str) -> dict[str, CurrentRecipe]:
    """Return the recipe that is current for each stage of a batch; none whose own row is missing."""
    return recipes_of_batches(session, batch).get(batch, {})


def recipes_of_batches(session: Session, batch: str | None) -> dict[str, dict[str, CurrentRecipe]]:
    """Return what `current_recipes` does for every batch, or one."""
    of_batch, named = _of(batch)
    known = {
        recipe.recipe_id: recipe
        for recipe in session.select(
            CurrentRecipe,
            f"recipes WHERE recipe_id IN (SELECT recipe_id FROM active_recipes WHERE {of_batch})",
            **named,
        )
    }
    recipes: dict[str, dict[str, CurrentRecipe]] = {}
    for row in session.select(ActiveRecipeRow, f"active_recipes WHERE {of_batch} ORDER BY valid_from", **named):
        current = recipes.setdefault(row.batch, {})
        current.pop(row.kind, None)
        if row.recipe_id in known:
            current[row.kind] = known[row.recipe_id]
    return recipes


def _of(batch: str | None) -> tuple[str, dict[str, str]]:
    """Return the condition that a row is of a batch, or of any, and its parameters."""
    return ("true", {}) if batch is None else ("batch = $batch", {"batch": batch})


def clip_recipes(session: Session, batch: str) -> dict[str, str | None]:
    """Return the caption recipe of each clip of a batch that has, or had, its own; None: that of the batch again."""
    rows = session.select(ClipRecipeRow, "clip_recipes WHERE batch = $batch", batch=batch)
    by_clip = group(rows, lambda row: row.clip_id)
    return {clip: max(some, key=lambda row: row.valid_from).recipe_id for clip, some in by_clip.items()}


def read_history(session: Session, batch: str, *, windows: bool = True) -> BatchHistory:
    """Return everything that decides which windows a batch shows. windows: also what is cut of its clips."""
    of_clips = f"clip_id IN ({CLIPS_OF_BATCH})"
    taken_down = f"object_id = $batch OR object_id IN ({CLIPS_OF_BATCH})"
    return BatchHistory(
        batch=batch,
        uploads=session.select(UploadRow, "uploads WHERE batch = $batch", batch=batch),
        tombstones=session.select(TombstoneRow, f"tombstones WHERE {taken_down}", batch=batch),
        clips=session.select_few(ClipRow, "clips", of_clips, batch=batch),
        clip_sets=session.select(ClipSetRow, f"clip_sets WHERE source_clip_id IN ({OF_BATCH})", batch=batch),
        window_sets=session.select(WindowSetRow, f"window_sets WHERE {of_clips}", batch=batch) if windows else (),
        windows=session.select_few(WindowFacts, "windows", of_clips, batch=batch) if windows else (),
        duplicates=session.select(
            DuplicateFacts, f"window_duplicates WHERE window_id IN ({WINDOWS_OF_BATCH})", batch=batch
        ) if windows else (),
        recipes=current_recipes(session, batch),
        clip_recipes=clip_recipes(session, batch),
    )  # fmt: skip


def read_files(session: Session, batch: str | None) -> list[BatchHistory]:
    """Return what decides which clips every batch shows, or one: histories without windows, a million in a few reads.

    There is none of a batch that never had a file.
    """
    of_batch, named = _of(batch)
    of_clips, of_files = "true", "true"
    if batch is not None:
        of_clips, of_files = f"clip_id IN ({CLIPS_OF_BATCH})", f"source_clip_id IN ({OF_BATCH})"
    uploads = group(session.select(UploadRow, f"uploads WHERE {of_batch}", **named), lambda row: row.batch)
    clips = group(session.select(ClipRow, f"clips WHERE {of_clips}", **named), _file_of)
    sets = group(session.select(ClipSetRow, f"clip_sets WHERE {of_files}", **named), lambda row: row.source_clip_id)
    tombstones = group(session.select(TombstoneRow, "tombstones"), lambda row: row.object_id)
    recipes = recipes_of_batches(session, batch)
    histories = []
    for name in sorted(uploads):
        files = sorted({row.clip_id for row in uploads[name] if row.clip_id})
        held = [clip for file in files for clip in clips.get(file, ())]
        objects = {name, *files, *(clip.clip_id for clip in held)} & tombstones.keys()
        histories.append(
            BatchHistory(
                batch=name,
                uploads=uploads[name],
                tombstones=[row for each in objects for row in tombstones[each]],
                clips=held,
                clip_sets=[row for file in files for row in sets.get(file, ())],
                recipes=recipes.get(name, {}),
            )
        )
    return histories


def _file_of(clip: ClipRow) -> str:
    return clip.source_clip_id or clip.clip_id


def follow(session: Session, new: Mapping[str, Sequence[Record]]) -> None:
    """Bring `captions` up to date with rows that were just inserted, per table."""
    batches = _batches_to_place(session, new)
    for batch in sorted(batches):
        place_batch(session, batch)
    windows = {
        row.window_id for name in ("retention_decisions", "enhanced_captions", "drift_checks", "previews")
        for row in new.get(name, ()) if hasattr(row, "window_id")
    }  # fmt: skip
    if windows:
        session.put_names("window_id", sorted(windows))
        these = "SELECT window_id FROM window_id"
        touched = f"window_id IN ({these}) OR collapsed_into IN ({these})"
        rows = [row for row in session.select_few(CaptionRow, "captions", touched) if row.batch not in batches]
        for batch, some in group(rows, lambda row: row.batch).items():
            decides = "retention_decisions" in new
            _replace(session, some, serve(session, batch, some, decides=decides))


def place_batch(session: Session, batch: str) -> None:
    """Make the rows of one batch in `captions` again."""
    _replace(session, batch_rows(session, batch), expected_rows(session, batch))


def batch_rows(session: Session, batch: str) -> list[CaptionRow]:
    """Return the rows of a batch in `captions`, in reading order."""
    rows = session.select(CaptionRow, "captions WHERE batch = $batch", batch=batch)
    return sorted(rows, key=captions.reading_order)


def expected_rows(session: Session, batch: str) -> list[CaptionRow]:
    """Return what `captions` should say of a batch, from its history alone, in reading order."""
    return serve(session, batch, captions.placed(read_history(session, batch)))


def serve(session: Session, batch: str, rows: Sequence[CaptionRow], *, decides: bool = True) -> list[CaptionRow]:
    """Return `rows` of a batch with what is served. decides: False keeps the decisions that the rows have."""
    if not rows:
        return []
    recipes = current_recipes(session, batch)
    session.put_names("window_id", [name for row in rows for name in (row.window_id, row.collapsed_into) if name])
    these = "window_id IN (SELECT window_id FROM window_id)"
    if decides:
        rows = _decide(session, rows, recipes, these)
    enhancements = group(session.select_few(EnhancedRow, "enhanced_captions", these), lambda row: row.candidate_id)
    checks = group(session.select_few(DriftCheckRow, "drift_checks", these), lambda row: row.candidate_id)
    previews = group(session.select_few(PreviewRow, "previews", these), lambda row: row.window_id)
    rule, preview_recipe = captions.EnhanceRule.of(recipes), recipes.get("preview")
    served = []
    for row in rows:
        kept = row.candidate_id or ""
        text = captions.enhanced(row, rule, enhancements.get(kept, ()), checks.get(kept, ()))
        recipe = preview_recipe.recipe_id if preview_recipe else None
        served.append(captions.previewed(text, captions.shown_preview(previews.get(row.window_id, ()), recipe)))
    return served


def _decide(
    session: Session, rows: Sequence[CaptionRow], recipes: Mapping[str, CurrentRecipe], these: str
) -> list[CaptionRow]:
    verdicts = session.select_few(VerdictFacts, "retention_decisions", these)
    kept = {verdict.candidate_id for verdict in verdicts if verdict.action == "keep"}
    texts = session.select_few(CandidateText, "caption_candidates", these) if kept else ()
    candidates = {text.candidate_id: text for text in texts if text.candidate_id in kept}
    session.put_names("recipe_id", [text.recipe_id for text in candidates.values()])
    made_by = session.select(MadeBy, "recipes WHERE recipe_id IN (SELECT recipe_id FROM recipe_id)")
    makers = {maker.recipe_id: maker for maker in made_by}
    policy = recipes["retention"].recipe_id if "retention" in recipes else None
    by_window = group(verdicts, lambda verdict: verdict.window_id)
    return [
        captions.decided(row, captions.decision_in_force(row, by_window, policy), candidates, makers) for row in rows
    ]


def _batches_to_place(session: Session, new: Mapping[str, Sequence[Record]]) -> set[str]:
    """Return the batches of which rows say that other windows may be shown, or other ones wanted."""
    batches: set[str] = set()
    for name in ("uploads", "clip_recipes", "active_recipes"):
        batches |= {str(getattr(row, "batch")) for row in new.get(name, ())}  # noqa: B009
    clips: set[str] = set()
    for name in ("clips", "clip_sets", "window_sets", "windows"):
        for row in new.get(name, ()):
            clips |= {str(getattr(row, key)) for key in ("clip_id", "source_clip_id") if getattr(row, key, None)}
    for row in new.get("tombstones", ()):
        if isinstance(row, TombstoneRow):
            (batches if row.object_kind == "batch" else clips).add(row.object_id)
    if clips:
        session.put_names("touched_clip", sorted(clips))
        touched = "SELECT touched_clip FROM touched_clip"
        sources = f"SELECT source_clip_id FROM clips WHERE clip_id IN ({touched})"
        found = session.rows(f"SELECT DISTINCT batch FROM uploads WHERE clip_id IN ({touched} UNION {sources})")
        batches |= {batch for (batch,) in found}
    if duplicates := [str(getattr(row, "window_id")) for row in new.get("window_duplicates", ())]:  # noqa: B009
        session.put_names("window_id", duplicates)
        found = session.rows("SELECT DISTINCT batch FROM captions WHERE window_id IN (SELECT window_id FROM window_id)")
        batches |= {batch for (batch,) in found}
    return batches


def _replace(session: Session, old: Iterable[CaptionRow], new: Iterable[CaptionRow]) -> None:
    """Put the rows `new` of one batch in the place of `old`; rows that stay as they are are not touched."""
    before = {row.window_id: row for row in old}
    after = {row.window_id: row for row in new}
    stale = [row for name, row in before.items() if after.get(name) != row]
    fresh = [row for name, row in after.items() if before.get(name) != row]
    table = CaptionRow.table
    if stale:
        session.put_names("window_id", [row.window_id for row in stale])
        session.rows(
            "DELETE FROM captions WHERE batch = $batch AND window_id IN (SELECT window_id FROM window_id)",
            batch=stale[0].batch,
        )
    if fresh:
        session.put_rows("incoming_rows", table, fresh)
        names = ", ".join(column.name for column in table.columns)
        session.rows(f"INSERT INTO captions ({names}) SELECT {names} FROM incoming_rows ORDER BY row_number")
