"""A process killed at any point of a commit loses nothing that was acknowledged, and leaves nothing twice."""

import subprocess
import sys
from pathlib import Path

import pytest

from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder

from .dying_commit import POINTS, WINDOWS, rows
from .story import everything, row_of

CHECKOUT = Path(__file__).parents[2]
EARLIER = {"windows": [row_of("windows", window_id="w-earlier", clip_id="c0", recipe_id="r")]}
# What the next reader sees of the killed commit: clips, windows, window_sets. Never the last without the others.
SEEN_AFTER = {
    "after the first temporary part": (0, 0, 0),
    "after the temporary parts": (0, 0, 0),
    "inside the transaction": (0, 0, 0),
    "after the marker": (0, 0, 0),
    "after the first rename": (1, 0, 0),
    "after all renames": (1, WINDOWS, 1),
    "after the commit": (1, WINDOWS, 1),
}


def die_at(root: Path, point: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.ledger.dying_commit", str(root), point]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)


def counts(ledger: Ledger) -> tuple[int, ...]:
    tables = ("clips", "windows", "window_sets")
    found = [ledger.query(f"SELECT clip_id FROM {table} WHERE clip_id = 'c'") for table in tables]
    return tuple(map(len, found))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(RootFolder.at(tmp_path / "root"))
    ledger.commit("earlier", "b", EARLIER)
    return ledger


@pytest.mark.parametrize("point", POINTS)
def test_a_commit_that_was_killed_is_whole_after_it_is_repeated(ledger: Ledger, point: str) -> None:
    root = ledger.database.parents[1]
    died = die_at(root, point)
    assert died.returncode == -9, died.stderr
    assert "acknowledged" not in died.stdout

    assert counts(ledger) == SEEN_AFTER[point], "the next reader brings in what has its name"
    assert ledger.query("SELECT 1 FROM windows WHERE window_id = 'w-earlier'"), "what was acknowledged is there"
    assert list((root / "ledger" / "pending").glob("*.json")) == []
    seen = everything(ledger)
    ledger.rebuild()
    assert everything(ledger) == seen, "the parts say the same as the database"

    again = ledger.commit("dying", "b", rows())
    new = tuple(again[table] for table in ("clips", "windows", "window_sets"))
    assert tuple(map(sum, zip(new, SEEN_AFTER[point], strict=True))) == (1, WINDOWS, 1)
    assert counts(ledger) == (1, WINDOWS, 1)
    whole = everything(ledger)
    assert ledger.commit("dying", "b", rows()) == {"clips": 0, "windows": 0, "window_sets": 0}
    ledger.rebuild()
    assert everything(ledger) == whole


def test_a_commit_that_lives_acknowledges(tmp_path: Path) -> None:
    lived = die_at(tmp_path, "none")
    assert (lived.returncode, lived.stdout) == (0, "acknowledged\n"), lived.stderr


def test_a_commit_that_died_after_its_renames_is_brought_in_by_the_next_commit_too(ledger: Ledger) -> None:
    die_at(ledger.database.parents[1], "after all renames")
    assert ledger.commit("next", "b", {"clips": [row_of("clips", clip_id="c2", recipe_id="r")]}) == {"clips": 1}
    assert counts(ledger) == (1, WINDOWS, 1)


def test_a_rebuild_that_was_killed_before_the_new_database_has_its_name_is_done_again(ledger: Ledger) -> None:
    before = everything(ledger)
    assert die_at(ledger.database.parents[1], "inside a rebuild").returncode == -9
    assert not ledger.database.exists()
    assert everything(ledger) == before


def test_a_failure_between_two_renames_is_repaired_within_the_process(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, left = Path.rename, [1]

    def full_disk(path: Path, target: Path) -> Path:
        if not left[0]:
            raise OSError(28, "No space left on device")
        left[0] -= 1
        return rename(path, target)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(Path, "rename", full_disk)
        ledger.commit("run", "b", rows())
    assert counts(ledger) == (1, 0, 0)
    ledger.commit("run", "b", rows())
    assert counts(ledger) == (1, WINDOWS, 1)
    assert list((ledger.database.parent / "parts").rglob("*.tmp")) == []
