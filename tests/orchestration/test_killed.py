"""A run that is killed again and again ends with every caption, each once, and repeats only what was in flight."""

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

from tests.orchestration.killed_job import IN_FLIGHT
from tests.orchestration.running import query
from tests.video.films import make_film

ROOT = Path(__file__).parents[2]
WINDOWS, KILLS = 200, 10


def test_ten_kills_lose_nothing_and_repeat_only_what_was_in_flight(tmp_path: Path) -> None:
    uploads = tmp_path / "uploads" / "b"
    uploads.mkdir(parents=True)
    make_film(uploads / "film.mp4", 4 * WINDOWS)
    done = subprocess.run(
        [sys.executable, "-m", "tests.orchestration.killed_job", str(tmp_path), "7", str(KILLS)],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lives = json.loads(done.stdout.splitlines()[-1])

    assert len(lives) == KILLS + 1
    assert all(lives), "every life got as far as the engine"
    assert all(max(Counter(life).values()) == 1 for life in lives)
    for one, following in pairwise(lives):
        assert len(set(one) & set(following)) <= IN_FLIGHT
    assert sum(map(len, lives)) <= WINDOWS + KILLS * IN_FLIGHT
    assert len(set().union(*lives)) == WINDOWS

    rows = query(tmp_path, "SELECT window_id, status FROM caption_candidates")
    assert len(rows) == len({row["window_id"] for row in rows}) == WINDOWS
    assert {row["status"] for row in rows} == {"ok"}
    assert query(tmp_path, "SELECT count(*) AS n FROM missing_captions") == [{"n": 0}]
    assert not list((tmp_path / "ledger" / "journal").glob("*/*"))
