"""A run that is killed again and again ends with every caption, each once; what was committed is never asked again."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from caption_assets.ledger.database import Ledger
from caption_assets.pipeline.caption_work import read_caption_work
from caption_assets.root import RootFolder
from tests.orchestration.killed_job import ANSWERS, IN_FLIGHT
from tests.orchestration.running import query
from tests.video.films import make_film

ROOT = Path(__file__).parents[2]
WINDOWS, KILLS = 200, 12


def test_kills_lose_nothing_that_was_committed_and_repeat_nothing_of_it(tmp_path: Path) -> None:
    uploads = tmp_path / "uploads" / "b"
    uploads.mkdir(parents=True)
    make_film(uploads / "film.mp4", 4 * WINDOWS)
    done = subprocess.run(
        [sys.executable, "-m", "tests.orchestration.killed_job", str(tmp_path), "7", str(KILLS)],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lives = json.loads(done.stdout.splitlines()[-1])

    assert len(lives) == KILLS + 1
    for life in lives:
        assert life["asked"], "every life got as far as the engine"
        assert max(Counter(life["asked"]).values()) == 1
        assert not set(life["asked"]) & set(life["known"]), "what was committed is not made again"
        assert set(life["known"]) <= set(life["committed"]), "what was committed stays"
        assert set(life["committed"]) <= set(life["known"]) | set(life["asked"])
        if life["death"] is not None:
            assert len(life["asked"]) <= ANSWERS + IN_FLIGHT
        if life["death"] == "after a commit":
            assert len(life["committed"]) > len(life["known"])
    assert len(set().union(*(life["asked"] for life in lives))) == WINDOWS

    rows = query(tmp_path, "SELECT window_id, status FROM caption_candidates")
    assert len(rows) == len({row["window_id"] for row in rows}) == WINDOWS
    assert {row["status"] for row in rows} == {"ok"}
    ledger = Ledger(RootFolder.at(tmp_path))
    assert ledger.read(read_caption_work, "b").missing == []
    assert ledger.verify() == []
