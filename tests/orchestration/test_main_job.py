"""The main job on the clips that come with the project, once and once more."""

import polars as pl
import pytest

from caption_assets.exchange.table import COLUMNS
from caption_assets.retention import GATES
from tests.orchestration.running import ASSETS, CHECKS, Files, copy_root, query, run_job, table

CLIPS = ["bigbuckbunny.mp4", "cityCC0.mpg", "ocean.mp4", "ocean.webm"]


@pytest.fixture(scope="module")
def again(demo, tmp_path_factory):
    """A second run of the demo on a copy of its root, with the files before and after."""
    root = copy_root(demo.root, tmp_path_factory.mktemp("again") / "root")
    before = {name: Files.below(root / name) for name in ("uploads", "frames", "previews")}
    exports = {path.name: path.read_bytes() for path in (root / "exports" / "demo").iterdir()}
    return run_job(root, "demo"), before, exports


def test_every_clip_is_captioned_and_every_check_passes(demo):
    assert demo.ok
    assert demo.checks == dict.fromkeys(CHECKS, True)
    rows = table(demo.root, "demo")
    assert [(row["clip_path"], row["window_index"], row["status"]) for row in rows] == [
        (clip, 0, "captioned") for clip in CLIPS
    ]
    for row in rows:
        assert row["caption"] and row["enhanced_caption"] and row["is_current"]
        assert (demo.root / row["preview_path"]).is_file()


def test_each_clip_is_read_decoded_captioned_enhanced_and_shown_once(demo):
    assert demo.work == {"inspect_file": 4, "cut_clip": 4, "caption": 4, "enhance": 4, "write_preview": 4}


def test_every_table_has_the_rows_of_four_clips_of_one_window(demo):
    assert demo.new_rows == {
        "recipes": 10,
        "prompts": 2,
        "active_recipes": 10,
        "runs": 6,
        "uploads": 4,
        "clips": 4,
        "window_sets": 4,
        "windows": 4,
        "caption_candidates": 4,
        "retention_decisions": 4,
        "enhanced_captions": 4,
        "drift_checks": 4,
        "previews": 4,
    }


def test_windows_are_those_of_the_design_also_where_headers_lie(demo):
    rows = query(
        demo.root,
        "SELECT clip_path, w.start_frame, w.end_frame, w.start_s, len(w.frame_indices) AS n FROM captions "
        "JOIN windows w USING (window_id) ORDER BY clip_path",
    )
    assert [(r["clip_path"], r["start_frame"], r["end_frame"], r["start_s"]) for r in rows] == [
        ("bigbuckbunny.mp4", 0, 131, 0.0),
        ("cityCC0.mpg", 0, 189, 0.0),  # its first time stamp is 0.54 s
        ("ocean.mp4", 0, 239, 0.0),
        ("ocean.webm", 0, 239, 0.0),  # its header gives no frame count
    ]  # fmt: skip
    assert all(row["n"] % 2 == 0 and row["n"] >= 4 for row in rows)


def test_the_exported_files_have_all_documented_columns_and_agree(demo):
    parquet = pl.read_parquet(demo.root / "exports" / "demo" / "captions.parquet")
    assert parquet.columns == [column.name for column in COLUMNS]
    assert parquet.to_dicts() == table(demo.root, "demo")


@pytest.mark.parametrize("asset", ASSETS)
def test_a_materialization_shows_counts_seconds_and_a_table(demo, asset):
    shown = demo.shown(asset)
    assert (shown["expected"], shown["new"], shown["reused"], shown["failed"]) == (4, 4, 0, 0)
    assert shown["seconds"] > 0
    assert shown["summary"].startswith("4 ") and shown["summary"].endswith(" made")
    samples = {
        "raw_clips": "files",
        "windows": "windows",
        "vl_captions": "captions",
        "enhanced_captions": "enhanced",
        "previews": "previews",
        "caption_table": "rows",
    }
    records = demo.result.asset_materializations_for_node(asset)[0].metadata[samples[asset]].records
    assert len(records) == 4


@pytest.mark.parametrize(
    ("asset", "name", "media_type"),
    [
        ("windows", "frames", "image/jpeg"),
        ("previews", "a preview", "image/webp"),
    ],
)
def test_a_materialization_shows_a_picture_where_a_picture_says_more(demo, asset, name, media_type):
    assert f"](data:{media_type};base64," in demo.shown(asset)[name]


@pytest.mark.parametrize(
    ("asset", "name"), [("windows", "sampled frames per window"), ("vl_captions", "words per candidate")]
)
def test_a_materialization_has_the_spread_of_what_varies_as_numbers_for_the_plots(demo, asset, name):
    low, middle, high = (demo.shown(asset)[f"{name}, {which}"] for which in ("min", "median", "max"))
    assert all(isinstance(number, int | float) for number in (low, middle, high))
    assert 0 < low <= middle <= high


def test_a_materialization_has_a_number_for_each_gate_also_where_it_dropped_nothing(demo):
    shown = demo.shown("vl_captions")
    assert {name: shown[f"gate {name}"] for name in (gate.name for gate in GATES)} == {gate.name: 0 for gate in GATES}


def test_the_runs_table_says_how_each_asset_went(demo):
    rows = query(demo.root, "SELECT * FROM runs ORDER BY asset_key")
    assert [(r["asset_key"], r["status"], r["n_expected"], r["n_ok"]) for r in rows] == [
        (asset, "ok", 4, 4) for asset in sorted(ASSETS)
    ]
    assert {r["run_id"] for r in rows} == {demo.result.run_id}
    assert all('"av"' in r["versions"] and r["host"] for r in rows)


def test_running_again_computes_nothing(again):
    ran, before, _ = again
    assert ran.ok
    assert ran.work == {}
    assert ran.engine.loaded == []
    assert {name: Files.below(ran.root / name) for name in before} == before


def test_running_again_adds_nothing_to_the_ledger_but_the_run(again):
    assert again[0].new_rows == {"runs": len(ASSETS)}


def test_running_again_writes_the_same_table_byte_for_byte(again):
    ran, _, exports = again
    assert {path.name: path.read_bytes() for path in (ran.root / "exports" / "demo").iterdir()} == exports


@pytest.mark.parametrize("asset", ASSETS)
def test_running_again_says_that_everything_was_reused(again, asset):
    ran = again[0]
    assert ran.counts(asset) == (0, 4, 0)
    assert ran.shown(asset)["summary"].endswith("reused")


def test_running_again_passes_every_check(again):
    assert again[0].checks == dict.fromkeys(CHECKS, True)
