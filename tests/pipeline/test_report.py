"""How a batch stands: what is counted, what is a failure, and what is only odd."""

from dataclasses import replace

from caption_assets.ids import WindowId
from caption_assets.ledger.schema import EnhancedRow, PreviewRow, RunRow, UploadRow, WindowSetRow
from caption_assets.pipeline.caption_work import count_missing, read_caption_work
from caption_assets.pipeline.report import AssetSummary, BatchStatus, batch_status, notes, problems, run_summary
from caption_assets.review import override, take_down
from caption_assets.settings.recipes import enhance_recipe, preview_recipe
from tests.ledger.story import MODEL, Story, row_of, settings

A = settings(prompt_text="prompt A", caption_num=2, sampling_params={"temperature": 1})
STAGES = settings(prompt_text="prompt A", generate_stage2_caption=True)


def a_batch(story: Story) -> list[WindowId]:
    """Five windows: captioned and enhanced; half captioned; all failed; all dropped; not decodable."""
    story.use(A)
    story.quarantine("bad.mp4", error="garbage")
    clip = story.upload("clip")
    story.cut(clip, 4, A)
    one, two, three, four = story.windows()
    story.answer(story.candidates(one, A, ["ok", "ok"]))
    story.answer(story.candidates(two, A, ["ok", "error"]))
    story.answer(story.candidates(three, A, ["error", "error"]))
    story.answer(story.candidates(four, A, ["empty", "empty"]))
    story.decide(A)
    lost = replace(story.window_rows(clip, 5, A)[4], status="error", error="frame 1040 does not decode")
    story.commit(
        lost, row_of(WindowSetRow, clip_id=clip, recipe_id=lost.recipe_id, n_windows=5, status="ok", **story.made())
    )
    return [one, two, three, four]


def test_everything_that_failed_is_a_problem_with_its_reason(story: Story) -> None:
    one, *_ = a_batch(story)
    enhance, preview = story.activate(enhance_recipe(A, MODEL)), story.activate(preview_recipe(A))
    names = {"candidate_id": story.row(one).candidate_id, "window_id": one}
    story.commit(
        row_of(EnhancedRow, enhanced_id="e1", **names, recipe_id=enhance.recipe_id, attempt=1, status="ok",
               **story.made()),
        row_of(EnhancedRow, enhanced_id="e2", **names, recipe_id=enhance.recipe_id, attempt=2, status="error",
               error="the server is gone", **story.made()),
        row_of(PreviewRow, window_id=one, recipe_id=preview.recipe_id, status="error", error="no frames",
               **story.made()),
    )  # fmt: skip
    story.fail_to_cut(story.upload("uncut"), A)
    said = [(each.what, each.name, each.error) for each in story.ledger.read(problems, "b")]
    assert said == [
        ("caption", "clip.mp4 window 1", "it broke"),
        ("caption", "clip.mp4 window 2", "it broke"),
        ("caption", "clip.mp4 window 3", "every candidate was dropped: GATE_EMPTY"),
        ("clip", "uncut.mp4", "gone"),
        ("enhancement", "clip.mp4 window 0", "the server is gone"),
        ("file", "bad.mp4", "garbage"),
        ("preview", "clip.mp4 window 0", "no frames"),
        ("window", "clip.mp4 window 4", "frame 1040 does not decode"),
    ]
    take_down(story.root, batches=["b"], by="ann", reason="x")
    assert story.ledger.read(problems, "b") == []


def test_a_window_that_was_never_asked_about_says_that_the_run_ended_before(story: Story) -> None:
    story.use(A)
    story.cut(story.upload("clip"), 1, A)
    [problem] = story.ledger.read(problems, "b")
    assert problem.error == "it was not captioned: the run ended before"
    override_window = story.windows()[0]
    story.answer(story.candidates(override_window, A, ["ok", "ok"]))
    story.decide(A)
    override(story.root, override_window, [], by="ann")
    assert story.ledger.read(problems, "b") == [], "a person's choice is no failure"


def test_a_file_that_could_not_be_split_is_a_problem_once_it_was_tried(story: Story) -> None:
    pieces = settings(prompt_text="A", split="stride")
    story.use(pieces)
    source = story.upload("long")
    assert story.ledger.read(problems, "b") == []
    story.fail_to_split(source, pieces)
    [problem] = story.ledger.read(problems, "b")
    assert (problem.what, problem.name, problem.error) == ("split", "long.mp4", "too slow")
    [status] = story.ledger.read(batch_status, "b")
    assert (status.files_not_split, status.clips_without_windows) == (1, 0)


def test_status_counts_every_stage(story: Story) -> None:
    a_batch(story)
    story.use(A, "other")
    story.upload("elsewhere", "other")
    [counted, other] = story.ledger.read(batch_status, None)
    assert counted == BatchStatus(
        batch="b", files_ok=1, files_quarantined=1, files_gone=0, files_not_split=0, windows_ok=4, windows_error=1,
        clips_without_windows=0, collapsed=0, captioned=2, captions_not_current=0, captions_missing=2, enhanced=0,
        enhancements_drifted=0, previews=0,
    )  # fmt: skip
    assert not counted.is_complete
    assert (other.batch, other.clips_without_windows, other.windows_ok, other.is_complete) == ("other", 1, 0, False)
    assert story.ledger.read(batch_status, "b") == [counted]
    assert story.ledger.read(batch_status, "nowhere") == []
    take_down(story.root, batches=["b"], by="ann", reason="x")
    assert story.ledger.read(batch_status, None) == [other]


def test_windows_counted_together_are_those_that_are_missing_one_by_one(story: Story) -> None:
    story.use(STAGES, "b", "c")
    with story.at_once():
        story.cut(story.upload("clip"), 3, STAGES)
        story.cut(story.upload("more"), 3, STAGES)
    story.upload("clip", "c")
    windows = story.windows()
    for window, statuses in zip(windows, (["ok"], ["empty"], ["refused"], ["error"], ["truncated"]), strict=False):
        story.answer(story.candidates(window, STAGES, statuses))
    story.answer(story.candidates(windows[0], STAGES, ["ok"], stage=2))
    assert story.ledger.read(count_missing, None) == {"b": 3}
    for batch, missing in (("b", 3), ("c", 0)):
        assert len(story.ledger.read(read_caption_work, batch).missing) == missing
        assert story.ledger.read(count_missing, batch).get(batch, 0) == missing


def test_notes_say_what_is_odd_about_files_that_are_used_or_hidden(story: Story) -> None:
    pieces = settings(prompt_text="A", split="stride")
    story.use(pieces)
    parts = story.split(story.upload("long"), [384], pieces)
    hidden = story.upload("hidden")
    odd = story.ledger.select(UploadRow, "uploads WHERE path = 'hidden.mp4'")[0]
    story.commit(replace(odd, path="odd.mp4", clip_id=story.upload("odd"), error="truncated", **story.made()))
    story.quarantine("bad.mp4")
    take_down(story.root, clips=[hidden], by="ann", reason="she asked")
    take_down(story.root, clips=[parts[0]], by="ann", reason="a face")
    said = [(note.path, note.error) for note in story.ledger.read(notes, "b")]
    assert said == [
        ("hidden.mp4", "not shown: taken down by ann (she asked)"),
        ("long.mp4", "no clip with any of the frames 0 to 383 is shown: they are taken down"),
        ("odd.mp4", "truncated"),
    ]


def test_a_run_is_summed_up_asset_by_asset_in_the_order_of_their_start(story: Story) -> None:
    for asset in ("windows", "raw_clips"):
        now = story.made()["created_at"]
        story.commit(
            row_of(RunRow, asset_key=asset, batch="b", status="ok", n_expected=3, n_ok=1, n_reused=2, started_at=now,
                   ended_at=story.made()["created_at"], **story.made())
        )  # fmt: skip
    assert story.ledger.read(run_summary, story.run, "b") == [
        AssetSummary("windows", "ok", 3, 1, 2, 0, None, 1.0), AssetSummary("raw_clips", "ok", 3, 1, 2, 0, None, 1.0),
    ]  # fmt: skip
    assert story.ledger.read(run_summary, "another", "b") == []
