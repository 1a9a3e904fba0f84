"""Data-Juicer's layout: texts, tokens, and the table of rows that its operator documents."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from caption_assets.exchange.data_juicer import (
    PROVENANCE_KEY,
    Sample,
    SampleError,
    WindowCaptions,
    captioned_text,
    captions_of,
    export_batch,
    references,
    rows_of_sample,
    sample_of_file,
)
from caption_assets.exchange.folder import MARKER, ExportError
from caption_assets.exchange.selection import ExportOptions
from caption_assets.retention import POLICIES
from caption_assets.review import override, take_down
from caption_assets.settings.recipes import retention_recipe
from tests.ledger.story import Story, settings

V, A, P, E = "<__dj__video>", "<__dj__audio>", "<__dj__image>", "<|__dj__eoc|>"
M, CLIPS = 3, 4


@pytest.mark.parametrize(
    ("text", "captions", "captioned"),
    [
        (f"{V}x{E}{V}y{E}", ["C1", "C2"], f"{V} C1 {E}{V} C2 {E}"),
        (f"{V}{V}x", ["C1", "C2"], f"{V} C1 {V} C2 {E}"),
        (f"x {V} y", ["C1"], f"{V} C1 {E}"),
        (f"only text {E}{V} x {E} more text", ["C1"], f"{V} C1 {E}"),
        (f"{P}a {V} b {A} c{E}", ["C1"], f"{P}{V} C1 {A}{E}"),
        (f"{V}{E}{V}{E}", ["", "C2"], f"{V}{E}{V} C2 {E}"),
        (f"{V}x{E}", [f"a {V} b"], f"{V} a b {E}"),
        ("only text", [], ""),
    ],
)
def test_each_caption_stands_right_after_its_own_video_token(
    text: str, captions: Sequence[str], captioned: str
) -> None:
    assert captioned_text(text, captions) == captioned
    assert len(captions_of(captioned)) == len(captions)


def test_the_reference_of_a_video_is_the_words_of_its_chunk() -> None:
    sample = Sample(f"{V} a dog {E} talk {E} two {P} {V}{V} cats {E}", ("1.mp4", "2.mp4", "3.mp4"))
    assert references(sample) == ["a dog", "two   cats", "two   cats"], "tokens are taken out, and the edges stripped"


def test_a_sample_whose_tokens_and_videos_differ_is_refused() -> None:
    with pytest.raises(SampleError, match="2 video tokens for 1 videos"):
        Sample(f"{V}{V}", ("a.mp4",))


def test_captions_of_several_windows_and_videos_make_one_text_and_say_where_they_are_of() -> None:
    sample = Sample(f"{V} x {E}{V} y {E}", ("a.mp4", "b.mp4"), {"id": 7})
    captions = {
        "a.mp4": [WindowCaptions(0, 255, ("one", "uno"), "m"), WindowCaptions(256, 399, ("two",), "m")],
        "b.mp4": [WindowCaptions(0, 99, ("three",), "m")],
    }
    original, first, second = rows_of_sample(3, sample, captions, keep_original=True)
    assert (original["text"], original["videos"], original["id"]) == (sample.text, ["videos/a.mp4", "videos/b.mp4"], 7)
    assert first["text"] == f"{V} one two {E}{V} three {E}"
    assert second["text"] == f"{V} uno {E}{V}{E}"
    windows = json.loads(str(first[PROVENANCE_KEY]))["windows"]
    assert [[window["start_frame"] for window in video] for video in windows] == [[0, 256], [0]]
    assert list(rows_of_sample(0, Sample("no video", ()), {}, keep_original=False)) == []


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A batch of four files with an original caption each, three candidates a window."""
    story = Story(tmp_path_factory.mktemp("juicer") / "root")
    story.use(_with("first"))
    with story.at_once():
        for index in range(CLIPS):
            story.cut(story.upload(f"{index}", caption=f"the words of {index}"), 1, _with("first"))
    story.caption(_with("first"))
    return story


def _with(policy: str):
    return settings(caption_num=M, sampling_params={"temperature": 1}, keep_candidate_mode=policy)


def exported(story: Story, folder: Path, **options: bool) -> list[dict[str, object]]:
    done = export_batch(story.root, story.ledger, "b", folder, ExportOptions(videos=False, **options))
    lines = Path(done.path).read_text(encoding="utf-8").splitlines()
    assert done.count == len(lines)
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_number_of_rows_is_the_one_that_data_juicer_documents(story: Story, tmp_path: Path, policy: str) -> None:
    chosen = _with(policy)
    story.activate(retention_recipe(chosen))
    story.decide(chosen)
    n = CLIPS  # N batches of b samples
    both, captioned = ((1 + M) * n, M * n) if policy == "all" else (2 * n, n)
    rows = exported(story, tmp_path)
    assert len(rows) == both
    assert [json.loads(str(row[PROVENANCE_KEY]))["row"] for row in rows[: both // n]] == ["original"] + [
        "captioned"
    ] * (both // n - 1)
    alone = exported(story, tmp_path, keep_original=False)
    assert len(alone) == captioned
    assert alone == [row for row in rows if '"row": "captioned"' in str(row[PROVENANCE_KEY])]
    texts = {(row["text"], *row["videos"]) for row in alone}  # type: ignore[misc]
    assert len(texts) == captioned, "every caption is another one"


def test_an_export_is_the_same_bytes_again_replaces_itself_and_nothing_else(story: Story, tmp_path: Path) -> None:
    one = exported(story, tmp_path)
    before = (tmp_path / "b" / "samples.jsonl").read_bytes()
    assert exported(story, tmp_path) == one
    assert (tmp_path / "b" / "samples.jsonl").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"], "nothing temporary is left"
    (tmp_path / "b" / MARKER).unlink()
    with pytest.raises(ExportError, match="is no export"):
        exported(story, tmp_path)
    assert (tmp_path / "b" / "samples.jsonl").read_bytes() == before


def test_only_current_captions_and_those_of_people_are_exported_unless_all_are_asked_for(tmp_path: Path) -> None:
    story = Story(tmp_path / "root")
    old, new = settings(prompt_text="old"), settings(prompt_text="new")
    story.use(old)
    with story.at_once():
        clips = [story.upload(name) for name in ("a", "b")]
        for clip in clips:
            story.cut(clip, 1, old)
    story.caption(old)
    story.use(new)
    captioned = [row for row in exported(story, tmp_path / "x") if '"captioned"' in str(row[PROVENANCE_KEY])]
    assert captioned == []
    assert len(exported(story, tmp_path / "x", everything=True)) == 4
    window = story.windows()[0]
    [candidate] = story.all_candidates(f"window_id = '{window}'")
    override(story.root, window, [candidate.candidate_id], by="ann")
    assert len(exported(story, tmp_path / "x")) == 3
    take_down(story.root, clips=[clips[0]], by="ann", reason="x")
    assert {str(row["videos"]) for row in exported(story, tmp_path / "x")} == {"['videos/b.mp4']"}


def test_a_file_of_which_a_part_is_taken_down_is_left_out_and_named(tmp_path: Path) -> None:
    story = Story(tmp_path / "root")
    pieces = settings(prompt_text="A", split="stride")
    story.use(pieces)
    parts = story.split(story.upload("long"), [384], pieces)
    for clip in parts:
        story.cut(clip, 1, pieces)
    whole = story.upload("short")
    story.split(whole, [], pieces)
    story.cut(whole, 1, pieces)
    story.caption(pieces)
    assert {video for row in exported(story, tmp_path / "x") for video in row["videos"]} == {
        "videos/long.mp4", "videos/short.mp4",
    }  # fmt: skip
    take_down(story.root, clips=[parts[0]], by="ann", reason="a face")
    done = export_batch(story.root, story.ledger, "b", tmp_path / "y", ExportOptions(videos=False))
    assert done.left == ("b/long.mp4: a part of it is taken down, and a sample is of the whole file",)
    lines = (tmp_path / "y" / "b" / "samples.jsonl").read_text()
    assert "short.mp4" in lines and "long" not in lines


def test_a_file_without_words_of_its_own_is_a_bare_token() -> None:
    assert sample_of_file("a.mp4", None).text == f"{V} {E}"
    assert sample_of_file("a.mp4", f"a {E} dog").text == f"{V} a dog {E}"
