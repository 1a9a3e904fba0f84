"""Near-duplicate windows through the whole graph: captioned once, shown for all, decided again without decoding."""

import json

import pytest

from caption_assets.ledger import backup
from caption_assets.ledger.database import Ledger
from caption_assets.pipeline.plan import plan_batches
from caption_assets.root import RootFolder
from caption_assets.settings import Settings
from tests.orchestration.running import CHECKS, copy_root, query, run_job, table
from tests.video.films import frozen_film, make_film

SHORT = {"window.window_size": 50, "window.remainder_threshold": 25}


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """A batch with a frozen picture of three windows, and a film of two that moves."""
    root = tmp_path_factory.mktemp("frozen")
    uploads = root / "uploads" / "b"
    uploads.mkdir(parents=True)
    frozen_film(uploads / "frozen.mp4", 150)
    make_film(uploads / "moving.mp4", 100)
    return run_job(root, settings=SHORT)


@pytest.fixture
def own(frozen, tmp_path):
    return copy_root(frozen.root, tmp_path / "root")


def rerun(root, **settings):
    ran = run_job(root, settings={**SHORT, **settings})
    assert ran.ok
    assert ran.checks == dict.fromkeys(CHECKS, True)
    assert all(row["status"] == "captioned" and row["is_current"] for row in table(root))
    return ran


def planned(root, **settings):
    return plan_batches(Ledger(RootFolder.at(root)), Settings.of({**SHORT, **settings}), "signal", "b")[0]


def duplicates_of(root):
    return [row["duplicate_of"] for row in table(root)]


def test_a_frozen_picture_is_captioned_and_enhanced_once_and_every_window_has_its_preview(frozen):
    assert frozen.ok
    assert frozen.checks == dict.fromkeys(CHECKS, True)
    assert frozen.work == {"inspect_file": 2, "cut_clip": 2, "caption": 3, "enhance": 3, "write_preview": 5}
    rows = table(frozen.root)
    first = rows[0]["window_id"]
    assert [row["duplicate_of"] for row in rows] == [None, first, first, None, None]
    assert {(row["caption"], row["enhanced_caption"], row["candidate_id"]) for row in rows[:3]} == {
        (rows[0]["caption"], rows[0]["enhanced_caption"], rows[0]["candidate_id"])
    }
    assert rows[0]["enhanced_caption"]
    assert len({row["preview_path"] for row in rows}) == 5
    assert frozen.counts("windows") == (5, 0, 0)
    assert frozen.counts("vl_captions") == (3, 0, 0)
    assert frozen.counts("enhanced_captions") == (3, 0, 0)
    recorded = query(frozen.root, "SELECT window_id, duplicate_of, mode, distance, evidence FROM window_duplicates")
    assert [(row["duplicate_of"], row["mode"], row["distance"]) for row in recorded] == [(first, "exact", 0.0)] * 2
    assert json.loads(recorded[0]["evidence"])["frames"] == len(rows[0]["frame_indices"])
    shown = frozen.result.asset_materializations_for_node("windows")[0].metadata["collapsed windows"].records
    assert [record.data["window_index"] for record in shown] == [1, 2]


def test_a_second_run_does_nothing(own):
    ran = rerun(own)
    assert ran.work == {}
    assert ran.new_rows == {"runs": 6}


def test_off_captions_the_collapsed_windows_and_exact_again_keeps_their_captions(own):
    plan = planned(own, dedupe={"mode": "off"})
    assert (plan["collapsed"], plan["captions"], plan["enhancements"], plan["clips_to_cut"]) == (0, 2, 2, 0)
    ran = rerun(own, dedupe={"mode": "off"})
    assert ran.work == {"caption": 2, "enhance": 2}
    assert duplicates_of(own) == [None] * 5
    own_captions = [row["candidate_id"] for row in table(own)]
    assert len(set(own_captions)) == 5
    assert planned(own) | {"clips": 2} == {
        "batch": "b", "clips": 2, "files_to_probe": 0, "files_to_split": 0, "clips_to_cut": 0, "windows": 5,
        "collapsed": 0, "captions": 0, "decisions": 0, "enhancements": 0, "previews": 0,
    }  # fmt: skip
    assert rerun(own).work == {}
    assert [row["candidate_id"] for row in table(own)] == own_captions


def test_another_prompt_is_asked_once_for_all_and_the_plan_knows_it(own):
    plan = planned(own, caption={"prompt_text": "Hm?"})
    ran = rerun(own, caption={"prompt_text": "Hm?"})
    assert ran.work == {"caption": 3, "enhance": 3}
    assert (plan["collapsed"], plan["captions"], plan["enhancements"]) == (2, 3, 3)
    assert rerun(own, caption={"prompt_text": "Hm?"}).work == {}


def test_near_is_decided_from_the_ledger_without_decoding(own):
    plan = planned(own, dedupe={"mode": "near"})
    ran = rerun(own, dedupe={"mode": "near"})
    assert ran.work == {}
    assert (plan["collapsed"], plan["captions"]) == (2, 0)
    assert ran.new_rows["window_duplicates"] == 2
    assert duplicates_of(own).count(None) == 3
    windows = query(own, "SELECT window_id FROM windows")
    assert len(windows) == 5, "how windows are collapsed makes no other windows"


def test_a_ledger_that_is_restored_from_a_backup_says_the_same(own):
    before, root = table(own), RootFolder.at(own)
    with Ledger(root).session() as session:
        backup.write_backup(session, own / "backup")
    (root.ledger / "ledger.duckdb").unlink()
    assert backup.restore(root, own / "backup") == []
    assert query(own, "SELECT count(collapsed_into) AS n FROM captions") == [{"n": 2}]
    assert rerun(own).work == {}
    assert table(own) == before
