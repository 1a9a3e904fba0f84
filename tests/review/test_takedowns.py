"""A takedown hides at once and for good, keeps the rows, deletes files if asked, and can be withdrawn before that."""

import shutil
import threading
from pathlib import Path

import pytest

from caption_assets.exchange import table
from caption_assets.exchange.table import TableRow, caption_rows, write_tables
from caption_assets.ids import ClipId
from caption_assets.ledger.schema import PreviewRow, WindowRow
from caption_assets.pipeline.report import Note, notes
from caption_assets.review import ReviewError, take_down, withdraw_takedown
from tests.ledger.story import Story, row_of, settings

A = settings(prompt_text="A")
VIEWS = ("batch_clips", "live_windows", "captions")


@pytest.fixture
def clips(story: Story) -> dict[str, ClipId]:
    """Clips `bad` (in batches b and c) and `good` (in b), with files, packed frames, previews and tables on disk."""
    story.use(A, "b", "c")
    with story.at_once():
        found = {name: story.upload(name, path=f"in/{name}.mp4") for name in ("bad", "good")}
        story.upload("bad", "c", path="again.mp4")
        for clip in found.values():
            story.cut(clip, 1, A)
    story.caption(A)
    for window in story.ledger.select(WindowRow, "windows"):
        name, base = window.window_id, story.root.path
        for path in (f"frames/b/{name}.abc.parquet", f"previews/b/{name}.webp", f"previews/b/{name}.jpg"):
            (base / path).parent.mkdir(parents=True, exist_ok=True)
            (base / path).write_bytes(b"12345")
        story.commit(row_of(PreviewRow, window_id=name, uri=f"previews/b/{name}.webp",
                            poster_uri=f"previews/b/{name}.jpg", status="ok", **story.made()))  # fmt: skip
    for batch, path, content in (("b", "in/bad.mp4", "bad"), ("b", "in/good.mp4", "good"), ("c", "again.mp4", "bad")):
        file = story.root.uploads / batch / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    (story.root.uploads / "b" / "in" / "bad.txt").write_text("the uploader's words")
    for batch in ("b", "c"):
        write_tables(story.root, story.ledger, batch)
    return found


def files(story: Story) -> set[str]:
    folders = ("uploads", "frames", "previews")
    return {story.root.relative(path) for f in folders for path in (story.root.path / f).rglob("*") if path.is_file()}


def test_a_clip_is_gone_from_every_view_and_table_and_its_rows_stay(story: Story, clips: dict[str, ClipId]) -> None:
    before = {name: story.count(name) for name in ("clips", "windows", "caption_candidates", "retention_decisions")}
    there = files(story)
    done = take_down(story.root, clips=[clips["bad"]], by="ann", reason="the uploader asked")
    assert done.batches == ("b", "c")
    for view in VIEWS:
        assert {row["clip_id"] for row in story.ledger.query(f"SELECT clip_id FROM {view}")} == {clips["good"]}, view
    assert caption_rows(story.ledger, "c") == []
    assert [row.clip_id for row in caption_rows(story.ledger, "b")] == [clips["good"]]
    assert clips["bad"] not in (story.root.exports("b") / "captions.jsonl").read_text()
    assert (story.root.exports("c") / "captions.jsonl").read_bytes() == b""
    assert {name: story.count(name) for name in before} == before
    assert files(story) == there
    [row] = story.ledger.query("SELECT reason_code, detail, requested_by, files FROM tombstones")
    assert row == {"reason_code": "TAKEDOWN", "detail": "the uploader asked", "requested_by": "user:ann", "files": None}


@pytest.mark.parametrize("was_exported", [True, False])
def test_a_run_that_read_its_rows_before_a_takedown_does_not_write_them_after_it(
    story: Story, clips: dict[str, ClipId], monkeypatch: pytest.MonkeyPatch, was_exported: bool
) -> None:
    if not was_exported:
        shutil.rmtree(story.root.exports("c"))
    person = threading.Thread(target=take_down, args=[story.root], kwargs={
        "clips": [clips["bad"]], "by": "ann", "reason": "the uploader asked",
    })  # fmt: skip

    def read_and_be_overtaken(*args: object) -> list[TableRow]:
        monkeypatch.setattr(table, "caption_rows", caption_rows)
        rows = caption_rows(story.ledger, "c")
        person.start()
        while not story.count("tombstones"):
            pass
        person.join(timeout=0.5)
        return rows

    monkeypatch.setattr(table, "caption_rows", read_and_be_overtaken)
    assert len(write_tables(story.root, story.ledger, "c")) == 1
    person.join(timeout=30)
    assert (story.root.exports("c") / "captions.jsonl").read_bytes() == b""


def test_the_same_content_uploaded_again_stays_hidden_and_the_run_says_so(
    story: Story, clips: dict[str, ClipId]
) -> None:
    take_down(story.root, clips=[clips["bad"]], by="ann", reason="the uploader asked")
    story.use(A, "d")
    story.upload("bad", "d", path="new-name.mp4")
    assert story.windows("d") == []
    assert story.uncut("d") == story.missing("d") == []
    said = [Note("new-name.mp4", "not shown: taken down by ann (the uploader asked)")]
    assert story.ledger.read(notes, "d") == said


def test_it_can_be_withdrawn_as_long_as_no_file_was_deleted(story: Story, clips: dict[str, ClipId]) -> None:
    bad = clips["bad"]
    before = caption_rows(story.ledger, "b")
    with pytest.raises(ReviewError, match="is not taken down"):
        withdraw_takedown(story.root, clips=[bad], by="ann", reason="")
    take_down(story.root, clips=[bad], by="ann", reason="by mistake")
    withdraw_takedown(story.root, clips=[bad], by="bob", reason="it was a mistake")
    assert caption_rows(story.ledger, "b") == before
    assert bad in (story.root.exports("c") / "captions.jsonl").read_text()
    take_down(story.root, clips=[bad], by="ann", reason="again", delete_files=True)
    with pytest.raises(ReviewError, match="its files were deleted"):
        withdraw_takedown(story.root, clips=[bad], by="bob", reason="no")
    assert len(caption_rows(story.ledger, "b")) == 1


def test_files_of_a_clip_are_deleted_in_every_batch_and_no_other(story: Story, clips: dict[str, ClipId]) -> None:
    there = files(story)
    [window] = story.ledger.query("SELECT window_id FROM windows WHERE clip_id = $c", c=clips["bad"])
    done = take_down(story.root, clips=[clips["bad"]], by="ann", reason="law", delete_files=True)
    gone = there - files(story)
    name = window["window_id"]
    assert gone == {
        "uploads/b/in/bad.mp4", "uploads/b/in/bad.txt", "uploads/c/again.mp4", f"frames/b/{name}.abc.parquet",
        f"previews/b/{name}.webp", f"previews/b/{name}.jpg",
    }  # fmt: skip
    assert (done.files, done.bytes, done.left) == (6, 3 + 20 + 3 + 15, ())
    rows = story.ledger.query("SELECT files, deleted_bytes FROM tombstones ORDER BY created_at")
    assert [tuple(row.values()) for row in rows] == [(None, None), ("deleting", None), ("deleted", done.bytes)]


def test_a_sidecar_goes_with_the_last_video_that_has_it(story: Story, clips: dict[str, ClipId]) -> None:
    folder = story.root.uploads / "b" / "in"
    (folder / "bad.MOV").write_text("another film of that stem")
    (folder / "bad.JSON").write_text("{}")
    take_down(story.root, clips=[clips["bad"]], by="ann", reason="law", delete_files=True)
    assert {path.name for path in folder.iterdir()} == {"bad.MOV", "bad.txt", "bad.JSON", "good.mp4"}
    (folder / "bad.MOV").unlink()
    (folder / "bad.mp4").write_text("bad")
    take_down(story.root, clips=[clips["bad"]], by="ann", reason="law", delete_files=True)
    assert {path.name for path in folder.iterdir()} == {"good.mp4"}


def test_another_video_under_the_same_name_is_left_alone(story: Story, clips: dict[str, ClipId]) -> None:
    path = story.root.uploads / "c" / "again.mp4"
    path.write_text("something else")
    done = take_down(story.root, clips=[clips["bad"]], by="ann", reason="law", delete_files=True)
    assert path.read_text() == "something else"
    assert done.left == (f"{path}: another video lies there now",)


def test_a_batch_goes_and_what_another_batch_shows_stays(story: Story, clips: dict[str, ClipId]) -> None:
    take_down(story.root, batches=["b"], by="ann", reason="the uploader left", delete_files=True)
    assert {row["clip_id"] for row in story.ledger.query("SELECT clip_id FROM live_windows")} == {clips["bad"]}
    [window] = story.windows("c")
    assert files(story) == {"uploads/c/again.mp4", f"previews/b/{window}.webp", f"previews/b/{window}.jpg"}
    assert (story.root.exports("b") / "captions.jsonl").read_bytes() == b""
    assert clips["bad"] in (story.root.exports("c") / "captions.jsonl").read_text()


def test_a_part_of_a_file_can_be_hidden_alone_and_its_file_is_not_deleted_for_it(story: Story) -> None:
    pieces = settings(prompt_text="A", split="stride")
    story.use(pieces)
    source = story.upload("long")
    one, two = story.split(source, [384], pieces)
    for clip in (one, two):
        story.cut(clip, 1, pieces)
    with pytest.raises(ReviewError, match=f"take down the clip that is the whole file, {source}"):
        take_down(story.root, clips=[one], by="ann", reason="a face", delete_files=True)
    assert story.count("tombstones") == 0
    take_down(story.root, clips=[one], by="ann", reason="a face")
    assert {row["clip_id"] for row in story.ledger.query("SELECT clip_id FROM captions")} == {two}
    take_down(story.root, clips=[source], by="ann", reason="all of it")
    assert story.windows() == []


def test_what_cannot_be_is_refused(story: Story, clips: dict[str, ClipId], tmp_path: Path) -> None:
    for arguments, message in [
        ({"clips": ["c0"]}, "no such clip"),
        ({"batches": ["nope"]}, "no such batch"),
        ({}, "name a clip or a batch"),
        ({"clips": [clips["bad"]], "reason": " "}, "needs a reason"),
    ]:
        with pytest.raises(ReviewError, match=message):
            take_down(story.root, **{"by": "ann", "reason": "x", **arguments})  # type: ignore[arg-type]
    assert story.count("tombstones") == 0


def test_a_link_in_a_batch_is_removed_and_what_it_leads_to_is_not(story: Story, clips: dict[str, ClipId]) -> None:
    outside = story.root.path.parent / "outside"
    outside.mkdir()
    (outside / "kept.mp4").write_text("kept")
    (story.root.uploads / "b" / "link").symlink_to(outside)
    take_down(story.root, batches=["b"], by="ann", reason="x", delete_files=True)
    assert (outside / "kept.mp4").read_text() == "kept"
    assert not (story.root.uploads / "b").exists()
