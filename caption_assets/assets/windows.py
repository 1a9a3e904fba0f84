"""windows: each clip cut into windows, their sampled frames packed. The only decode in the whole graph."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from caption_assets.assets.raw_clips import raw_clips
from caption_assets.ids import ClipId
from caption_assets.ledger.captions import BatchHistory, current_uploads, group, uncut_clips, wanted_clips
from caption_assets.ledger.schema import DuplicateRow, Record
from caption_assets.ledger.store import Session
from caption_assets.ledger.upkeep import read_history
from caption_assets.orchestration.declare import video_batch_asset
from caption_assets.orchestration.metadata import picture, sample_table, spread
from caption_assets.orchestration.resources import RootResource, SettingsResource
from caption_assets.orchestration.stage import stage
from caption_assets.pipeline.dedupe import record_duplicates
from caption_assets.pipeline.frames import frame_range, read_places
from caption_assets.pipeline.stage_run import StageRun
from caption_assets.pipeline.window_rows import window_rows
from caption_assets.settings import Settings
from caption_assets.settings.recipes import dedupe_recipe, window_recipe
from caption_assets.video.contact_sheet import frame_strip
from caption_assets.video.frame_store import ClipPlace
from caption_assets.video.pack import PackRule, pack_path, read_pack
from caption_assets.video.window_job import CutJob, FileClip, cut_clip, not_cut
from caption_assets.video.workers import WorkerFailure, map_jobs


@video_batch_asset(kinds={"ffmpeg", "parquet"}, table="windows", code_kind="window", deps=[raw_clips])
def windows(context: dg.AssetExecutionContext, root: RootResource, settings: SettingsResource) -> None:
    """Runs of 256 frames of each clip, with the frames sampled from them packed as JPEG.

    Every file is decoded once for all clips in it, several files side by side. A clip that is in another batch too is
    not decoded again. A window that looks like the one before it is collapsed into it, as `dedupe.mode` says: it is
    not captioned.
    """
    values = settings.values()
    for batch in context.partition_keys:
        with stage(context, root, "windows", batch, "window") as run:
            run.activate(window_recipe(values))
            history = run.ledger.read(read_history, batch)
            jobs = _jobs(run, history, values)
            run.commit_as_they_come(_cut(run, jobs, values), len(jobs))
            run.activate(dedupe_recipe(values))
            record_duplicates(run.ledger, batch, values, run.run_id)
            shown = run.ledger.read(_read_shown, batch)
            _count(run, shown)
            run.metadata |= _pictures(run, shown, values)


@dataclass(frozen=True, slots=True)
class ShownWindow:
    """A window that a batch shows: where it is, and what is known of it."""

    window_id: str
    clip_id: str
    clip_path: str
    clip_name: str
    clip_start_s: float
    window_index: int
    start_frame: int
    end_frame: int
    start_s: float
    end_s: float
    n_sampled: int
    status: str
    error: str | None
    run_id: str
    duplicate_of: str | None


@dataclass(frozen=True)
class LostClip:
    """A clip without windows under the current recipe: too short, or an error."""

    path: str
    name: str
    clip_start_s: float
    status: str
    error: str | None


@dataclass(frozen=True)
class Shown:
    """What a batch shows after it was cut."""

    windows: Sequence[ShownWindow]
    lost: Sequence[LostClip]
    collapsed: Sequence[DuplicateRow]
    places: Mapping[ClipId, ClipPlace]


def _read_shown(session: Session, batch: str) -> Shown:
    history = read_history(session, batch)
    source = """(
        SELECT c.window_id, c.clip_id, c.clip_path, c.clip_name, c.clip_start_s, c.window_index, c.start_frame,
               c.end_frame, c.start_s, c.end_s, array_length(w.frame_indices, 1) AS n_sampled, w.status, w.error,
               w.run_id, c.duplicate_of
        FROM captions c JOIN windows w ON w.window_id = c.window_id
        WHERE c.batch = $batch ORDER BY c.clip_path, c.clip_start_frame, c.start_frame) shown"""
    windows = session.select(ShownWindow, source, batch=batch)
    collapsed = session.select(
        DuplicateRow,
        "window_duplicates WHERE window_id IN (SELECT window_id FROM captions WHERE batch = $batch AND duplicate_of "
        "IS NOT NULL) AND recipe_id = $recipe",
        batch=batch,
        recipe=history.recipes["dedupe"].recipe_id,
    )
    first = [windows[0].clip_id] if windows else []
    return Shown(windows, _lost_clips(history), collapsed, read_places(session, batch, first))


def _lost_clips(history: BatchHistory) -> list[LostClip]:
    recipe, lost = history.recipes["window"].recipe_id, []
    sets = group((row for row in history.window_sets if row.recipe_id == recipe), lambda row: row.clip_id)
    for clip in sorted(wanted_clips(history), key=lambda clip: (clip.file.path, clip.start_frame or 0)):
        tried = sets.get(clip.clip_id, ())
        row = max(tried, key=lambda row: (row.status != "error", row.created_at), default=None)
        if row is not None and row.status != "ok":
            lost.append(LostClip(clip.file.path, clip.name, clip.start_s or 0.0, row.status, row.error))
    return lost


def _count(run: StageRun, shown: Shown) -> None:
    """Count the windows that were made and reused, and what failed."""
    damaged = [window for window in shown.windows if window.status == "error"]
    good = [window for window in shown.windows if window.status == "ok"]
    run.failed = len(damaged) + sum(clip.status == "error" for clip in shown.lost)
    run.new = sum(window.run_id == run.run_id for window in good)
    run.reused = len(good) - run.new
    run.expected = len(good) + run.failed
    reasons = [(clip.name, clip.error) for clip in shown.lost] + [(each.clip_name, each.error) for each in damaged]
    for name, error in reasons:
        run.log.warning(f"{run.batch}/{name}: {error}")


def _jobs(run: StageRun, history: BatchHistory, settings: Settings) -> list[CutJob]:
    """Return the files with clips that have no complete window set under the current recipe: a job for each file."""
    recipe, pack = window_recipe(settings), PackRule.of(settings.caption)
    uploads = {row.path: row for row in current_uploads(history)}
    by_path = group(uncut_clips(history), lambda clip: clip.file.path)
    return [
        CutJob(
            clips=tuple(
                FileClip(ClipId(clip.clip_id), frame_range(clip.start_frame, clip.end_frame))
                for clip in sorted(clips, key=lambda clip: clip.start_frame or 0)
            ),
            location=run.root.uploads / run.batch / path,
            expected_bytes=uploads[path].bytes or 0,
            expected_mtime_ns=uploads[path].mtime_ns or 0,
            window_recipe=recipe.recipe_id,
            window_rule=settings.window,
            pack_rule=pack,
            folder=run.root.frames(run.batch),
            limits=settings.clip,
        )
        for path, clips in sorted(by_path.items())
    ]


def _cut(run: StageRun, jobs: Sequence[CutJob], settings: Settings) -> Iterator[Sequence[Record]]:
    for job, result in map_jobs(cut_clip, jobs, settings.decode):
        cuts = not_cut(job, result.reason) if isinstance(result, WorkerFailure) else result
        now = datetime.now(UTC)
        rows = [window_rows(cut.clip_id, job.window_recipe, cut, run.run_id, now) for cut in cuts]
        # The clips of a file become visible together, in place of what the file was before.
        yield [*(window for windows, _ in rows for window in windows), *(manifest for _, manifest in rows)]


def _pictures(run: StageRun, shown: Shown, settings: Settings) -> dict[str, dg.MetadataValue | float]:
    columns = ("clip_path", "clip_start_s", "window_index", "start_frame", "end_frame", "start_s", "end_s", "n_sampled",
               "status", "error")  # fmt: skip
    metadata: dict[str, dg.MetadataValue | float] = {
        "windows": sample_table([asdict(window) for window in shown.windows], columns),
        **spread("sampled frames per window", [each.n_sampled for each in shown.windows if each.status == "ok"]),
    }
    if shown.lost:
        lost = [asdict(clip) for clip in shown.lost]
        metadata["clips without windows"] = sample_table(lost, ("path", "clip_start_s", "status", "error"))
    if shown.collapsed:
        by_id = {window.window_id: window for window in shown.windows}
        rows = [{**asdict(by_id[row.window_id]), **asdict(row)} for row in shown.collapsed]
        metadata["collapsed windows"] = sample_table(
            rows, ("clip_path", "window_index", "duplicate_of", "mode", "distance")
        )
    path = _first_pack(run, shown, settings)
    if path is not None:
        try:
            strip = frame_strip(read_pack(path))
            metadata["frames"] = picture(strip, "image/jpeg", f"{shown.windows[0].clip_name}, its first window")
        except (OSError, ValueError) as fault:  # whoever needs the pack makes a damaged one again; a picture does not
            run.log.warning(f"{path.name}: no picture of its frames: {fault}")
    return metadata


def _first_pack(run: StageRun, shown: Shown, settings: Settings) -> Path | None:
    """Return the packed frames of the first window, in whatever batch a run left them."""
    if not shown.windows:
        return None
    first = shown.windows[0]
    place = shown.places.get(ClipId(first.clip_id))
    batches = dict.fromkeys([run.batch, *(file.batch for file in (place.files if place else ()))])
    pack = PackRule.of(settings.caption).pack_id
    paths = (pack_path(run.root.frames(batch), first.window_id, pack) for batch in batches)
    return next((path for path in paths if path.is_file()), None)
