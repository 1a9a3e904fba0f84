"""What a batch shows, told as stories: what is missing, what is served, what is hidden."""

from dataclasses import replace

import pytest

from caption_assets.ids import ClipId
from caption_assets.ledger import captions
from caption_assets.ledger.schema import ClipRow
from caption_assets.pipeline import claims
from caption_assets.pipeline.caption_work import read_caption_work
from caption_assets.settings import Settings
from caption_assets.settings.recipes import caption_recipe, retention_recipe, window_recipe

from .story import MODEL, Story, settings

A, B = settings(prompt_text="prompt A"), settings(prompt_text="prompt B")
THREE = settings(prompt_text="prompt A", caption_num=3)
LONGER = settings(prompt_text="prompt A", window_size=512)
TWO_STAGES = settings(prompt_text="prompt A", generate_stage2_caption=True)


def captioned(story: Story, chosen: Settings = A, clips: int = 3, windows: int = 2) -> list[ClipId]:
    story.use(chosen)
    with story.at_once():
        made = [story.upload(f"clip{i}") for i in range(clips)]
        for clip in made:
            story.cut(clip, windows, chosen)
    story.caption(chosen)
    return made


def held(story: Story, batch: str = "b") -> list[tuple[str, str]]:
    """Return the path and clip of each file of a batch."""
    return [(file.path, file.clip_id) for file in captions.batch_files(story.history(batch))]


def test_only_a_clip_whose_fan_out_was_cut_off_is_cut_again(story: Story) -> None:
    story.use(A)
    with story.at_once():
        clips = [story.upload(f"clip{i}") for i in range(4)]
        for clip in clips[1:]:
            story.cut(clip, 5, A)
    story.cut(clips[0], 5, A, crash_before_the_manifest=True)
    assert story.uncut() == [clips[0]]
    assert len(story.windows()) == 15, "windows without their manifest are not shown"
    story.cut(clips[0], 5, A)
    assert story.uncut() == []
    assert len(story.windows()) == 20
    assert story.count("windows") == 20, "the windows that were there already are not there twice"


def test_a_clip_too_short_for_a_window_is_not_cut_again(story: Story) -> None:
    story.use(A)
    story.cut(story.upload("short", frames=3), 0, A)
    assert story.uncut() == []
    assert story.missing() == []


def test_a_clip_that_could_not_be_cut_is_tried_again_until_it_can(story: Story) -> None:
    story.use(A)
    clip = story.upload("clip")
    story.fail_to_cut(clip, A)
    assert story.uncut() == [clip]
    story.cut(clip, 2, A)  # within the same run
    assert story.uncut() == []
    assert len(story.windows()) == 2


def test_what_is_missing_is_captioned_once(story: Story) -> None:
    captioned(story)
    assert story.missing() == []
    assert story.caption(A) == 0
    assert len(story.served()) == 6
    assert all(is_current for _, is_current in story.served().values())


def test_a_task_counts_as_done_only_when_all_its_candidates_are_there(story: Story) -> None:
    captioned(story, THREE, clips=1, windows=3)
    assert story.missing() == []
    story.use(settings(prompt_text="prompt B", caption_num=3))
    first, *_ = story.missing()
    story.answer(story.candidates(first, settings(prompt_text="prompt B", caption_num=3), ["ok", "error", "ok"]))
    assert first in story.missing()
    work = story.ledger.read(read_caption_work, "b")
    assert work.rules[story.row(first).wanted_recipe_id or ""].n_missing(work.candidates[first]) == 1


@pytest.mark.parametrize(
    ("status", "is_missing"),
    [("ok", False), ("truncated", False), ("empty", False), ("refused", False), ("error", True)],
)
def test_only_an_error_is_made_again(story: Story, status: str, is_missing: bool) -> None:
    story.use(A)
    with story.at_once():
        story.cut(story.upload("clip"), 1, A)
    (window,) = story.windows()
    story.answer(story.candidates(window, A, [status]))
    assert (story.missing() == [window]) is is_missing


def test_two_answers_for_one_sample_do_not_stand_for_two_samples(story: Story) -> None:
    story.use(THREE)
    with story.at_once():
        story.cut(story.upload("clip"), 1, THREE)
    (window,) = story.windows()
    for attempt in (1, 2):
        story.answer(story.candidates(window, THREE, ["ok", "ok"], attempt=attempt))
    assert story.missing() == [window]


def test_a_second_attempt_ends_the_search(story: Story) -> None:
    story.use(A)
    with story.at_once():
        story.cut(story.upload("clip"), 1, A)
    (window,) = story.windows()
    story.answer(story.candidates(window, A, ["error"]))
    story.answer(story.candidates(window, A, ["ok"], attempt=2))
    assert story.missing() == []
    assert story.count("caption_candidates") == 2


@pytest.mark.parametrize(
    ("first", "second", "is_missing"),
    [
        ("ok", None, True),
        ("ok", "ok", False),
        ("ok", "empty", False),
        ("ok", "error", True),
        ("error", None, True),
        ("empty", None, False),
        ("refused", None, False),
    ],
)
def test_with_two_stages_a_window_waits_for_the_second_where_there_is_something_to_refine(
    story: Story, first: str, second: str | None, is_missing: bool
) -> None:
    story.use(TWO_STAGES)
    with story.at_once():
        story.cut(story.upload("clip"), 1, TWO_STAGES)
    (window,) = story.windows()
    story.answer(story.candidates(window, TWO_STAGES, [first]))
    if second:
        story.answer(story.candidates(window, TWO_STAGES, [second], stage=2))
    assert (story.missing() == [window]) is is_missing


def test_what_another_prompt_would_cost_is_known_before_it_is_chosen(story: Story) -> None:
    captioned(story)
    would = story.ledger.query(
        "SELECT count(*) AS n FROM live_windows w WHERE NOT EXISTS (SELECT 1 FROM caption_candidates k "
        "WHERE k.window_id = w.window_id AND k.recipe_id = $recipe AND k.status <> 'error')",
        recipe=caption_recipe(B, MODEL).recipe_id,
    )
    assert would == [{"n": 6}]
    assert story.missing() == [], "asking changes nothing"


def test_a_changed_prompt_keeps_serving_the_old_captions_until_the_new_ones_are_there(story: Story) -> None:
    captioned(story)
    story.use(B)
    assert len(story.missing()) == 6
    assert {(text.split(" of ")[0], now) for text, now in story.served().values()} == {("prompt A 0", False)}
    story.caption(B, only=2)
    served = [now for text, now in story.served().values() if text.startswith("prompt B")]
    assert served == [True, True]
    assert len(story.served()) == 6
    story.caption(B)
    assert all(text.startswith("prompt B") and now for text, now in story.served().values())


def test_going_back_to_the_old_prompt_is_free_and_its_captions_are_current_again(story: Story) -> None:
    captioned(story)
    before = story.served()
    story.use(B)
    story.caption(B)
    story.use(A)
    assert story.missing() == []
    assert story.served() == before
    assert story.count("caption_candidates") == 12, "the captions of B are kept as history"


def test_other_windows_hide_the_old_ones_and_keep_them_as_history(story: Story) -> None:
    clips = captioned(story, windows=5)
    old = set(story.windows())
    story.use(LONGER)
    assert sorted(story.uncut()) == sorted(clips)
    assert set(story.windows()) == old, "until the new windows are there the old ones are served"
    with story.at_once():
        for clip in clips:
            story.cut(clip, 3, LONGER)
    assert len(story.windows()) == story.count("live_windows") == 9
    assert not set(story.windows()) & old
    assert len(story.missing()) == 9
    assert story.served() == {}, "no ghost of an old window is served"
    assert story.count("windows") == 24
    story.use(A)
    assert set(story.windows()) == old
    assert story.missing() == []


def test_a_clip_that_cannot_be_cut_anew_keeps_its_old_windows(story: Story) -> None:
    (clip,) = captioned(story, clips=1, windows=5)
    old = story.windows()
    story.use(LONGER)
    story.fail_to_cut(clip, LONGER)
    assert story.windows() == old
    assert story.uncut() == [clip]


def test_a_clip_half_way_to_other_windows_shows_one_set_of_them(story: Story) -> None:
    one, two = captioned(story, clips=2, windows=5)
    story.use(LONGER)
    story.cut(one, 3, LONGER)
    shown = captions.group(story.rows(), lambda row: row.clip_id)
    assert {clip: len(rows) for clip, rows in shown.items()} == {one: 3, two: 5}


def test_a_clip_that_is_taken_down_is_hidden_everywhere_and_its_rows_stay(story: Story) -> None:
    gone, *_ = captioned(story)
    before = story.count("caption_candidates")
    story.take_down("clip", gone)
    for view in ("live_windows", "captions", "batch_clips"):
        rows = story.ledger.query(f"SELECT clip_id FROM {view}")
        assert rows
        assert gone not in {row["clip_id"] for row in rows}, view
    assert story.count("caption_candidates") == before
    story.use(B)
    assert len(story.missing()) == 4, "nothing is made for it any more"
    story.upload("clip0", "other batch")
    story.use(A, "other batch")
    assert (held(story, "other batch"), story.windows("other batch")) == ([], [])


def test_a_batch_that_is_taken_down_hides_what_only_it_holds(story: Story) -> None:
    story.use(A, "b", "c")
    only, shared = story.upload("only"), story.upload("shared")
    story.upload("shared", "c")
    for clip in (only, shared):
        story.cut(clip, 1, A)
    story.caption(A)
    story.take_down("batch", "b")
    assert held(story, "b") == []
    assert (story.windows("b"), story.uncut("b")) == ([], [])
    assert [clip for _, clip in held(story, "c")] == [shared]
    assert len(story.windows("c")) == len(story.served("c")) == 1


def test_a_person_beats_every_policy_also_a_later_one(story: Story) -> None:
    captioned(story, THREE, clips=1, windows=1)
    (window,) = story.windows()
    drops = "candidate_id IN (SELECT candidate_id FROM retention_decisions WHERE action = 'drop')"
    dropped = story.all_candidates(drops)[0]
    story.override(dropped)
    longest = settings(prompt_text="prompt A", caption_num=3, keep_candidate_mode="longest")
    story.use(longest)
    story.decide(longest)
    assert story.served() == {window: (dropped.text, True)}
    assert (story.row(window).reason_code, story.row(window).decided_by) == ("MANUAL", "user:ann")
    story.use(B)
    story.caption(B)
    assert story.served() == {window: (dropped.text, False)}, "it says that it is not of the current recipe"


def test_the_newest_of_two_people_wins(story: Story) -> None:
    captioned(story, THREE, clips=1, windows=1)
    one, two, _ = story.all_candidates()
    story.override(one, "ann")
    story.override(two, "bob")
    assert [text for text, _ in story.served().values()] == [two.text]


def test_another_policy_decides_again_without_new_candidates_and_going_back_is_free(story: Story) -> None:
    captioned(story, THREE)
    before, made = story.served(), story.count("caption_candidates")
    everyone = settings(prompt_text="prompt A", caption_num=3, keep_candidate_mode="all")
    story.activate(retention_recipe(everyone))
    assert story.decide(everyone) == 6
    assert sum(len(row.captions or ()) for row in story.rows()) == 18
    assert story.count("caption_candidates") == made
    assert story.decide(everyone) == 0, "the same decision is not made twice"
    story.activate(retention_recipe(THREE))
    assert story.decide(THREE) == 0
    assert story.served() == before


def test_more_candidates_make_a_new_decision_over_all_of_them(story: Story) -> None:
    story.use(A)
    with story.at_once():
        story.cut(story.upload("clip"), 1, A)
    (window,) = story.windows()
    story.answer(story.candidates(window, A, ["error"]))
    assert story.decide(A) == 1
    assert story.served() == {}
    story.answer(story.candidates(window, A, ["ok"], attempt=2))
    assert story.decide(A) == 1
    assert len(story.served()) == 1
    assert story.count("retention_decisions") == 3
    assert story.ledger.read(claims.one_decision_per_candidate, "b") == []


def test_another_reference_caption_decides_again(story: Story) -> None:
    like = settings(prompt_text="prompt A", caption_num=3, keep_candidate_mode="similar_one_simhash")
    story.use(like)
    clip = story.upload("clip", caption="caption 0 by stage 1")
    story.cut(clip, 1, like)
    story.caption(like)
    assert story.decide(like) == 0
    story.upload("clip", caption="something else entirely")
    assert story.decide(like) == 1


def test_one_clip_in_two_batches_is_one_clip_that_both_list(story: Story) -> None:
    story.use(A, "b", "c")
    clip = story.upload("same", "b", "x.mp4")
    assert story.upload("same", "c", "y.mp4") == clip
    story.cut(clip, 2, A)
    assert story.windows("b") == story.windows("c")
    assert story.caption(A, "b") == 2
    assert story.missing("c") == [], "captioned once"
    assert story.served("b") == story.served("c")
    assert story.count("live_windows") == 2


def test_one_clip_under_two_names_in_a_batch_is_listed_once_under_the_first(story: Story) -> None:
    story.use(A)
    story.upload("same", path="z.mp4")
    story.upload("same", path="a.mp4")
    assert [path for path, _ in held(story)] == ["a.mp4"]


def test_different_settings_in_two_batches_do_not_disturb_each_other(story: Story) -> None:
    story.use(A, "b")
    story.use(B, "c")
    clip = story.upload("same", "b")
    story.upload("same", "c")
    story.cut(clip, 1, A)
    assert story.caption(A, "b") == story.caption(B, "c") == 1
    assert [text.split(" of")[0] for text, _ in story.served("b").values()] == ["prompt A 0"]
    assert [text.split(" of")[0] for text, _ in story.served("c").values()] == ["prompt B 0"]
    assert story.missing("b") == story.missing("c") == []
    assert all(now for batch in "bc" for _, now in story.served(batch).values())
    story.activate(window_recipe(LONGER), "c")
    assert story.uncut("b") == []
    assert story.uncut("c") == [clip]
    story.cut(clip, 1, LONGER)
    assert set(story.windows("b")).isdisjoint(story.windows("c"))


def test_a_replaced_file_moves_membership(story: Story) -> None:
    story.use(A)
    old = story.upload("old", path="x.mp4")
    story.cut(old, 1, A)
    story.run = "run-2"
    new = story.upload("new", path="x.mp4")
    assert held(story) == [("x.mp4", new)]
    assert story.uncut() == [new]
    assert story.windows() == []


def test_a_file_replaced_twice_within_one_run_counts_as_it_was_seen_last(story: Story) -> None:
    story.use(A)
    story.upload("old", path="x.mp4")
    new = story.upload("new", path="x.mp4")
    assert held(story) == [("x.mp4", new)]


def test_a_file_that_went_bad_leaves_the_batch(story: Story) -> None:
    story.use(A)
    story.upload("clip", path="x.mp4")
    story.quarantine("x.mp4")
    assert held(story) == []
    assert story.ledger.query("SELECT status FROM live_uploads") == [{"status": "quarantined"}]


def test_the_newest_facts_of_a_clip_count(story: Story) -> None:
    clip = story.upload("clip", frames=100)
    first = story.clip(clip)
    story.commit(replace(first, recipe_id="r-newer", n_frames=99, created_at=story.now.replace(year=2027)))
    story.commit(replace(first, recipe_id="r-older", n_frames=98, created_at=story.now.replace(year=2025)))
    facts = captions.clip_facts(story.ledger.select(ClipRow, "clips"))
    assert {name: row.n_frames for name, row in facts.items()} == {clip: 99}


def test_an_original_caption_is_a_candidate_of_its_own_recipe(story: Story) -> None:
    story.use(A)
    story.cut(story.upload("clip", caption="a dog"), 1, A)
    (window,) = story.windows()
    assert story.row(window).original_caption == "a dog"
    story.keep_original(window, "a dog")
    story.keep_original(window, "a dog")
    assert story.count("caption_candidates") == 1
    assert story.missing() == [window], "it does not stand in for the model's"


def test_an_answer_names_its_recipe_model_and_decision(story: Story) -> None:
    captioned(story, clips=1, windows=1)
    [row] = story.rows()
    assert (row.engine, row.model_id, row.model_revision) == ("signal", "test-model", "rev-a")
    assert row.caption_recipe_id == row.wanted_recipe_id == caption_recipe(A, MODEL).recipe_id
    assert (row.policy, row.decided_by, row.is_current) == ("random_any", "policy", True)
    assert story.count(f"retention_decisions WHERE policy_recipe_id = '{retention_recipe(A).recipe_id}'") == 1
