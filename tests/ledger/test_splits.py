"""Files that are split into clips: which clips a batch has, which it shows meanwhile, and how it goes back."""

import hashlib
from dataclasses import replace

import pytest

from caption_assets import ids
from caption_assets.ids import ClipId
from caption_assets.ledger import captions
from caption_assets.ledger.schema import ClipRow, ClipSetRow
from caption_assets.pipeline import claims

from .story import Story, settings

WHOLE = settings(prompt_text="A")
STRIDE = settings(prompt_text="A", split="stride")
SCENES = settings(prompt_text="A", split="scenes")


@pytest.fixture
def whole(story: Story) -> ClipId:
    """The file `film.mp4` of 768 frames, captioned as one clip of three windows."""
    story.use(WHOLE)
    clip = story.upload("film")
    story.cut(clip, 3, WHOLE)
    assert story.caption(WHOLE) == 3
    return clip


def clips(story: Story, batch: str = "b") -> list[str]:
    """Return the clips that a batch should have, in the order of its files."""
    return [clip.clip_id for clip in captions.wanted_clips(story.history(batch))]


def shown(story: Story, batch: str = "b") -> set[tuple[str, bool]]:
    """The clips whose windows a batch shows, and whether they are current."""
    return {(row.clip_id, row.window_is_current) for row in story.rows(batch)}


def to_split(story: Story, batch: str = "b") -> list[str]:
    return [file.path for file in captions.unsplit_files(story.history(batch))]


def test_a_clip_is_named_by_the_bytes_of_its_file_and_by_its_frames_alone() -> None:
    sha256 = hashlib.sha256(b"film").hexdigest()
    assert ids.clip_id(sha256) == "c" + ids.digest(sha256)
    parts = {ids.clip_id(sha256, cut) for cut in ((0, 99), (0, 100), (1, 99))}
    assert len(parts | {ids.clip_id(sha256)}) == 4


def test_old_captions_are_served_until_the_clips_have_windows(story: Story, whole: ClipId) -> None:
    old = story.served()
    story.use(STRIDE)
    assert to_split(story) == ["film.mp4"]
    assert clips(story) == []
    assert shown(story) == {(whole, False)}
    assert story.served() == {window: (text, False) for window, (text, _) in old.items()}

    parts = story.split(whole, [256, 512], STRIDE)
    assert to_split(story) == []
    assert clips(story) == parts
    assert story.uncut() == sorted(parts)
    assert shown(story) == {(whole, False)}, "nothing disappears while the clips are being cut"
    assert story.served().keys() == old.keys()

    story.cut(parts[0], 1, STRIDE)
    assert shown(story) == {(whole, False)}, "a file is shown one way or the other"
    with story.at_once():
        story.cut(parts[1], 1, STRIDE)
        story.cut(parts[2], 1, STRIDE)
    assert shown(story) == {(part, True) for part in parts}
    assert story.caption(STRIDE) == 3
    assert all(is_current for _, is_current in story.served().values())
    assert not story.served().keys() & old.keys()


def test_none_stride_none_ends_where_it_began(story: Story, whole: ClipId) -> None:
    old = story.served()
    story.use(STRIDE)
    for part in story.split(whole, [256, 512], STRIDE):
        story.cut(part, 1, STRIDE)
    story.caption(STRIDE)
    split = story.served()
    for chosen, expected in ((WHOLE, old), (STRIDE, split)) * 2:
        story.use(chosen)
        assert (to_split(story), story.uncut(), story.missing()) == ([], [], [])
        assert story.served() == expected


def test_a_clip_that_two_splits_share_is_captioned_once(story: Story, whole: ClipId) -> None:
    story.use(STRIDE)
    for part in story.split(whole, [256, 512], STRIDE):
        story.cut(part, 1, STRIDE)
    story.caption(STRIDE)
    story.use(SCENES)
    first, rest = story.split(whole, [256], SCENES)
    assert story.uncut() == [rest]
    story.cut(rest, 2, SCENES)
    assert story.caption(SCENES) == 2
    assert shown(story) == {(first, True), (rest, True)}


def test_a_file_with_nothing_to_split_off_stays_the_clip_that_it_is(story: Story, whole: ClipId) -> None:
    old = story.served()
    story.use(STRIDE)
    assert story.split(whole, [], STRIDE) == [whole]
    assert (clips(story), story.uncut(), story.missing()) == ([whole], [], [])
    assert story.served() == old
    assert {(row.source_clip_id, row.clip_start_frame) for row in story.rows()} == {(whole, 0)}


def test_a_file_that_cannot_be_split_keeps_its_clip_and_is_tried_again(story: Story, whole: ClipId) -> None:
    story.use(STRIDE)
    story.fail_to_split(whole, STRIDE)
    assert to_split(story) == ["film.mp4"]
    assert shown(story) == {(whole, False)}
    story.split(whole, [400], STRIDE)
    assert to_split(story) == []


def test_a_new_file_that_cannot_be_split_is_not_captioned_as_a_whole(story: Story) -> None:
    story.use(STRIDE)
    clip = story.upload("film")
    story.fail_to_split(clip, STRIDE)
    assert (clips(story), story.uncut(), story.missing()) == ([], [], [])


def test_a_set_that_lacks_a_clip_is_made_again(story: Story) -> None:
    story.use(STRIDE)
    clip = story.upload("film")
    story.split(clip, [256, 512], STRIDE, lose=1)
    assert to_split(story) == ["film.mp4"]
    assert clips(story) == []
    parts = story.split(clip, [256, 512], STRIDE)
    assert (to_split(story), clips(story)) == ([], parts)


def test_the_newest_whole_set_counts_where_a_file_was_split_twice(story: Story) -> None:
    """Another version of the detector, between two batches, may find other scenes."""
    story.use(SCENES)
    clip = story.upload("film")
    story.split(clip, [256, 512], SCENES)
    newest = story.split(clip, [300], SCENES)
    assert clips(story) == newest
    story.split(clip, [10, 20, 30], SCENES, lose=2)
    assert clips(story) == newest, "one that is not all there does not count"
    assert story.ledger.read(claims.clips_partition_files, "b") == []


def test_batches_split_the_same_file_each_in_its_way(story: Story, whole: ClipId) -> None:
    story.use(STRIDE, "other")
    story.upload("film", "other")
    parts = story.split(whole, [256, 512], STRIDE)
    assert (clips(story), clips(story, "other")) == ([whole], parts)
    for part in parts:
        story.cut(part, 1, STRIDE)
    assert (shown(story), shown(story, "other")) == ({(whole, True)}, {(part, True) for part in parts})
    story.use(STRIDE)
    assert to_split(story) == [], "it is split once"


def test_a_takedown_of_a_file_hides_its_clips_and_one_of_a_clip_only_that(story: Story) -> None:
    story.use(STRIDE)
    clip = story.upload("film")
    parts = story.split(clip, [256, 512], STRIDE)
    for part in parts:
        story.cut(part, 1, STRIDE)
    story.caption(STRIDE)
    story.take_down("clip", parts[1])
    assert clips(story) == [parts[0], parts[2]]
    assert len(story.served()) == 2
    assert story.ledger.read(claims.clips_partition_files, "b") == []
    story.take_down("clip", clip)
    assert (clips(story), story.served(), story.count("batch_clips")) == ([], {}, 0)


def test_frames_that_are_taken_down_stay_hidden_however_the_file_is_split(story: Story, whole: ClipId) -> None:
    """Whole, in other parts, and in a batch that holds the same file; until the takedown is withdrawn."""
    story.use(WHOLE, "other")
    story.upload("film", "other")
    story.use(STRIDE)
    parts = story.split(whole, [256, 512], STRIDE)
    for part in parts:
        story.cut(part, 1, STRIDE)
    story.take_down("clip", parts[1])
    assert (clips(story), clips(story, "other"), shown(story, "other")) == (
        [parts[0], parts[2]], [], {(parts[0], False), (parts[2], False)},
    )  # fmt: skip
    for part in (parts[0], parts[2]):
        story.take_down("clip", part)
    for chosen in (STRIDE, WHOLE):
        story.use(chosen)
        assert (clips(story), shown(story), story.served(), story.uncut()) == ([], set(), {}, [])
    assert captions.hidden_frames(story.history()) == {whole: {(0, 255), (256, 511), (512, 767)}}

    story.use(SCENES)
    for name in (parts[0], parts[2]):
        story.withdraw("clip", name)
    first, middle, last = story.split(whole, [255, 512], SCENES)
    assert clips(story) == [first, last], "the one between has the frames 255 to 511"
    assert last == parts[2], "which touches the hidden frames and has none of them"
    story.withdraw("clip", parts[1])
    assert clips(story) == [first, middle, last]
    assert clips(story, "other") == [whole]


def test_the_table_names_the_file_and_gives_times_in_the_clip_and_in_the_file(story: Story) -> None:
    story.use(STRIDE)
    clip = story.upload("film", caption="a dog")
    for part in story.split(clip, [256, 512], STRIDE):
        story.cut(part, 1, STRIDE)
    story.caption(STRIDE)
    rows = story.rows()
    assert [row.clip_start_frame for row in rows] == [0, 256, 512]
    assert [row.clip_name for row in rows] == ["film.mp4 from 0.00 s", "film.mp4 from 10.24 s", "film.mp4 from 20.48 s"]
    for row in rows:
        assert (row.clip_path, row.source_clip_id, row.original_caption) == ("film.mp4", clip, "a dog")
        assert row.clip_start_s == row.clip_start_frame / 25


def test_a_gap_between_clips_is_found(story: Story) -> None:
    story.use(STRIDE)
    clip = story.upload("film")
    story.split(clip, [256, 512], STRIDE)
    [bad] = story.ledger.select(ClipRow, "clips WHERE source_start_frame = 256")
    [manifest] = story.ledger.select(ClipSetRow, "clip_sets")
    first, _, last = manifest.clip_ids
    story.commit(
        replace(bad, clip_id="c-short", source_start_frame=300, n_frames=212),
        replace(manifest, clip_ids=[first, "c-short", last], **story.made()),
    )
    [fault] = story.ledger.read(claims.clips_partition_files, "b")
    assert (fault.path, fault.fault) == ("film.mp4", "the frames 256 to 299 are left out")
