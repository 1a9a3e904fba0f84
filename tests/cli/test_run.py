"""`caption-assets run`: what it brings in, what it says, how it ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caption_assets import __version__
from caption_assets.ledger.database import Ledger
from caption_assets.root import RootFolder
from tests.orchestration.running import query, row_counts, table
from tests.video.films import make_film

ASSETS = ["caption_table", "enhanced_captions", "previews", "raw_clips", "vl_captions", "windows"]


@pytest.fixture
def film(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    return make_film(folder / "a.mp4", 12)


def test_a_good_batch_ends_with_0_and_says_where_the_captions_are(command, film, tmp_path):
    said = command("run", film, "--batch", "b", "--root", tmp_path / "root")
    assert said.status == 0
    exports = tmp_path / "root" / "exports" / "b"
    assert said.out == f"captions: {exports / 'captions.jsonl'} and captions.parquet\n"
    lines = said.err.splitlines()
    assert lines[0] == f"batch b: 1 new files in {tmp_path / 'root' / 'uploads' / 'b'}, engine signal"
    assert sorted(line.split()[0] for line in lines[1:]) == ASSETS
    assert (tmp_path / "root" / "uploads" / "b" / "a.mp4").samefile(film)
    assert [row["status"] for row in table(tmp_path / "root")] == ["captioned"]

    again = command("run", tmp_path / "root" / "uploads" / "b", "--root", tmp_path / "root")
    assert again.status == 0  # inside uploads/ it is the batch it lies in
    assert again.err.startswith("batch b: 0 new files")
    assert "1 window reused" in again.err


def test_a_folder_gives_the_batch_its_name_and_a_bad_file_ends_with_1_and_its_reason(command, film, monkeypatch):
    (film.parent / "bad\nname.mp4").touch()
    (film.parent / "sub").mkdir()
    make_film(film.parent / "sub" / "b.mp4", 14)
    monkeypatch.chdir(film.parent.parent)
    said = command("run", "films", "--root", "here")
    assert said.status == 1
    assert "failed: file 'bad\\nname.mp4': empty file" in said.err
    assert [row["clip_path"] for row in table(Path("here"), "films")] == ["a.mp4", "sub/b.mp4"]


def test_json_is_one_document_with_counts_problems_and_files(command, film, tmp_path, monkeypatch):
    monkeypatch.setenv("CAPTION_ASSETS_ROOT", str(tmp_path / "from variable"))
    (film.parent / "text.mp4").write_text("no video")
    said = command("run", film, film.parent / "text.mp4", "--json", "--set", "enhance.enabled=false")
    assert said.status == 1
    assert said.err == ""
    document = said.json
    assert document.keys() == {
        "batch", "run_id", "ok", "assets", "problems", "notes", "failed_checks", "faults", "exports",
    }  # fmt: skip
    assert document["batch"].startswith("run-")
    assert document["ok"] is False
    assert sorted(asset["asset"] for asset in document["assets"]) == ASSETS
    [clips] = [asset for asset in document["assets"] if asset["asset"] == "raw_clips"]
    assert (clips["expected"], clips["new"], clips["failed"], clips["status"]) == (2, 1, 1, "partial")
    assert [(p["what"], p["name"]) for p in document["problems"]] == [("file", "text.mp4")]
    assert all(Path(path).is_relative_to(tmp_path / "from variable") for path in document["exports"])
    assert len(document["exports"]) == 2
    [row] = table(tmp_path / "from variable", document["batch"])
    assert row["caption"] and row["enhanced_caption"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing argument"),
        (["nowhere.mp4"], "nowhere.mp4: no such file or folder"),
        (["film", "--batch", ".x"], "'.x' cannot be a batch"),
        (["film", "--batch", "a/b"], "'a/b' cannot be a batch"),
        (["film", "--batch", "a\nb"], "'a\\nb' cannot be a batch"),
        (["film", "--engine", "telepathy"], "engine 'telepathy' is not in this version; available: auto, signal"),
        (["film", "--set", "windowsize=3"], "Did you mean window.window_size?"),
        (["film", "--set", "window_size"], "write KEY=VALUE"),
        (["film", "--set", "window.window_size=3"], "window_size"),
        (["film", "--engine-arg", "max-model-len"], "write NAME=VALUE"),
        (["film", "--engine-arg", "quantization=fp8"], "vllm_kwargs: quantization is decided by fp8"),
        (["film", "--set", "window.window_size=many"], "window_size"),
        (
            ["film", "--set", "caption.caption_num=4", "--set", "caption.sampling_params.temperature=0"],
            "needs temperature above 0",
        ),
        (["film", "--set", "retention.keep_candidate_mode=best"], "random_any"),
        (["film", "--set", "enhance.nothing=1"], "no such setting"),
        (["film", "--root", "s3://bucket"], "must be a folder"),
        (["film", "--root", "film"], "is a file; the root must be a folder"),
        (["empty"], "there is no file in it to caption"),
        (["film", "--colour"], "No such option"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_usage_ends_with_2_one_line_and_no_trace(command, film, words, message):
    empty = film.parent / "empty"
    empty.mkdir()
    names = {"film": film, "empty": empty}
    said = command("run", *[names.get(word, word) for word in words])
    assert (said.status, said.out) == (2, "")
    assert message in said.err
    assert "Traceback" not in said.err
    assert not Path("data", "ledger").exists()


def test_another_file_of_the_same_name_is_refused_and_nothing_is_overwritten(command, film, tmp_path):
    assert command("run", film, "--batch", "b", "--root", tmp_path / "root", "--json").status == 0
    other = tmp_path / "a.mp4"
    other.write_bytes(b"another")
    said = command("run", other, "--batch", "b", "--root", tmp_path / "root")
    assert said.status == 2
    assert "other content" in said.err
    assert (tmp_path / "root" / "uploads" / "b" / "a.mp4").samefile(film)


def test_settings_come_from_the_folder_and_the_command_line_wins(command, film, tmp_path):
    Path("caption_assets.toml").write_text('caption.prompt_text = "from the file"\n[enhance]\nenabled = false\n')
    words = ["run", film, "--batch", "b", "--root", tmp_path / "root", "--json"]
    assert command(*words).status == 0
    assert table(tmp_path / "root")[0]["prompt"] == "from the file"
    assert command(*words, "--set", "caption.prompt_text=null and void").status == 0
    assert table(tmp_path / "root")[0]["prompt"] == "null and void"
    Path("caption_assets.toml").write_text("window_sise = 3\n")
    said = command(*words)
    assert said.status == 2
    assert "Did you mean window.window_size?" in said.err


def test_a_flat_name_is_accepted_with_one_plain_line(command, film, tmp_path):
    Path("caption_assets.toml").write_text('prompt_text = "from the file"\n[enhance]\nenabled = false\n')
    said = command("run", film, "--batch", "b", "--root", tmp_path / "root", "--json", "--set", "workers=1")
    assert said.status == 0
    assert table(tmp_path / "root")[0]["prompt"] == "from the file"
    warnings = [line for line in said.err.splitlines() if "is now called" in line]
    assert [line.partition(";")[0] for line in warnings] == [
        "Warning: the setting prompt_text is now called caption.prompt_text",
        "Warning: the setting workers is now called decode.workers",
    ]


def test_a_fault_of_the_program_ends_with_1_and_says_where(command, film, tmp_path, monkeypatch):
    def broken(*args):
        raise RuntimeError("no such luck")

    monkeypatch.setattr("caption_assets.assets.windows.window_recipe", broken)
    said = command("run", film, "--batch", "b", "--root", tmp_path / "root")
    assert said.status == 1
    assert "failed: windows: RuntimeError: no such luck" in said.err
    assert said.out == ""


def program(*words: object, **options) -> subprocess.Popen[str]:
    code = "import sys; from caption_assets.cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options,
    )  # fmt: skip


def test_an_interrupted_run_says_so_keeps_what_is_done_and_goes_on(command, tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    for n in range(4):
        make_film(films / f"{n}.mp4", 200 + n)
    root = tmp_path / "root"
    running = program("run", films, "--batch", "b", "--root", root, "--set", "decode.workers=1")
    try:
        until = time.monotonic() + 60
        while not list(root.glob("frames/b/w*.parquet")) and running.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does, to every process
        _, err = running.communicate(timeout=60)
    finally:
        end(running)
    assert running.returncode == 130
    assert "stopped; what was committed is kept" in err
    assert "Traceback" not in err
    assert command("run", films, "--batch", "b", "--root", root, "--json").status == 0
    assert len(table(root)) == 4


def test_four_runs_at_once_on_one_root_lose_and_double_nothing(tmp_path):
    films = tmp_path / "films"
    for batch, names in {"same": ("one", "two"), "left": ("one", "three"), "right": ("one", "four")}.items():
        (films / batch).mkdir(parents=True)
        for name in names:
            if not list(films.glob(f"*/{name}.mp4")):
                make_film(films / batch / f"{name}.mp4", {"one": 20, "two": 300, "three": 40, "four": 50}[name])
            else:
                (films / batch / f"{name}.mp4").hardlink_to(next(films.glob(f"*/{name}.mp4")))
    root = tmp_path / "root"
    running = [program("run", films / batch, "--root", root, "--json") for batch in ("same", "same", "left", "right")]
    try:
        answers = [process.communicate(timeout=180) for process in running]
    finally:
        for process in running:
            end(process)
    assert [process.returncode for process in running] == [0] * 4, [err for _, err in answers]
    assert all(json.loads(out)["ok"] for out, _ in answers)
    for batch in ("same", "left", "right"):
        rows = table(root, batch)
        assert [row["status"] for row in rows] == ["captioned"] * 2
        assert all(row["enhanced_caption"] and (root / row["preview_path"]).is_file() for row in rows)
    ledger = Ledger(RootFolder.at(root))
    counts = row_counts(ledger)
    once = ("clips", "windows", "caption_candidates", "retention_decisions", "enhanced_captions")
    assert {name: counts[name] for name in once} == dict.fromkeys(once, 4)
    assert counts["runs"] == 4 * len(ASSETS)
    assert query(root, "SELECT count(*) n FROM live_uploads") == [{"n": 6}]
    assert query(root, "SELECT count(*) n FROM captions") == [{"n": 6}]
    assert ledger.verify() == []
    assert not list((root / "ledger").rglob("*.tmp"))


def end(process: subprocess.Popen[str]) -> None:
    """End a program and its children, if they are still there."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)


def test_the_version_is_told(command):
    said = command("--version")
    assert (said.status, said.out) == (0, f"caption-assets, version {__version__}\n")
