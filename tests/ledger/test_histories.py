"""Whatever happened, in whatever order it was committed: the table `captions` is what follows from the history.

Histories are drawn from a small world: two files in two batches, whole or in parts, windows of two recipes, captions of
two recipes, two policies, people, takedowns. Small, so that events meet.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caption_assets.ledger import captions, upkeep
from caption_assets.ledger.captions import WITHDRAWN, group
from caption_assets.ledger.database import Ledger
from caption_assets.ledger.schema import (
    ActiveRecipeRow,
    CandidateRow,
    CaptionRow,
    ClipRecipeRow,
    ClipRow,
    ClipSetRow,
    DecisionRow,
    DriftCheckRow,
    DuplicateRow,
    EnhancedRow,
    PreviewRow,
    RecipeRow,
    Record,
    TombstoneRow,
    UploadRow,
    WindowRow,
    WindowSetRow,
    as_json,
)
from caption_assets.root import RootFolder

from .story import row_of

EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "12"))
"""Histories that are tried; a long search sets more."""

START = datetime(2026, 1, 1, tzinfo=UTC)
BATCHES = ("b", "c")
FILES = ("x", "y")
WAYS: Mapping[str, Sequence[tuple[int, int]]] = {
    "stride": [(0, 3), (4, 7)], "scenes": [(0, 3), (4, 4), (5, 7)], "one scene": [(0, 7)],
}  # fmt: skip
"""The parts that split recipes make of a file of 8 frames: two of them share a clip, and one leaves the file whole."""

SPANS = sorted({span for spans in WAYS.values() for span in spans if span != (0, 7)})
CLIPS = [*FILES, *(f"{file}{first}-{last}" for file in FILES for first, last in SPANS)]
CUTS: Mapping[str, int] = {"small": 2, "large": 4}
"""Frames of a window by window recipe."""

RECIPES: Mapping[str, Sequence[tuple[str, Mapping[str, object]]]] = {
    "split": [("whole", {"split": "none"}), *((way, {"split": "stride"}) for way in WAYS)],
    "window": [(name, {}) for name in CUTS],
    "dedupe": [("near", {}), ("off", {})],
    "caption": [("plain", {}), ("detailed", {})],
    "retention": [("longest", {}), ("random", {})],
    "enhance": [("enhance", {}), ("no enhance", {"enabled": False})],
    "drift": [("strict", {}), ("lax", {})],
    "on_drift": [(name, {"on_drift": name}) for name in ("keep", "flag", "fallback")],
    "preview": [("small preview", {}), ("large preview", {})],
}
PARAMS = {name: (kind, params) for kind, some in RECIPES.items() for name, params in some}


def frames_of(clip: str) -> tuple[int, int]:
    """Return the first and the last frame of a clip in its file."""
    first, _, last = clip[1:].partition("-")
    return (int(first), int(last)) if last else (0, 7)


def windows_of(clip: str, recipe: str) -> list[WindowRow]:
    """Return the windows of a clip. The second window of file y does not decode."""
    first, last = frames_of(clip)
    size = CUTS[recipe]
    return [
        row_of(
            WindowRow, window_id=f"{clip}/{recipe}/{index}", clip_id=clip, recipe_id=recipe, window_index=index,
            start_frame=start, end_frame=min(start + size - 1, last - first),
            status="error" if (clip, index) == ("y", 1) else "ok",
        )
        for index, start in enumerate(range(0, last - first + 1, size))
    ]  # fmt: skip


WINDOWS = [window.window_id for clip in CLIPS for recipe in CUTS for window in windows_of(clip, recipe)]


def recipe_row(name: str) -> RecipeRow:
    kind, params = PARAMS[name]
    return row_of(RecipeRow, recipe_id=name, kind=kind, params=as_json(params), model_id=f"model of {name}")


def candidate(window: str, recipe: str, index: int) -> CandidateRow:
    name = f"{window}/{recipe}/{index}"
    return row_of(
        CandidateRow, candidate_id=name, window_id=window, recipe_id=recipe, sample_index=index, text=f"text of {name}",
        status="truncated" if index else "ok", stage=1,
    )  # fmt: skip


def at(second: int) -> dict[str, Any]:
    return {"run_id": f"run {second % 3}", "created_at": START + timedelta(seconds=second)}


def upload(second: int, batch: str, file: str, path: str, status: str, caption: str | None) -> list[Record]:
    clip = None if status == "quarantined" else file
    return [
        row_of(ClipRow, clip_id=file, recipe_id="probe", n_frames=8),
        row_of(
            UploadRow, batch=batch, path=path, clip_id=clip, status=status, original_caption=caption, **at(second)
        ),
    ]  # fmt: skip


def split(second: int, file: str, way: str, status: str, lose: bool) -> list[Record]:
    whole = row_of(ClipRow, clip_id=file, recipe_id=way, n_frames=8)
    clips = [
        replace(
            whole, clip_id=f"{file}{first}-{last}", n_frames=last - first + 1, source_clip_id=file,
            source_start_frame=first, source_end_frame=last, source_start_s=first / 10, source_end_s=(last + 1) / 10,
        )
        if (first, last) != (0, 7) else whole
        for first, last in WAYS[way]
    ]  # fmt: skip
    names = [clip.clip_id for clip in clips]
    manifest = row_of(
        ClipSetRow, source_clip_id=file, recipe_id=way, n_clips=len(names), clip_ids=names, status=status, **at(second)
    )
    return [*clips[int(lose) :], manifest]


def cut(second: int, clip: str, recipe: str, status: str, lose: bool) -> list[Record]:
    windows = windows_of(clip, recipe) if status == "ok" else []
    manifest = row_of(
        WindowSetRow, clip_id=clip, recipe_id=recipe, n_windows=len(windows), status=status, **at(second)
    )  # fmt: skip
    return [*windows[int(lose) :], manifest]


def collapse(second: int, clip: str, recipe: str, dedupe: str) -> list[Record]:
    first, *rest = (window.window_id for window in windows_of(clip, recipe))
    return [
        row_of(DuplicateRow, window_id=window, duplicate_of=first, recipe_id=dedupe, **at(second)) for window in rest
    ]


def activate(second: int, batch: str, name: str) -> list[Record]:
    moment = at(second)
    current = row_of(
        ActiveRecipeRow, kind=PARAMS[name][0], batch=batch, recipe_id=name, valid_from=moment["created_at"], **moment
    )
    return [recipe_row(name), current]


def own_prompt(second: int, batch: str, file: str, name: str | None) -> list[Record]:
    moment = at(second)
    row = row_of(
        ClipRecipeRow, batch=batch, clip_id=file, recipe_id=name, valid_from=moment["created_at"], **moment
    )  # fmt: skip
    return [*([recipe_row(name)] if name else []), row]


def decide(
    second: int, window: str, recipe: str, policy: str, keeps: Sequence[bool], reference: str | None, by: str
) -> list[Record]:
    """A policy, or a person, decides on the two candidates of a window."""
    made = [candidate(window, recipe, index) for index in range(2)]
    verdicts = [
        row_of(
            DecisionRow, decision_id=f"decision {second}", candidate_id=each.candidate_id, window_id=window,
            recipe_id=recipe, policy_recipe_id=policy, reference_sha256=reference, action="keep" if keep else "drop",
            reason_code="KEPT" if keep else "DROPPED", rank=2 - index if keep else None, policy=policy, decided_by=by,
            **at(second),
        )
        for index, (each, keep) in enumerate(zip(made, keeps, strict=True))
    ]  # fmt: skip
    return [recipe_row(recipe), recipe_row(policy), *made, *verdicts]


def withdraw_choice(second: int, window: str, recipe: str, by: str) -> list[Record]:
    rows = decide(second, window, recipe, "longest", (False, False), None, by)
    return [replace(row, action="withdraw") if isinstance(row, DecisionRow) else row for row in rows]


def enhanced(window: str, recipe: str, index: int, attempt: int) -> EnhancedRow:
    """Return an enhancement; its identity says whether it is ok."""
    of = candidate(window, recipe, index).candidate_id
    status = ("ok", "error", "refused")[(len(window) + index + attempt) % 3]
    return row_of(
        EnhancedRow, enhanced_id=f"enhanced {of} {attempt}", candidate_id=of, window_id=window, recipe_id="enhance",
        attempt=attempt, status=status, text=f"better {of}" if status == "ok" else "",
    )  # fmt: skip


def enhance(second: int, window: str, recipe: str, index: int, attempt: int) -> list[Record]:
    return [replace(enhanced(window, recipe, index, attempt), **at(second))]


def check(second: int, window: str, recipe: str, index: int, attempt: int, drift: str, status: str) -> list[Record]:
    text = enhanced(window, recipe, index, attempt)
    return [
        row_of(
            DriftCheckRow, check_id=f"check {second}", enhanced_id=text.enhanced_id, candidate_id=text.candidate_id,
            window_id=window, recipe_id=drift, status=status, **at(second),
        )
    ]  # fmt: skip


def preview(second: int, window: str, recipe: str, folder: str, status: str) -> list[Record]:
    uri = f"previews/{folder}/{window}.webp" if status == "ok" else None
    return [row_of(PreviewRow, window_id=window, recipe_id=recipe, uri=uri, status=status, **at(second))]


def tombstone(second: int, kind: str, name: str, reason: str) -> list[Record]:
    return [row_of(TombstoneRow, object_kind=kind, object_id=name, reason_code=reason, **at(second))]


batches, files, clips = map(st.sampled_from, (BATCHES, FILES, CLIPS))
windows = st.sampled_from(["x/small/0", "x/small/1"]) | st.sampled_from(WINDOWS)
prompts, policies = st.sampled_from(["plain", "plain", "detailed"]), st.sampled_from(["longest", "random"])
people = st.sampled_from(["user:ann", "user:bob"])
keeps = st.tuples(st.booleans(), st.booleans())
references = st.sampled_from([None, hashlib.sha256(b"a dog").hexdigest()])
rarely = st.sampled_from([False, False, False, True])

EVENTS: Sequence[st.SearchStrategy[tuple[object, ...]]] = [
    st.tuples(st.just(upload), batches, files, st.sampled_from(["1.mp4", "2.mp4"]),
              st.sampled_from(["ok", "ok", "gone", "quarantined"]), st.sampled_from([None, "a dog", "a cat"])),
    st.tuples(st.just(split), files, st.sampled_from(sorted(WAYS)), st.sampled_from(["ok", "ok", "error"]), rarely),
    st.tuples(st.just(cut), clips, st.sampled_from(sorted(CUTS)), st.sampled_from(["ok", "ok", "ok", "too_short",
                                                                                    "error"]), rarely),
    st.tuples(st.just(collapse), clips, st.sampled_from(sorted(CUTS)), st.sampled_from(["near", "off"])),
    st.tuples(st.just(activate), batches, st.sampled_from(sorted(PARAMS))),
    st.tuples(st.just(own_prompt), batches, files, st.sampled_from([None, "plain", "detailed"])),
    st.tuples(st.just(decide), windows, prompts, policies, keeps, references, st.just("policy")),
    st.tuples(st.just(decide), windows, prompts, policies, keeps, references, people),
    st.tuples(st.just(withdraw_choice), windows, prompts, people),
    st.tuples(st.just(enhance), windows, prompts, st.integers(0, 1), st.integers(1, 3)),
    st.tuples(st.just(check), windows, prompts, st.integers(0, 1), st.integers(1, 3),
              st.sampled_from(["strict", "lax"]), st.sampled_from(["ok", "drifted"])),
    st.tuples(st.just(preview), windows, st.sampled_from(["small preview", "large preview"]),
              st.sampled_from(["f", "g"]), st.sampled_from(["ok", "ok", "error"])),
    st.tuples(st.just(tombstone), st.just("clip"), clips, st.sampled_from(["TAKEDOWN", WITHDRAWN])),
    st.tuples(st.just(tombstone), st.just("batch"), batches, st.sampled_from(["TAKEDOWN", WITHDRAWN, WITHDRAWN])),
]  # fmt: skip

USUAL: Sequence[tuple[object, ...]] = [
    (upload, "b", "x", "1.mp4", "ok", "a dog"), (upload, "b", "y", "2.mp4", "ok", None),
    (upload, "c", "x", "1.mp4", "ok", None),
    *((activate, "b", name) for name in ("whole", "small", "near", "plain", "longest")),
    *((activate, "b", name) for name in ("enhance", "strict", "fallback")),
    *((activate, "c", name) for name in ("stride", "small", "off", "detailed", "random", "small preview")),
    (cut, "x", "small", "ok", False), (cut, "y", "small", "ok", False), (cut, "x", "large", "ok", False),
    (collapse, "x", "small", "near"),
    (split, "x", "stride", "ok", False), (cut, "x0-3", "small", "ok", False), (cut, "x4-7", "small", "ok", False),
    *((decide, f"x/small/{index}", "plain", "longest", (True, True), None, "policy") for index in (0, 2)),
    (decide, "y/small/0", "plain", "random", (False, True), None, "policy"),
    (decide, "x4-7/small/0", "detailed", "random", (False, True), None, "policy"),
    (enhance, "x/small/0", "plain", 1, 1), (check, "x/small/0", "plain", 1, 1, "strict", "ok"),
    (preview, "x/small/0", "small preview", "f", "ok"),
]  # fmt: skip
"""What happens in most histories, so that there is something to disturb."""


@dataclass(frozen=True)
class Event:
    """Something that happened: its rows are `make(second, *arguments)`."""

    make: Callable[..., list[Record]]
    second: int
    arguments: Sequence[object]

    def __repr__(self) -> str:
        return f"{self.make.__name__}{(self.second, *self.arguments)}"

    @property
    def rows(self) -> list[Record]:
        return self.make(self.second, *self.arguments)


@st.composite
def histories(draw: st.DrawFn) -> list[list[Event]]:
    """Draw commits of events, in an order that is not the one in which they happened."""
    lost = draw(st.lists(rarely, min_size=len(USUAL), max_size=len(USUAL)))
    usual = [event for event, is_lost in zip(USUAL, lost, strict=True) if not is_lost]
    drawn = [*usual, *draw(st.lists(st.one_of(EVENTS), max_size=12))]
    seconds = draw(st.permutations(range(len(drawn))))
    events = [Event(make, second, rest) for second, (make, *rest) in zip(seconds, drawn, strict=True)]  # type: ignore[arg-type]
    together = draw(st.permutations(events[: len(usual)]))
    ends = sorted(draw(st.sets(st.integers(1, len(together)), max_size=4)) | {len(together)})
    commits = [list(together[start:end]) for start, end in pairwise([0, *ends]) if start < end]
    for event in events[len(usual) :]:  # each is committed for itself, since a large commit looks at everything anew
        commits.insert(draw(st.integers(len(commits) // 2, len(commits))), [event])
    for index in draw(st.sets(st.integers(0, len(commits) - 1), max_size=2)):
        commits.insert(draw(st.integers(index + 1, len(commits))), commits[index])
    return commits


@contextmanager
def empty_ledger() -> Iterator[Ledger]:
    with tempfile.TemporaryDirectory() as folder:
        yield Ledger(RootFolder.at(folder))


def shown(ledger: Ledger) -> dict[str, list[CaptionRow]]:
    """Return what each batch shows."""
    with ledger.session() as session:
        return {batch: upkeep.batch_rows(session, batch) for batch in BATCHES}


RowT = TypeVar("RowT", bound=Record)


def all_of(record: type[RowT], rows: Iterable[Record]) -> list[RowT]:
    """Return the rows of one table, the oldest first."""
    return sorted((row for row in rows if isinstance(row, record)), key=lambda row: row.created_at)  # type: ignore[attr-defined]


def standing_choices(rows: Iterable[Record]) -> dict[str, str]:
    """Return the decision of each window on which a person had the last word, and has not taken it back."""
    last: dict[str, DecisionRow] = {}
    for row in all_of(DecisionRow, rows):
        if row.decided_by != "policy":
            last[row.window_id] = row
    return {window: row.decision_id for window, row in last.items() if row.action != "withdraw"}


def hidden(rows: Iterable[Record]) -> set[tuple[str, str]]:
    """Return the kind and name of what is taken down."""
    last = {(row.object_kind, row.object_id): row.reason_code for row in all_of(TombstoneRow, rows)}
    return {name for name, reason in last.items() if reason == "TAKEDOWN"}


def frames(row: CaptionRow) -> set[tuple[str, int]]:
    """Return the frames of a window, counted in its file."""
    first = row.clip_start_frame
    return {(row.source_clip_id, frame) for frame in range(first + row.start_frame, first + row.end_frame + 1)}


def check_what_is_shown(batch: str, rows: Sequence[CaptionRow], history: Sequence[Record]) -> None:
    assert rows == sorted(rows, key=captions.reading_order)
    all_frames = [frame for row in rows for frame in frames(row)]
    assert len(all_frames) == len(set(all_frames)), "no frame is shown twice"

    gone, known = hidden(history), {row.clip_id for row in all_of(ClipRow, history)}
    assert not rows or ("batch", batch) not in gone
    for kind, name in gone:
        if kind == "clip" and name in known:
            first, last = frames_of(name)
            assert not set(all_frames) & {(name[0], frame) for frame in range(first, last + 1)}, f"{name} is taken down"

    people, decisions = standing_choices(history), group(all_of(DecisionRow, history), lambda row: row.decision_id)
    current: dict[str, str] = {}
    for active in all_of(ActiveRecipeRow, history):
        if active.batch == batch:
            current[active.kind] = active.recipe_id
    for row in rows:
        if row.window_id in people:
            assert row.decision_id == people[row.window_id], "a person's standing choice wins"
        if row.is_current:
            verdicts = decisions[row.decision_id or ""]
            assert {verdict.recipe_id for verdict in verdicts} == {row.wanted_recipe_id} == {row.caption_recipe_id}
            assert row.window_recipe_id == current["window"]
        if row.caption is not None:
            assert row.decision_id is not None
            assert (row.candidate_id, row.caption) == ((row.candidate_ids or [])[0], (row.captions or [])[0])
        if current.get("on_drift") == "fallback" and row.enhanced_caption not in (None, row.caption):
            assert (row.drift, row.enhanced_status) == ("ok", "ok"), "no text that drifted, or may have, is shown"


@given(histories())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_after_every_commit_the_table_is_what_follows_from_the_history(commits: list[list[Event]]) -> None:
    with empty_ledger() as ledger:
        committed: list[Record] = []
        for events in commits:
            rows = [row for event in events for row in event.rows]
            ledger.commit(rows)
            committed += rows
            assert ledger.verify() == []
            for batch, captions_ in shown(ledger).items():
                check_what_is_shown(batch, captions_, committed)
        with empty_ledger() as other:
            other.commit(reversed(committed))
            assert shown(other) == shown(ledger), "the order of commits does not matter"
        assert ledger.commit(committed) == {}
        check_what_can_be_taken_back(ledger, committed)


def check_what_can_be_taken_back(ledger: Ledger, history: Sequence[Record]) -> None:
    """Undo each of: a person's choice, a takedown of a clip, one of a batch, another prompt."""
    before = shown(ledger)
    later = len(history)
    [window, *_] = [row.window_id for rows in before.values() for row in rows] or ["x/small/0"]
    acts = [
        (decide(later, window, "plain", "longest", (False, True), None, "user:eve"),
         withdraw_choice(later + 1, window, "plain", "user:eve"), window not in standing_choices(history)),
        (tombstone(later + 2, "clip", "x", "TAKEDOWN"), tombstone(later + 3, "clip", "x", WITHDRAWN),
         ("clip", "x") not in hidden(history)),
        (tombstone(later + 4, "batch", "c", "TAKEDOWN"), tombstone(later + 5, "batch", "c", WITHDRAWN),
         ("batch", "c") not in hidden(history)),
    ]  # fmt: skip
    for act, undone, was_so in acts:
        if was_so:
            ledger.commit(act)
            ledger.commit(undone)
            assert shown(ledger) == before
