"""Commands that ask: status, why, plan, export, sql, doctor. They change nothing and print what a script can read."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from caption_assets.cli.main import cli
from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder
from tests.cli.conftest import SAME, SETTINGS
from tests.orchestration.running import Files, query, run_job, table
from tests.video.films import make_film

COMMANDS = (
    [], ["run"], ["status"], ["why"], ["reproduce"], ["retain"], ["plan"], ["export"], ["ledger"],
    ["ledger", "sql"], ["ledger", "verify"], ["ledger", "backup"], ["ledger", "restore"], ["doctor"],
)  # fmt: skip


def same(*more: str) -> list[str]:
    return [word for each in (*SAME, *more) for word in ("--set", each)]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command, words):
    said = command(*words, "--help")
    assert said.status == 0
    assert said.out.startswith("Usage: caption-assets")
    assert len(said.out.splitlines()) > 4


def test_what_takes_settings_takes_engine_arguments_and_they_end_up_where_set_puts_them(monkeypatch):
    taken = {
        name: {option for parameter in each.params for option in parameter.opts} for name, each in cli.commands.items()
    }
    assert (
        {name for name, options in taken.items() if "--set" in options}
        == {name for name, options in taken.items() if "--engine-arg" in options}
        >= {"run", "plan", "retain"}
    )
    seen = []
    monkeypatch.setattr(
        "caption_assets.cli.run.run_batch", lambda *given, **_: seen.append(given[4].caption.vllm_kwargs) or 0
    )
    words = ["run", "x.mp4", "--engine-arg", "max-model-len=8192", "--set", "caption.vllm_kwargs.seed=1"]
    CliRunner().invoke(cli, [*words, "--engine-arg", "dtype=float16"])
    assert seen == [{"seed": 1, "max_model_len": 8192, "dtype": "float16"}]


@pytest.mark.parametrize(
    "words",
    [["status"], ["why", "w"], ["reproduce", "k"], ["retain", "--policy", "first"], ["plan"], ["ledger", "verify"],
     ["ledger", "backup", "out"], ["ledger", "sql", "SELECT 1"], ["export", "--format", "jsonl", "--out", "out"]],
    ids=" ".join,
)  # fmt: skip
def test_a_root_that_is_not_there_is_bad_usage_and_is_not_made(command, words):
    said = command(*words, "--root", "nowhere")
    assert said.status == 2
    assert "no such root folder" in said.err
    assert not Path("nowhere").exists()


def test_status_counts_each_stage_of_each_batch(ask):
    said = ask("status")
    assert said.status == 0
    lines = said.out.splitlines()
    assert lines[0] == "b"
    assert {line[:26].strip(): int(line[26:]) for line in lines[1:]} == {
        "files ok": 2, "files quarantined": 0, "files gone": 0, "files not split": 0,
        "windows ok": 3, "windows error": 0, "clips without windows": 0,
        "collapsed": 0, "captioned": 3, "captions not current": 0, "captions missing": 0, "enhanced": 3,
        "enhancements drifted": 0, "previews": 3,
    }  # fmt: skip
    [row] = ask("status", "--batch", "b", "--json").json
    assert (row["batch"], row["windows_ok"]) == ("b", 3)


@pytest.mark.parametrize(
    "words",
    [["status", "--batch", "x"], ["why", "w0"], ["reproduce", "k0"], ["retain", "--policy", "first", "--batch", "x"],
     ["export", "--format", "jsonl", "--out", "out", "--batch", "x"], ["plan", "--batch", "x"]],
    ids=" ".join,
)  # fmt: skip
def test_what_is_not_in_the_ledger_is_bad_usage(ask, words):
    said = ask(*words)
    assert said.status == 2
    assert "no such" in said.err


def test_why_shows_the_winner_first_with_reasons_prompt_model_and_seed(ask, captioned):
    [window] = [row for row in table(captioned) if row["clip_path"] == "a.mp4"]
    explained = ask("why", window["window_id"], "--json").json
    winner, *losers = explained["candidates"]
    assert winner["candidate_id"] == window["candidate_id"]
    assert winner["text"] == window["caption"]
    assert (winner["action"], {loser["action"] for loser in losers}) == ("keep", {"drop"})
    assert len(losers) == 7  # four of the first stage, four of the second
    for candidate in explained["candidates"]:
        assert candidate["reason"] and candidate["reason"] != candidate["reason_code"]
        assert candidate["seed"] is not None
        assert candidate["prompt"] == window["prompt"]
        assert candidate["model_id"] == "caption-assets/signal"

    said = ask("why", window["window_id"])
    assert said.status == 0
    assert said.out.index("\nkeep  ") < said.out.index("\ndrop  ")
    for shown in (winner["reason"], f"seed {winner['seed']}", "caption-assets/signal", losers[0]["reason"], "prompt:"):
        assert shown in said.out


def test_a_name_with_a_newline_does_not_break_lines(ask, captioned):
    window = next(row["window_id"] for row in table(captioned) if row["clip_path"] == "b\nb.mp4")
    lines = ask("why", window).out.split("\n")
    assert "  in b/b\\nb.mp4" in lines
    listed = ask("ledger", "sql", "SELECT path FROM uploads ORDER BY path").out.splitlines()
    assert listed == ["path", "a.mp4", "b\\nb.mp4"]


def test_plan_counts_nothing_where_nothing_would_change(ask):
    [row] = ask("plan", *same(), "--json").json
    assert row == {
        "batch": "b", "clips": 2, "files_to_probe": 0, "files_to_split": 0, "clips_to_cut": 0,
        "windows": 3, "collapsed": 0, "captions": 0, "decisions": 0, "enhancements": 0, "previews": 0,
    }  # fmt: skip
    said = ask("plan", *same())
    assert said.status == 0
    assert said.out.splitlines()[0].split() == list(row)


def under(settings):
    """The `--set` words for nested settings."""
    return [f"{name}={json.dumps(value) if not isinstance(value, str) else value}" for name, value in settings.items()]


@pytest.mark.parametrize(
    "changed",
    [
        {"caption.prompt_text": "Hm?"},
        {"window.window_size": 80, "window.remainder_threshold": 40},
        {"preview.target_height": 64},
        {"retention.keep_candidate_mode": "longest"},
        {"enhance": {"enabled": False}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_plan_tells_what_a_run_then_does(change, root, changed):
    words = [w for each in under({k: v for k, v in changed.items() if k != "enhance"}) for w in ("--set", each)]
    if "enhance" in changed:
        words += ["--set", "enhance.enabled=false"]
    [planned] = change("plan", *same(), *words, "--json").json
    before = Files.below(root / "previews")
    ran = run_job(root, settings={**SETTINGS, **changed})
    assert Files.below(root / "previews") == before or planned["previews"]
    assert planned["clips_to_cut"] == ran.work.get("cut_clip", 0)
    assert planned["captions"] == ran.work.get("refine", 0)
    assert planned["previews"] == ran.work.get("write_preview", 0)
    assert planned["windows"] == len(table(root))
    enhanced = ran.work.get("enhance", 0)
    assert (
        planned["enhancements"] == 3 > enhanced
        if "retention.keep_candidate_mode" in changed
        else planned["enhancements"] == enhanced
    )
    decided = query(
        root, "SELECT count(DISTINCT window_id) n FROM retention_decisions WHERE run_id = $r", r=ran.result.run_id
    )
    assert planned["decisions"] == decided[0]["n"]
    [after] = change("plan", *same(), *words, "--json").json
    assert {name: after[name] for name in ("clips_to_cut", "captions", "decisions", "enhancements", "previews")} == (
        dict.fromkeys(("clips_to_cut", "captions", "decisions", "enhancements", "previews"), 0)
    )


def test_plan_counts_previews_that_another_setting_has_overwritten(change, root):
    run_job(root, settings={**SETTINGS, "preview.target_height": 64})
    [row] = change("plan", *same(), "--json").json
    assert row["previews"] == 3


@pytest.mark.parametrize("words", [["--set", "window.window_size=3"], ["--engine", "telepathy"]], ids=" ".join)
def test_plan_refuses_what_a_run_would_refuse(ask, words):
    said = ask("plan", *words)
    assert said.status == 2
    assert said.err


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_export_writes_the_table_where_it_is_told(ask, captioned, form):
    said = ask("export", "--format", form, "--out", "out")
    path = Path("out", "b", f"captions.{form}")
    assert (said.status, said.out) == (0, f"{path}: 3 rows\n")
    assert path.read_bytes() == (captioned / "exports" / "b" / path.name).read_bytes()
    if form == "parquet":
        assert pl.read_parquet(path).height == 3


def test_export_knows_its_formats(ask):
    said = ask("export", "--format", "csv", "--out", "out")
    assert said.status == 2
    assert "parquet" in said.err


def test_sql_prints_a_table_or_json(ask):
    assert (
        ask("ledger", "sql", "SELECT 1 AS one, NULL AS nothing, 'x' AS text").out
        == "one  nothing  text\n1    -        x\n"
    )
    assert ask("ledger", "sql", "SELECT DATE '2026-01-02' AS day, [1, 2] AS l", "--json").json == [
        {"day": "2026-01-02", "l": [1, 2]}
    ]
    assert ask("ledger", "sql", "SELECT 1 WHERE false").out == "(no rows)\n"


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM uploads", "DROP TABLE uploads", "CREATE TABLE t (i INTEGER)", "INSERT INTO ledger_schema VALUES (9)",
     "UPDATE uploads SET status = 'ok'", "SELECT 1; DELETE FROM uploads", "COMMIT; DELETE FROM uploads"],
)  # fmt: skip
def test_sql_may_not_write(ask, captioned, statement):
    said = ask("ledger", "sql", statement)
    assert said.status == 1
    assert said.err.startswith("Error: ")
    assert query(captioned, "SELECT count(*) n FROM uploads") == [{"n": 2}]


def test_sql_says_what_is_wrong_in_a_statement(ask):
    said = ask("ledger", "sql", "SELECT nothing FROM nowhere")
    assert said.status == 1
    assert "nowhere" in said.err and "Traceback" not in said.err


def test_a_backup_makes_the_same_ledger_again_and_verify_finds_no_fault_in_it(change, root, tmp_path):
    before, exported = change("status", "--json").json, (root / "exports" / "b" / "captions.jsonl").read_bytes()
    saved = change("ledger", "backup", tmp_path / "saved", "--json")
    assert (saved.status, saved.json["rows"]["caption_candidates"]) == (0, 24)
    (root / "ledger" / "ledger.duckdb").unlink()
    restored = change("ledger", "restore", tmp_path / "saved")
    assert restored.status == 0
    assert dict(line.split() for line in restored.out.splitlines()[1:])["caption_candidates"] == "24"
    assert change("status", "--json").json == before
    assert change("ledger", "verify").status == 0
    assert change("export", "--format", "jsonl", "--out", tmp_path / "out").status == 0
    assert (tmp_path / "out" / "b" / "captions.jsonl").read_bytes() == exported


def test_a_backup_is_not_written_over_another_and_a_torn_one_is_named(change, tmp_path):
    assert change("ledger", "backup", tmp_path / "saved").status == 0
    again = change("ledger", "backup", tmp_path / "saved")
    assert again.status == 1
    assert "name a new folder" in again.err
    torn = tmp_path / "saved" / "previews.parquet"
    torn.write_bytes(torn.read_bytes()[:-9])
    restored = change("ledger", "restore", tmp_path / "saved", "--json")
    assert restored.status == 1
    assert restored.json["rows"]["previews"] == 0
    [sentence] = restored.json["unreadable"]
    assert str(torn) in sentence


def test_verify_ends_with_1_and_names_what_history_contradicts(change, root):
    with Ledger(RootFolder.at(root)).session(writes=True) as session:
        session.rows("UPDATE captions SET caption = 'another one' WHERE clip_path = 'a.mp4'")
    said = change("ledger", "verify")
    assert said.status == 1
    assert "caption is 'another one' and should be" in said.out
    assert change("ledger", "verify", "--json").json == said.out.splitlines()


@pytest.mark.parametrize("old", ["rebuild", "compact"])
def test_a_command_of_earlier_versions_says_what_replaces_it(change, old):
    said = change("ledger", old)
    assert said.status == 2
    assert "`ledger verify`" in said.err and "`ledger restore DIR`" in said.err
    assert old not in change("ledger", "--help").out


def test_status_of_several_batches_has_totals_first_then_those_that_lack_something(change, root, tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    make_film(folder / "good.mp4", 30)
    (folder / "bad.mp4").write_text("no video")
    assert change("run", folder, "--batch", "c", "--json").status == 1
    lines = change("status").out.splitlines()
    assert [line for line in lines if line[:1].strip()] == ["all 2 batches", "c"]
    assert lines[1].split() == ["files", "ok", "3"]
    (root / "uploads" / "c" / "bad.mp4").unlink()
    assert change("run", root / "uploads" / "c", "--json").status == 0
    assert change("status").out.splitlines()[-1] == "every batch is complete"


def test_doctor_says_what_this_machine_can_run(ask, command):
    said = ask("doctor", "--json")
    assert said.status == 0
    findings = {finding["what"]: finding for finding in said.json}
    assert all(finding["ok"] for finding in findings.values())
    assert "signal" in findings["engine"]["detail"]
    assert findings["ledger"]["detail"] == "opens; 1 batches"
    assert all(line.startswith("ok  ") for line in ask("doctor").out.splitlines())


def test_doctor_ends_with_1_where_something_is_broken(change, root):
    (root / "ledger" / "ledger.duckdb").write_bytes(b"no database")
    said = change("doctor")
    assert said.status == 1
    assert "FAIL  ledger" in said.out


def test_a_reader_that_goes_away_is_no_fault_with_a_trace(captioned):
    command = [
        sys.executable,
        "-m",
        "caption_assets.cli.main",
        "ledger",
        "sql",
        "--root",
        captioned,
        "SELECT * FROM range(200000)",
    ]
    with subprocess.Popen(
        map(str, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as asked:
        assert asked.stdout.readline()
        asked.stdout.close()
        err = asked.stderr.read()
    assert "Traceback" not in err
