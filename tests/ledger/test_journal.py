"""Rows between two commits outlive a kill, torn lines and all, with the values they had."""

from datetime import UTC, datetime
from pathlib import Path

from caption_assets.ledger.journal import Journal, left_behind

from caption_assets.captioning.plan import original_row
from caption_assets.ids import RecipeId, WindowId

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def row(text: str) -> dict[str, object]:
    return original_row(WindowId("w"), text, RecipeId("r"), "run", NOW)


def test_what_was_added_is_left_behind(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "batch", "run-1")
    rows = [row('backslash \\ "quotes" {braces}\n\u2028 end'), row("two")]
    journal.add({"caption_candidates": rows[:1]})
    journal.add({"caption_candidates": rows[1:]})
    [(path, run_id, found)] = left_behind(tmp_path / "batch")
    assert (run_id, found) == ("run-1", {"caption_candidates": rows})
    assert path.exists()


def test_what_was_committed_is_not(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "run-1")
    journal.add({"caption_candidates": [row("one")]})
    journal.clear()
    journal.add({"caption_candidates": [row("two")]})
    [(_, _, found)] = left_behind(tmp_path)
    assert found == {"caption_candidates": [row("two")]}
    journal.close()
    assert list(left_behind(tmp_path)) == []


def test_a_line_that_the_process_died_in_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "run-1")
    journal.add({"caption_candidates": [row("one"), row("two")]})
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    for cut in (2, 3, 50):
        path.write_bytes(whole[:-cut])
        [(_, _, found)] = left_behind(tmp_path)
        assert found == {"caption_candidates": [row("one")]}


def test_a_line_that_a_full_disk_cut_short_spoils_no_other(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "run-1")
    journal.add({"caption_candidates": [row("one")]})
    [path] = tmp_path.iterdir()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 20)
    journal.add({"caption_candidates": [row("two")]})
    [(_, _, found)] = left_behind(tmp_path)
    assert found == {"caption_candidates": [row("two")]}


def test_rows_of_another_versions_tables_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "run-1.jsonl").write_text('["no_such_table", {"a": 1}]\n')
    [(_, run_id, found)] = left_behind(tmp_path)
    assert (run_id, found) == ("run-1", {})


def test_no_folder_is_no_journal(tmp_path: Path) -> None:
    assert list(left_behind(tmp_path / "none")) == []
