"""The numbers of `plan` are those that come out when every window is looked at for itself."""

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from caption_assets import ids
from caption_assets.engines.protocol import EngineSpec
from caption_assets.engines.registry import choose_engine
from caption_assets.ids import ClipId, WindowId
from caption_assets.ledger import captions, upkeep
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import (
    CandidateRow,
    ClipRow,
    ClipSetRow,
    DecisionRow,
    EnhancedRow,
    PreviewRow,
    Record,
    TombstoneRow,
    UploadRow,
    WindowRow,
    WindowSetRow,
    as_json,
)
from caption_assets.pipeline.dedupe import find_in, read_pictures
from caption_assets.pipeline.plan import plan_batches
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from caption_assets.settings.recipes import (
    caption_recipe,
    clip_recipe,
    enhance_recipe,
    preview_recipe,
    retention_recipe,
    split_recipe,
    window_recipe,
)
from caption_assets.video.splitting import stride_parts
from caption_assets.video.windowing import plan_windows
from tests.ledger.story import row_of

Row = Mapping[str, object]

BASE: dict[str, object] = {"caption.caption_num": 2, "caption.generate_stage2_caption": False}
STRIDE = {"clip.split": "stride", "clip.split_length_s": 10.0, "clip.min_clip_length_s": 4.0}
SCENES = {"clip.split": "scenes", "clip.min_clip_length_s": 4.0}
CHANGES: Sequence[dict[str, object]] = (
    {},
    {"caption.prompt_text": "What is new?"},
    {"caption.generate_stage2_caption": True},
    {"window.window_size": 100, "window.remainder_threshold": 2},
    {"retention.keep_candidate_mode": "longest"},
    {
        "caption.prompt_text": "Hm?",
        "retention.keep_candidate_mode": "all",
        "enhance": {"prompt_text": "Better, please."},
    },
    {"enhance": {"enabled": False}},
    {"caption.caption_num": 4, "preview.target_height": 64, "dedupe.mode": "off"},
    {"clip.max_frames": 1000},
    STRIDE,
    {**STRIDE, "clip.min_clip_length_s": 5.0, "caption.prompt_text": "Hm?"},
    SCENES,
    {**SCENES, "clip.scene_threshold": 30.0},
    {"caption.prompt_key": "q"},
    {"caption.prompt_key": "q", "retention.keep_candidate_mode": "all"},
    {**STRIDE, "caption.prompt_key": "q", "caption.prompt_text": "Hm?"},
)
RATE = 25.0


def chosen(change: Mapping[str, object]) -> Settings:
    return Settings.of({**BASE, **change})


class Invented:
    """Rows of a ledger in which everything happens somewhere, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.draw_columns = random.Random(seed)
        self.rows: list[Record] = []
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.sources: list[tuple[ClipId, str, int]] = []
        self.parts: list[ClipId] = []

    def add(self, record: type[Record], **values: object) -> None:
        self.now += timedelta(seconds=1)
        self.rows.append(row_of(record, **{"run_id": "r", "created_at": self.now, **values}))

    def happens(self, chance: float) -> bool:
        return self.draw.random() < chance

    def files(self, n: int) -> None:
        for number in range(n):
            sha256 = hashlib.sha256(f"{number}".encode()).hexdigest()
            clip = ids.clip_id(sha256)
            n_frames = self.draw.choice([3, 4, 200, 256, 300, 383, 384, 512, 700, 768, 1000, 1300])
            for batch in self.draw.sample(["a", "b", "c", "gone"], self.draw.choice([1, 1, 2])):
                for path in [f"{number}.mp4", f"again-{number}.mp4"][: self.draw.choice([1, 1, 2])]:
                    recipe = clip_recipe(chosen({})).recipe_id if self.happens(0.8) else "r-older"
                    status = "gone" if self.happens(0.1) else "ok"
                    columns = self.draw_columns.choice([None, {"q": "Hm?"}, {"q": "Hm?"}, {"q": "Who?"}, {"q": None}])
                    self.add(UploadRow, batch=batch, path=path, sha256=sha256, clip_id=clip, status=status,
                             recipe_id=recipe, columns=None if columns is None else as_json(columns))  # fmt: skip
            facts = {"clip_id": clip, "video_sha256": sha256, "fps": RATE}
            if self.happens(0.2):
                self.add(ClipRow, **facts, recipe_id="r-older", n_frames=n_frames - 1, duration_s=(n_frames - 1) / RATE)
            self.add(ClipRow, **facts, recipe_id="r-clip", n_frames=n_frames, duration_s=n_frames / RATE)
            self.sources.append((clip, sha256, n_frames))
        self.add(UploadRow, batch="b", path="bad.mp4", status="quarantined", clip_id=None)

    def split(self, settings: Settings, bounds_of: dict[ClipId, list[int]]) -> None:
        recipe = split_recipe(settings).recipe_id
        for clip, sha256, n_frames in self.sources:
            starts = bounds_of.get(clip)
            if starts is None:
                continue
            pairs = list(zip(starts, [*(start - 1 for start in starts[1:]), n_frames - 1], strict=True))
            clips = [clip] if len(pairs) == 1 else [ids.clip_id(sha256, pair) for pair in pairs]
            for part, (first, last) in zip(clips, pairs, strict=True):
                of_file = (
                    {"fps": RATE, "duration_s": n_frames / RATE}
                    if part == clip
                    else {"source_clip_id": clip, "source_start_frame": first, "source_end_frame": last}
                )
                self.add(
                    ClipRow, clip_id=part, recipe_id=recipe, video_sha256=sha256, n_frames=last - first + 1, **of_file
                )
            self.add(ClipSetRow, source_clip_id=clip, recipe_id=recipe, n_clips=len(clips), clip_ids=clips, status="ok")
            self.parts += [part for part in clips if part != clip]

    def stride(self, settings: Settings, share: float) -> None:
        found = {}
        for clip, _, n_frames in self.sources:
            if self.happens(share):
                found[clip] = [p.start for p in strides(n_frames, RATE, n_frames / RATE, settings)]
        self.split(settings, found)

    def windows(self, settings: Settings) -> Iterator[WindowId]:
        """Cut most clips into windows, well or not; yield the ids that their windows have or would have."""
        recipe = window_recipe(settings).recipe_id
        lengths = {row.clip_id: row.n_frames for row in self.rows if isinstance(row, ClipRow)}
        for clip, n_frames in lengths.items():
            ranges = plan_windows(n_frames, settings.window.window_size, settings.window.remainder_threshold)
            named = [(ids.window_id(ClipId(clip), r.start, r.end, recipe), r.start, r.end) for r in ranges]
            yield from (name for name, _, _ in named)
            if self.happens(0.2):
                continue
            lost = self.happens(0.1)
            digest = "d0"
            for index, (name, start, end) in enumerate(named[int(lost) :]):
                digest = digest if self.happens(0.3) else f"d{name}"
                status = "error" if self.happens(0.1) else "ok"
                seen = {
                    "frame_hashes": [1],
                    "luma_low": [0],
                    "luma_high": [1],
                    "color": "#000000",
                    "frames_digest": digest,
                }
                self.add(WindowRow, window_id=name, clip_id=clip, recipe_id=recipe, window_index=index, status=status,
                         start_frame=start, end_frame=end, start_s=start / RATE, end_s=(end + 1) / RATE,
                         frame_times_s=[start / RATE], **(seen if status == "ok" else {}))  # fmt: skip
            if self.happens(0.05):
                self.add(
                    WindowRow,
                    window_id=f"w-odd-{clip}-{recipe}",
                    clip_id=clip,
                    recipe_id=recipe,
                    start_frame=7,
                    end_frame=90,
                )
            if not self.happens(0.1):
                status = "error" if self.happens(0.1) else "ok"
                self.add(WindowSetRow, clip_id=clip, recipe_id=recipe, n_windows=len(named), status=status)

    def captions(self, windows: Sequence[WindowId], settings: Settings, policies: Sequence[Settings]) -> None:
        recipe = captioning(settings).recipe_id
        for window in windows:
            made = []
            if self.happens(0.8):
                for stage in (1, 2) if settings.caption.generate_stage2_caption else (1,):
                    for index in range(settings.caption.caption_num):
                        for attempt in range(1, self.draw.choice([1, 2, 2, 2, 3])):
                            made.append(f"k{window}{recipe}{stage}{index}{attempt}")
                            status = self.draw.choice(["ok"] * 6 + ["truncated", "error", "error", "empty", "refused"])
                            self.add(CandidateRow, candidate_id=made[-1], window_id=window, recipe_id=recipe,
                                     sample_index=index, attempt=attempt, stage=stage, status=status)  # fmt: skip
            for policy in policies:
                for again in range(self.draw.choice([0, 1, 1, 2])):
                    self.now += timedelta(seconds=1)
                    self.decision(window, recipe, retention_recipe(policy).recipe_id, again, [*made, "k-lost"])

    def decision(self, window: WindowId, recipe: str, policy: str, number: int, candidates: Sequence[str]) -> None:
        at = self.now
        for candidate in candidates:
            keep = self.happens(0.3)
            self.add(DecisionRow, decision_id=f"d{window}{recipe}{policy}{number}", candidate_id=candidate,
                     window_id=window, recipe_id=recipe, policy_recipe_id=policy, action="keep" if keep else "drop",
                     decided_by="policy", created_at=at)  # fmt: skip
            if keep and self.happens(0.5):
                self.add(
                    EnhancedRow,
                    enhanced_id=f"e{self.now}",
                    candidate_id=candidate,
                    window_id=window,
                    recipe_id=enhancing(chosen({})).recipe_id,
                    status=self.draw.choice(["ok", "ok", "error"]),
                )

    def previews(self, windows: Sequence[WindowId]) -> None:
        recipes = [preview_recipe(chosen(change)).recipe_id for change in ({}, {"preview.target_height": 64})]
        for window in windows:
            for _ in range(self.draw.choice([0, 1, 1, 2, 3])):
                uri = None if self.happens(0.1) else f"previews/{self.draw.choice('ab')}/{window}.webp"
                status = "error" if uri is None or self.happens(0.1) else "ok"
                self.add(PreviewRow, window_id=window, recipe_id=self.draw.choice(recipes), uri=uri, status=status)

    def takedowns(self) -> None:
        self.add(TombstoneRow, object_kind="batch", object_id="gone", reason_code="TAKEDOWN")
        for name in [*self.draw.sample([clip for clip, _, _ in self.sources], 3), *self.draw.sample(self.parts, 6)]:
            self.add(TombstoneRow, object_kind="clip", object_id=name, reason_code="TAKEDOWN")
        self.add(TombstoneRow, object_kind="clip", object_id=name, reason_code="WITHDRAWN")


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    invented = Invented(11)
    invented.files(36)
    invented.stride(chosen(STRIDE), 0.6)
    invented.stride(chosen({**STRIDE, "clip.min_clip_length_s": 2.0}), 0.2)
    invented.split(chosen(SCENES), {clip: [0, n // 3, n // 2] for clip, _, n in invented.sources[::3] if n > 200})
    windows = [
        w
        for change in ({}, {"window.window_size": 100, "window.remainder_threshold": 2})
        for w in invented.windows(chosen(change))
    ]
    policies = [chosen({}), chosen({"retention.keep_candidate_mode": "longest"})]
    for change in ({}, {"caption.prompt_text": "Hm?"}, {"caption.generate_stage2_caption": True}):
        invented.captions(windows, chosen(change), policies)
    invented.previews(windows)
    invented.takedowns()
    ledger = Ledger(RootFolder.at(tmp_path_factory.mktemp("plan")))
    ledger.commit(invented.rows)
    return ledger


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_all_windows_together_count_what_each_counts_for_itself(ledger: Ledger, change: dict[str, object]) -> None:
    counted = plan_batches(ledger, chosen(change), "signal", None)
    assert counted == window_by_window(ledger, chosen(change))
    assert plan_batches(ledger, chosen(change), "signal", "b") == [row for row in counted if row["batch"] == "b"]
    assert [row["batch"] for row in counted] == ["a", "b", "c"]
    assert all(row["windows"] for row in counted)


def test_the_ledger_has_every_case(ledger: Ledger) -> None:
    """What would make the comparison an easy one."""
    everything = plan_batches(ledger, chosen({}), "signal", None)
    row = everything[1]
    assert all(any(each[name] for each in everything) for name in row if name != "files_to_split")
    assert 0 < int(str(row["captions"])) < 2 * int(str(row["windows"]))
    assert ledger.query("FROM caption_candidates WHERE window_id NOT IN (SELECT window_id FROM windows)")
    assert any(file["hidden"] for file in _files(ledger, split_recipe(chosen({})).recipe_id))
    assert {len(_alike(ledger, chosen({"dedupe.mode": mode}))) for mode in ("off", "exact")} > {0}


def captioning(settings: Settings):
    return caption_recipe(settings, choose_engine("signal").identify(EngineSpec.for_captions(settings)))


def enhancing(settings: Settings):
    return enhance_recipe(settings, choose_engine("signal").identify(EngineSpec.for_enhancement(settings)))


def strides(n_frames: int, fps: float, duration_s: float, settings: Settings):
    times = [frame / fps for frame in range(n_frames)]
    lengths = {"length_s": settings.clip.split_length_s, "min_length_s": settings.clip.min_clip_length_s}
    return stride_parts(times, duration_s, **lengths)


def window_by_window(ledger: Ledger, settings: Settings) -> list[dict[str, object]]:
    """Count with sets of window ids, which are derived from the frames of the clips that there would be."""
    windows, n = window_recipe(settings).recipe_id, settings.caption.caption_num
    stage = 2 if settings.caption.generate_stage2_caption else 1
    good_by: dict[object, dict[object, set[object]]] = defaultdict(lambda: defaultdict(set))
    for row in ledger.query("FROM caption_candidates WHERE status <> 'error'"):
        if row["stage"] == stage or row["status"] in ("empty", "refused"):  # there is nothing to refine
            good_by[row["recipe_id"]][row["window_id"]].add(row["sample_index"])
    shown = _shown(ledger, preview_recipe(settings).recipe_id)
    prompts = _prompts(ledger, settings)
    damaged = {row["window_id"] for row in ledger.query("FROM windows WHERE status = 'error'")}
    alike = _alike(ledger, settings)
    n_cut = Counter(row["clip_id"] for row in ledger.query("FROM windows WHERE recipe_id = $r", r=windows))
    sets = ledger.query("FROM window_sets WHERE recipe_id = $r AND status <> 'error'", r=windows)
    cut = {row["clip_id"] for row in sets if row["n_windows"] == n_cut[row["clip_id"]]}
    most_kept = n if settings.retention.keep_candidate_mode == "all" else 1
    files = _files(ledger, split_recipe(settings).recipe_id)
    counted = []
    for batch in sorted({str(file["batch"]) for file in files}):
        own_files = [file for file in files if file["batch"] == batch]
        clips = [clip for file in own_files for clip in _clips_then(file, settings)]
        counts: Counter[str] = Counter()
        asked = {
            str(file["clip_id"]): prompts.get((batch, file["clip_id"]), settings.caption.prompt_text)
            for file in own_files
        }
        for prompt in set(asked.values()):
            recipe = captioning(settings.model_copy(update={"caption": settings.caption.asking(prompt)})).recipe_id
            good = good_by[recipe]
            recipes = {"caption": recipe, "policy": retention_recipe(settings).recipe_id}
            decided = _decided(ledger, recipes, enhancing(settings).recipe_id)
            there = {
                ids.window_id(clip, r.start, r.end, windows)
                for file in own_files
                for clip, n_frames in _clips_then(file, settings)
                for r in plan_windows(n_frames, settings.window.window_size, settings.window.remainder_threshold)
                if asked[str(file["clip_id"])] == prompt
            } - damaged
            collapsed = {w for w in there & alike if not good[w]}
            own = there - collapsed
            missing = {w: n - len(good[w]) for w in own - alike}
            to_decide = {w for w in own if missing.get(w, 0) or w not in decided}
            kept = sum(most_kept if w in to_decide else decided[w] for w in own)
            counts += Counter(windows=len(there), collapsed=len(collapsed), captions=sum(missing.values()),
                              decisions=len(to_decide), enhancements=kept, previews=len(there - shown))  # fmt: skip
        has_own = {"own_prompts": sum(name == batch for name, _ in prompts)} if settings.caption.prompt_key else {}
        counted.append(
            {
                "batch": batch,
                "clips": len(clips),
                "files_to_probe": sum(f["clip_recipe_id"] != clip_recipe(settings).recipe_id for f in own_files),
                "files_to_split": sum(not f["parts"] for f in own_files) if settings.clip.split != "none" else 0,
                "clips_to_cut": sum(clip not in cut for clip, _ in clips),
                "windows": counts["windows"],
                "collapsed": counts["collapsed"],
                "captions": counts["captions"],
                "decisions": counts["decisions"],
                "enhancements": counts["enhancements"] if settings.enhance.enabled else 0,
                "previews": counts["previews"],
                **has_own,
            }
        )
    return counted


def _prompts(ledger: Ledger, settings: Settings) -> dict[tuple[object, object], str]:
    """Return the prompt of each clip of a batch that has its own: of its files the first, those that are gone last."""
    found: dict[tuple[object, object], str] = {}
    files = {(file["batch"], file["clip_id"]) for file in _files(ledger, "")}
    rows = [row for row in ledger.query("FROM live_uploads") if (row["batch"], row["clip_id"]) in files]
    for row in sorted(rows, key=lambda row: (row["status"] != "ok", row["path"])):
        text = json.loads(row["columns"] or "{}").get(settings.caption.prompt_key)
        if text is not None:
            found.setdefault((row["batch"], row["clip_id"]), text)
    return found


def _files(ledger: Ledger, split: str) -> list[dict[str, object]]:
    """Return the files of each batch with their newest facts, their parts by a recipe and their hidden frames."""
    facts = {row["clip_id"]: row for row in ledger.query("FROM clips ORDER BY created_at")}
    probed = {(row["batch"], row["path"]): row["recipe_id"] for row in ledger.query("FROM live_uploads")}
    rows: dict[tuple[object, object], Row] = {(r["clip_id"], r["recipe_id"]): r for r in ledger.query("FROM clips")}
    files = []
    for batch in sorted({batch for batch, _ in probed}):
        history = ledger.read(upkeep.read_history, str(batch))
        splits, hidden = captions.split_clips(history), captions.hidden_frames(history)
        for file in captions.batch_files(history):
            parts = [rows[clip.clip_id, split] for clip in splits.get((file.clip_id, split), ())]
            files.append({
                **facts[file.clip_id], "batch": batch, "clip_recipe_id": probed[batch, file.path], "parts": parts,
                "hidden": sorted(hidden.get(file.clip_id, ())),
            })  # fmt: skip
    return files


def _alike(ledger: Ledger, settings: Settings) -> set[str]:
    with ledger.session() as session:
        return {found.window_id for found in find_in(read_pictures(session, settings, None), settings)}


def _clips_then(file: Mapping[str, object], settings: Settings) -> list[tuple[ClipId, int]]:
    """Return the clips of a file that would be shown, and how many frames they have."""
    clip, n, hidden = ClipId(str(file["clip_id"])), int(str(file["n_frames"])), file["hidden"]
    found: list[tuple[str, int, int]] = [(clip, 0, n - 1)]
    if file["parts"]:
        found = [
            (row["clip_id"], row["source_start_frame"] or 0, (row["source_start_frame"] or 0) + row["n_frames"] - 1)
            for row in file["parts"]
        ]
    elif settings.clip.split == "stride":
        parts = strides(n, float(str(file["fps"])), float(str(file["duration_s"])), settings)
        if len(parts) > 1:
            found = [(ids.clip_id(str(file["video_sha256"]), (p.start, p.end)), p.start, p.end) for p in parts]
    elif settings.clip.split == "scenes":
        hidden = []
    return [
        (name, last - first + 1)
        for name, first, last in found
        if not any(start <= last and end >= first for start, end in hidden)
    ]


def _shown(ledger: Ledger, recipe: str) -> set[object]:
    newest = {}
    for row in ledger.query("FROM previews WHERE uri IS NOT NULL ORDER BY created_at"):
        newest[row["window_id"], Path(row["uri"]).parent] = row
    return {window for (window, _), row in newest.items() if (row["recipe_id"], row["status"]) == (recipe, "ok")}


def _decided(ledger: Ledger, recipes: Mapping[str, str], enhance: str) -> dict[object, int]:
    """Return, by window that is decided on, how many of the captions it keeps are not enhanced."""
    status = {row["candidate_id"]: row["status"] for row in ledger.query("FROM caption_candidates")}
    done = {row["candidate_id"] for row in ledger.query(
        "FROM enhanced_captions WHERE recipe_id = $r AND status <> 'error'", r=enhance)}  # fmt: skip
    decisions: dict[object, dict[object, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in ledger.query("FROM retention_decisions ORDER BY created_at"):
        if (row["policy_recipe_id"], row["recipe_id"]) == (recipes["policy"], recipes["caption"]):
            decisions[row["window_id"]][row["created_at"]].append(row)
    return {
        window: sum(
            row["action"] == "keep" and status.get(row["candidate_id"]) == "ok" and row["candidate_id"] not in done
            for row in made[max(made)]
        )
        for window, made in decisions.items()
    }
