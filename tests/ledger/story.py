"""Tells a ledger what happened, one event a call, so that a test reads like a story.

Rows are made by the code that makes them in a run wherever that code is pure; what a test does not care about is filled
in from the table's own declaration.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from caption_assets import ids
from caption_assets.captioning.plan import original_row
from caption_assets.captioning.tasks import Slot, Task, candidate_row
from caption_assets.engines.protocol import Completion, EngineIdentity
from caption_assets.ids import ClipId, RecipeId, WindowId
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.derived import BY_BATCH
from caption_assets.ledger.schema import TABLES
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
    "UTINYINT[]": [],
    "UBIGINT[]": [],
    "VARCHAR[]": [],
}


def row_of(table: str, **values: object) -> dict[str, object]:
    """Return a row of `table` with `values`, and something harmless in every other column that may not be NULL."""
    filled = {c.name: FILLERS[c.type] for c in TABLES[table].columns if not c.nullable}
    return {**filled, **values}


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
        self._held: dict[str, list[Mapping[str, object]]] | None = None

    def _made(self) -> dict[str, object]:
        self.now += timedelta(seconds=1)
        return {"run_id": self.run, "created_at": self.now}

    def _commit(self, batch: str, rows: Mapping[str, Sequence[Mapping[str, object]]]) -> None:
        if self._held is None:
            self.ledger.commit(self.run, batch, rows)
            return
        for table, some in rows.items():
            self._held.setdefault(table, []).extend(some)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Put the events of the body into one commit, which is faster."""
        self._held = {}
        try:
            yield
        finally:
            held, self._held = self._held, None
            self.ledger.commit(self.run, "b", held)

    # the settings of a batch
    def activate(self, recipe: Recipe, batch: str = "b") -> Recipe:
        made = self._made()
        row = row_of(
            "recipes",
            recipe_id=recipe.recipe_id,
            kind=recipe.kind,
            name=recipe.name,
            params=recipe.canonical_json,
            **made,
        )
        if recipe.identity:
            row |= {
                "model_id": recipe.identity.model_id,
                "model_revision": recipe.identity.model_revision,
                "engine": recipe.identity.engine,
            }
        if recipe.prompts:
            row["prompt_sha256"] = recipe.prompts[0].sha256
        current = row_of(
            "active_recipes", kind=recipe.kind, batch=batch, recipe_id=recipe.recipe_id, valid_from=self.now, **made
        )
        prompts = [row_of("prompts", prompt_sha256=p.sha256, text=p.text, **made) for p in recipe.prompts]
        self._commit(batch, {"prompts": prompts, "recipes": [row], "active_recipes": [current]})
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
        made = self._made()
        sha256 = hashlib.sha256(content.encode()).hexdigest()
        clip = ids.clip_id(sha256)
        upload = row_of(
            "uploads", batch=batch, path=path or f"{content}.mp4", sha256=sha256, clip_id=clip, status=status,
            original_caption=caption, columns=columns, recipe_id="r-clip", **made,
        )  # fmt: skip
        facts = row_of("clips", clip_id=clip, recipe_id="r-clip", video_sha256=sha256, n_frames=frames, **made)
        self._commit(batch, {"uploads": [upload], "clips": [facts]})
        return clip

    def quarantine(self, path: str, batch: str = "b", error: str = "garbage") -> None:
        row = row_of("uploads", batch=batch, path=path, status="quarantined", error=error, **self._made())
        self._commit(batch, {"uploads": [row]})

    def split(self, source: ClipId, bounds: Sequence[int], chosen: Settings, *, lose: int = 0) -> list[ClipId]:
        """Split a file at frames `bounds` (25 frames a second); the rows of the first `lose` clips do not arrive."""
        row = self.ledger.query("SELECT * FROM clips WHERE clip_id = $c ORDER BY created_at LIMIT 1", c=source)[0]
        edges = [0, *bounds, row["n_frames"]]
        parts = tuple(
            PartFacts(Part(start, after - 1), start / 25, after / 25, start / 25, 25.0, False)
            for start, after in pairwise(edges)
        )
        return self._split(row, FileSplit(parts), chosen, lose)

    def fail_to_split(self, source: ClipId, chosen: Settings) -> None:
        row = self.ledger.query("SELECT * FROM clips WHERE clip_id = $c LIMIT 1", c=source)[0]
        self._split(row, FileSplit(problem="too slow"), chosen, 0)

    def _split(self, row: Mapping[str, object], split: FileSplit, chosen: Settings, lose: int) -> list[ClipId]:
        self._made()
        clips, manifest = split_rows(row, split, split_recipe(chosen).recipe_id, self.run, self.now)
        self._commit("b", {"clips": clips[lose:], "clip_sets": [manifest]})
        return [ClipId(str(clip["clip_id"])) for clip in clips]

    # windows
    def window_rows(self, clip: ClipId, n: int, chosen: Settings) -> list[dict[str, object]]:
        recipe, size, made = window_recipe(chosen).recipe_id, chosen.window.window_size, self._made()
        return [
            row_of(
                "windows", window_id=ids.window_id(clip, k * size, k * size + size - 1, recipe), clip_id=clip,
                recipe_id=recipe, window_index=k, start_frame=k * size, end_frame=k * size + size - 1,
                status="ok", **made,
            )
            for k in range(n)
        ]  # fmt: skip

    def cut(self, clip: ClipId, n: int, chosen: Settings, *, crash_before_the_manifest: bool = False) -> None:
        rows = self.window_rows(clip, n, chosen)
        manifest = row_of(
            "window_sets", clip_id=clip, recipe_id=window_recipe(chosen).recipe_id, n_windows=n,
            status="ok" if n else "too_short", **self._made(),
        )  # fmt: skip
        self._commit("b", {"windows": rows} if crash_before_the_manifest else
                           {"windows": rows, "window_sets": [manifest]})  # fmt: skip

    def fail_to_cut(self, clip: ClipId, chosen: Settings) -> None:
        row = row_of(
            "window_sets", clip_id=clip, recipe_id=window_recipe(chosen).recipe_id, status="error", error="gone",
            **self._made(),
        )  # fmt: skip
        self._commit("b", {"window_sets": [row]})

    # captions
    def candidates(
        self, window: WindowId, chosen: Settings, statuses: Sequence[str] = ("ok",), attempt: int = 1, stage: int = 1
    ) -> list[dict[str, object]]:
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
            made = self._made()
            answer = Completion(task.task_id, index, text, finish, error="it broke" if status == "error" else None)  # type: ignore[arg-type]
            row = candidate_row(task, index, CaptionSettings(), answer, self.run, self.now)
            rows.append({**row, **made, "status": status})
        return rows

    def caption(self, chosen: Settings, batch: str = "b", *, only: int | None = None) -> int:
        """Do what vl_captions does: caption what is missing in a batch, then decide. Return how many windows."""
        missing = self.missing(batch)[:only]
        rows = [
            row for window in missing for row in self.candidates(window, chosen, ["ok"] * chosen.caption.caption_num)
        ]
        self._commit(batch, {"caption_candidates": rows})
        self.decide(chosen, batch)
        return len(missing)

    def answer(self, rows: Sequence[Mapping[str, object]], batch: str = "b") -> None:
        self._commit(batch, {"caption_candidates": rows})

    def keep_original(self, window: WindowId, text: str, batch: str = "b") -> None:
        made = self._made()
        recipe = original_recipe()
        row = {**original_row(window, text, recipe.recipe_id, self.run, self.now), **made}
        stored = row_of("recipes", recipe_id=recipe.recipe_id, kind="caption", params=recipe.canonical_json, **made)
        self._commit(batch, {"recipes": [stored], "caption_candidates": [row]})

    def decide(self, chosen: Settings, batch: str = "b", recipe: RecipeId | None = None) -> int:
        recipe = recipe or caption_recipe(chosen, MODEL).recipe_id
        made = self.ledger.named("batch_candidates", batch=batch, recipe=recipe)
        return decide_batch(self.ledger, batch, made, chosen, self.run)

    def override(self, candidate: Mapping[str, object], user: str = "ann") -> None:
        """A person chooses a candidate."""
        row = row_of(
            "retention_decisions", decision_id=f"d-{user}-{candidate['candidate_id']}", action="keep",
            reason_code="MANUAL", rank=1, decided_by=f"user:{user}", candidate_id=candidate["candidate_id"],
            window_id=candidate["window_id"], recipe_id=candidate["recipe_id"], **self._made(),
        )  # fmt: skip
        self._commit("b", {"retention_decisions": [row]})

    def take_down(self, kind: str, name: str) -> None:
        row = row_of("tombstones", object_kind=kind, object_id=name, reason_code="TAKEDOWN", **self._made())
        self._commit("b", {"tombstones": [row]})

    def withdraw(self, kind: str, name: str) -> None:
        row = row_of("tombstones", object_kind=kind, object_id=name, reason_code="WITHDRAWN", **self._made())
        self._commit("b", {"tombstones": [row]})

    # questions
    def missing(self, batch: str = "b") -> list[WindowId]:
        sql = "SELECT window_id FROM missing_captions WHERE batch = $batch ORDER BY window_id"
        return [WindowId(str(row["window_id"])) for row in self.ledger.query(sql, batch=batch)]

    def windows(self, batch: str = "b") -> list[WindowId]:
        sql = "SELECT window_id FROM batch_windows WHERE batch = $batch ORDER BY path, clip_start_frame, start_frame"
        return [WindowId(str(row["window_id"])) for row in self.ledger.query(sql, batch=batch)]

    def uncut(self, batch: str = "b") -> list[ClipId]:
        sql = "SELECT clip_id FROM missing_windows WHERE batch = $batch ORDER BY clip_id"
        return [ClipId(str(row["clip_id"])) for row in self.ledger.query(sql, batch=batch)]

    def count(self, table: str) -> int:
        return int(str(self.ledger.query(f"SELECT count(*) AS n FROM {table}")[0]["n"]))

    def served(self, batch: str | None = None) -> dict[str, tuple[str, bool]]:
        """Return what a consumer reads: by window, the text and whether it is current."""
        if batch is None:
            rows = self.ledger.query("SELECT window_id, text, is_current FROM captions ORDER BY rank DESC")
        else:
            rows = self.ledger.named("batch_kept", batch=batch)[::-1]
        return {str(row["window_id"]): (str(row["text"]), bool(row["is_current"])) for row in rows}


def everything(ledger: Ledger) -> dict[str, list[str]]:
    """Return every row of every table and view, as text, in an order of its own."""
    with ledger._locked() as connection:  # one connection for all of them: opening the ledger is what takes time
        names = connection.execute("SELECT table_name FROM information_schema.tables ORDER BY 1").fetchall()
        return {name: sorted(map(repr, connection.execute(f"FROM {name}").fetchall())) for (name,) in names}


def derived_faults(ledger: Ledger) -> dict[str, object]:
    """Return what differs between the derived tables and the views that say what they should hold."""
    faults: dict[str, object] = {}
    with ledger._locked() as connection:
        for name in ("clip_first_uploads", *BY_BATCH):
            there, wanted = (
                sorted(map(repr, connection.execute(f"FROM {n}").fetchall())) for n in (name, f"{name}_now")
            )
            if there != wanted:
                faults[name] = (there, wanted)
        for table in TABLES.values():
            if table.about is None:
                continue
            known, key = ("clip_first_uploads", "clip_id") if table.about == "clip" else ("windows", "window_id")
            wrong = connection.execute(f"""
                SELECT t.first_upload_at, o.first_upload_at FROM {table.name} t LEFT JOIN {known} o ON o.{key} = t.{key}
                WHERE t.first_upload_at <> coalesce(o.first_upload_at, 'epoch')
            """).fetchall()
            if wrong:
                faults[f"first uploads of {table.name}"] = wrong
        unfound = connection.execute("FROM windows WHERE window_id_md5 <> md5_number_lower(window_id)").fetchall()
        if unfound:
            faults["numbers of windows"] = unfound
    return faults
