"""Tells a ledger what happened, one event a call, so that a test reads like a story.

Rows come from the code that makes them in a run wherever that code is pure. `row_of` fills in what a test does not care
about.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from caption_assets import ids
from caption_assets.captioning.plan import original_row
from caption_assets.captioning.tasks import Slot, Task, candidate_row
from caption_assets.engines.protocol import Completion, EngineIdentity
from caption_assets.ids import ClipId, RecipeId, WindowId
from caption_assets.ledger import captions, upkeep
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.migrations import VIEWS
from caption_assets.ledger.schema import (
    TABLES,
    ActiveRecipeRow,
    CandidateRow,
    CaptionRow,
    ClipRow,
    DecisionRow,
    PromptRow,
    RecipeRow,
    Record,
    TombstoneRow,
    UploadRow,
    WindowRow,
    WindowSetRow,
    as_json,
)
from caption_assets.pipeline.caption_work import read_caption_work
from caption_assets.pipeline.retain import decide_batch
from caption_assets.root import RootFolder
from caption_assets.settings import Settings, setting_names
from caption_assets.settings.groups import CaptionSettings
from caption_assets.settings.recipes import (
    Recipe,
    caption_recipe,
    original_recipe,
    retention_recipe,
    split_recipe,
    window_recipe,
)
from caption_assets.uploads.register import split_rows
from caption_assets.video.split_job import FileSplit
from caption_assets.video.splitting import Part, PartFacts

MODEL = EngineIdentity("signal", "1", "test-model", "rev-a")
FILLERS: Mapping[str, object] = {
    "VARCHAR": "-",
    "JSON": "{}",
    "BIGINT": 0,
    "INTEGER": 0,
    "DOUBLE": 0.0,
    "BOOLEAN": False,
    "TIMESTAMPTZ": datetime(2026, 1, 1, tzinfo=UTC),
    "INTEGER[]": [],
    "DOUBLE[]": [],
    "VARCHAR[]": [],
}

RecordT = TypeVar("RecordT", bound=Record)


def row_of(record: type[RecordT], **values: object) -> RecordT:
    """Return a row with `values`, and something harmless in every other column that may not be NULL."""
    filled = {c.name: FILLERS[c.type] for c in record.table.columns if not c.nullable}
    return record(**{**filled, **values})


def settings(**values: object) -> Settings:
    """Return settings by their names without the group; of two groups with the same name, the first one's."""
    full = {name.rpartition(".")[2]: name for name, _ in reversed([*setting_names()])}
    return Settings.of({full.get(name, name): value for name, value in values.items()})


class Story:
    """A ledger and the events that befall it. Every event is a second later than the one before."""

    def __init__(self, folder: Path):
        self.root = RootFolder.at(folder)
        self.ledger = Ledger(self.root)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.run = "run-1"
        self._held: list[Record] | None = None

    def made(self) -> dict[str, Any]:
        """Return who makes the next row, and when."""
        self.now += timedelta(seconds=1)
        return {"run_id": self.run, "created_at": self.now}

    def commit(self, *rows: Record) -> None:
        if self._held is None:
            self.ledger.commit(rows)
        else:
            self._held += rows

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Put the events of the body into one commit, which is faster."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            self.ledger.commit(held)

    # the settings of a batch
    def activate(self, recipe: Recipe, batch: str = "b") -> Recipe:
        made, identity = self.made(), recipe.identity
        prompts = [row_of(PromptRow, prompt_sha256=p.sha256, text=p.text, **made) for p in recipe.prompts]
        stored = row_of(
            RecipeRow,
            recipe_id=recipe.recipe_id,
            kind=recipe.kind,
            name=recipe.name,
            params=recipe.canonical_json,
            model_id=identity.model_id if identity else None,
            model_revision=identity.model_revision if identity else None,
            engine=identity.engine if identity else None,
            prompt_sha256=recipe.prompts[0].sha256 if recipe.prompts else None,
            **made,
        )
        current = row_of(
            ActiveRecipeRow, kind=recipe.kind, batch=batch, recipe_id=recipe.recipe_id, valid_from=self.now, **made
        )
        self.commit(*prompts, stored, current)
        return recipe

    def use(self, chosen: Settings, *batches: str) -> Settings:
        """Make the recipes of `chosen` current for the batches, as the stages of a run do."""
        with self.at_once():
            for batch in batches or ("b",):
                for recipe in (
                    split_recipe(chosen), window_recipe(chosen), caption_recipe(chosen, MODEL), retention_recipe(chosen)
                ):  # fmt: skip
                    self.activate(recipe, batch)
        return chosen

    # files and clips
    def upload(
        self,
        content: str,
        batch: str = "b",
        path: str | None = None,
        *,
        caption: str | None = None,
        columns: Mapping[str, object] | None = None,
        frames: int = 768,
        status: str = "ok",
    ) -> ClipId:
        made = self.made()
        sha256 = hashlib.sha256(content.encode()).hexdigest()
        clip = ids.clip_id(sha256)
        upload = row_of(
            UploadRow, batch=batch, path=path or f"{content}.mp4", sha256=sha256, clip_id=clip, status=status,
            original_caption=caption, columns=None if columns is None else as_json(columns), recipe_id="r-clip", **made,
        )  # fmt: skip
        facts = row_of(ClipRow, clip_id=clip, recipe_id="r-clip", video_sha256=sha256, n_frames=frames, **made)
        self.commit(upload, facts)
        return clip

    def quarantine(self, path: str, batch: str = "b", error: str = "garbage") -> None:
        self.commit(row_of(UploadRow, batch=batch, path=path, status="quarantined", error=error, **self.made()))

    def split(self, source: ClipId, bounds: Sequence[int], chosen: Settings, *, lose: int = 0) -> list[ClipId]:
        """Split a file at frames `bounds` (25 frames a second); the rows of the first `lose` clips do not arrive."""
        row = self.clip(source)
        parts = tuple(
            PartFacts(Part(start, after - 1), start / 25, after / 25, start / 25, 25.0, False)
            for start, after in pairwise([0, *bounds, row.n_frames])
        )
        return self._split(row, FileSplit(parts), chosen, lose)

    def fail_to_split(self, source: ClipId, chosen: Settings) -> None:
        self._split(self.clip(source), FileSplit(problem="too slow"), chosen, 0)

    def _split(self, row: ClipRow, split: FileSplit, chosen: Settings, lose: int) -> list[ClipId]:
        self.made()
        clips, manifest = split_rows(row, split, split_recipe(chosen).recipe_id, self.run, self.now)
        self.commit(*clips[lose:], manifest)
        return [ClipId(clip.clip_id) for clip in clips]

    def clip(self, clip: str) -> ClipRow:
        """Return the first row of a clip."""
        return self.ledger.select(ClipRow, "clips WHERE clip_id = $clip ORDER BY created_at", clip=clip)[0]

    # windows
    def window_rows(self, clip: ClipId, n: int, chosen: Settings) -> list[WindowRow]:
        recipe, size, made = window_recipe(chosen).recipe_id, chosen.window.window_size, self.made()
        return [
            row_of(
                WindowRow, window_id=ids.window_id(clip, k * size, k * size + size - 1, recipe), clip_id=clip,
                recipe_id=recipe, window_index=k, start_frame=k * size, end_frame=k * size + size - 1,
                status="ok", **made,
            )
            for k in range(n)
        ]  # fmt: skip

    def cut(self, clip: ClipId, n: int, chosen: Settings, *, crash_before_the_manifest: bool = False) -> None:
        rows = self.window_rows(clip, n, chosen)
        manifest = row_of(
            WindowSetRow, clip_id=clip, recipe_id=window_recipe(chosen).recipe_id, n_windows=n,
            status="ok" if n else "too_short", **self.made(),
        )  # fmt: skip
        self.commit(*rows, *([] if crash_before_the_manifest else [manifest]))

    def fail_to_cut(self, clip: ClipId, chosen: Settings) -> None:
        recipe = window_recipe(chosen).recipe_id
        self.commit(row_of(WindowSetRow, clip_id=clip, recipe_id=recipe, status="error", error="gone", **self.made()))

    # captions
    def candidates(
        self, window: WindowId, chosen: Settings, statuses: Sequence[str] = ("ok",), attempt: int = 1, stage: int = 1
    ) -> list[CandidateRow]:
        """Return a row for each status: text for ok and truncated, none for the others."""
        recipe = caption_recipe(chosen, MODEL)
        slots = tuple(Slot(index, attempt) for index in range(len(statuses)))
        parents = tuple((Task(window, recipe.recipe_id, slots).candidate_id(slot), "") for slot in slots)
        task = Task(window, recipe.recipe_id, slots, stage, parents if stage == 2 else ())
        rows = []
        for index, status in enumerate(statuses):
            text = (
                f"{chosen.caption.prompt_text or 'caption'} {index} of {window} by stage {stage}"
                if status in ("ok", "truncated")
                else ""
            )
            finish = {"error": "error", "truncated": "length"}.get(status, "stop")
            made = self.made()
            answer = Completion(task.task_id, index, text, finish, error="it broke" if status == "error" else None)  # type: ignore[arg-type]
            row = candidate_row(task, index, CaptionSettings(), answer, self.run, self.now)
            rows.append(replace(row, **made, status=status))
        return rows

    def caption(self, chosen: Settings, batch: str = "b", *, only: int | None = None) -> int:
        """Do what vl_captions does: caption what is missing in a batch, then decide. Return how many windows."""
        missing = self.missing(batch)[:only]
        self.commit(
            *(row for window in missing for row in self.candidates(window, chosen, ["ok"] * chosen.caption.caption_num))
        )
        self.decide(chosen, batch)
        return len(missing)

    def answer(self, rows: Iterable[CandidateRow]) -> None:
        self.commit(*rows)

    def keep_original(self, window: WindowId, text: str) -> None:
        made = self.made()
        recipe = original_recipe()
        row = replace(original_row(window, text, recipe.recipe_id, self.run, self.now), **made)
        params = recipe.canonical_json
        self.commit(row_of(RecipeRow, recipe_id=recipe.recipe_id, kind="caption", params=params, **made), row)

    def decide(self, chosen: Settings, batch: str = "b", recipe: RecipeId | None = None) -> int:
        """Decide on the candidates of a caption recipe, that of `chosen` by default. Return how many windows."""
        recipe = recipe or caption_recipe(chosen, MODEL).recipe_id
        made = captions.group(self.made_by(recipe), lambda row: row.window_id)
        subjects = [(row, made[row.window_id]) for row in self.rows(batch) if row.window_id in made]
        return decide_batch(self.ledger, batch, subjects, chosen, self.run)

    def override(self, candidate: CandidateRow, user: str = "ann", action: str = "keep") -> None:
        """A person chooses a candidate, or takes a choice back."""
        row = row_of(
            DecisionRow, decision_id=f"d-{user}-{action}-{candidate.candidate_id}", action=action,
            reason_code="MANUAL", rank=1, decided_by=f"user:{user}", candidate_id=candidate.candidate_id,
            window_id=candidate.window_id, recipe_id=candidate.recipe_id, **self.made(),
        )  # fmt: skip
        self.commit(row)

    def take_down(self, kind: str, name: str) -> None:
        self.commit(row_of(TombstoneRow, object_kind=kind, object_id=name, reason_code="TAKEDOWN", **self.made()))

    def withdraw(self, kind: str, name: str) -> None:
        row = row_of(TombstoneRow, object_kind=kind, object_id=name, reason_code=captions.WITHDRAWN, **self.made())
        self.commit(row)

    # questions
    def rows(self, batch: str = "b") -> list[CaptionRow]:
        """Return what the ledger shows of a batch, in reading order."""
        return self.ledger.read(upkeep.batch_rows, batch)

    def row(self, window: str, batch: str = "b") -> CaptionRow:
        """Return what the ledger shows of a window."""
        [row] = [row for row in self.rows(batch) if row.window_id == window]
        return row

    def history(self, batch: str = "b") -> captions.BatchHistory:
        return self.ledger.read(upkeep.read_history, batch)

    def made_by(self, recipe: str) -> list[CandidateRow]:
        """Return the candidates of a caption recipe, in the order in which they are judged."""
        source = "caption_candidates WHERE recipe_id = $recipe ORDER BY stage, sample_index, attempt"
        return self.ledger.select(CandidateRow, source, recipe=recipe)

    def all_candidates(self, condition: str = "true") -> list[CandidateRow]:
        source = f"caption_candidates WHERE {condition} ORDER BY window_id, recipe_id, stage, sample_index, attempt"
        return self.ledger.select(CandidateRow, source)

    def missing(self, batch: str = "b") -> list[WindowId]:
        return sorted(WindowId(row.window_id) for row in self.ledger.read(read_caption_work, batch).missing)

    def windows(self, batch: str = "b") -> list[WindowId]:
        return [WindowId(row.window_id) for row in self.rows(batch)]

    def uncut(self, batch: str = "b") -> list[ClipId]:
        return sorted(ClipId(clip.clip_id) for clip in captions.uncut_clips(self.history(batch)))

    def count(self, table: str) -> int:
        return int(str(self.ledger.query(f"SELECT count(*) AS n FROM {table}")[0]["n"]))

    def served(self, batch: str = "b") -> dict[str, tuple[str, bool]]:
        """Return what a consumer reads: by window, the text and whether it is current."""
        rows = [row for row in self.rows(batch) if row.candidate_id is not None]
        return {row.window_id: (row.caption or "", bool(row.is_current)) for row in rows}


def everything(ledger: Ledger) -> dict[str, list[str]]:
    """Return every row of every table and view, as text, in an order of its own."""
    with ledger.session() as session:
        return {name: sorted(map(repr, session.rows(f"SELECT * FROM {name}"))) for name in (*TABLES, *VIEWS)}
