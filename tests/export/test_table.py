"""The caption table: types, meanings, the same bytes twice, and a reader that never sees half a file."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from caption_assets.exchange.table import (
    COLUMNS,
    FORMATS,
    TableRow,
    caption_rows,
    json_line,
    write_jsonl,
    write_parquet,
    written_values,
)
from caption_assets.ledger.backup import restore, write_backup
from caption_assets.ledger.schema import EnhancedRow, PreviewRow, WindowSetRow, polars_types
from caption_assets.settings.recipes import caption_recipe, enhance_recipe, window_recipe
from tests.ledger.story import MODEL, Story, row_of, settings

A = settings(prompt_text='Say "what" \\ is\nseen: ü 🎬\u2028', caption_num=3, keep_candidate_mode="all")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Four windows: captioned and enhanced, every candidate failed, not captioned, not decodable."""
    story = Story(tmp_path_factory.mktemp("export") / "root")
    story.use(A)
    with story.at_once():
        clip = story.upload("clip", caption="a dog")
        story.cut(clip, 4, A)
    w = story.windows()
    story.answer([*story.candidates(w[0], A, ["ok", "truncated", "empty"]), *story.candidates(w[1], A, ["error"] * 3)])
    enhance = enhance_recipe(A, MODEL)
    story.activate(enhance)
    story.decide(A)
    story.run = "run-2"
    story.commit(
        replace(story.window_rows(clip, 5, A)[4], status="error", error="frame 1040 does not decode"),
        row_of(WindowSetRow, clip_id=clip, recipe_id=window_recipe(A).recipe_id, n_windows=5, status="ok",
               **story.made()),
        row_of(EnhancedRow, enhanced_id="e", candidate_id=story.row(w[0]).candidate_id, window_id=w[0],
               recipe_id=enhance.recipe_id, status="ok", text="richer", **story.made()),
        row_of(PreviewRow, window_id=w[0], uri="previews/b/x.webp", poster_uri="previews/b/x.jpg", status="ok",
               **story.made()),
        row_of(PreviewRow, window_id=w[1], status="error", error="no", **story.made()),
    )  # fmt: skip
    return story


@pytest.fixture
def rows(story: Story) -> list[TableRow]:
    return caption_rows(story.ledger, "b")


def test_there_is_one_row_per_window_in_reading_order_with_its_fate(rows: list[TableRow]) -> None:
    assert [row.window_index for row in rows] == [0, 1, 2, 3, 4]
    assert [row.status for row in rows] == [
        "captioned",
        "no_valid_candidate",
        "not_captioned",
        "not_captioned",
        "window_error",
    ]
    assert rows[1].error == "every candidate was dropped: GATE_ERROR"
    assert rows[4].error == "frame 1040 does not decode"
    assert rows[0].error is None


def test_a_captioned_row_holds_everything_that_made_it(story: Story, rows: list[TableRow]) -> None:
    row = rows[0]
    assert list(written_values(row)) == [column.name for column in COLUMNS]
    assert row.captions is not None
    assert row.captions[0] == row.caption
    assert len(row.captions) == 2
    assert (row.n_candidates, row.caption_status, row.is_current) == (3, "ok", True)
    assert (row.enhanced_caption, row.enhanced_status, row.original_caption) == ("richer", "ok", "a dog")
    assert (row.preview_path, rows[1].preview_path) == ("previews/b/x.webp", None)
    assert (row.poster_path, rows[1].poster_path) == ("previews/b/x.jpg", None)
    assert (row.model_id, row.model_revision, row.prompt) == ("test-model", "rev-a", A.caption.prompt_text)
    assert row.caption_recipe_id == caption_recipe(A, MODEL).recipe_id
    assert row.window_recipe_id == window_recipe(A).recipe_id
    assert row.enhance_recipe_id == enhance_recipe(A, MODEL).recipe_id
    assert rows[1].caption is rows[1].is_current is rows[2].candidate_id is None
    assert rows[1].decision_id is rows[1].decided_by is None, "the decision that kept a caption is named, no other"


def test_a_column_that_may_not_be_null_is_not(rows: list[TableRow]) -> None:
    for column in COLUMNS:
        if not column.nullable:
            assert all(written_values(row)[column.name] is not None for row in rows), column.name


def test_parquet_has_the_declared_types_and_says_what_each_column_means(rows: list[TableRow], tmp_path: Path) -> None:
    write_parquet(rows, tmp_path / "t.parquet")
    frame = pl.read_parquet(tmp_path / "t.parquet")
    assert dict(frame.schema) == {column.name: polars_types()[column.type] for column in COLUMNS}
    assert frame.to_dicts() == [written_values(row) for row in rows]
    metadata = pl.read_parquet_metadata(tmp_path / "t.parquet")
    assert {column.name: metadata[column.name] for column in COLUMNS} == {c.name: c.meaning for c in COLUMNS}


def test_json_lines_hold_the_same_one_window_a_line(rows: list[TableRow], tmp_path: Path) -> None:
    write_jsonl(rows, tmp_path / "t.jsonl")
    text = (tmp_path / "t.jsonl").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    lines = text[:-1].split("\n")
    assert [json.loads(line) for line in lines] == [written_values(row) for row in rows]
    assert list(json.loads(lines[0])) == [column.name for column in COLUMNS]
    assert "🎬" in lines[0], "text stays readable"
    assert json_line(rows[0]) == lines[0]


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    for name, write in FORMATS.values():
        write([], tmp_path / name)
    assert pl.read_parquet(tmp_path / "captions.parquet").columns == [column.name for column in COLUMNS]
    assert (tmp_path / "captions.jsonl").read_bytes() == b""


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_ledger_gives_the_same_bytes_also_after_a_restore(story: Story, tmp_path: Path, name: str) -> None:
    file, write = FORMATS[name]
    written = []
    for folder in ("one", "two"):
        write(caption_rows(story.ledger, "b"), tmp_path / folder / file)
        written.append((tmp_path / folder / file).read_bytes())
        story.ledger.read(write_backup, tmp_path / f"backup {folder}")
        assert restore(story.root, tmp_path / f"backup {folder}") == []
    assert written[0] == written[1]


@pytest.mark.parametrize("name", FORMATS)
def test_a_reader_sees_the_old_file_or_the_new_one(
    rows: list[TableRow], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, write = FORMATS[name]
    path = tmp_path / file
    path.write_bytes(b"old")

    def fail(self: Path, target: Path) -> None:
        assert path.read_bytes() == b"old", "the new file is written beside it"
        assert self.parent == path.parent
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(Path, "replace", fail)
        write(rows, path)
    assert [p.name for p in tmp_path.iterdir()] == [file], "nothing is left behind"
    assert path.read_bytes() == b"old"
    write(rows, path)
    assert path.read_bytes() != b"old"


def test_another_batch_has_its_own_table(story: Story) -> None:
    assert caption_rows(story.ledger, "other") == []
    assert isinstance(FORMATS, Mapping)
